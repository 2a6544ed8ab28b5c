# What a link does to a run: credit, and a wide area network between two namespaces.
add_executable(seamd_slow ${PROJECT_SOURCE_DIR}/service/main.c slow_device.c)
target_link_libraries(seamd_slow PRIVATE seam_flags seam_rpc seam_pull)
target_link_options(seamd_slow PRIVATE -Wl,--wrap=seam_blocks_forward
  -Wl,--wrap=seam_blocks_backward)
seam_add_script_test(e2e credit ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_credit.py
                     $<TARGET_FILE:seamd_slow> $<TARGET_FILE:seam_cli>)
set_tests_properties(e2e.credit PROPERTIES LABELS "e2e;asan;tsan")
add_executable(link_shim ${PROJECT_SOURCE_DIR}/tests/support/link_shim.c)
target_link_libraries(link_shim PRIVATE seam_flags)
seam_add_script_test(e2e wan ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_wan.py $<TARGET_FILE:seamd>
                     $<TARGET_FILE:seam_cli> $<TARGET_FILE:link_shim>)
