# The server without a network (rpc_parts: what of rpc/ needs none).
seam_add_test(unit engine seam_service)
seam_add_test(unit tensor_code seam_service m)
seam_add_test(unit server_config seam_service)
seam_add_test(unit trainer seam_service seam_test_model m)
seam_add_test(unit trainer_token seam_service seam_test_model m)
seam_add_test(unit rpc_parts seam_rpc)
set_tests_properties(unit.engine PROPERTIES LABELS "unit;tsan")
