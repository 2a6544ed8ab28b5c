/* Goal: the bytes of the paper's Table 4 (arXiv 2510.05468) on the wire, through the real coders
 * and frames, at LLaMA3-8B's shapes: an adapter of rank 16 on q and v both ways, and boundary
 * tensors of 16 x 432 rows without adapter traffic; ours beside them. Method: the adapter's shapes
 * follow from the model's config alone (seam_adapter_sites), so that no weights are needed; random
 * values go through module_link or coder, each payload into a frame in a stream message, and the
 * bytes of messages are counted.  The table is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter_modules.h"
#include "coder.h"
#include "frame.h"
#include "module_link.h"
#include "walk.h"

static const seam_model_config llama3_8b = {.name = "llama3-8b",
                                            .architecture = "llama",
                                            .vocab_count = 128256,
                                            .hidden = 4096,
                                            .intermediate = 14336,
                                            .layers = 32,
                                            .heads = 32,
                                            .kv_heads = 8,
                                            .head_dim = 128,
                                            .context_max = 8192,
                                            .rms_eps = 1e-5f,
                                            .rope_theta = 500000.0};
enum { ADAPTER_VALUES = 6815744, BATCH_ROWS = 16 * 432, HIDDEN = 4096 };

typedef struct wire {
    uint64_t payload_bytes, message_bytes;
    uint32_t frame_count;
    seam_frame_header header; /* of the tensor at work */
    uint8_t *frame;
} wire;

/* A chunk as a message of a stream, whose bytes count. */
static seam_status count_chunk(void *user, uint32_t tensor_idx, uint32_t tensor_rows,
                               const seam_coder_chunk *chunk, const uint8_t *payload) {
    wire *w = user;
    seam_frame_header header = w->header, opened = {0};
    const uint8_t *body = NULL;
    header.micro = tensor_idx;
    header.rows = tensor_rows;
    header.row_begin = chunk->row_begin;
    header.row_count = chunk->row_count;
    header.coding = chunk->coding;
    header.payload_bytes = chunk->payload_bytes;
    if (payload != NULL) { /* a chunk may be of no bytes */
        memcpy(w->frame + SEAM_FRAME_HEADER_BYTES, payload, chunk->payload_bytes);
    }
    seam_frame_seal(w->frame, &header);
    const size_t count = SEAM_FRAME_HEADER_BYTES + (size_t)chunk->payload_bytes;
    assert_int_equal(seam_frame_open(&opened, &body, w->frame, count, NULL), SEAM_OK);
    w->payload_bytes += chunk->payload_bytes;
    w->message_bytes += seam_message_header_bytes(count) + count;
    w->frame_count++;
    return SEAM_OK;
}

static float gaussian(uint64_t *state) { /* of a sum: enough for ranges and codes */
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*state >> 40) * 0x1p-24f - 0.5f;
    }
    return sum;
}

static float *random_values(size_t count, uint64_t seed) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = gaussian(&seed);
    }
    return values;
}

static void header_alloc(seam_frame_header *header, const seam_alloc *alloc) {
    header->alloc_version = alloc->version;
    header->alloc_bits_total = alloc->bits_total;
    header->alloc_hash = alloc->hash;
}

/* Parameters (or none) up and gradients down, of one step. */
static wire exchange_step(seam_codec_id codec, uint32_t bits, uint32_t entropy, bool parameters) {
    static const seam_ops ops = {.acc = SEAM_F32, .act = SEAM_F32};
    const seam_memory_blocks blocks = {.model = &llama3_8b, .ops = &ops, .layer_end = 32};
    const seam_adapter_config config = {
        .kind = SEAM_ADAPTER_LORA,
        .lora = {.rank = 16, .alpha = 16, .targets = SEAM_LORA_Q | SEAM_LORA_V}};
    const seam_codec_plan plan = {.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE,
                                  .resend_parameters = true,
                                  .codec_in = codec,
                                  .codec_out = codec,
                                  .bits = bits,
                                  .entropy = entropy};
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    const uint32_t count = seam_adapter_sites(pairs, &blocks, &config);
    wire w = {.frame = malloc(SEAM_FRAME_HEADER_BYTES + SEAM_CHUNK_BYTES_MAX)};
    assert_non_null(w.frame);
    assert_int_equal(count, 2);
    uint64_t values = 0;
    for (uint32_t i = 0; i < count; i++) {
        values += pairs[i].rows * pairs[i].channels;
    }
    assert_int_equal(values, ADAPTER_VALUES);
    for (int gradient = parameters ? 0 : 1; gradient < 2; gradient++) {
        const seam_module_link_options options = {
            .pairs = pairs, .pair_count = count, .plan = &plan, .server = gradient != 0, .seed = 1};
        seam_module_link link;
        assert_int_equal(seam_module_link_check(&options, NULL), SEAM_OK);
        assert_int_equal(seam_module_link_create(&link, &options, NULL), SEAM_OK);
        for (uint32_t i = 0; i < count; i++) {
            float *x = random_values((size_t)pairs[i].rows * 16, i + 7);
            const seam_module module = {.name = "all",
                                        .rows = (uint32_t)pairs[i].rows,
                                        .rank = 16,
                                        .order = SEAM_MODULE_ROWS,
                                        .values = x};
            const seam_module_stack stack = {
                .modules = &module, .module_count = 1, .tensor_rows_max = SEAM_ROWS_MAX};
            const seam_module_link_args args = {
                .pair_idx = i, .gradient = gradient != 0, .take = count_chunk, .user = &w};
            seam_module_bytes bytes = {0};
            w.header = (seam_frame_header){
                .kind = SEAM_FRAME_TENSOR,
                .phase = gradient != 0 ? SEAM_PHASE_BACKWARD : SEAM_PHASE_FORWARD,
                .codec = (uint8_t)codec,
                .site = gradient != 0 ? pairs[i].gradient_site : pairs[i].site,
                .channels = 16};
            header_alloc(&w.header, seam_module_link_alloc(&link, i, gradient != 0, 0));
            assert_int_equal(seam_module_link_encode(&bytes, &link, &stack, &args), SEAM_OK);
            free(x);
        }
        seam_module_link_destroy(&link);
    }
    free(w.frame);
    return w;
}

/* One boundary tensor of so many rows. */
static wire boundary_tensor(seam_codec_id codec, uint32_t bits, uint32_t entropy, uint32_t rows) {
    const seam_codec_plan plan = {
        .codec_in = codec, .codec_out = codec, .bits = bits, .entropy = entropy};
    const seam_coder_config config = {.codec = codec,
                                      .encoder = true,
                                      .channels = HIDDEN,
                                      .rows_max = rows,
                                      .bits_max = bits,
                                      .plan = &plan};
    const seam_site_config site = {
        .codec = codec, .width_count = HIDDEN, .bits_fixed = (uint8_t)bits};
    seam_coder *coder = NULL;
    seam_site *alloc = NULL;
    wire w = {.frame = malloc(SEAM_FRAME_HEADER_BYTES + SEAM_CHUNK_BYTES_MAX)};
    uint8_t *payload = malloc(SEAM_PAYLOAD_BYTES_MAX);
    float *x = random_values((size_t)rows * HIDDEN, rows);
    assert_true(w.frame != NULL && payload != NULL);
    assert_int_equal(seam_coder_create(&coder, &config), SEAM_OK);
    assert_int_equal(seam_site_create(&alloc, &site, NULL), SEAM_OK);
    const seam_alloc *now = seam_site_alloc_now(alloc);
    const seam_coder_encode_args args = {
        .tensor = {.codec = codec, .alloc = now->widths != NULL ? now : NULL, .rows = rows},
        .x = x};
    w.header = (seam_frame_header){.kind = SEAM_FRAME_TENSOR,
                                   .phase = SEAM_PHASE_FORWARD,
                                   .codec = (uint8_t)codec,
                                   .channels = HIDDEN};
    header_alloc(&w.header, now);
    assert_int_equal(seam_coder_encode_begin(coder, &args), SEAM_OK);
    while (!seam_coder_is_done(coder)) {
        seam_coder_chunk chunk;
        assert_int_equal(
            seam_coder_encode_chunk(&chunk, payload, SEAM_PAYLOAD_BYTES_MAX, NULL, coder), SEAM_OK);
        assert_int_equal(count_chunk(&w, 0, rows, &chunk, payload), SEAM_OK);
    }
    seam_site_destroy(alloc);
    seam_coder_destroy(coder);
    free(x);
    free(payload);
    free(w.frame);
    return w;
}

static void show(const char *what, uint64_t payload, uint64_t messages) {
    (void)fprintf(stderr, "%-58s %9.3f %9.3f MB\n", what, (double)payload / 1e6,
                  (double)messages / 1e6);
}

static void test_exchange__llama3_8b__table_4_first_setting(void **state) {
    (void)state;
    static const struct {
        const char *name;
        seam_codec_id codec;
        uint32_t bits, entropy;
        bool parameters;
        uint64_t codes; /* of payload, without ranges; 0: fewer than the line before */
    } cases[] = {
        {"adapter r16 q,v both ways, bf16 (paper: 27.263)", SEAM_CODEC_BF16, 0, 0, true, 27262976},
        {"adapter r16 q,v both ways, 4 bits (paper: 6.816)", SEAM_CODEC_AFFINE, 4, 0, true,
         6815744},
        {"the same, entropy coded", SEAM_CODEC_AFFINE, 4, SEAM_ENTROPY_RANS, true, 0},
        {"gradients alone, bf16", SEAM_CODEC_BF16, 0, 0, false, 13631488},
        {"gradients alone, 4 bits", SEAM_CODEC_AFFINE, 4, 0, false, 3407872},
        {"gradients alone, 4 bits, entropy coded", SEAM_CODEC_AFFINE, 4, SEAM_ENTROPY_RANS, false,
         0},
    };
    uint64_t before = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const wire w =
            exchange_step(cases[i].codec, cases[i].bits, cases[i].entropy, cases[i].parameters);
        show(cases[i].name, w.payload_bytes, w.message_bytes);
        const uint64_t codes = cases[i].codes != 0 ? cases[i].codes : w.payload_bytes;
        const uint64_t ranges = cases[i].codec == SEAM_CODEC_BF16 ? 0 : 4 * (4 + 4 * 16);
        assert_true(w.payload_bytes >= codes && w.payload_bytes <= codes + ranges);
        assert_true(cases[i].codes != 0 || w.payload_bytes < before);
        assert_true((double)w.message_bytes < 1.01 * (double)w.payload_bytes);
        before = w.payload_bytes;
    }
}

static void test_boundaries__llama3_8b__table_4_second_setting(void **state) {
    (void)state;
    /* All rows over both boundaries and back; then what ours leaves out at 60 % labelled rows. */
    const wire bf16 = boundary_tensor(SEAM_CODEC_BF16, 0, 0, BATCH_ROWS);
    show("16 x 432 rows, 4 tensors, bf16 (paper: 226.49)", 4 * bf16.payload_bytes,
         4 * bf16.message_bytes);
    assert_int_equal(4 * bf16.payload_bytes, 226492416);
    assert_true((double)bf16.message_bytes < 1.01 * (double)bf16.payload_bytes);
    const wire all = boundary_tensor(SEAM_CODEC_AFFINE, 4, 0, BATCH_ROWS);
    show("the same, 4 bits", 4 * all.payload_bytes, 4 * all.message_bytes);
    assert_int_equal(4 * all.payload_bytes, 226492416 / 4 + 4 * (4 + 4 * HIDDEN));
    const uint32_t labelled = BATCH_ROWS * 6 / 10;
    const wire some = boundary_tensor(SEAM_CODEC_AFFINE, 4, 0, labelled);
    show("fwd_in, labelled rows of fwd_out and bwd_out, 4 bits",
         all.payload_bytes + 2 * some.payload_bytes, all.message_bytes + 2 * some.message_bytes);
    const wire all_coded = boundary_tensor(SEAM_CODEC_AFFINE, 4, SEAM_ENTROPY_RANS, BATCH_ROWS);
    const wire some_coded = boundary_tensor(SEAM_CODEC_AFFINE, 4, SEAM_ENTROPY_RANS, labelled);
    show("the same, entropy coded", all_coded.payload_bytes + 2 * some_coded.payload_bytes,
         all_coded.message_bytes + 2 * some_coded.message_bytes);
    show("VANILLA: fwd_in alone, 4 bits, entropy coded", all_coded.payload_bytes,
         all_coded.message_bytes);
    assert_true(some.payload_bytes < all.payload_bytes * 61 / 100);
    assert_true(all_coded.payload_bytes < all.payload_bytes);
    assert_true((double)all_coded.message_bytes < 1.01 * (double)all_coded.payload_bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange__llama3_8b__table_4_first_setting),
        cmocka_unit_test(test_boundaries__llama3_8b__table_4_second_setting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
