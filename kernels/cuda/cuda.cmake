# The CUDA backend; needs the toolkit's nvcc and cuBLASLt (preset cuda).
find_package(CUDAToolkit REQUIRED)

add_library(seam_cuda STATIC
  cuda/cuda_backend.cu cuda/cuda_weight.cu cuda/cuda_kept.cu cuda/cuda_cast.cu cuda/cuda_gemm.cu
  cuda/cuda_linear.cu cuda/cuda_linear_fp8.cu cuda/cuda_fp8_rows.cu cuda/cuda_plan.cu
  cuda/cuda_thin.cu cuda/cuda_rmsnorm.cu cuda/cuda_rope.cu
  cuda/cuda_attention_forward.cu cuda/cuda_attention_forward_mma.cu cuda/cuda_attention_backward.cu
  cuda/cuda_attention_backward_mma.cu cuda/cuda_attention_cached.cu cuda/cuda_swiglu.cu
  cuda/cuda_embedding.cu cuda/cuda_cross_entropy.cu cuda/cuda_adamw.cu cuda/cuda_sum_squares.cu
  cuda/cuda_codec.cu cuda/cuda_codec_measure.cu cuda/cuda_codec_encode.cu cuda/cuda_codec_decode.cu
  cuda/cuda_codec_raw.cu cuda/cuda_codec_gates.cu)
target_include_directories(seam_cuda PRIVATE include ${CMAKE_CURRENT_SOURCE_DIR} cuda)
target_compile_features(seam_cuda PRIVATE cuda_std_17)
target_link_libraries(seam_cuda PUBLIC seam_base PRIVATE CUDA::cudart_static CUDA::cublasLt)
