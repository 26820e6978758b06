# Compile options of the CPU kernels, one translation unit per level; which one runs is decided at
# start (src/backend/cpu/kernels/level.h).
set(kernels ${PROJECT_SOURCE_DIR}/src/backend/cpu/kernels)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vbmi -mavx512vnni
      -mavx512vbmi2 -mavx512bitalg -mgfni)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND avx512 -Wno-maybe-uninitialized -Wno-uninitialized)  # GCC bug 105593: its own intrinsics
  endif()
  set_source_files_properties(${kernels}/avx2.cc PROPERTIES COMPILE_OPTIONS "${avx2}")
  set_source_files_properties(${kernels}/avx512.cc PROPERTIES COMPILE_OPTIONS "${avx512}")
  # Intrinsics for tiles came with GCC 11 and Clang 12.
  target_compile_definitions(nw_backend PRIVATE NARWHAL_AMX)
  set_source_files_properties(${kernels}/amx.cc PROPERTIES
    COMPILE_OPTIONS "${avx512};-mamx-tile;-mamx-int8")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set_source_files_properties(${kernels}/neon.cc PROPERTIES COMPILE_OPTIONS -march=armv8.2-a+dotprod)
  set_source_files_properties(${kernels}/i8mm.cc PROPERTIES
    COMPILE_OPTIONS -march=armv8.2-a+dotprod+i8mm)
endif()
if(NARWHAL_DEVELOPER AND NOT NARWHAL_FUZZ AND NOT NARWHAL_SANITIZE)
  add_test(NAME cpu_neon COMMAND ${PROJECT_SOURCE_DIR}/tests/cpu/neon.sh ${PROJECT_BINARY_DIR}/neon)
endif()
