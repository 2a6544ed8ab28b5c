# seamd from the outside, by Python clients (grpcio; skipped without it).
foreach(area unary train generate golden)
  seam_add_script_test(e2e service_${area} ${PYTHON3}
                       ${CMAKE_CURRENT_SOURCE_DIR}/test_service_${area}.py $<TARGET_FILE:seamd>)
endforeach()
seam_add_script_test(e2e any_config ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_any_config.py
                     $<TARGET_FILE:seamd>)
set_tests_properties(e2e.service_unary e2e.service_train e2e.service_generate e2e.any_config
                     PROPERTIES LABELS "e2e;asan;tsan")

# The server with a device that fails: functions of device_fault.c in front of its own.
add_executable(seamd_fault ${PROJECT_SOURCE_DIR}/service/main.c device_fault.c)
target_link_libraries(seamd_fault PRIVATE seam_flags seam_rpc seam_pull)
target_link_options(seamd_fault PRIVATE -Wl,--wrap=seam_trainer_backward
  -Wl,--wrap=seam_trainer_create -Wl,--wrap=seam_backend_fault -Wl,--wrap=seam_redo_log_add
  -Wl,--wrap=seam_session_image_is_due)
seam_add_script_test(e2e device_lost ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_device_lost.py
                     $<TARGET_FILE:seamd_fault>)
set_tests_properties(e2e.device_lost PROPERTIES LABELS "e2e;asan;tsan")

# Sessions that outlive processes: a few kills in each run of the tests, hundreds by hand.
seam_add_script_test(e2e durable ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_durable.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e save_checkpoint ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_save_checkpoint.py $<TARGET_FILE:seamd_fault>)
seam_add_script_test(e2e update_session ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_update_session.py $<TARGET_FILE:seamd_fault>)
seam_add_script_test(e2e update_waits ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_update_waits.py $<TARGET_FILE:seamd_fault>)
seam_add_script_test(e2e nack ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_nack.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e unreadable_checkpoint ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_unreadable_checkpoint.py
                     $<TARGET_FILE:seamd_fault>)
seam_add_script_test(e2e waiting_calls ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_waiting_calls.py $<TARGET_FILE:seamd_fault>
                     $<TARGET_FILE:seamd_slow>)
seam_add_script_test(e2e session_end ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_session_end.py $<TARGET_FILE:seamd_fault>)
seam_add_script_test(e2e kill_runs ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_kill_runs.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli> 4 4 2)
seam_add_script_test(e2e kept_caches ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_kept_caches.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli> $<TARGET_FILE:seamd_fault>)
seam_add_script_test(e2e old_state ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_old_state.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
set_tests_properties(e2e.durable e2e.save_checkpoint e2e.update_session e2e.session_end e2e.kill_runs e2e.kept_caches
                     e2e.unreadable_checkpoint e2e.update_waits e2e.waiting_calls
                     PROPERTIES LABELS "e2e;asan;tsan")
