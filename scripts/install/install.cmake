# What `cmake --install` puts where: the program, the library with its header, what other builds need to find both
# (pkg-config, find_package(Atelier)), and the built-in model. Everything finds the rest from where it lies itself, so
# that the whole may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

file(RELATIVE_PATH LIB_FROM_BIN ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set_target_properties(atelier PROPERTIES INSTALL_RPATH "$ORIGIN/${LIB_FROM_BIN}")
install(TARGETS atelier libatelier)
install(FILES train/atelier.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY data/builtin/tiny DESTINATION ${CMAKE_INSTALL_DATADIR}/atelier OPTIONAL)

file(RELATIVE_PATH PREFIX_FROM_PKGCONFIG ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(scripts/install/atelier.pc.in atelier.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/atelier.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(PACKAGE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/Atelier)
configure_package_config_file(scripts/install/AtelierConfig.cmake.in AtelierConfig.cmake
                              INSTALL_DESTINATION ${PACKAGE_FOLDER}
                              PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(AtelierConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/AtelierConfig.cmake ${CMAKE_BINARY_DIR}/AtelierConfigVersion.cmake
        DESTINATION ${PACKAGE_FOLDER})
