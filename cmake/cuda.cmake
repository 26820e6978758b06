# NARWHAL_CUDA=ON: the CUDA backend becomes part of nw_backend. Needs nvcc 12.4 or later; the programs
# then run on machines without an NVIDIA driver too (the runtime is linked statically).
#
# nvcc is called directly: CMake 3.25 does not know C++20 for it.
option(NARWHAL_CUDA "Build the CUDA backend (needs nvcc)" OFF)
set(NARWHAL_CUDA_ARCHS "80;90a;120" CACHE STRING "Compute capabilities to compile for")

if(NARWHAL_CUDA)
  if(NARWHAL_HIP)
    message(FATAL_ERROR "NARWHAL_CUDA and NARWHAL_HIP: choose one")
  endif()
  find_program(NVCC nvcc HINTS /usr/local/cuda/bin REQUIRED)
  get_filename_component(cuda_root ${NVCC} REALPATH)
  get_filename_component(cuda_root ${cuda_root}/../.. REALPATH)
  set(cuda_arch_flags)
  foreach(arch ${NARWHAL_CUDA_ARCHS})
    list(APPEND cuda_arch_flags -gencode arch=compute_${arch},code=sm_${arch})
  endforeach()
  file(GLOB kernel_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/*.h)
  foreach(part matrix dot tile other)
    set(object ${PROJECT_BINARY_DIR}/cuda_kernels_${part}.o)
    set(source ${PROJECT_SOURCE_DIR}/src/backend/cuda/kernels_${part}.cu)
    add_custom_command(OUTPUT ${object}
      COMMAND ${NVCC} -std=c++20 -O3 -fmad=false ${cuda_arch_flags} -Xcompiler -fPIC
              -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/include -c ${source} -o ${object}
      DEPENDS ${source} ${kernel_headers} COMMENT "nvcc kernels_${part}.cu" VERBATIM)
    target_sources(nw_backend PRIVATE ${object})
  endforeach()
  target_include_directories(nw_backend SYSTEM PRIVATE ${cuda_root}/include)
  target_compile_definitions(nw_backend PRIVATE NARWHAL_CUDA)
  find_library(CUDART_STATIC cudart_static REQUIRED
    HINTS ${cuda_root}/lib64 ${cuda_root}/targets/x86_64-linux/lib)
  target_link_libraries(nw_backend PRIVATE ${CUDART_STATIC} ${CMAKE_DL_LIBS} rt Threads::Threads)

  # Tests that hand vectors to ops: their heap becomes memory that the GPU sees.
  function(narwhal_cuda_memory target)
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/gpu/arena.cc
      ${PROJECT_SOURCE_DIR}/tests/gpu/cuda_arena.cc)
    target_include_directories(${target} SYSTEM PRIVATE ${cuda_root}/include)
  endfunction()
elseif(NOT NARWHAL_HIP)
  get_target_property(sources nw_backend SOURCES)
  list(FILTER sources EXCLUDE REGEX "/backend/cuda/")
  set_target_properties(nw_backend PROPERTIES SOURCES "${sources}")
endif()
