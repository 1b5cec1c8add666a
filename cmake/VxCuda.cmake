# What the module voxeld_cuda.so is built with: nvcc 13, CUDA's runtime, cuDNN 9. Looked for in CUDA_HOME, in .cuda
# (scripts/bootstrap --cuda), in /usr/local/cuda*, then in the usual places. Without them voxeld is built without the
# module and says so once; nothing else changes.
#   VX_HAVE_CUDNN  VX_CUDNN_INCLUDE (cuDNN's and CUDA's), VX_CUDNN_LIBRARY    plans can be made, without a GPU too
#   VX_HAVE_CUDA   VX_NVCC, VX_CUDA_INCLUDE, VX_CUDART                        and kernels compiled: the module is built
option(VX_CUDA "Build the CUDA module where CUDA and cuDNN are found" ON)

set(VX_HAVE_CUDA OFF)
set(VX_HAVE_CUDNN OFF)
if(VX_CUDA)
  file(GLOB toolkits /usr/local/cuda /usr/local/cuda-13*)
  set(wheels ${CMAKE_SOURCE_DIR}/.cuda/nvidia)
  set(hints $ENV{CUDA_HOME} ${wheels}/cu13 ${toolkits})
  find_program(VX_NVCC nvcc HINTS ${hints} PATH_SUFFIXES bin)
  find_path(VX_CUDA_INCLUDE cuda_runtime_api.h HINTS ${hints} PATH_SUFFIXES include)
  find_library(VX_CUDART NAMES cudart_static HINTS ${hints} PATH_SUFFIXES lib64 lib)
  find_path(cudnn_include cudnn_graph.h HINTS $ENV{CUDNN_HOME} ${wheels}/cudnn ${hints} PATH_SUFFIXES include)
  find_library(VX_CUDNN_LIBRARY NAMES libcudnn.so.9 cudnn HINTS $ENV{CUDNN_HOME} ${wheels}/cudnn ${hints}
               PATH_SUFFIXES lib lib64)
  mark_as_advanced(VX_NVCC VX_CUDA_INCLUDE VX_CUDART cudnn_include VX_CUDNN_LIBRARY)
  if(cudnn_include AND VX_CUDNN_LIBRARY AND VX_CUDA_INCLUDE)
    set(VX_HAVE_CUDNN ON)
    set(VX_CUDNN_INCLUDE ${cudnn_include} ${VX_CUDA_INCLUDE})
    if(VX_NVCC AND VX_CUDART)
      set(VX_HAVE_CUDA ON)
    endif()
  endif()
endif()
if(VX_HAVE_CUDA)
  message(STATUS "CUDA module: ${VX_NVCC}, ${VX_CUDNN_LIBRARY}")
else()
  message(STATUS "CUDA module left out: no nvcc 13 with cuDNN 9 here (scripts/bootstrap --cuda installs them)")
endif()
