# The model part of libseam and the CLI; not in SEAM_CORE_ONLY builds.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)

# Plans and the audit are the CLI's alone: no function of seam_model.h needs them.
file(GLOB client_model_sources CONFIGURE_DEPENDS model/*.c)
set(client_tool_sources ${client_model_sources})
list(FILTER client_tool_sources INCLUDE REGEX "/(audit|client_plan)[^/]*$")
list(REMOVE_ITEM client_model_sources ${client_tool_sources})
add_library(seam_client_model OBJECT ${client_model_sources})
add_library(seam_client_tools OBJECT ${client_tool_sources})
foreach(part seam_client_model seam_client_tools)
  target_include_directories(${part} PUBLIC include model
    PRIVATE core ${PROJECT_SOURCE_DIR}/proto/base ${PROJECT_SOURCE_DIR}/kernels/include
            ${PROJECT_SOURCE_DIR}/kernels/model ${PROJECT_SOURCE_DIR}/kernels/codec)
  target_link_libraries(${part} PRIVATE seam_flags)
endforeach()

add_library(seam_model_shared SHARED $<TARGET_OBJECTS:seam_client_model>)
set_target_properties(seam_model_shared PROPERTIES
  OUTPUT_NAME seam-model VERSION ${PROJECT_VERSION} SOVERSION ${SEAM_SOVERSION}
  LINK_DEPENDS ${SEAM_EXPORTS})
target_link_libraries(seam_model_shared PUBLIC seam_shared
  PRIVATE seam_model seam_ops seam_weights seam_codec seam_base
  -Wl,--version-script=${SEAM_EXPORTS}
  -Wl,--exclude-libs,ALL) # seam_status.h's functions are libseam's to show
if(NOT SEAM_SANITIZE) # clang's sanitizers come with the program
  target_link_options(seam_model_shared PRIVATE -Wl,-z,defs)
endif()

file(GLOB cli_sources CONFIGURE_DEPENDS cli/*.c)
add_executable(seam_cli ${cli_sources} $<TARGET_OBJECTS:seam_client_model>
  $<TARGET_OBJECTS:seam_client_tools>)
set_target_properties(seam_cli PROPERTIES OUTPUT_NAME seam)
target_include_directories(seam_cli PRIVATE cli core model)
target_link_libraries(seam_cli PRIVATE seam_flags seam_core seam_text seam_pull seam_model
  seam_ops seam_weights seam_codec seam_base PkgConfig::JANSSON m)
