# Readers of model files; included by kernels/CMakeLists.txt before model.cmake.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET GLOBAL jansson)
seam_add_library(seam_weights
  model/config_json.c model/config_reader.c model/config_rope.c model/dequantize.c
  model/dequantize_blocks.c model/dequantize_k.c
  model/family/family.c model/family/family_llama.c model/family/family_phi3.c
  model/family/family_qwen2.c model/file_map.c model/gguf.c model/gguf_model.c model/gguf_rope.c
  model/json_read.c model/json_text.c model/model_config.c model/safetensors.c model/tensor_index.c model/weights.c
  model/weights_files.c)
target_include_directories(seam_weights PUBLIC model model/family)
target_link_libraries(seam_weights PUBLIC seam_base PkgConfig::JANSSON m)
