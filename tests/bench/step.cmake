add_executable(bench_step step.c)
vx_include_dir(bench_step inc base device net plan)
target_include_directories(bench_step PRIVATE ${inc})
target_link_libraries(bench_step PRIVATE vx_flags vx_net vx_device vx_plan vx_base PkgConfig::JANSSON m)
