# elan/version.h from project(), and the commit, looked up at every build so that it is never stale.
configure_file(include/elan/version.h.in ${PROJECT_BINARY_DIR}/include/elan/version.h @ONLY)

set(elansr_commit_header ${PROJECT_BINARY_DIR}/generated/elan_commit.h)
add_custom_target(elan-sr-commit
  COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -DHEADER=${elansr_commit_header}
    -P ${PROJECT_SOURCE_DIR}/cmake/write_commit.cmake
  BYPRODUCTS ${elansr_commit_header}
  COMMENT "Looking up the commit"
  VERBATIM)
add_dependencies(elan-sr-objects elan-sr-commit)
target_include_directories(elan-sr-objects
  PUBLIC ${PROJECT_BINARY_DIR}/include PRIVATE ${PROJECT_BINARY_DIR}/generated)
