# Frames and messages of proto/golden, and the examples of WIRE.md.
seam_add_test(golden frame_golden seam_wire seam_codec m seam_test_files)
seam_add_test(golden stateful_golden seam_wire seam_codec m seam_test_files)
seam_add_script_test(golden frame_vectors ${PYTHON3}
                     ${PROJECT_SOURCE_DIR}/tests/oracle/make_frame_golden.py --check)
# The same files by a package written from WIRE.md alone.
seam_add_script_test(golden wire_numpy ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_wire_numpy.py)
