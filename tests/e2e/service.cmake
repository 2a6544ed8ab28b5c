# seamd from the outside, by Python clients (grpcio; skipped without it).
foreach(area unary train generate golden)
  seam_add_script_test(e2e service_${area} ${PYTHON3}
                       ${CMAKE_CURRENT_SOURCE_DIR}/test_service_${area}.py $<TARGET_FILE:seamd>)
endforeach()
set_tests_properties(e2e.service_unary e2e.service_train e2e.service_generate
                     PROPERTIES LABELS "e2e;asan;tsan")
