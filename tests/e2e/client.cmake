# libseam and the CLI against a running seamd.
add_executable(core_steps ${CMAKE_CURRENT_SOURCE_DIR}/core_steps.c)
target_link_libraries(core_steps PRIVATE seam_flags seam_core)
seam_add_script_test(e2e client_core ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_client_core.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:core_steps>)
seam_add_script_test(e2e rate_link ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_rate_link.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:core_steps>)
set_tests_properties(e2e.rate_link PROPERTIES RUN_SERIAL TRUE) # it measures time
seam_add_script_test(e2e client_cli ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_client_cli.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e run_folder ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_run_folder.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e model_match ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_model_match.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e resume ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_resume.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e eval_restart ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_eval_restart.py
                     $<TARGET_FILE:seamd_fault> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e full ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_full.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e all_layer ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_all_layer.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e prefix_bits ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_prefix_bits.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e pipeline ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_pipeline.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e client_blocks ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_client_blocks.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e split_kinds ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_split_kinds.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e audit ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_audit.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
# What a client takes is counted: its own code's malloc.
add_executable(client_memory ${CMAKE_CURRENT_SOURCE_DIR}/client_memory.c
  $<TARGET_OBJECTS:seam_client_model> $<TARGET_OBJECTS:seam_client_tools>)
target_include_directories(client_memory PRIVATE ${PROJECT_SOURCE_DIR}/client-sdk/include
  ${PROJECT_SOURCE_DIR}/client-sdk/model)
target_link_libraries(client_memory PRIVATE seam_flags seam_core seam_model seam_ops seam_weights
  seam_codec seam_base m)
target_link_options(client_memory PRIVATE
  -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=free)
seam_add_script_test(e2e client_memory ${PYTHON3}
  ${CMAKE_CURRENT_SOURCE_DIR}/test_client_memory.py $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>
  $<TARGET_FILE:client_memory>)
seam_add_script_test(e2e plan_wire ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_plan_wire.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
# The server's loop fills stagings and replies while its engine works.
set_tests_properties(e2e.pipeline PROPERTIES LABELS "e2e;tsan")
seam_add_script_test(e2e timeline ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_timeline.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
add_executable(query_tokens ${CMAKE_CURRENT_SOURCE_DIR}/query_tokens.c)
target_include_directories(query_tokens PRIVATE
  ${PROJECT_SOURCE_DIR}/client-sdk/include ${PROJECT_SOURCE_DIR}/proto/base)
target_link_libraries(query_tokens PRIVATE seam_flags seam_model_shared seam_shared m)
seam_add_script_test(e2e choices ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_choices.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli> $<TARGET_FILE:query_tokens>)
seam_add_script_test(e2e eval_texts ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_eval_texts.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e bench_codecs ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_bench_codecs.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e install ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_install.py
                     $<TARGET_FILE:seamd> ${PROJECT_BINARY_DIR})
add_executable(generate_tokens ${CMAKE_CURRENT_SOURCE_DIR}/generate_tokens.c)
target_include_directories(generate_tokens PRIVATE
  ${PROJECT_SOURCE_DIR}/client-sdk/include ${PROJECT_SOURCE_DIR}/proto/base)
target_link_libraries(generate_tokens PRIVATE seam_flags seam_model_shared seam_shared)
seam_add_script_test(e2e families ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_families.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:generate_tokens> $<TARGET_FILE:run_model>
                     $<TARGET_FILE:seam_cli>)
seam_add_script_test(e2e topologies ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/test_topologies.py
                     $<TARGET_FILE:seamd> $<TARGET_FILE:seam_cli>)
