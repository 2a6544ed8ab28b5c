# The server without a network (rpc_parts: what of rpc/ needs none).
seam_add_test(unit engine seam_service)
seam_add_test(unit tensor_code seam_service m)
seam_add_test(unit server_config seam_service)
seam_add_test(unit trainer seam_service seam_test_model m)
seam_add_test(unit trainer_token seam_service seam_test_model m)
seam_add_test(unit trainer_device seam_service seam_test_model m)
target_sources(test_trainer_device PRIVATE device_fake.c)
add_test(NAME unit.trainer_device_cuda COMMAND test_trainer_device cuda:0)
set_tests_properties(unit.trainer_device_cuda PROPERTIES LABELS unit SKIP_RETURN_CODE 77)
seam_add_test(unit rpc_parts seam_rpc)
set_tests_properties(unit.engine PROPERTIES LABELS "unit;tsan")
# Host memory is counted where the program calls malloc; a device's name runs it there.
seam_add_test(unit memory_plan seam_service seam_test_model m)
target_include_directories(test_memory_plan PRIVATE ${PROJECT_SOURCE_DIR}/kernels)
target_link_options(test_memory_plan PRIVATE
  -Wl,--wrap=malloc,--wrap=calloc,--wrap=aligned_alloc,--wrap=free)
add_test(NAME unit.memory_plan_cuda COMMAND test_memory_plan cuda:0)
set_tests_properties(unit.memory_plan_cuda PROPERTIES LABELS unit SKIP_RETURN_CODE 77)
