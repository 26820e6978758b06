# The CUDA backend over a stand-in for CUDA's runtime (tests/gpu/cuda_fake): the program
# cuda_fake_test, built everywhere.
if(NOT NARWHAL_DEVELOPER OR NARWHAL_FUZZ OR NARWHAL_CUDA OR NARWHAL_HIP)
  return()
endif()
set(fake ${PROJECT_SOURCE_DIR}/tests/gpu/cuda_fake)
set(cuda src/backend/cuda)
narwhal_test(cuda_fake_test
  SOURCES ${fake}/fake_cuda.cc ${fake}/cuda_backend_test.cc
    ${cuda}/cuda_backend.cc ${cuda}/cuda_queue.cc ${cuda}/pinned.cc src/backend/backend.cc
    tests/gpu/forward_test.cc tests/gpu/load_test.cc
  LIBS nw_engine nw_convert nw_sample)
target_compile_definitions(cuda_fake_test PRIVATE NARWHAL_CUDA NARWHAL_FAKE_CUDA)
target_include_directories(cuda_fake_test PRIVATE ${fake} ${PROJECT_SOURCE_DIR}/tests/gpu)
# Not what the emulator shows as well.
set_tests_properties(cuda_fake_test PROPERTIES ENVIRONMENT
  "GTEST_FILTER=*uda*-*GoldenLogits*:*EightBitWeights*:*LongSteps*:*AgreesWith*:*LargeStacks*")
