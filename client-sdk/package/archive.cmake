# cmake -DAR=... -DOUT=libseam.a -DPARTS="a;b" -P archive.cmake: one archive out of several, so that
# a device can link libseam statically with one name.
set(script "CREATE ${OUT}\n")
string(REPLACE "|" ";" parts "${PARTS}")
foreach(part ${parts})
  string(APPEND script "ADDLIB ${part}\n")
endforeach()
string(APPEND script "SAVE\nEND\n")
file(WRITE ${OUT}.mri "${script}")
execute_process(COMMAND ${AR} -M INPUT_FILE ${OUT}.mri COMMAND_ERROR_IS_FATAL ANY)
