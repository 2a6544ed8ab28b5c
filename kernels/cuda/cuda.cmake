# The CUDA backend; needs the toolkit's nvcc and cuBLASLt (preset cuda).
# CMake 3.25's own module fails with CUDA 13 in a project that asks for 3.25: it marks the library
# nvToolsExt, which that toolkit has no more, as deprecated.
set(seam_cmake_minimum ${CMAKE_MINIMUM_REQUIRED_VERSION})
set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_MINIMUM_REQUIRED_VERSION ${seam_cmake_minimum})

# Warpgroup products have a target of their own; compiled for it whatever else is asked for.
add_library(seam_cuda_hopper OBJECT
  cuda/cuda_attention_forward_wgmma.cu cuda/cuda_attention_backward_wgmma.cu)
set_target_properties(seam_cuda_hopper PROPERTIES CUDA_ARCHITECTURES 90a-real)

add_library(seam_cuda STATIC
  cuda/cuda_backend.cu cuda/cuda_weight.cu cuda/cuda_kept.cu cuda/cuda_cast.cu cuda/cuda_gemm.cu
  cuda/cuda_linear.cu cuda/cuda_weight_gradient.cu
  cuda/cuda_column_sums.cu cuda/cuda_dropout.cu cuda/cuda_linear_fp8.cu cuda/cuda_fp8_rows.cu
  cuda/cuda_fp8_weight.cu cuda/cuda_plan.cu
  cuda/cuda_algorithms.cu
  cuda/cuda_thin.cu cuda/cuda_shares.cu cuda/cuda_join.cu cuda/cuda_rmsnorm.cu cuda/cuda_rope.cu
  cuda/cuda_attention_forward.cu cuda/cuda_attention_forward_mma.cu cuda/cuda_attention_backward.cu
  cuda/cuda_attention_backward_mma.cu cuda/cuda_attention_cached.cu cuda/cuda_cache_store.cu cuda/cuda_prefix.cu cuda/cuda_swiglu.cu
  cuda/cuda_embedding.cu cuda/cuda_cross_entropy.cu cuda/cuda_adamw.cu cuda/cuda_sum_squares.cu
  cuda/cuda_hash.cu cuda/cuda_repeat.cu
  cuda/cuda_codec.cu cuda/cuda_codec_measure.cu cuda/cuda_codec_encode.cu cuda/cuda_codec_decode.cu
  cuda/cuda_codec_raw.cu cuda/cuda_codec_gates.cu
  $<TARGET_OBJECTS:seam_cuda_hopper>)
target_link_libraries(seam_cuda PUBLIC seam_base PRIVATE CUDA::cudart_static CUDA::cublasLt)
foreach(target seam_cuda seam_cuda_hopper)
  target_include_directories(${target} PRIVATE include ${CMAKE_CURRENT_SOURCE_DIR} cuda)
  target_compile_features(${target} PRIVATE cuda_std_17)
endforeach()
target_link_libraries(seam_cuda_hopper PRIVATE seam_base CUDA::cudart_static)
