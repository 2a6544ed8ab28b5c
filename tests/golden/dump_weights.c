/* dump_weights MODEL OUT: every tensor of a model as f32, through seam_weights, for comparison
 * with other loaders.  OUT gets the raw little-endian floats one tensor after another; stdout
 * gets the config and one line a tensor: name rows cols.  Not a test by itself: see
 * tests/oracle/check_weights.py and test_readers.py. */
#include <inttypes.h>
#include <stdio.h>

#include "arena.h"
#include "family.h"
#include "weights.h"

static bool dump(FILE *out, const seam_weights *weights, const char *name) {
    seam_error err;
    uint64_t rows = 0;
    uint64_t cols = 0;
    if (seam_weights_shape(&rows, &cols, weights, name, &err) != SEAM_OK) {
        fprintf(stderr, "%s\n", err.text);
        return false;
    }
    float *values = seam_mem_zalloc((size_t)(rows * cols), sizeof(*values));
    const bool ok =
        values != NULL && seam_weights_read(values, weights, name, rows, cols, &err) == SEAM_OK &&
        fwrite(values, sizeof(*values), (size_t)(rows * cols), out) == (size_t)(rows * cols);
    if (ok) {
        printf("%s %" PRIu64 " %" PRIu64 "\n", name, rows, cols);
    } else {
        fprintf(stderr, "%s: cannot dump\n", name);
    }
    seam_mem_free(values);
    return ok;
}

static bool dump_all(FILE *out, const seam_weights *weights) {
    const seam_model_config *c = seam_weights_config(weights);
    printf("config %u %u %u %u %u %u %u %u %.9g %.17g %d %lld %lld %016" PRIx64 "\n",
           c->vocab_count, c->hidden, c->intermediate, c->layers, c->heads, c->kv_heads,
           c->head_dim, c->context_max, (double)c->rms_eps, c->rope_theta, (int)c->tied,
           (long long)c->bos_id, (long long)c->eos_id, seam_model_config_identity(c));
    const seam_family *family = seam_family_find(c->architecture);
    for (size_t i = 0; i < seam_family_global_count; i++) {
        if (!(c->tied && i == SEAM_GLOBAL_HEAD) && !dump(out, weights, seam_family_globals[i].hf)) {
            return false;
        }
    }
    for (uint32_t layer = 0; layer < c->layers; layer++) {
        for (size_t i = 0; i < family->layer_count; i++) {
            char name[SEAM_NAME_BYTES];
            (void)snprintf(name, sizeof(name), "model.layers.%u.%s", layer, family->layer[i].hf);
            if (!dump(out, weights, name)) {
                return false;
            }
        }
    }
    return true;
}

int main(int argc, char **argv) {
    seam_weights *weights = NULL;
    seam_error err = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL OUT\n", argv[0]);
        return 2;
    }
    if (seam_weights_open(&weights, argv[1], &err) != SEAM_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    FILE *out = fopen(argv[2], "wb");
    bool ok = out != NULL && dump_all(out, weights);
    ok = out != NULL && fclose(out) == 0 && ok;
    seam_weights_close(weights);
    return ok ? 0 : 1;
}
