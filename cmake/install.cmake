# What `cmake --install` puts where: headers, library, CMake package, pkg-config file, models,
# manual page, completions, licence. The command installs itself (cli/CMakeLists.txt).
include(CMakePackageConfigHelpers)

set(ELANSR_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/elan-sr)

install(TARGETS elan-sr EXPORT elan-sr-targets)
install(DIRECTORY include/elan ${PROJECT_BINARY_DIR}/include/elan
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT elan-sr-targets NAMESPACE elan-sr:: FILE elan-srTargets.cmake
  DESTINATION ${ELANSR_PACKAGE_DIR})

if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(ELANSR_COMPATIBILITY SameMinorVersion)
else()
  set(ELANSR_COMPATIBILITY SameMajorVersion)
endif()
configure_package_config_file(cmake/elan-srConfig.cmake.in
  ${PROJECT_BINARY_DIR}/package/elan-srConfig.cmake INSTALL_DESTINATION ${ELANSR_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/elan-srConfigVersion.cmake
  COMPATIBILITY ${ELANSR_COMPATIBILITY})
install(FILES
  ${PROJECT_BINARY_DIR}/package/elan-srConfig.cmake
  ${PROJECT_BINARY_DIR}/package/elan-srConfigVersion.cmake
  DESTINATION ${ELANSR_PACKAGE_DIR})

# The pkg-config file finds its prefix from its own place, so that an installed tree can be moved.
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_LIBDIR elansr_libdir_is_absolute)
if(elansr_libdir_is_absolute)
  set(ELANSR_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  set(ELANSR_PC_LIBDIR ${CMAKE_INSTALL_LIBDIR})
else()
  file(RELATIVE_PATH elansr_up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" elansr_up "${elansr_up}")
  set(ELANSR_PC_PREFIX "\${pcfiledir}/${elansr_up}")
  set(ELANSR_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_INCLUDEDIR BASE_DIRECTORY "\${prefix}"
  OUTPUT_VARIABLE ELANSR_PC_INCLUDEDIR)
configure_file(cmake/elan-sr.pc.in ${PROJECT_BINARY_DIR}/package/elan-sr.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/package/elan-sr.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/elan-sr/models
  FILES_MATCHING PATTERN "*.safetensors" PATTERN "*.md" PATTERN "LICENSE")
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/elan-sr)
if(ELANSR_PICTURES)
  install(FILES docs/elan-sr.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES completions/elan-sr.bash RENAME elan-sr
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES completions/_elan-sr DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES completions/elan-sr.fish
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
