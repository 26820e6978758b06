# The Metal backend over a stand-in for Metal (tests/gpu/metal_fake), where there is no Mac but clang,
# which knows Objective-C: the program metal_fake_test.
find_program(OBJCXX_COMPILER clang++)
if(NOT NARWHAL_DEVELOPER OR NARWHAL_FUZZ OR NARWHAL_SANITIZE OR NARWHAL_METAL OR NOT OBJCXX_COMPILER)
  return()
endif()
# Objective-C's runtime comes with GCC.
file(GLOB objc_runtime /usr/lib/gcc/*/*/include/objc/objc.h)
if(NOT objc_runtime)
  message(STATUS "no metal_fake_test: clang++ is there, Objective-C's runtime (libobjc-12-dev) is not")
  return()
endif()
list(GET objc_runtime -1 objc_runtime)
get_filename_component(objc_include ${objc_runtime}/../.. ABSOLUTE)
set(CMAKE_OBJCXX_COMPILER ${OBJCXX_COMPILER})
enable_language(OBJCXX)
set(CMAKE_OBJCXX_STANDARD 20)

# The kernels as Metal reads them, on the emulator's machine.
set(fake ${PROJECT_SOURCE_DIR}/tests/gpu/metal_fake)
add_library(fake_gpu SHARED ${fake}/gpu/fake_gpu.cc ${fake}/gpu/lanes.cc src/backend/emu/machine.cc
  src/backend/emu/fiber.cc src/base/check.cc)
narwhal_flags(fake_gpu)
set_source_files_properties(${fake}/gpu/fake_gpu.cc PROPERTIES
  COMPILE_DEFINITIONS "__METAL_VERSION__=310;METAL_ON_CPU" COMPILE_OPTIONS -I${fake}/gpu)
target_link_libraries(fake_gpu PRIVATE fmt::fmt)
set_target_properties(fake_gpu PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)

narwhal_test(metal_fake_test
  SOURCES ${fake}/fake_foundation.mm ${fake}/fake_metal.mm ${fake}/metal_backend_test.cc
    src/backend/backend.cc src/backend/ops_agree_test.cc src/backend/ops_values_test.cc
    tests/gpu/forward_test.cc tests/gpu/load_test.cc tests/gpu/tiles_test.cc
  LIBS nw_engine nw_convert nw_sample fake_gpu objc)
narwhal_metal_sources(metal_fake_test)
narwhal_metal_memory(metal_fake_test)
target_compile_definitions(metal_fake_test PRIVATE NARWHAL_FAKE_METAL)
target_compile_options(metal_fake_test PRIVATE
  $<$<COMPILE_LANGUAGE:OBJCXX>:-fblocks;-idirafter;${objc_include}>)
target_include_directories(metal_fake_test PRIVATE ${fake} ${fake}/gpu ${PROJECT_SOURCE_DIR}/tests/gpu)
target_link_directories(metal_fake_test PRIVATE ${objc_include}/..)
set_tests_properties(metal_fake_test PROPERTIES ENVIRONMENT "GTEST_FILTER=*etal*")
