# Files that must survive: with a disk that fails when told (disk_faults.h).
seam_add_test(unit checkpoint seam_service seam_test_files)
seam_add_test(unit journal seam_core)
target_include_directories(test_journal PRIVATE ${PROJECT_SOURCE_DIR}/client-sdk/core
                                                ${PROJECT_SOURCE_DIR}/client-sdk/transport)
seam_add_test(unit cache_keeper seam_codec seam_test_files)
foreach(name checkpoint journal cache_keeper)
  target_sources(test_${name} PRIVATE disk_faults.c)
  target_link_options(test_${name} PRIVATE
    -Wl,--wrap=open,--wrap=write,--wrap=fsync,--wrap=fdatasync,--wrap=rename)
endforeach()
# And one whose files cannot be read (read_faults.h).
target_sources(test_checkpoint PRIVATE read_faults.c)
target_link_options(test_checkpoint PRIVATE -Wl,--wrap=fopen,--wrap=fread)
seam_add_test(unit state_store seam_service)
seam_add_test(unit trainer_state seam_service seam_test_model m)
