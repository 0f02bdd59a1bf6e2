# cmake -DSOURCE_DIR=... -DHEADER=... -P write_commit.cmake: writes ELANSR_COMMIT into HEADER,
# leaving the file alone when nothing changed so that nothing is compiled again.
cmake_minimum_required(VERSION 3.25)

set(commit unknown)

# An archive made by `git archive` has no repository but carries its commit here.
file(STRINGS "${SOURCE_DIR}/cmake/archive_commit.txt" archived LIMIT_COUNT 1)
if(archived MATCHES "^[0-9a-f]+$")
  set(commit ${archived})
endif()

# The prefix is empty only at the top of a repository: sources unpacked inside somebody else's
# repository must not take its commit.
execute_process(COMMAND git rev-parse --show-prefix WORKING_DIRECTORY "${SOURCE_DIR}"
  OUTPUT_VARIABLE prefix RESULT_VARIABLE result ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
if(result EQUAL 0 AND prefix STREQUAL "")
  execute_process(COMMAND git describe --always --dirty --abbrev=12 --exclude=*
    WORKING_DIRECTORY "${SOURCE_DIR}" OUTPUT_VARIABLE described RESULT_VARIABLE result ERROR_QUIET
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(result EQUAL 0)
    set(commit ${described})
  endif()
endif()

file(CONFIGURE OUTPUT "${HEADER}" CONTENT "#define ELANSR_COMMIT \"@commit@\"\n" @ONLY)
