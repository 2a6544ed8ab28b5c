# Readers of model files; included by kernels/CMakeLists.txt before model.cmake.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET GLOBAL jansson)
seam_add_library(seam_weights
  model/config_json.c model/dequantize.c model/file_map.c model/gguf.c model/gguf_llama.c
  model/json_read.c model/model_config.c model/safetensors.c model/tensor_index.c model/weights.c
  model/weights_files.c)
target_include_directories(seam_weights PUBLIC model)
target_link_libraries(seam_weights PUBLIC seam_base PkgConfig::JANSSON m)
