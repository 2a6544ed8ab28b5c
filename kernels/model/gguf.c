/* Walking a GGUF file.  Layout (GGUF specification): u32 magic "GGUF", u32 version, u64 tensor
 * count, u64 key count; keys: string key, u32 type, value; tensors: string name, u32 dimension
 * count, u64 dimensions, u32 type, u64 offset; padding to the alignment; data.  A string is a
 * u64 length and its bytes; an array a u32 item type, a u64 count and the items.
 *
 * A cursor never passes `end`: each take checks what is left first. */
#include "gguf.h"

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "tensor_index.h"
#include "try.h"

enum { KEY_BYTES_MIN = 8 + 4 + 1, TENSOR_BYTES_MIN = 8 + 4 + 8 + 4 + 8, NAME_BYTES_MAX = 255 };

typedef struct entry {
    seam_gguf_string key;
    uint32_t kind;
    const uint8_t *value; /* checked to lie inside the file */
} entry;

struct seam_gguf {
    const char *file;
    entry *entries;
    size_t entry_count;
    seam_gguf_tensor *tensors;
    size_t tensor_count;
    const uint8_t *begin, *end, *at; /* the cursor while parsing */
    seam_error *err;                 /* while parsing */
};

static seam_status keys_parse(seam_gguf *g);
static seam_status tensors_parse(seam_gguf *g);

static seam_status bad(const seam_gguf *g, const char *what) {
    return seam_error_set(g->err, SEAM_E_FORMAT, "%s: at byte %zu: %s", g->file,
                          (size_t)(g->at - g->begin), what);
}

static bool take(const uint8_t **ret, seam_gguf *g, uint64_t bytes) {
    if (bytes > (uint64_t)(g->end - g->at)) {
        return false;
    }
    *ret = g->at;
    g->at += bytes;
    return true;
}

static seam_status take_u32(uint32_t *ret, seam_gguf *g) {
    const uint8_t *bytes;
    if (!take(&bytes, g, 4)) {
        return bad(g, "the file ends inside its header");
    }
    *ret = seam_get_u32(bytes);
    return SEAM_OK;
}

static seam_status take_u64(uint64_t *ret, seam_gguf *g) {
    const uint8_t *bytes;
    if (!take(&bytes, g, 8)) {
        return bad(g, "the file ends inside its header");
    }
    *ret = seam_get_u64(bytes);
    return SEAM_OK;
}

static seam_status take_string(seam_gguf_string *ret, seam_gguf *g) {
    uint64_t count = 0;
    const uint8_t *bytes;
    SEAM_TRY(take_u64(&count, g));
    if (!take(&bytes, g, count)) {
        return bad(g, "a string is longer than the file");
    }
    *ret = (seam_gguf_string){(const char *)bytes, count};
    return SEAM_OK;
}

static seam_status header_parse(seam_gguf *g) {
    const uint8_t *magic;
    uint32_t version = 0;
    uint64_t tensor_count = 0;
    uint64_t entry_count = 0;
    if (!take(&magic, g, 4) || memcmp(magic, "GGUF", 4) != 0) {
        return bad(g, "not a GGUF file");
    }
    SEAM_TRY(take_u32(&version, g));
    if (version != 2 && version != 3) {
        return seam_error_set(g->err, SEAM_E_UNIMPLEMENTED,
                              "%s: GGUF version %u is not supported (2 and 3, little-endian, are)",
                              g->file, version);
    }
    SEAM_TRY(take_u64(&tensor_count, g));
    SEAM_TRY(take_u64(&entry_count, g));
    const uint64_t left = (uint64_t)(g->end - g->at);
    if (tensor_count > SEAM_TENSORS_MAX || entry_count > SEAM_GGUF_KEYS_MAX ||
        tensor_count * TENSOR_BYTES_MIN > left || entry_count * KEY_BYTES_MIN > left) {
        return bad(g, "tensor or key count is over the limit or the file");
    }
    g->tensor_count = (size_t)tensor_count;
    g->entry_count = (size_t)entry_count;
    g->entries = seam_mem_zalloc(g->entry_count, sizeof(*g->entries));
    g->tensors = seam_mem_zalloc(g->tensor_count, sizeof(*g->tensors));
    if (g->entries == NULL || g->tensors == NULL) {
        return seam_error_set(g->err, SEAM_E_MEMORY, "%s: out of memory", g->file);
    }
    SEAM_TRY(keys_parse(g));
    return tensors_parse(g);
}

seam_status seam_gguf_create(seam_gguf **ret_gguf, const uint8_t *bytes, size_t count,
                             const char *file, seam_error *err) {
    seam_gguf *g = seam_mem_zalloc(1, sizeof(*g));
    if (g == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", file);
    }
    g->file = file;
    g->err = err;
    g->begin = g->at = bytes;
    g->end = count == 0 ? bytes : bytes + count;
    const seam_status st = count == 0 ? bad(g, "not a GGUF file") : header_parse(g);
    g->err = NULL;
    if (st != SEAM_OK) {
        seam_gguf_destroy(g);
        return st;
    }
    *ret_gguf = g;
    return SEAM_OK;
}

void seam_gguf_destroy(seam_gguf *gift_gguf) {
    if (gift_gguf != NULL) {
        seam_mem_free(gift_gguf->entries);
        seam_mem_free(gift_gguf->tensors);
        seam_mem_free(gift_gguf);
    }
}

/* Bytes of a scalar; 0 for strings, arrays and unknown kinds. */
static uint32_t kind_bytes(uint32_t kind) {
    static const uint8_t BYTES[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return kind < sizeof(BYTES) ? BYTES[kind] : 0;
}

static seam_status array_skip(seam_gguf *g) {
    uint32_t kind = 0;
    uint64_t count = 0;
    SEAM_TRY(take_u32(&kind, g));
    SEAM_TRY(take_u64(&count, g));
    const uint64_t left = (uint64_t)(g->end - g->at);
    if (kind == SEAM_GGUF_STRING) {
        if (count > left / 8) {
            return bad(g, "an array is longer than the file");
        }
        for (uint64_t i = 0; i < count; i++) {
            seam_gguf_string item;
            SEAM_TRY(take_string(&item, g));
        }
        return SEAM_OK;
    }
    const uint8_t *items;
    if (kind_bytes(kind) == 0) {
        return bad(g, "an array of arrays or of an unknown type");
    }
    if (count > left / kind_bytes(kind) || !take(&items, g, count * kind_bytes(kind))) {
        return bad(g, "an array is longer than the file");
    }
    return SEAM_OK;
}

static int by_key(const void *a, const void *b) {
    const seam_gguf_string x = ((const entry *)a)->key;
    const seam_gguf_string y = ((const entry *)b)->key;
    if (x.bytes != y.bytes) {
        return x.bytes < y.bytes ? -1 : 1;
    }
    return memcmp(x.text, y.text, (size_t)x.bytes);
}

static seam_status keys_parse(seam_gguf *g) {
    for (size_t i = 0; i < g->entry_count; i++) {
        entry *e = &g->entries[i];
        const uint8_t *value;
        SEAM_TRY(take_string(&e->key, g));
        SEAM_TRY(take_u32(&e->kind, g));
        e->value = g->at;
        if (e->kind == SEAM_GGUF_STRING) {
            seam_gguf_string text;
            SEAM_TRY(take_string(&text, g));
        } else if (e->kind == SEAM_GGUF_ARRAY) {
            SEAM_TRY(array_skip(g));
        } else if (kind_bytes(e->kind) == 0) {
            return bad(g, "unknown metadata type");
        } else if (!take(&value, g, kind_bytes(e->kind))) {
            return bad(g, "the file ends inside its metadata");
        }
    }
    if (g->entry_count > 1) {
        qsort(g->entries, g->entry_count, sizeof(*g->entries), by_key);
    }
    for (size_t i = 1; i < g->entry_count; i++) {
        if (by_key(&g->entries[i - 1], &g->entries[i]) == 0) {
            return seam_error_set(g->err, SEAM_E_FORMAT, "%s: key %.*s occurs twice", g->file,
                                  (int)(g->entries[i].key.bytes & 127), g->entries[i].key.text);
        }
    }
    return SEAM_OK;
}

static seam_tensor_type type_from_id(uint32_t id) {
    static const seam_tensor_type types[] = {
        [0] = SEAM_TENSOR_F32,     [1] = SEAM_TENSOR_F16,     [2] = SEAM_TENSOR_Q4_0,
        [3] = SEAM_TENSOR_Q4_1,    [6] = SEAM_TENSOR_Q5_0,    [7] = SEAM_TENSOR_Q5_1,
        [8] = SEAM_TENSOR_Q8_0,    [10] = SEAM_TENSOR_Q2_K,   [11] = SEAM_TENSOR_Q3_K,
        [12] = SEAM_TENSOR_Q4_K,   [13] = SEAM_TENSOR_Q5_K,   [14] = SEAM_TENSOR_Q6_K,
        [20] = SEAM_TENSOR_IQ4_NL, [23] = SEAM_TENSOR_IQ4_XS, [30] = SEAM_TENSOR_BF16,
    };
    return id < sizeof types / sizeof *types ? types[id] : SEAM_TENSOR_OTHER;
}

/* One directory entry; its data offset goes to *ret_offset. */
static seam_status tensor_parse(uint64_t *ret_offset, seam_gguf *g, seam_gguf_tensor *t) {
    SEAM_TRY(take_string(&t->name, g));
    SEAM_TRY(take_u32(&t->dim_count, g));
    if (t->name.bytes == 0 || t->name.bytes > NAME_BYTES_MAX ||
        memchr(t->name.text, '\0', (size_t)t->name.bytes) != NULL) {
        return bad(g, "a tensor's name is empty, too long or holds a zero byte");
    }
    if (t->dim_count < 1 || t->dim_count > 4) {
        return bad(g, "a tensor's dimension count is not 1..4");
    }
    for (uint32_t i = 0; i < 4; i++) {
        t->dims[i] = 1;
        if (i < t->dim_count) {
            SEAM_TRY(take_u64(&t->dims[i], g));
        }
    }
    SEAM_TRY(take_u32(&t->type_id, g));
    t->type = type_from_id(t->type_id);
    return take_u64(ret_offset, g);
}

static int by_place(const void *a, const void *b) {
    const seam_gguf_tensor *x = a;
    const seam_gguf_tensor *y = b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Bytes of a tensor whose type is known; false on overflow or broken blocks. */
static bool tensor_bytes(uint64_t *ret_bytes, const seam_gguf_tensor *t) {
    size_t rows;
    return seam_mul3_bytes(&rows, t->dims[1], t->dims[2], t->dims[3]) &&
           seam_tensor_bytes(ret_bytes, t->type, rows, t->dims[0]);
}

/* Places of all tensors: in rising order each begins where the one before ends, padded, and the
 * last ends the file.  So a type or shape that was changed shows, but for types of one size.  Of a
 * type whose width is not known here only the order is checked: it cannot be read anyway. */
static seam_status places_check(seam_gguf *g, uint64_t alignment) {
    if (g->tensor_count > 1) {
        qsort(g->tensors, g->tensor_count, sizeof(*g->tensors), by_place);
    }
    for (size_t i = 0; i < g->tensor_count; i++) {
        const seam_gguf_tensor *t = &g->tensors[i];
        const bool is_last = i + 1 == g->tensor_count;
        const uint64_t room = (uint64_t)((is_last ? g->end : t[1].bytes) - t->bytes);
        uint64_t bytes = room > 0 ? room : 1;
        if (t->type != SEAM_TENSOR_OTHER && !tensor_bytes(&bytes, t)) {
            return seam_error_set(g->err, SEAM_E_FORMAT, "%s: tensor %.*s: bad shape", g->file,
                                  (int)t->name.bytes, t->name.text);
        }
        if (bytes > room || room - bytes >= alignment || (i == 0 && t->bytes != g->at)) {
            return seam_error_set(g->err, SEAM_E_FORMAT,
                                  "%s: tensor %.*s of %llu bytes does not fill its place of %llu",
                                  g->file, (int)t->name.bytes, t->name.text,
                                  (unsigned long long)bytes, (unsigned long long)room);
        }
    }
    return SEAM_OK;
}

static seam_status tensors_parse(seam_gguf *g) {
    uint64_t alignment = 32;
    if (seam_gguf_has(g, "general.alignment")) {
        SEAM_TRY(seam_gguf_get_u64(&alignment, g, "general.alignment", g->err));
        if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)) != 0) {
            return bad(g, "general.alignment is no power of two from 8 to 65536");
        }
    }
    uint64_t *offsets = seam_mem_zalloc(g->tensor_count, sizeof(*offsets));
    if (offsets == NULL) {
        return seam_error_set(g->err, SEAM_E_MEMORY, "%s: out of memory", g->file);
    }
    seam_status st = SEAM_OK;
    for (size_t i = 0; i < g->tensor_count; i++) {
        SEAM_TRY_GOTO(tensor_parse(&offsets[i], g, &g->tensors[i]), st, done);
    }
    const uint8_t *padding;
    const uint64_t over = (uint64_t)(g->at - g->begin) % alignment;
    if (g->tensor_count > 0 && !take(&padding, g, over == 0 ? 0 : alignment - over)) {
        st = bad(g, "the file ends before its data");
        goto done;
    }
    for (size_t i = 0; i < g->tensor_count; i++) {
        if (offsets[i] % alignment != 0 || offsets[i] > (uint64_t)(g->end - g->at)) {
            st = bad(g, "a tensor's offset is not aligned or outside the file");
            goto done;
        }
        g->tensors[i].bytes = g->at + offsets[i];
    }
    st = places_check(g, alignment);
done:
    seam_mem_free(offsets);
    return st;
}

/* ---- Access after parsing: nothing here can leave the file. ---- */

const char *seam_gguf_file(const seam_gguf *gguf) {
    return gguf->file;
}

static const entry *entry_find(const seam_gguf *g, const char *key) {
    const entry wanted = {.key = {key, strlen(key)}};
    return g->entry_count == 0
               ? NULL
               : bsearch(&wanted, g->entries, g->entry_count, sizeof(*g->entries), by_key);
}

bool seam_gguf_has(const seam_gguf *gguf, const char *key) {
    return entry_find(gguf, key) != NULL;
}

static seam_status entry_get(const entry **ret, const seam_gguf *g, const char *key,
                             seam_error *err) {
    *ret = entry_find(g, key);
    if (*ret == NULL) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "%s: key %s is missing", g->file, key);
    }
    return SEAM_OK;
}

static seam_status wrong_kind(const seam_gguf *g, const char *key, seam_error *err) {
    return seam_error_set(err, SEAM_E_FORMAT, "%s: key %s has the wrong type or a bad value",
                          g->file, key);
}

seam_status seam_gguf_get_u64(uint64_t *ret, const seam_gguf *gguf, const char *key,
                              seam_error *err) {
    const entry *e;
    SEAM_TRY(entry_get(&e, gguf, key, err));
    const uint32_t width = kind_bytes(e->kind);
    const bool is_signed = e->kind == SEAM_GGUF_I8 || e->kind == SEAM_GGUF_I16 ||
                           e->kind == SEAM_GGUF_I32 || e->kind == SEAM_GGUF_I64;
    if (width == 0 || e->kind == SEAM_GGUF_F32 || e->kind == SEAM_GGUF_F64 ||
        e->kind == SEAM_GGUF_BOOL || (is_signed && (e->value[width - 1] & 0x80) != 0)) {
        return wrong_kind(gguf, key, err);
    }
    uint64_t value = 0;
    for (uint32_t i = width; i-- > 0;) {
        value = value << 8 | e->value[i];
    }
    *ret = value;
    return SEAM_OK;
}

seam_status seam_gguf_get_f64(double *ret, const seam_gguf *gguf, const char *key,
                              seam_error *err) {
    const entry *e;
    SEAM_TRY(entry_get(&e, gguf, key, err));
    if (e->kind == SEAM_GGUF_F32) {
        *ret = (double)seam_get_f32(e->value);
        return SEAM_OK;
    }
    if (e->kind != SEAM_GGUF_F64) {
        return wrong_kind(gguf, key, err);
    }
    const uint64_t bits = seam_get_u64(e->value);
    memcpy(ret, &bits, sizeof(bits));
    return SEAM_OK;
}

seam_status seam_gguf_get_bool(bool *ret, const seam_gguf *gguf, const char *key, seam_error *err) {
    const entry *e;
    SEAM_TRY(entry_get(&e, gguf, key, err));
    if (e->kind != SEAM_GGUF_BOOL || e->value[0] > 1) {
        return wrong_kind(gguf, key, err);
    }
    *ret = e->value[0] == 1;
    return SEAM_OK;
}

seam_status seam_gguf_get_string(seam_gguf_string *ret, const seam_gguf *gguf, const char *key,
                                 seam_error *err) {
    const entry *e;
    SEAM_TRY(entry_get(&e, gguf, key, err));
    if (e->kind != SEAM_GGUF_STRING) {
        return wrong_kind(gguf, key, err);
    }
    *ret = (seam_gguf_string){(const char *)e->value + 8, seam_get_u64(e->value)};
    return SEAM_OK;
}

seam_status seam_gguf_get_array(seam_gguf_array *ret, const seam_gguf *gguf, const char *key,
                                seam_gguf_kind kind, seam_error *err) {
    const entry *e;
    SEAM_TRY(entry_get(&e, gguf, key, err));
    if (e->kind != SEAM_GGUF_ARRAY || seam_get_u32(e->value) != (uint32_t)kind) {
        return wrong_kind(gguf, key, err);
    }
    *ret = (seam_gguf_array){kind, seam_get_u64(e->value + 4), e->value + 12};
    return SEAM_OK;
}

seam_gguf_string seam_gguf_array_next(seam_gguf_array *array) {
    SEAM_ASSERT(array->kind == SEAM_GGUF_STRING);
    const seam_gguf_string item = {(const char *)array->bytes + 8, seam_get_u64(array->bytes)};
    array->bytes += 8 + item.bytes;
    return item;
}

uint32_t seam_gguf_array_u32(seam_gguf_array *array) {
    SEAM_ASSERT(array->kind == SEAM_GGUF_I32 || array->kind == SEAM_GGUF_U32);
    const uint32_t value = seam_get_u32(array->bytes);
    array->bytes += 4;
    return value;
}

bool seam_gguf_string_is(seam_gguf_string string, const char *text) {
    return string.bytes == strlen(text) && memcmp(string.text, text, string.bytes) == 0;
}

size_t seam_gguf_tensor_count(const seam_gguf *gguf) {
    return gguf->tensor_count;
}

const seam_gguf_tensor *seam_gguf_tensor_at(const seam_gguf *gguf, size_t tensor_idx) {
    return &gguf->tensors[tensor_idx];
}
