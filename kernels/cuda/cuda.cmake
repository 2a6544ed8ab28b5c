# The CUDA side of the picker; needs the toolkit's nvcc and cuBLASLt (preset cuda).
find_package(CUDAToolkit REQUIRED)
add_library(seam_cuda STATIC cuda/device_cuda.cu)
target_include_directories(seam_cuda PUBLIC cuda)
target_link_libraries(seam_cuda PUBLIC seam_base PRIVATE CUDA::cudart_static CUDA::cublasLt)
