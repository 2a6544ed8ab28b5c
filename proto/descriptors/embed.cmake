# Writes OUTPUT, a C file that holds the bytes of INPUT as the array of descriptor_set.h.
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" hex_count)
math(EXPR byte_count "${hex_count} / 2")
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n"
       bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"descriptor_set.h\"
const size_t seam_descriptor_set_bytes = ${byte_count};
const uint8_t seam_descriptor_set[] = {
${bytes}};
")
