# The Python client of python_client/ against seamd, compared with the C client.
add_executable(train_tokens train_tokens.c)
target_include_directories(train_tokens PRIVATE
  ${PROJECT_SOURCE_DIR}/client-sdk/include ${PROJECT_SOURCE_DIR}/proto/base)
target_link_libraries(train_tokens PRIVATE seam_flags seam_model_shared seam_shared)
seam_add_script_test(e2e python_client ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_python_client.py $<TARGET_FILE:seamd>
                     $<TARGET_FILE:train_tokens>)
seam_add_script_test(e2e python_stateful ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_python_stateful.py $<TARGET_FILE:seamd>
                     $<TARGET_FILE:train_tokens>)
