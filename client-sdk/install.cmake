# What `cmake --install` puts where: libraries with soname, headers, pkg-config and CMake package
# files, the CLI.  Relocatable: nothing installed names the prefix.
include(CMakePackageConfigHelpers)

# libseam.a: the thin core's parts in one archive.
set(seam_archive ${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/libseam.a)
set(seam_parts seam_core seam_wire seam_codec seam_messages seam_base)
set(part_files)
foreach(part ${seam_parts})
  list(APPEND part_files $<TARGET_FILE:${part}>)
endforeach()
list(JOIN part_files "|" part_list)
add_custom_command(
  OUTPUT ${seam_archive}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_LIBRARY_OUTPUT_DIRECTORY}
  COMMAND ${CMAKE_COMMAND} -DAR=${CMAKE_AR} -DOUT=${seam_archive} "-DPARTS=${part_list}"
          -P ${CMAKE_CURRENT_SOURCE_DIR}/package/archive.cmake
  DEPENDS ${seam_parts} package/archive.cmake
  VERBATIM)
add_custom_target(seam_static ALL DEPENDS ${seam_archive})

target_include_directories(seam_shared INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/proto/base>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(seam_shared PROPERTIES EXPORT_NAME seam)
install(TARGETS seam_shared EXPORT SeamTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${seam_archive} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/seam.h include/seam_session_options.h
              ${PROJECT_SOURCE_DIR}/proto/base/seam_status.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(packages seam)

if(NOT SEAM_CORE_ONLY)
  set_target_properties(seam_model_shared PROPERTIES EXPORT_NAME model INSTALL_RPATH $ORIGIN)
  install(TARGETS seam_model_shared EXPORT SeamTargets
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(FILES include/seam_model.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(TARGETS seam_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  list(APPEND packages seam-model)
endif()

file(RELATIVE_PATH seam_pc_include /${CMAKE_INSTALL_LIBDIR}/pkgconfig
     /${CMAKE_INSTALL_INCLUDEDIR})
foreach(package ${packages})
  configure_file(package/${package}.pc.in ${CMAKE_CURRENT_BINARY_DIR}/${package}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${package}.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Seam)
install(EXPORT SeamTargets NAMESPACE seam:: DESTINATION ${package_folder})
configure_file(package/SeamConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/SeamConfig.cmake @ONLY)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/SeamConfigVersion.cmake
                                 VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/SeamConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/SeamConfigVersion.cmake
        DESTINATION ${package_folder})
