# Comparisons of the weight and text readers with Hugging Face's own.
add_executable(dump_weights dump_weights.c)
target_link_libraries(dump_weights PRIVATE seam_flags seam_weights)
seam_add_test(golden gguf_golden seam_weights)
add_executable(tokenize_lines tokenize_lines.c)
target_link_libraries(tokenize_lines PRIVATE seam_flags seam_text)
seam_add_script_test(golden readers ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_readers.py
                     $<TARGET_FILE:dump_weights>)
seam_add_script_test(golden tokenizers ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_tokenizers.py
                     $<TARGET_FILE:tokenize_lines>)
add_executable(dump_rows dump_rows.c)
target_link_libraries(dump_rows PRIVATE seam_flags seam_text)
seam_add_script_test(golden rows ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_rows.py
                     $<TARGET_FILE:dump_rows>)
seam_add_script_test(golden merge ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_merge.py
                     $<TARGET_FILE:seam_cli>)
