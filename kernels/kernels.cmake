# The op table and its backends: seam_ops (include/ops.h).
#
# cpu/ is compiled once a variant (cpu/vec.h): the same files, other instruction flags; cpu.c picks
# one when the program starts, so the binary runs on any x86-64-v2 machine.  Always -O3: a Debug
# build's tests would take minutes otherwise.  Contraction to FMA is wanted here (the codec, which
# promises bytes, is compiled without).
find_package(Threads REQUIRED)
set(ref_sources
  ref/ref.c ref/ref_linear.c ref/ref_linear_fp8.c ref/ref_own_weight.c ref/ref_weight_gradient.c
  ref/ref_column_sums.c ref/ref_dropout.c ref/ref_rmsnorm.c ref/ref_rope.c
  ref/ref_attention_forward.c ref/ref_attention_backward.c ref/ref_attention_cached.c ref/ref_cache_store.c
  ref/ref_prefix.c
  ref/ref_swiglu.c ref/ref_embedding.c ref/ref_cross_entropy.c ref/ref_adamw.c
  ref/ref_sum_squares.c ref/ref_hash.c)
set(cpu_op_sources
  cpu/cpu_fill.c cpu/cpu_cast.c cpu/cpu_weight.c cpu/cpu_linear.c cpu/cpu_weight_gradient.c
  cpu/cpu_column_sums.c cpu/cpu_rmsnorm.c cpu/cpu_rope.c
  cpu/cpu_attention_forward.c cpu/cpu_attention_backward.c cpu/cpu_attention_cached.c cpu/cpu_cache_store.c
  cpu/cpu_prefix.c
  cpu/cpu_swiglu.c cpu/cpu_embedding.c cpu/cpu_cross_entropy.c cpu/cpu_adamw.c
  cpu/cpu_sum_squares.c cpu/cpu_hash.c)

seam_add_library(seam_ops backend.c cpu/cpu.c cpu/pool.c ${ref_sources})
target_include_directories(seam_ops PUBLIC include PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(seam_ops PUBLIC seam_base Threads::Threads m)

# On the files, as seam_flags' own -ffp-contract=off stands after a target's options.
set_source_files_properties(${cpu_op_sources} PROPERTIES COMPILE_OPTIONS -ffp-contract=fast)
# The optimizer has the same bits on every CPU and device: both ends of an adapter exchange step.
set_source_files_properties(cpu/cpu_adamw.c PROPERTIES COMPILE_OPTIONS -ffp-contract=off)

# seam_add_cpu_variant(name flags...): cpu/'s op files as seam_cpu_<name>_*.
function(seam_add_cpu_variant name)
  add_library(seam_cpu_${name} OBJECT ${cpu_op_sources})
  target_link_libraries(seam_cpu_${name} PRIVATE seam_flags seam_base)
  target_include_directories(seam_cpu_${name} PRIVATE include ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(seam_cpu_${name} PRIVATE SEAM_VARIANT=${name})
  target_compile_options(seam_cpu_${name} PRIVATE -O3 -Wno-psabi ${ARGN})
  target_sources(seam_ops PRIVATE $<TARGET_OBJECTS:seam_cpu_${name}>)
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  seam_add_cpu_variant(base -march=x86-64-v2)
  seam_add_cpu_variant(avx2 -march=x86-64-v3)
  seam_add_cpu_variant(avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  seam_add_cpu_variant(amx -march=x86-64-v4 -mavx512bf16 -mamx-tile -mamx-bf16
    -mprefer-vector-width=512 -DSEAM_VARIANT_BF16)
else()
  seam_add_cpu_variant(base)
endif()

if(SEAM_CUDA)
  include(cuda/cuda.cmake)
  target_link_libraries(seam_ops PRIVATE seam_cuda)
  target_compile_definitions(seam_ops PRIVATE SEAM_CUDA)
endif()
