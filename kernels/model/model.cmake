# kernels/model without the readers: blocks, adapter, head, optimizer, PEFT files.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
seam_add_library(seam_model
  model/activations.c model/adapter.c model/adapter_full.c model/adapter_modules.c model/adapter_names.c
  model/adapter_state.c model/blocks.c model/blocks_backward.c model/blocks_cached.c model/blocks_forward.c
  model/blocks_repeat.c model/config_range.c model/head.c model/layers_files.c
  model/memory_plan.c model/merge.c model/merge_write.c model/optimizer.c model/peft_export.c
  model/peft_import.c model/peft_parts.c model/peft_prefix_parts.c model/prefix_quantizer.c model/rope_table.c
  model/safetensors_write.c model/weight_load.c)
target_include_directories(seam_model PUBLIC model include codec)
target_link_libraries(seam_model PUBLIC seam_ops seam_weights seam_base seam_codec m
                                 PRIVATE PkgConfig::JANSSON)
