# narwhal_fuzz(NAME LIBS target...)
#
# The libFuzzer target NAME_fuzz made of tests/fuzz/NAME_fuzz.cc. From the preset `fuzz`:
#   build/fuzz/gguf_fuzz -max_total_time=60 corpus/ tests/fuzz/seeds/gguf
# New inputs go to the first folder; the seeds are only read.
function(narwhal_fuzz name)
  cmake_parse_arguments(F "" "" "LIBS" ${ARGN})
  add_executable(${name}_fuzz ${PROJECT_SOURCE_DIR}/tests/fuzz/${name}_fuzz.cc)
  narwhal_flags(${name}_fuzz)
  target_link_libraries(${name}_fuzz PRIVATE ${F_LIBS})
  target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
endfunction()

narwhal_fuzz(gguf LIBS nw_gguf)
narwhal_fuzz(safetensors LIBS nw_safetensors)
narwhal_fuzz(tokenizer LIBS nw_text)
narwhal_fuzz(dsml LIBS nw_text)
narwhal_fuzz(request LIBS nw_serve)
narwhal_fuzz(sse LIBS nw_serve)
narwhal_fuzz(schema LIBS nw_grammar)
narwhal_fuzz(kvfile LIBS nw_kvstore)

# fuzz_seeds DIR writes the seeds of binary files into DIR/gguf, DIR/safetensors and DIR/kvfile.
add_executable(fuzz_seeds ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_seeds.cc)
narwhal_flags(fuzz_seeds)
target_link_libraries(fuzz_seeds PRIVATE nw_gguf nw_safetensors nw_kvstore)
