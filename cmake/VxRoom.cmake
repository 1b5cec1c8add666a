# vx_room(NAME SOURCES a.c b.c [SEES room ...] [LIBS target ...] [CFLAGS flag ...])
# A room is a static library vx_NAME. Its headers are included as "room/header.h" relative to core/ (or to the
# top level for db, api and daemon). SEES lists the rooms whose headers it may include; base is always visible.
# Each room gets an include directory that holds only itself and what it SEES, made of symbolic links, so the
# compiler enforces the table in README.md.

add_library(vx_flags INTERFACE)
target_compile_definitions(vx_flags INTERFACE _GNU_SOURCE)
target_compile_options(vx_flags INTERFACE
  -Wall -Wextra -Wshadow -Wvla -Wundef -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
  -Wimplicit-fallthrough -Wpointer-arith -Wno-missing-field-initializers
  -fno-math-errno -fstack-protector-strong
  $<$<CONFIG:Release>:-U_FORTIFY_SOURCE> $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2>
  $<$<BOOL:${VX_WERROR}>:-Werror>)
target_link_options(vx_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,--as-needed)
if(VX_SANITIZE)
  target_compile_options(vx_flags INTERFACE -fsanitize=${VX_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(vx_flags INTERFACE -fsanitize=${VX_SANITIZE})
endif()

# Where the sources of room NAME live.
function(vx_room_dir NAME OUT)
  foreach(candidate ${CMAKE_SOURCE_DIR}/core/${NAME} ${CMAKE_SOURCE_DIR}/${NAME})
    if(IS_DIRECTORY ${candidate})
      set(${OUT} ${candidate} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "room ${NAME}: no such folder")
endfunction()

# An include directory of symbolic links to exactly the rooms in ARGN.
function(vx_include_dir KEY OUT)
  set(dir ${CMAKE_BINARY_DIR}/visible/${KEY})
  file(REMOVE_RECURSE ${dir})
  file(MAKE_DIRECTORY ${dir})
  foreach(room ${ARGN})
    vx_room_dir(${room} src)
    file(CREATE_LINK ${src} ${dir}/${room} SYMBOLIC)
  endforeach()
  set(${OUT} ${dir} PARENT_SCOPE)
endfunction()

function(vx_room NAME)
  cmake_parse_arguments(R "" "" "SOURCES;SEES;LIBS;CFLAGS" ${ARGN})
  add_library(vx_${NAME} STATIC ${R_SOURCES})
  set(visible ${NAME} ${R_SEES})
  if(NOT NAME STREQUAL base)
    list(APPEND visible base)
  endif()
  list(REMOVE_DUPLICATES visible)
  vx_include_dir(${NAME} inc ${visible})
  target_include_directories(vx_${NAME} PRIVATE ${inc})
  target_compile_options(vx_${NAME} PRIVATE ${R_CFLAGS})
  target_link_libraries(vx_${NAME} PRIVATE vx_flags Threads::Threads ${R_LIBS})
  foreach(room ${R_SEES})
    target_link_libraries(vx_${NAME} PRIVATE vx_${room})
  endforeach()
  if(NOT NAME STREQUAL base)
    target_link_libraries(vx_${NAME} PRIVATE vx_base PkgConfig::JANSSON)
  endif()
endfunction()

# vx_test(NAME SOURCES ... SEES ... [LIBS ...] [LABELS ...] [TIMEOUT s])
# A Criterion program test_NAME registered with ctest. Its objects also go into voxeld_tests, which holds every
# Criterion test of the project and prints one summary; so suite and test names are unique across the project: use
# the room's name as the suite's prefix. Tests may see any room they name, and tests/.
function(vx_test NAME)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;SEES;LIBS;LABELS" ${ARGN})
  set(target test_${NAME})
  set(visible base ${T_SEES})
  list(REMOVE_DUPLICATES visible)
  vx_include_dir(${target} inc ${visible})
  set(libs vx_flags vx_base)
  foreach(room ${T_SEES})
    list(APPEND libs vx_${room})
  endforeach()
  list(APPEND libs ${T_LIBS} PkgConfig::JANSSON PkgConfig::CRITERION Threads::Threads m)
  add_library(obj_${target} OBJECT ${T_SOURCES})
  target_include_directories(obj_${target} PRIVATE ${inc} ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(obj_${target} PRIVATE ${libs})
  # Criterion's macros define non-prototyped globals on purpose.
  target_compile_options(obj_${target} PRIVATE -Wno-missing-prototypes -Wno-strict-prototypes)
  add_executable(${target} $<TARGET_OBJECTS:obj_${target}>)
  target_link_libraries(${target} PRIVATE ${libs})
  set_property(GLOBAL APPEND PROPERTY VX_TEST_OBJECTS $<TARGET_OBJECTS:obj_${target}>)
  set_property(GLOBAL APPEND PROPERTY VX_TEST_LIBS ${libs})
  add_test(NAME ${NAME} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 600)
  endif()
  set_tests_properties(${NAME} PROPERTIES LABELS "criterion;${T_LABELS}" TIMEOUT ${T_TIMEOUT}
    ENVIRONMENT "VX_BUILD_DIR=${CMAKE_BINARY_DIR};OMP_WAIT_POLICY=passive")
endfunction()

# Call once, after every vx_test().
function(vx_all_tests)
  get_property(objects GLOBAL PROPERTY VX_TEST_OBJECTS)
  get_property(libs GLOBAL PROPERTY VX_TEST_LIBS)
  list(REMOVE_DUPLICATES libs)
  add_executable(voxeld_tests ${objects})
  target_link_libraries(voxeld_tests PRIVATE ${libs})
endfunction()
