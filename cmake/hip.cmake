# NARWHAL_HIP=ON: the CUDA backend built for AMD GPUs (backend/cuda/runtime.h). Needs hipcc and the HIP
# runtime. Compiled, never run. The default architecture is the newest that ROCm 5.2 (Debian 12) knows.
option(NARWHAL_HIP "Build the GPU backend for AMD GPUs (needs hipcc)" OFF)
set(NARWHAL_HIP_ARCHS "gfx1030" CACHE STRING "AMD architectures to compile for")

if(NARWHAL_HIP)
  find_program(HIPCC hipcc REQUIRED)
  find_path(HIP_INCLUDE hip/hip_runtime_api.h REQUIRED HINTS /opt/rocm/include)
  find_library(AMDHIP amdhip64 REQUIRED HINTS /opt/rocm/lib)
  set(hip_arch_flags)
  foreach(arch ${NARWHAL_HIP_ARCHS})
    list(APPEND hip_arch_flags --offload-arch=${arch})
  endforeach()
  file(GLOB kernel_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/*.h)
  foreach(part matrix dot tile other)
    set(object ${PROJECT_BINARY_DIR}/hip_kernels_${part}.o)
    set(source ${PROJECT_SOURCE_DIR}/src/backend/cuda/kernels_${part}.cu)
    add_custom_command(OUTPUT ${object}
      COMMAND ${HIPCC} -x hip -w -std=c++20 -O3 -ffp-contract=off -fPIC ${hip_arch_flags}
              -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/include -c ${source} -o ${object}
      DEPENDS ${source} ${kernel_headers} COMMENT "hipcc kernels_${part}.cu" VERBATIM)
    target_sources(nw_backend PRIVATE ${object})
  endforeach()
  target_include_directories(nw_backend SYSTEM PRIVATE ${HIP_INCLUDE})
  target_compile_definitions(nw_backend PRIVATE NARWHAL_CUDA NARWHAL_HIP __HIP_PLATFORM_AMD__)
  target_link_libraries(nw_backend PRIVATE ${AMDHIP})
  # HIP's errors are nodiscard, CUDA's are not; those of destructors go nowhere.
  set_source_files_properties(src/backend/cuda/cuda_queue.cc src/backend/cuda/cuda_backend.cc
    PROPERTIES COMPILE_OPTIONS -Wno-unused-result)
endif()
