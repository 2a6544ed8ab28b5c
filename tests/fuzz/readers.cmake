# Weight and text readers.
seam_add_fuzz(safetensors seam_weights)
seam_add_fuzz(gguf seam_text)
seam_add_fuzz(tokenizer_json seam_text)
seam_add_fuzz(jsonl seam_text)
