# NARWHAL_METAL: the backend for Apple GPUs, on by default on Apple Silicon. Needs macOS 14 to run, and
# of the tools the command line tools only: the kernels are one text inside the program, which Metal
# compiles at start.
if(APPLE AND CMAKE_SYSTEM_PROCESSOR MATCHES "arm64")
  set(metal_default ON)
else()
  set(metal_default OFF)
endif()
option(NARWHAL_METAL "Build the backend for Apple GPUs" ${metal_default})

set(metal_dir ${PROJECT_SOURCE_DIR}/src/backend/metal)
set(metal_text ${PROJECT_BINARY_DIR}/kernels.metal)
set(metal_sources ${metal_dir}/metal_backend.mm ${metal_dir}/metal_library.mm ${metal_dir}/metal_memory.mm
    ${metal_dir}/metal_queue.mm ${metal_dir}/kernel_text.S)
file(GLOB metal_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/*.h)
add_custom_command(OUTPUT ${metal_text}
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${metal_dir}/kernels.metal -DROOT=${PROJECT_SOURCE_DIR}/src
          -DOUT=${metal_text} -P ${PROJECT_SOURCE_DIR}/cmake/metal_text.cmake
  DEPENDS ${metal_dir}/kernels.metal ${metal_headers} ${PROJECT_SOURCE_DIR}/cmake/metal_text.cmake
  COMMENT "one text of the Metal kernels" VERBATIM)

# The .S names the text; it is assembled again when the text changes.
function(narwhal_metal_sources target)
  target_sources(${target} PRIVATE ${metal_sources})
  target_compile_definitions(${target} PRIVATE NARWHAL_METAL NARWHAL_METAL_TEXT="${metal_text}")
  set_source_files_properties(${metal_dir}/kernel_text.S PROPERTIES OBJECT_DEPENDS ${metal_text})
endfunction()

# Tests that hand vectors to ops: their heap becomes memory that the GPU sees.
function(narwhal_metal_memory target)
  target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/gpu/arena.cc
    ${PROJECT_SOURCE_DIR}/tests/gpu/metal_arena.cc)
  target_compile_definitions(${target} PRIVATE NARWHAL_METAL)
endfunction()

get_target_property(sources nw_backend SOURCES)
list(FILTER sources EXCLUDE REGEX "/metal/kernel_text\\.S$")
set_target_properties(nw_backend PROPERTIES SOURCES "${sources}")
if(NARWHAL_METAL)
  enable_language(OBJCXX)
  set(CMAKE_OBJCXX_STANDARD 20)
  narwhal_metal_sources(nw_backend)
  target_link_libraries(nw_backend PUBLIC "-framework Foundation" "-framework Metal"
    "-framework CoreGraphics")  # without it command line programs get no default device
endif()
