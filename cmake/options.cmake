# Flags shared by all our targets.
find_package(Threads REQUIRED)

add_library(elan-sr-flags INTERFACE)
target_link_libraries(elan-sr-flags INTERFACE Threads::Threads)
target_compile_options(elan-sr-flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${ELANSR_WERROR}>>:-Werror>)
# GCC 12 sees overlapping copies in "text" + std::string where there are none (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(elan-sr-flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(ELANSR_SANITIZE)
  target_compile_definitions(elan-sr-flags INTERFACE ELANSR_SANITIZED)  # tests do less of what takes long
  target_compile_options(elan-sr-flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${ELANSR_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all>)
  target_link_options(elan-sr-flags INTERFACE -fsanitize=${ELANSR_SANITIZE})
endif()
