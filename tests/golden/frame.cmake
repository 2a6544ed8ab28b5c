# Frames and messages of proto/golden, and the examples of WIRE.md.
seam_add_test(golden frame_golden seam_wire seam_codec m)
seam_add_test(golden stateful_golden seam_wire seam_codec m)
seam_add_script_test(golden frame_vectors ${PYTHON3}
                     ${PROJECT_SOURCE_DIR}/tests/oracle/make_frame_golden.py --check)
