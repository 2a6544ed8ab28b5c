# Weight and text readers.
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
add_library(text_fixture STATIC text_fixture.c)
target_link_libraries(text_fixture PRIVATE seam_flags PUBLIC seam_text PkgConfig::CMOCKA)
target_include_directories(text_fixture PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
seam_add_test(unit tokenizer text_fixture)
seam_add_test(unit data text_fixture PkgConfig::ZLIB)
seam_add_test(unit weights seam_weights)
target_sources(test_weights PRIVATE weights_fixture.c)
