#!/usr/bin/env python3
"""What `cmake --install` puts into a prefix works from there, and nowhere else.

Goals: the example builds against the installed thin core by pkg-config, by CMake's find_package
and statically, and trains against a seamd; what the installed headers declare is exported and nothing
else, the version node is that of the soname; the thin core links no
compute library; its size is reported.

    test_install.py SEAMD BUILD_DIR
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from service_fixture import SOURCE, Seamd, seamd_path, write_model

BUILD = pathlib.Path(sys.argv[2])
EXAMPLE = SOURCE / "client-sdk" / "examples" / "edge_train.c"
SOVERSION = 1
NODE = f"SEAM_{SOVERSION}"  # the version node of every symbol
STRICT = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
STATIC_LIBRARIES = ["-lgrpc", "-lgpr", "-lprotobuf-c", "-lm", "-lpthread"]
NEEDED = {"libgrpc.so", "libgpr.so", "libprotobuf-c.so", "libm.so", "libc.so", "ld-linux-x86-64.so",
          "libasan.so", "libubsan.so", "libtsan.so"}


def call(*command, env=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          env={**os.environ, **(env or {})})
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def check_exports(library, *headers):
    symbols = [line.split()[-1]
               for line in call("nm", "-D", "--defined-only", library).splitlines()]
    names = [s.split("@")[0] for s in symbols]
    foreign = [s for s in symbols if s != NODE and not re.fullmatch(rf"seam_\w+@@{NODE}", s)]
    assert NODE in names and not foreign, f"{library.name} exports {foreign}"
    declared = {name for header in headers
                for name in re.findall(r"\bSEAM_API [^;(]*\b(seam_\w+)\(", header.read_text())}
    every = {name for header in headers
             for name in re.findall(r"^(?!typedef|#|/\*| )[\w *]*\b(seam_\w+)\(", header.read_text(), re.M)}
    assert declared == every, f"no SEAM_API: {every - declared}"
    assert declared == set(names) - {NODE}, f"{library.name}: {declared ^ (set(names) - {NODE})}"
    assert "SONAME" in (dynamic := call("readelf", "-d", library))
    assert re.search(rf"SONAME.*\[libseam(-model)?\.so\.{SOVERSION}\]", dynamic)
    return {re.sub(r"\.so.*", ".so", n) for n in re.findall(r"NEEDED.*\[(.*)\]", dynamic)}


def build_all_ways(prefix, folder):
    lib = prefix / "lib"
    env = {"PKG_CONFIG_PATH": str(lib / "pkgconfig")}
    flags = call("pkg-config", "--cflags", "--libs", "seam", env=env).split()
    shared = folder / "edge_shared"
    call("cc", *STRICT, EXAMPLE, *flags, f"-Wl,-rpath,{lib}", "-o", shared)
    sanitized = "asan" in BUILD.name or "tsan" in BUILD.name
    if not sanitized:  # a sanitized archive needs its run-time library, which is not the point
        static = folder / "edge_static"
        call("cc", *STRICT, EXAMPLE, f"-I{prefix / 'include'}", lib / "libseam.a",
             *STATIC_LIBRARIES, "-o", static)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(edge C)\n"
        "find_package(Seam 0.1 REQUIRED)\n"
        f"add_executable(edge_cmake {EXAMPLE})\ntarget_link_libraries(edge_cmake seam::seam)\n")
    call("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    call("cmake", "--build", folder / "build")
    (folder / "plus.cc").write_text("#include <seam_model.h>\nint main() { seam_session_options o ="
                                    " SEAM_SESSION_OPTIONS_INIT; seam_model_facts f; f.vocab = 1;"
                                    " seam_model_describe(&f, nullptr); seam_model_describe(nullptr, "
                                    "nullptr); return o.lora_rank + f.vocab; }\n")
    model_flags = call("pkg-config", "--cflags", "--libs", "seam-model", env=env).split()
    if subprocess.run(["sh", "-c", "command -v g++"], capture_output=True).returncode == 0:
        call("g++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", folder / "plus.cc", *model_flags,
             "-o", folder / "plus")
        if not sanitized:  # its run-time library would have to come first
            call(folder / "plus", env={"LD_LIBRARY_PATH": str(lib)})
    return [shared, folder / "build" / "edge_cmake"] + ([] if sanitized else [static])


def main():
    binary = seamd_path()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prefix = folder / "prefix"
        call("cmake", "--install", BUILD, "--prefix", prefix)
        core = prefix / "lib" / f"libseam.so.{SOVERSION}"
        include = prefix / "include"
        needed = check_exports(core, include / "seam.h", include / "seam_status.h")
        assert needed <= NEEDED, f"libseam needs {needed - NEEDED}"
        check_exports(prefix / "lib" / f"libseam-model.so.{SOVERSION}", include / "seam_model.h")
        stripped = folder / "stripped.so"
        call("strip", "-o", stripped, core)
        print(f"libseam.so: {stripped.stat().st_size} bytes stripped, needs {sorted(needed)}")
        programs = build_all_ways(prefix, folder)
        write_model(folder / "model")
        with Seamd(binary, folder / "model") as server:
            for program in programs:
                out = call(program, server.address, 8, folder / f"{program.name}-adapter")
                losses = [float(x) for x in re.findall(r"loss ([0-9.]+)", out)]
                assert len(losses) == 8 and losses[-1] < losses[0], out
        version = call(prefix / "bin" / "seam", "version")
        assert version.startswith("seam 0."), version
    print("install: all checks passed")


if __name__ == "__main__":
    main()
