# The library as others see it.
foreach(lib elan-sr elan-sr-internal)
  target_include_directories(${lib} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${lib} PUBLIC cxx_std_20)
  target_link_libraries(${lib} PRIVATE $<BUILD_INTERFACE:elan-sr-flags>)
endforeach()
target_include_directories(elan-sr-internal PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>)
target_link_libraries(elan-sr-internal PUBLIC Threads::Threads)
set_target_properties(elan-sr PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
