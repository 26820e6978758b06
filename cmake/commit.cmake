# Run at build time: cmake -DSOURCE=dir -DOUT=file -DVERSION=text -DCOMPILER=text
#   -P commit.cmake
#
# Writes the commit of the checkout at SOURCE into the C++ file OUT, "+" behind it where tracked
# files were changed, "unknown" outside git. The file is left alone when nothing is new, so that
# nothing is rebuilt.
set(commit "unknown")
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --short=12 HEAD
                  OUTPUT_VARIABLE head OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE rc)
  if(rc EQUAL 0)
    set(commit "${head}")
    execute_process(COMMAND ${GIT} -C ${SOURCE} diff --quiet HEAD -- ERROR_QUIET RESULT_VARIABLE rc)
    if(NOT rc EQUAL 0)
      string(APPEND commit "+")
    endif()
  endif()
endif()
set(text "#include \"bench/machine.h\"

namespace narwhal::bench {

std::string_view build_version() { return \"${VERSION}\"; }
std::string_view build_commit() { return \"${commit}\"; }
std::string_view build_compiler() { return \"${COMPILER}\"; }

}  // namespace narwhal::bench
")
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
