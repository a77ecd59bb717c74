# Install rules: libneomm.a, libneomm-cpu.a, the public headers, the CMake package, neomm.pc.
# SPDX-License-Identifier: MIT
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(neomm_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/neomm)
set(neomm_installed neomm)
if(TARGET neomm_cpu)
  list(APPEND neomm_installed neomm_cpu)
endif()
install(TARGETS ${neomm_installed} EXPORT neomm-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT neomm)
if(TARGET neomm_malloc)
  install(TARGETS neomm_malloc LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT neomm-malloc)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/neomm DESTINATION include COMPONENT neomm
  FILES_MATCHING PATTERN "*.h")
install(EXPORT neomm-targets NAMESPACE neomm:: DESTINATION ${neomm_package_dir} COMPONENT neomm)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/neomm-config.cmake.in
  ${PROJECT_BINARY_DIR}/neomm-config.cmake INSTALL_DESTINATION ${neomm_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/neomm-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/neomm-config.cmake
  ${PROJECT_BINARY_DIR}/neomm-config-version.cmake
  DESTINATION ${neomm_package_dir} COMPONENT neomm)

file(RELATIVE_PATH neomm_pc_up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" neomm_pc_up ${neomm_pc_up})
set(neomm_pc_cflags "")
if(NEOMM_INSTRUMENTED)
  set(neomm_pc_cflags " -DNEOMM_INSTRUMENTED=1")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/neomm.pc.in ${PROJECT_BINARY_DIR}/neomm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/neomm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT neomm)
