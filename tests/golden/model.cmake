# The model against transformers + peft, and what the model's tests share.
add_library(seam_test_model STATIC ${PROJECT_SOURCE_DIR}/tests/support/synthetic_model.c)
target_include_directories(seam_test_model PUBLIC ${PROJECT_SOURCE_DIR}/tests/support)
target_link_libraries(seam_test_model PUBLIC seam_model PRIVATE seam_flags)
seam_add_test(golden model_golden seam_test_model)

add_executable(run_model run_model.c) # for test_stories.py and tests/oracle/check_model.py
target_link_libraries(run_model PRIVATE seam_flags seam_test_model)
seam_add_script_test(golden stories ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_stories.py
                     $<TARGET_FILE:run_model>)
