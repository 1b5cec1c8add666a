add_executable(bench_ring ring.c)
vx_include_dir(bench_ring inc base session)
target_include_directories(bench_ring PRIVATE ${inc})
target_link_libraries(bench_ring PRIVATE vx_flags vx_session vx_base PkgConfig::JANSSON Threads::Threads)
