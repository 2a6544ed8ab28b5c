# Flags and small functions shared by all folders.
include_guard(GLOBAL)
find_package(PkgConfig REQUIRED)

# Our own code: strict warnings, no contraction of floating point (the codec promises bytes).
add_library(seam_flags INTERFACE)
target_compile_options(seam_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Werror -ffp-contract=off -fno-math-errno -fno-omit-frame-pointer)
if(CMAKE_C_COMPILER_ID MATCHES Clang) # -Wthread-safety: the roles of service/ops/roles.h
  target_compile_options(seam_flags INTERFACE -Wthread-safety
    -Wno-string-conversion) # SEAM_ASSERT(!"why") is an idiom
endif()
target_compile_definitions(seam_flags INTERFACE _GNU_SOURCE SEAM_VERSION="${PROJECT_VERSION}")
if(SEAM_SANITIZE)
  add_compile_options(-fsanitize=${SEAM_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SEAM_SANITIZE})
endif()
if(SEAM_FUZZ) # coverage in every library, or the fuzzer is blind
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# seam_add_library(name sources...): a static, position-independent part of the tree.
function(seam_add_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PRIVATE seam_flags)
endfunction()

# gRPC's C core promises no stability between releases: the faults we work around and the functions
# we call are those of 1.51 (core version 29).  Another one needs a review, not a retry.
execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} --modversion grpc
                OUTPUT_VARIABLE SEAM_GRPC_CORE_VERSION OUTPUT_STRIP_TRAILING_WHITESPACE)
option(SEAM_ANY_GRPC "Build against a gRPC other than 1.51" OFF)
if(NOT SEAM_GRPC_CORE_VERSION MATCHES "^29\\." AND NOT SEAM_ANY_GRPC)
  message(FATAL_ERROR "gRPC core ${SEAM_GRPC_CORE_VERSION} found, 29 (gRPC 1.51) is what this is "
                      "written for; -DSEAM_ANY_GRPC=ON to try another")
endif()
