# Installs the libraries that need no torch as the CMake package `cimq`:
#   find_package(cimq REQUIRED)
#   target_link_libraries(app PRIVATE cimq::runtime)      # #include "runtime/executor.h"
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cimq)
set(_include_dir ${CMAKE_INSTALL_INCLUDEDIR}/cimq)

foreach(part common kernels compiler runtime)
  set_target_properties(cimq_${part} PROPERTIES EXPORT_NAME ${part})
  target_include_directories(cimq_${part} INTERFACE $<INSTALL_INTERFACE:${_include_dir}>)
  target_compile_features(cimq_${part} PUBLIC cxx_std_20)
  install(TARGETS cimq_${part} EXPORT cimq_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/${part} DESTINATION ${_include_dir} FILES_MATCHING PATTERN "*.h")
endforeach()
install(TARGETS cimq-run RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

install(EXPORT cimq_targets NAMESPACE cimq:: DESTINATION ${_package_dir} FILE cimqTargets.cmake)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/cimqConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/cimqConfig.cmake
                              INSTALL_DESTINATION ${_package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/cimqConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cimqConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/cimqConfigVersion.cmake
        DESTINATION ${_package_dir})
