add_executable(bench_loader loader.c)
vx_include_dir(bench_loader inc base loader session augment cache)
target_include_directories(bench_loader PRIVATE ${inc})
target_link_libraries(bench_loader PRIVATE vx_flags vx_loader vx_session vx_augment vx_cache vx_base
  PkgConfig::JANSSON Threads::Threads m)
