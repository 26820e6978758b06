# The commit inside the program, and the microbenchmarks.
set(commit_cc ${PROJECT_BINARY_DIR}/generated/commit.cc)
add_custom_target(narwhal_commit
  BYPRODUCTS ${commit_cc}
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DOUT=${commit_cc} -DVERSION=${PROJECT_VERSION}
          "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, ${CMAKE_BUILD_TYPE}"
          -P ${PROJECT_SOURCE_DIR}/cmake/commit.cmake
  COMMENT "" VERBATIM)
target_sources(nw_bench PRIVATE ${commit_cc})
add_dependencies(nw_bench narwhal_commit)

# Every bench/NAME_bench.cc is a Google Benchmark program NAME_bench. They are not part of `all`:
#   ninja -C build/release benchmarks && build/release/tokenizer_bench
if(NARWHAL_DEVELOPER AND NOT NARWHAL_FUZZ)
  add_custom_target(benchmarks)
  file(GLOB programs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*_bench.cc)
  foreach(source ${programs})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} EXCLUDE_FROM_ALL ${source})
    narwhal_flags(${name})
    target_compile_definitions(${name} PRIVATE NARWHAL_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
    target_link_libraries(${name} PRIVATE nw_bench nw_synth nw_convert nw_grammar benchmark::benchmark)
    add_dependencies(benchmarks ${name})
  endforeach()

  # What bench/crash.sh runs.
  add_executable(kv_crash EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/kv_crash.cc)
  narwhal_flags(kv_crash)
  target_link_libraries(kv_crash PRIVATE nw_kvstore)
endif()
