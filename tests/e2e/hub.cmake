# Models from a Hub, at both ends.
seam_add_script_test(e2e hub ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_hub.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
