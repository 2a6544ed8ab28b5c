/* Answers codec records from stdin on stdout: the C side of test_codec_live.py. */
#include <stdio.h>
#include <stdlib.h>

#include "codec_record.h"

int main(void) {
    for (int next = fgetc(stdin); next != EOF; next = fgetc(stdin)) {
        (void)ungetc(next, stdin);
        codec_record record;
        codec_answer answer;
        codec_record_read(&record, stdin);
        const seam_status st = codec_record_answer(&answer, &record);
        if (st != SEAM_OK) {
            (void)fprintf(stderr, "codec_cli: %s\n", seam_status_text(st));
            return 1;
        }
        codec_answer_write(&answer, &record, stdout);
        codec_answer_free(&answer);
        codec_record_free(&record);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
