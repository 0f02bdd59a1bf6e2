# The library as others see it: public headers, SONAME, exported symbols.
foreach(lib elan-sr elan-sr-internal)
  target_include_directories(${lib} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${lib} PUBLIC cxx_std_20)
  target_link_libraries(${lib} PRIVATE $<BUILD_INTERFACE:elan-sr-flags>)
endforeach()
target_include_directories(elan-sr-internal PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>)
target_link_libraries(elan-sr-internal PUBLIC Threads::Threads)

# Before 1.0 every minor version may change the ABI, so the SONAME carries it (libelan-sr.so.0.1).
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(ELANSR_SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
else()
  set(ELANSR_SOVERSION ${PROJECT_VERSION_MAJOR})
endif()
set_target_properties(elan-sr PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${ELANSR_SOVERSION}
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/exports.map)
target_link_options(elan-sr PRIVATE
  LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map LINKER:--no-undefined)
if(ELANSR_SANITIZE MATCHES "address|thread")
  # clang leaves the sanitizer's runtime to the program, so these libraries have undefined symbols.
  target_link_options(elan-sr PRIVATE LINKER:-z,undefs)
endif()
