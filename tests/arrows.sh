#!/usr/bin/env bash
# The include arrows of ARCHITECTURE.md, checked over every tracked C source and header.
#
# File names are unique in the tree, so an include names its folder.  Each rule line below is
# "<folder prefix of the includer>: <folder prefixes it may include from>"; the first rule that fits
# counts.  Three more rules: grpc/ only in service/rpc and client-sdk/transport (and the tests of
# those); compute libraries only in kernels/cpu and kernels/cuda (and in
# benches and tests of the latter); a header named *_internal.h or *_impl.h stays in its folder (and
# its tests).
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

rules='
proto/base/:            proto/base/
proto/wire/:            proto/wire/ proto/base/
kernels/codec/:         kernels/codec/ kernels/include/ proto/base/
kernels/include/:       kernels/include/ proto/base/
kernels/ref/:           kernels/ref/ kernels/include/ proto/base/ kernels/backend.
kernels/cpu/:           kernels/cpu/ kernels/include/ proto/base/ kernels/backend.
kernels/cuda/:          kernels/cuda/ kernels/include/ proto/base/ kernels/backend.
kernels/pull/:          kernels/pull/ proto/base/
kernels/model/:         kernels/model/ kernels/include/ kernels/codec/ proto/base/
kernels/:               kernels/ proto/base/
service/:               service/ kernels/ proto/
client-sdk/include/:    client-sdk/include/ proto/base/
client-sdk/core/:       client-sdk/core/ client-sdk/include/ client-sdk/transport/ kernels/codec/ proto/
client-sdk/transport/:  client-sdk/transport/ client-sdk/core/ client-sdk/include/ kernels/codec/ proto/
client-sdk/examples/:   client-sdk/include/ proto/base/
client-sdk/:            client-sdk/ kernels/ proto/
tests/:                 tests/ client-sdk/ service/ kernels/ proto/
'

git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' | sort -u | awk -v rules="$rules" '
    function base(path) { sub(/.*\//, "", path); return path }
    function folder(path) { sub(/[^\/]*$/, "", path); return path }
    function starts(path, prefix) { return substr(path, 1, length(prefix)) == prefix }
    function bad(why) { printf "%s:%d: includes %s: %s\n", file, number, name, why; errors++ }
    function allowed(from, to,    r, i, n, part) {
        for (r = 1; r <= rule_count; r++)
            if (starts(from, source[r])) {
                n = split(target[r], part, " ")
                for (i = 1; i <= n; i++)
                    if (starts(to, part[i])) return 1
                return 0
            }
        return 1
    }
    BEGIN {
        n = split(rules, line, "\n")
        for (i = 1; i <= n; i++)
            if (split(line[i], part, ":") == 2) {
                gsub(/ /, "", part[1])
                source[++rule_count] = part[1]
                target[rule_count] = part[2]
            }
    }
    {
        files[++file_count] = $0
        if (base($0) in home) {
            printf "%s: same file name as %s\n", $0, home[base($0)]
            errors++
        }
        home[base($0)] = $0
    }
    END {
        for (f = 1; f <= file_count; f++) {
            file = files[f]
            number = 0
            while ((getline text < file) > 0) {
                number++
                if (text !~ /^[ \t]*#[ \t]*include/) continue
                name = text
                sub(/^[^"<]*["<]/, "", name)
                sub(/[">].*/, "", name)
                includes++
                if (name ~ /^grpc\// &&
                    file !~ /^(service\/rpc|client-sdk\/transport|tests)\//)
                    bad("grpc/ belongs to service/rpc and client-sdk/transport")
                if (name ~ /^(dnnl|oneapi|cblas|cuda|cublas|nccl)/ &&
                    file !~ /^(kernels\/(cpu|cuda)|tests\/bench)\/|^tests\/unit\/test_cuda_[a-z]+\.cu$/)
                    bad("compute libraries belong to kernels/cpu and kernels/cuda")
                if (!(base(name) in home) || text !~ /"/) continue
                to = home[base(name)]
                if (!allowed(file, to)) bad("against the arrows (it is in " folder(to) ")")
                if (to ~ /_(internal|impl)\.h$/ && folder(to) != folder(file) && file !~ /^tests\//)
                    bad("private to " folder(to))
            }
            close(file)
        }
        printf "arrows: %d files, %d includes, %d errors\n", file_count, includes, errors
        exit errors > 0 || includes == 0
    }'
