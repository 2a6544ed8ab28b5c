/* Goal: LoRA parameters, gradients and prefixes become the frames of WIRE.md 1.1 and come back,
 * with every codec, however the stack is cut; the bytes are those of SPEC 3.4. Method: golden
 * frames of tests/oracle/module_golden.py, encoded again from their stacks byte by byte; round
 * trips over cuts inside modules; damaged chunks; LLaMA3-8B's shapes counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "codec_fixture.h"
#include "frame.h"
#include "module_stack.h"
#include "site.h"
#include "try.h"
#include "whole_file.h"

enum { MODULES_MAX = 128, FILE_MAX = 16384 };

/* A stack that owns its values, twice: as encoded, and as decoded. */
typedef struct owned {
    seam_module modules[MODULES_MAX], decoded[MODULES_MAX];
    seam_module_stack stack, to;
} owned;

static void owned_init(owned *o) {
    memset(o, 0, sizeof *o);
    o->stack = (seam_module_stack){.modules = o->modules, .tensor_rows_max = SEAM_ROWS_MAX};
    o->to = (seam_module_stack){.modules = o->decoded, .tensor_rows_max = SEAM_ROWS_MAX};
}

static float *owned_add(owned *o, uint32_t rows, uint32_t rank, seam_module_order order) {
    const uint32_t i = o->stack.module_count++;
    const size_t values = (size_t)rows * rank;
    assert_true(i < MODULES_MAX);
    o->to.module_count++;
    o->modules[i] = (seam_module){"m", rows, rank, order, test_malloc(values * sizeof(float))};
    o->decoded[i] = (seam_module){"m", rows, rank, order, test_calloc(values, sizeof(float))};
    return o->modules[i].values;
}

static void owned_deinit(owned *o) {
    for (uint32_t i = 0; i < o->stack.module_count; i++) {
        test_free(o->modules[i].values);
        test_free(o->decoded[i].values);
    }
}

/* ---- one end's coder and scratch ---- */

typedef struct end {
    seam_coder *coder;
    seam_codec_plan plan;
    uint8_t widths[64];
    seam_alloc alloc;
    float *rows;
    uint8_t *payload;
} end;

static void end_init(end *e, const seam_module_stack *stack, seam_codec_id codec,
                     const uint8_t *widths) {
    const uint32_t rows = seam_module_stack_tensor_rows(stack, 0), rank = stack->modules[0].rank;
    memset(e, 0, sizeof *e);
    e->plan = (seam_codec_plan){.group = codec == SEAM_CODEC_GROUP && rank % 4 == 0 ? 4 : 0};
    assert_true(rank <= sizeof e->widths);
    memcpy(e->widths, widths, rank);
    e->alloc = (seam_alloc){.version = 1, .widths = e->widths};
    for (uint32_t c = 0; c < rank; c++) {
        e->alloc.bits_total += e->widths[c];
    }
    e->alloc.hash = seam_alloc_hash(e->widths, rank);
    const seam_coder_config config = {.codec = codec,
                                      .channels = rank,
                                      .rows_max = rows,
                                      .bits_max = SEAM_BITS_MAX,
                                      .plan = &e->plan};
    assert_int_equal(seam_coder_create(&e->coder, &config), SEAM_OK);
    e->rows = test_malloc((size_t)rows * rank * sizeof(float));
    e->payload = test_malloc(SEAM_FRAME_HEADER_BYTES + SEAM_PAYLOAD_BYTES_MAX);
}

static void end_deinit(end *e) {
    seam_coder_destroy(e->coder);
    test_free(e->rows);
    test_free(e->payload);
}

/* ---- over the wire: frames from one stack into another ---- */

typedef struct link {
    end from, to;
    seam_codec_id codec;
    uint16_t site;
    const seam_module_stack *target; /* NULL: frames are counted only */
    uint32_t rank, tensors_complete;
    uint8_t *sealed; /* in front of the payload that is being taken: from.payload */
    uint8_t last[FILE_MAX];
    size_t last_bytes;
    seam_status refuse;
} link;

static seam_status frame_take(void *user, uint32_t tensor_idx, uint32_t tensor_rows,
                              const seam_coder_chunk *chunk, const uint8_t *payload) {
    link *l = user;
    const bool widths = seam_codec_has_widths(l->codec);
    const seam_frame_header header = {
        .kind = SEAM_FRAME_TENSOR,
        .phase = l->site >= SEAM_SITE_LORA_A_GRADIENT ? SEAM_PHASE_BACKWARD : SEAM_PHASE_FORWARD,
        .codec = (uint8_t)l->codec,
        .coding = chunk->coding,
        .site = l->site,
        .micro = tensor_idx,
        .step = 5,
        .rows = tensor_rows,
        .channels = l->rank,
        .row_begin = chunk->row_begin,
        .row_count = chunk->row_count,
        .alloc_version = widths ? 1 : 0,
        .alloc_bits_total = widths ? l->from.alloc.bits_total : 0,
        .alloc_hash = widths ? l->from.alloc.hash : 0,
        .payload_bytes = chunk->payload_bytes};
    const size_t bytes = SEAM_FRAME_HEADER_BYTES + (size_t)chunk->payload_bytes;
    seam_frame_header opened;
    const uint8_t *at = NULL;
    assert_true(payload == l->sealed + SEAM_FRAME_HEADER_BYTES);
    if (l->refuse != SEAM_OK) {
        return l->refuse;
    }
    if (l->target == NULL) {
        return SEAM_OK;
    }
    seam_frame_seal(l->sealed, &header);
    assert_int_equal(seam_frame_open(&opened, &at, l->sealed, bytes, NULL), SEAM_OK);
    assert_int_equal(opened.site, l->site);
    if (bytes <= sizeof l->last) {
        memcpy(l->last, l->sealed, bytes);
        l->last_bytes = bytes;
    }
    const seam_module_decode_args args = {.coder = l->to.coder,
                                          .codec = l->codec,
                                          .alloc = widths ? &l->to.alloc : NULL,
                                          .rows = l->to.rows};
    bool complete = false;
    SEAM_TRY(seam_module_stack_decode(&complete, l->target, &args, opened.micro, chunk, at, NULL));
    l->tensors_complete += complete;
    return SEAM_OK;
}

/* Encodes the stack at a site; target: decoded into it.  ret_decoded as the encoder says it. */
static seam_status send(link *l, seam_module_bytes *bytes, const seam_module_stack *stack,
                        const seam_module_stack *target, const seam_module_stack *ret_decoded,
                        const uint8_t *widths) {
    l->rank = stack->modules[0].rank;
    l->target = target;
    end_init(&l->from, stack, l->codec, widths);
    end_init(&l->to, stack, l->codec, widths);
    l->sealed = l->from.payload;
    const seam_module_encode_args args = {
        .coder = l->from.coder,
        .codec = l->codec,
        .alloc = seam_codec_has_widths(l->codec) ? &l->from.alloc : NULL,
        .rounding = {.stochastic = l->site >= SEAM_SITE_LORA_A_GRADIENT,
                     .seed = (UINT64_C(1) << 33) + 5,
                     .step = 5,
                     .site = l->site},
        .rows = l->from.rows,
        .payload = l->from.payload + SEAM_FRAME_HEADER_BYTES,
        .ret_decoded = ret_decoded,
        .take = frame_take,
        .user = l};
    const seam_status st = seam_module_stack_encode(bytes, stack, &args);
    end_deinit(&l->to);
    end_deinit(&l->from);
    return st;
}

/* ---- golden frames ---- */

static void stack_read(owned *o, const char *name) {
    static seam_golden_file file;
    seam_golden_read(&file, "%s.stack", name);
    const uint8_t *const bytes = file.bytes;
    size_t at = 4;
    owned_init(o);
    for (uint32_t i = 0; i < seam_get_u32(bytes); i++) {
        const uint32_t rows = seam_get_u32(bytes + at), rank = seam_get_u32(bytes + at + 4);
        float *const values =
            owned_add(o, rows, rank, (seam_module_order)seam_get_u32(bytes + at + 8));
        at += 12;
        for (size_t v = 0; v < (size_t)rows * rank; v++, at += 4) {
            values[v] = seam_get_f32(bytes + at);
        }
    }
    assert_int_equal(at, file.count);
}

static void test_encode__golden_stacks__the_oracle_s_frames(void **state) {
    (void)state;
    static const char *const names[] = {"module_lora_a", "module_lora_b", "module_lora_b_gradient",
                                        "module_prefix", "module_lora_a_gradient"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        static seam_golden_file frame, values;
        seam_golden_file widths = {.count = 0};
        static link l;
        owned o;
        stack_read(&o, names[i]);
        assert_int_equal(seam_module_stack_check(&o.stack, NULL), SEAM_OK);
        seam_golden_read(&frame, "%s.bin", names[i]);
        l = (link){.codec = (seam_codec_id)frame.bytes[7], .site = seam_get_u16(frame.bytes + 8)};
        if (seam_codec_has_widths(l.codec)) {
            seam_golden_read(&widths, "%s.widths", names[i]);
        }
        seam_module_bytes bytes = {0};
        assert_int_equal(send(&l, &bytes, &o.stack, &o.to, NULL, widths.bytes), SEAM_OK);
        assert_int_equal(bytes.frame_count, 1);
        assert_int_equal(SEAM_FRAME_HEADER_BYTES + bytes.payload_bytes, frame.count);
        assert_int_equal(l.last_bytes, frame.count);
        assert_memory_equal(l.last, frame.bytes, frame.count);
        /* The oracle's values stand row by row; a LoRA A keeps them by columns. */
        size_t row = 0;
        const size_t rank = o.to.modules[0].rank;
        seam_golden_read(&values, "%s.values", names[i]);
        assert_int_equal(values.count, 4 * rank * seam_module_stack_rows(&o.to));
        for (uint32_t m = 0; m < o.to.module_count; m++) {
            const seam_module *module = &o.decoded[m];
            for (uint32_t r = 0; r < module->rows; r++, row++) {
                for (uint32_t c = 0; c < rank; c++) {
                    const size_t at = module->order == SEAM_MODULE_ROWS
                                          ? r * rank + c
                                          : (size_t)c * module->rows + r;
                    uint8_t own[4];
                    seam_put_f32(own, module->values[at]);
                    assert_memory_equal(own, values.bytes + 4 * (row * rank + c), 4);
                }
            }
        }
        owned_deinit(&o);
    }
}

/* ---- every codec, every cut ---- */

static void owned_fill(owned *o) {
    static const uint32_t rows[] = {40, 1, 33, 70, 5, 32};
    owned_init(o);
    for (uint32_t i = 0; i < 6; i++) {
        float *const values =
            owned_add(o, rows[i], 8, i % 2 == 0 ? SEAM_MODULE_COLUMNS : SEAM_MODULE_ROWS);
        fixture_tensor(values, rows[i], 8, i + 1);
    }
}

static void assert_same(const owned *a, const owned *b) {
    for (uint32_t i = 0; i < a->stack.module_count; i++) {
        const size_t bytes = (size_t)a->modules[i].rows * a->modules[i].rank * sizeof(float);
        assert_memory_equal(a->decoded[i].values, b->modules[i].values, bytes);
    }
}

static void test_round_trip__codecs_and_cuts__receiver_has_what_the_sender_says(void **state) {
    (void)state;
    static const uint32_t cuts[] = {SEAM_ROWS_MAX, 181, 180, 64, 33, 1};
    static const uint8_t widths[8] = {4, 4, 4, 4, 4, 4, 4, 4}, mixed[8] = {1, 16, 3, 8, 4, 2, 9, 5};
    for (int id = 1; id <= SEAM_CODEC_LAST; id++) {
        if (seam_module_codec_check((seam_codec_id)id, NULL) != SEAM_OK) {
            continue;
        }
        for (size_t cut = 0; cut < sizeof cuts / sizeof *cuts; cut++) {
            for (int site = SEAM_SITE_LORA_A; site <= SEAM_SITE_PREFIX_GRADIENT; site++) {
                static link l;
                owned o, kept;
                seam_module_bytes bytes = {0};
                owned_fill(&o);
                owned_fill(&kept);
                o.stack.tensor_rows_max = o.to.tensor_rows_max = cuts[cut];
                kept.stack.tensor_rows_max = cuts[cut];
                l = (link){.codec = (seam_codec_id)id, .site = (uint16_t)site};
                assert_int_equal(send(&l, &bytes, &o.stack, &o.to, &kept.stack,
                                      id == SEAM_CODEC_AMAQ ? mixed : widths),
                                 SEAM_OK);
                assert_int_equal(l.tensors_complete, seam_module_stack_tensor_count(&o.stack));
                assert_int_equal(l.tensors_complete, (181 + cuts[cut] - 1) / cuts[cut]);
                assert_int_equal(bytes.frame_count, l.tensors_complete);
                assert_same(&o, &kept);
                if (id == SEAM_CODEC_F32) { /* nothing is lost, whatever the order */
                    assert_same(&o, &o);
                    assert_int_equal(bytes.payload_bytes, 181u * 8 * 4);
                }
                owned_deinit(&kept);
                owned_deinit(&o);
            }
        }
    }
}

/* The cut changes the ranges and the random numbers of its rows only: gradients are reproducible.
 */
static void test_encode__gradient_twice__same_bytes(void **state) {
    (void)state;
    static const uint8_t widths[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    static link a, b;
    owned o;
    seam_module_bytes bytes = {0};
    owned_fill(&o);
    a = (link){.codec = SEAM_CODEC_AMAQ, .site = SEAM_SITE_LORA_B_GRADIENT};
    b = a;
    assert_int_equal(send(&a, &bytes, &o.stack, &o.to, NULL, widths), SEAM_OK);
    assert_int_equal(send(&b, &bytes, &o.stack, &o.to, NULL, widths), SEAM_OK);
    assert_memory_equal(a.last, b.last, a.last_bytes);
    b = (link){.codec = SEAM_CODEC_AMAQ, .site = SEAM_SITE_LORA_A_GRADIENT};
    assert_int_equal(send(&b, &bytes, &o.stack, &o.to, NULL, widths), SEAM_OK);
    assert_true(memcmp(a.last + 64, b.last + 64, a.last_bytes - 64) != 0); /* another site */
    owned_deinit(&o);
}

/* ---- SPEC 3.4 ---- */

/* rows of q_proj and v_proj in 32 layers; all values the same: only bytes are counted. */
static void llama_fill(owned *o, uint32_t q_rows, uint32_t v_rows, seam_module_order order) {
    owned_init(o);
    for (uint32_t layer = 0; layer < 32; layer++) {
        for (uint32_t m = 0; m < 2; m++) {
            const uint32_t rows = m == 0 ? q_rows : v_rows;
            float *const values = owned_add(o, rows, 16, order);
            for (size_t v = 0; v < (size_t)rows * 16; v++) {
                values[v] = (float)(v % 17) * 0.01f;
            }
        }
    }
}

static void test_encode__llama3_8b_rank_16__bytes_of_the_spec(void **state) {
    (void)state;
    static const uint8_t widths[16] = {4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4};
    static const struct {
        seam_codec_id codec;
        uint64_t payload_bytes, heads; /* both ways; heads: range and scale blocks of it */
        uint32_t frame_count;
    } rows[] = {
        {SEAM_CODEC_BF16, 27262976, 0, 2 * (8 + 5)},
        {SEAM_CODEC_AMAQ, 6815744, 4 * (4 + 4 * 16), 2 * (3 + 2)},
    };
    owned a, b;
    llama_fill(&a, 4096, 4096, SEAM_MODULE_COLUMNS); /* in features */
    llama_fill(&b, 4096, 1024, SEAM_MODULE_ROWS);    /* out features */
    assert_int_equal(16 * (seam_module_stack_rows(&a.stack) + seam_module_stack_rows(&b.stack)),
                     6815744);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static link l;
        seam_module_bytes bytes = {0};
        for (int site = SEAM_SITE_LORA_A; site <= SEAM_SITE_LORA_B_GRADIENT; site++) {
            const bool is_a = site == SEAM_SITE_LORA_A || site == SEAM_SITE_LORA_A_GRADIENT;
            if (site != SEAM_SITE_PREFIX) {
                l = (link){.codec = rows[i].codec, .site = (uint16_t)site};
                assert_int_equal(send(&l, &bytes, is_a ? &a.stack : &b.stack, NULL, NULL, widths),
                                 SEAM_OK);
            }
        }
        assert_int_equal(bytes.payload_bytes - rows[i].heads, rows[i].payload_bytes);
        assert_int_equal(bytes.frame_count, rows[i].frame_count);
        /* What frames add: 912 bytes at 4 bits, 1664 in bf16. */
        assert_int_equal(rows[i].heads + bytes.frame_count * SEAM_FRAME_HEADER_BYTES,
                         i == 0 ? 1664 : 912);
    }
    owned_deinit(&b);
    owned_deinit(&a);
}

/* ---- refusals ---- */

static void test_decode__damaged_chunk__modules_unchanged(void **state) {
    (void)state;
    static const uint8_t widths[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    static link l;
    owned o;
    end e;
    seam_module_bytes bytes = {0};
    owned_fill(&o);
    l = (link){.codec = SEAM_CODEC_AMAQ, .site = SEAM_SITE_LORA_A};
    assert_int_equal(send(&l, &bytes, &o.stack, &o.to, NULL, widths), SEAM_OK);
    end_init(&e, &o.stack, SEAM_CODEC_AMAQ, widths);
    const seam_module_decode_args args = {
        .coder = e.coder, .codec = SEAM_CODEC_AMAQ, .alloc = &e.alloc, .rows = e.rows};
    const uint32_t good = (uint32_t)(l.last_bytes - SEAM_FRAME_HEADER_BYTES);
    const float before = o.decoded[0].values[3];
    for (uint32_t i = 0; i < o.to.module_count; i++) {
        o.decoded[i].values[0] = 77.0f;
    }
    for (uint32_t count = 0; count <= good + 1; count++) {
        uint8_t *const payload = test_calloc(1, count + 1); /* exact, but for a count of 0 */
        memcpy(payload, l.last + SEAM_FRAME_HEADER_BYTES, count < good ? count : good);
        const seam_coder_chunk chunk = {.row_count = 181, .payload_bytes = count};
        bool complete = false;
        seam_error err = {0};
        const seam_status st =
            seam_module_stack_decode(&complete, &o.to, &args, 0, &chunk, payload, &err);
        assert_int_equal(st, count == good ? SEAM_OK : SEAM_E_FORMAT);
        assert_true(complete == (count == good));
        if (count < good) {
            assert_true(err.text[0] != '\0' && o.decoded[0].values[0] == 77.0f);
        }
        test_free(payload);
    }
    assert_true(o.decoded[0].values[0] != 77.0f && o.decoded[0].values[3] == before);
    end_deinit(&e);
    owned_deinit(&o);
}

static void test_encode__take_fails_or_value_not_finite__status(void **state) {
    (void)state;
    static const uint8_t widths[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    static link l;
    owned o;
    seam_module_bytes bytes = {0};
    owned_fill(&o);
    l = (link){.codec = SEAM_CODEC_AFFINE, .site = SEAM_SITE_LORA_A, .refuse = SEAM_E_CANCELLED};
    assert_int_equal(send(&l, &bytes, &o.stack, &o.to, NULL, widths), SEAM_E_CANCELLED);
    assert_int_equal(bytes.frame_count, 0);
    l = (link){.codec = SEAM_CODEC_AFFINE, .site = SEAM_SITE_LORA_A};
    const uint32_t infinite = 0x7f800000u;
    memcpy(&o.modules[3].values[17], &infinite, sizeof infinite);
    assert_int_equal(send(&l, &bytes, &o.stack, &o.to, NULL, widths), SEAM_E_NONFINITE);
    owned_deinit(&o);
}

static void check_refused(const seam_module_stack *stack, const char *text) {
    seam_error err = {0};
    assert_int_equal(seam_module_stack_check(stack, &err), SEAM_E_ARG);
    if (strstr(err.text, text) == NULL) {
        fail_msg("\"%s\" has no \"%s\"", err.text, text);
    }
}

static void test_check__what_is_no_stack__arg_names_the_module(void **state) {
    (void)state;
    float values[8] = {0};
    seam_module modules[2] = {{"first", 2, 4, SEAM_MODULE_ROWS, values},
                              {"second", 2, 4, SEAM_MODULE_COLUMNS, values}};
    seam_module_stack stack = {.modules = modules, .tensor_rows_max = SEAM_ROWS_MAX};
    check_refused(&stack, "none");
    stack.module_count = 2;
    assert_int_equal(seam_module_stack_check(&stack, NULL), SEAM_OK);
    stack.tensor_rows_max = 0;
    check_refused(&stack, "tensor_rows_max: 0");
    stack.tensor_rows_max = SEAM_ROWS_MAX + 1;
    check_refused(&stack, "tensor_rows_max: 1048577");
    stack.tensor_rows_max = 1;
    modules[1].rows = SEAM_MODULE_TENSORS_MAX - 1;
    check_refused(&stack, "4097 tensors");
    modules[1].rows = 2;
    stack.tensor_rows_max = SEAM_ROWS_MAX;
    modules[1].rank = 2;
    check_refused(&stack, "modules[1] second: rank 2");
    modules[1].rank = 4;
    modules[1].order = (seam_module_order)3;
    check_refused(&stack, "second: order 3");
    modules[1].order = SEAM_MODULE_ROWS;
    modules[1].rows = 0;
    check_refused(&stack, "modules[1] second");
    modules[1].rows = 2;
    modules[0].values = NULL;
    check_refused(&stack, "modules[0] first");
    seam_error err = {0};
    static const int refused[] = {SEAM_CODEC_AQSGD, SEAM_CODEC_DICTIONARY, SEAM_CODEC_AMAQ_TOKEN,
                                  77};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(seam_module_codec_check((seam_codec_id)refused[i], &err), SEAM_E_ARG);
        assert_non_null(strstr(err.text, "is not for modules"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__golden_stacks__the_oracle_s_frames),
        cmocka_unit_test(test_round_trip__codecs_and_cuts__receiver_has_what_the_sender_says),
        cmocka_unit_test(test_encode__gradient_twice__same_bytes),
        cmocka_unit_test(test_encode__llama3_8b_rank_16__bytes_of_the_spec),
        cmocka_unit_test(test_decode__damaged_chunk__modules_unchanged),
        cmocka_unit_test(test_encode__take_fails_or_value_not_finite__status),
        cmocka_unit_test(test_check__what_is_no_stack__arg_names_the_module),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
