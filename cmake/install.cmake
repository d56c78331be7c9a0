# SPDX-License-Identifier: Apache-2.0
# cmake --install: the program, the library with its headers, and a package that find_package(indexshare) finds.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/indexshare)

install(TARGETS indexshare EXPORT indexshare-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS indexshare_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/indexshare DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT indexshare-targets NAMESPACE indexshare:: DESTINATION ${package_dir})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/indexshare-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/indexshare-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/indexshare-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/indexshare-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/indexshare-config-version.cmake DESTINATION ${package_dir})
