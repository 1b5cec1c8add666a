foreach(program bench_cache bench_cache_shapes)
  string(REPLACE bench_ "" source ${program})
  add_executable(${program} ${source}.c cache_boxes.c)
  vx_include_dir(${program} inc base loader session augment cache)
  target_include_directories(${program} PRIVATE ${inc})
  target_link_libraries(${program} PRIVATE vx_flags vx_loader vx_session vx_augment vx_cache vx_base
    PkgConfig::JANSSON Threads::Threads m)
endforeach()
