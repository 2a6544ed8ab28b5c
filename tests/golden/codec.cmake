# The codec against the NumPy oracle: committed vectors, and live on random tensors.
seam_add_test(golden codec_golden seam_codec m)
target_sources(test_codec_golden PRIVATE codec_record.c)
add_executable(codec_cli codec_cli.c codec_record.c)
target_link_libraries(codec_cli PRIVATE seam_flags seam_codec m)
seam_add_script_test(golden codec_live ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_codec_live.py
                     $<TARGET_FILE:codec_cli>)
seam_add_script_test(golden codec_vectors ${PYTHON3}
                     ${PROJECT_SOURCE_DIR}/tests/oracle/make_codec_golden.py --check)

# Codecs of coder.h alone against NumPy; check_compressed_tensors.py uses the program too.
add_executable(coder_cli coder_cli.c)
target_link_libraries(coder_cli PRIVATE seam_flags seam_codec m)
seam_add_script_test(golden symmetric_live ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_symmetric_live.py $<TARGET_FILE:coder_cli>)

# The entropy coder: streams that stay as they are, read by a decoder written from WIRE.md.
add_executable(rans_golden rans_golden.c)
target_include_directories(rans_golden PRIVATE ${PROJECT_SOURCE_DIR}/tests/unit)
target_link_libraries(rans_golden PRIVATE seam_flags seam_codec m)
add_test(NAME golden.rans_streams
         COMMAND rans_golden check ${CMAKE_CURRENT_SOURCE_DIR}/rans_streams.bin)
set_tests_properties(golden.rans_streams PROPERTIES LABELS golden TIMEOUT 1800)
seam_add_script_test(golden rans_python ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_rans_golden.py
                     ${CMAKE_CURRENT_SOURCE_DIR}/rans_streams.bin
                     ${PROJECT_SOURCE_DIR}/proto/WIRE.md)

# The stateful codecs over whole sessions.
add_executable(stateful_cli stateful_cli.c)
target_link_libraries(stateful_cli PRIVATE seam_flags seam_codec m)
seam_add_script_test(golden stateful_live ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_stateful_live.py $<TARGET_FILE:stateful_cli>)

add_executable(waterfill_cli waterfill_cli.c)
target_link_libraries(waterfill_cli PRIVATE seam_flags seam_codec m)
seam_add_script_test(golden waterfill_live ${PYTHON3}
                     ${CMAKE_CURRENT_SOURCE_DIR}/test_waterfill_live.py $<TARGET_FILE:waterfill_cli>)
