add_executable(bench_http_load http_load.c)
vx_include_dir(bench_http_load inc base)
target_include_directories(bench_http_load PRIVATE ${inc})
target_link_libraries(bench_http_load PRIVATE vx_flags vx_base PkgConfig::JANSSON Threads::Threads)
