# Do the gates follow the loss?  The model comes from the shared fixtures (skipped without them).
find_package(ZLIB REQUIRED)
set(stories_dir ${PROJECT_BINARY_DIR}/models/stories260k)
seam_add_script_test(e2e stories_model ${PYTHON3}
                     ${PROJECT_SOURCE_DIR}/tests/support/stories_model.py ${stories_dir})
add_library(seam_stories_run STATIC ${PROJECT_SOURCE_DIR}/tests/support/stories_run.c)
target_include_directories(seam_stories_run PUBLIC ${PROJECT_SOURCE_DIR}/tests/support)
target_compile_definitions(seam_stories_run PRIVATE
  SEAM_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SEAM_BINARY_DIR="${PROJECT_BINARY_DIR}")
target_link_libraries(seam_stories_run PUBLIC seam_model seam_codec PRIVATE seam_flags ZLIB::ZLIB)
seam_add_test(e2e gates_follow_loss seam_stories_run m)
set_tests_properties(e2e.stories_model PROPERTIES FIXTURES_SETUP stories_model)
set_tests_properties(e2e.gates_follow_loss PROPERTIES FIXTURES_REQUIRED stories_model TIMEOUT 3600
                     LABELS release) # a minute in the release preset, many in dev
