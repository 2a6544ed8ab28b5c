#!/usr/bin/env bash
# The thread roles of seamd (service/ops/roles.h) are checked, and the check finds what it must.
#
#   tests/roles.sh BUILD_DIR      (for the generated messages)
#
# service/ compiles with clang's -Wthread-safety as errors; small wrong callers do not, each for the
# reason that it must; the same callers with the right role do.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=${1:?usage: tests/roles.sh BUILD_DIR}
clang=$(command -v clang || command -v clang-14) || { echo "skipped: clang is not installed"; exit 77; }
flags=(-std=c11 -D_GNU_SOURCE -DSEAM_VERSION=\"0\" -fsyntax-only -Wthread-safety -Werror -isystem "$build/proto")
while read -r folder; do
    flags+=(-I"$folder")
done < <(git ls-files --cached --others --exclude-standard 'proto/*.h' 'kernels/*.h' 'service/*.h' |
    xargs -n1 dirname | sort -u)
status=0
count=0
for file in $(git ls-files --cached --others --exclude-standard 'service/*.c'); do
    count=$((count + 1))
    "$clang" "${flags[@]}" "$file" || { echo "$file: see above"; status=1; }
done

# try NAME EXPECTED ROLE CALL: a function with this role makes this call; EXPECTED: a role that is
# missing, or "fine".
try() {
    local text
    text=$("$clang" "${flags[@]}" -Wno-unused-function -x c - 2>&1 <<EOF
#include "engine.h"
#include "session.h"
#include "trainer.h"
$3 static void caller(seam_engine *engine, seam_job *job, seam_trainer *trainer, seam_stream *stream,
                      seam_session *session) {
    (void)engine, (void)job, (void)trainer, (void)stream, (void)session;
    (void)$4;
}
static void (*const used)(seam_engine *, seam_job *, seam_trainer *, seam_stream *,
                          seam_session *) = caller;
EOF
    )
    local got=$?
    if [ "$2" = fine ]; then
        [ $got = 0 ] && return
    elif [ $got != 0 ] && [[ $text == *"requires holding role 'seam_$2_role'"* ]] &&
        [ "$(grep -c 'error:' <<<"$text")" = 1 ]; then
        return
    fi
    echo "$1: expected $2, got exit $got: $text"
    status=1
}
try "loop posts"           fine SEAM_ON_LOOP "seam_engine_post(engine, job)"
try "gpu posts"            loop SEAM_ON_GPU  "seam_engine_post(engine, job)"
try "nobody posts"         loop ""           "seam_engine_post(engine, job)"
try "gpu computes"         fine SEAM_ON_GPU  "seam_trainer_forward(trainer, stream, NULL)"
try "loop computes"        gpu  SEAM_ON_LOOP "seam_trainer_forward(trainer, stream, NULL)"
try "gpu drops a session"  loop SEAM_ON_GPU  "(seam_session_unref(session), 0)"
try "loop publishes a job" gpu  SEAM_ON_LOOP "(seam_job_publish(job), 0)"
echo "roles: $count files of service/ checked"
[ $count -gt 0 ] || exit 1
exit $status
