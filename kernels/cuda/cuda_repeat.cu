/* Passes of many small ops as CUDA graphs (ops.h, repeat).  A pass of a small micro-batch costs
 * what its launches cost, some 5 us each: about a thousand of them a step of 30 layers.  The first
 * pass of a key is queued plainly, which makes its scratch and loads its kernels; the second is
 * recorded and launched as a graph, later ones are launched.
 *
 * A graph holds arguments by value.  It is valid while the key, the row and tile counts, the
 * stream's scratch and its kept arrays' places are those of its recording; what the kept arrays
 * hold (cuda_kept.cu) is brought up to date before a launch.  A pass that cannot be recorded is
 * queued plainly from then on.
 *
 * Passes of more than WORK_MAX values are left alone: the device takes longer than the host there
 * (H100: SmolLM2-135M's 30 layers above some 1,500 rows, Llama-3-8B's at any count), and so would
 * be passes of which no two have as many rows: a graph is made at a key's second pass only. */
#include <string.h>

#include "cuda_ops.cuh"

#define WORK_MAX (1u << 20) /* T * C */

/* Where what a graph reads of its stream stands. */
typedef struct places {
    void *scratch;
    size_t scratch_bytes;
    void *kept[SEAM_CUDA_USES];
} places;

/* A pass as it is told from others; no padding. */
typedef struct pass_key {
    uint8_t own[SEAM_REPEAT_KEY_BYTES_MAX];
    uint32_t own_bytes, T, spans_32, spans_64;
} pass_key;

typedef struct entry {
    pass_key key;
    uint64_t used_at; /* 0: none */
    bool refused;     /* cannot be recorded */
    cudaGraphExec_t graph;
    uint32_t uses;
    places at;
} entry;

struct seam_repeats {
    entry entries[SEAM_REPEAT_KEPT_MAX];
    uint64_t pass_count;
};

void seam_cuda_repeats_destroy(seam_repeats *gift_repeats) {
    if (gift_repeats != NULL) {
        for (uint32_t i = 0; i < SEAM_REPEAT_KEPT_MAX; i++) {
            if (gift_repeats->entries[i].graph != NULL) {
                (void)seam_cuda_status(cudaGraphExecDestroy(gift_repeats->entries[i].graph));
            }
        }
        seam_mem_free(gift_repeats);
    }
}

static pass_key key_of(const seam_repeat_args *a) {
    pass_key key;
    SEAM_ASSERT(a->key_bytes <= sizeof key.own);
    memset(&key, 0, sizeof key);
    memcpy(key.own, a->key, a->key_bytes);
    key.own_bytes = (uint32_t)a->key_bytes;
    key.T = a->T;
    key.spans_32 = seam_cuda_span_count(a->seq_begin, a->S, 32);
    key.spans_64 = seam_cuda_span_count(a->seq_begin, a->S, 64);
    return key;
}

static places places_of(seam_stream *stream) {
    places at;
    memset(&at, 0, sizeof at);
    at.scratch = seam_cuda_scratch_at(stream, &at.scratch_bytes);
    for (int use = 0; use < SEAM_CUDA_USES; use++) {
        at.kept[use] = seam_cuda_kept_of(stream, (seam_cuda_use)use)->device;
    }
    return at;
}

/* Forgets a graph; a launch of it may still be at work. */
static seam_status graph_drop(entry *e, seam_stream *stream) {
    if (e->graph != NULL) {
        SEAM_CUDA_TRY(cudaStreamSynchronize(seam_cuda_queue(stream)));
        SEAM_CUDA_TRY(cudaGraphExecDestroy(e->graph));
        e->graph = NULL;
    }
    return SEAM_OK;
}

/* The entry of a key among the first `count`; *ret_new: there was none, and the one used longest
 * ago is it now. */
static seam_status entry_find(entry **ret_entry, bool *ret_new, seam_repeats *repeats,
                              uint32_t count, seam_stream *stream, const pass_key *key) {
    entry *oldest = &repeats->entries[0], *found = NULL;
    for (uint32_t i = 0; i < count; i++) {
        entry *e = &repeats->entries[i];
        if (e->used_at > 0 && memcmp(&e->key, key, sizeof *key) == 0) {
            found = e;
        }
        oldest = e->used_at < oldest->used_at ? e : oldest;
    }
    if (found == NULL) {
        SEAM_TRY(graph_drop(oldest, stream));
        memset(oldest, 0, sizeof *oldest);
        oldest->key = *key;
    }
    *ret_new = found == NULL;
    *ret_entry = found != NULL ? found : oldest;
    (*ret_entry)->used_at = ++repeats->pass_count;
    return SEAM_OK;
}

/* Brings up to date what the stream keeps of the host's arrays. */
static seam_status kept_refresh(seam_stream *stream, const seam_repeat_args *a, uint32_t uses) {
    const struct {
        seam_cuda_use use;
        const uint32_t *host;
    } arrays[] = {{SEAM_CUDA_POSITIONS, a->positions},
                  {SEAM_CUDA_SLOTS, a->slots},
                  {SEAM_CUDA_SLOT_POSITIONS, a->slot_positions}};
    const uint32_t *device = NULL;
    seam_cuda_spans spans;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        if ((uses >> arrays[i].use & 1) != 0) {
            SEAM_TRY(seam_cuda_array(&device, stream, arrays[i].use, arrays[i].host, a->T));
        }
    }
    if ((uses >> SEAM_CUDA_SPANS_32 & 1) != 0) {
        SEAM_TRY(seam_cuda_spans_of(&spans, stream, a->seq_begin, a->S, 32));
    }
    if ((uses >> SEAM_CUDA_SPANS_64 & 1) != 0) {
        SEAM_TRY(seam_cuda_spans_of(&spans, stream, a->seq_begin, a->S, 64));
    }
    return SEAM_OK;
}

/* The pass's kernels as a graph.  *ret_made false: it cannot be one, and nothing has been queued;
 * where the device is lost, the plain pass that follows says so. */
static seam_status graph_make(bool *ret_made, entry *e, seam_stream *stream,
                              const seam_repeat_args *a) {
    cudaStream_t queue = seam_cuda_queue(stream);
    cudaGraph_t graph = NULL;
    *ret_made = false;
    if (cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        (void)cudaGetLastError();
        return SEAM_OK;
    }
    seam_cuda_recording_set(stream, true);
    const seam_status st = a->run(a->context);
    seam_cuda_recording_set(stream, false);
    bool made = cudaStreamEndCapture(queue, &graph) == cudaSuccess && st == SEAM_OK;
    made = made && cudaGraphInstantiate(&e->graph, graph, 0) == cudaSuccess;
    if (graph != NULL) {
        (void)cudaGraphDestroy(graph);
    }
    (void)cudaGetLastError();
    if (!made) {
        e->graph = NULL;
        return st == SEAM_E_STATE ? SEAM_OK : st;
    }
    e->uses = seam_cuda_recording_of(stream)->uses;
    e->at = places_of(stream);
    *ret_made = true;
    return SEAM_OK;
}

seam_status seam_cuda_repeat(seam_stream *stream, const seam_repeat_args *args) {
    const seam_repeat_args *a = args;
    if ((uint64_t)a->T * a->C > WORK_MAX) {
        return a->run(a->context);
    }
    if (*a->repeats == NULL) {
        *a->repeats = (seam_repeats *)seam_mem_zalloc(1, sizeof **a->repeats);
        if (*a->repeats == NULL) {
            return SEAM_E_MEMORY;
        }
    }
    const pass_key key = key_of(a);
    bool is_new = false;
    entry *e = NULL;
    SEAM_ASSERT(a->kept_max > 0 && a->kept_max <= SEAM_REPEAT_KEPT_MAX);
    SEAM_TRY(entry_find(&e, &is_new, *a->repeats, a->kept_max, stream, &key));
    if (is_new || e->refused) {
        seam_cuda_recording_of(stream)->uses = 0;
        const seam_status st = a->run(a->context);
        e->uses = seam_cuda_recording_of(stream)->uses;
        return st;
    }
    SEAM_TRY(kept_refresh(stream, a, e->uses));
    const places at = places_of(stream);
    if (e->graph != NULL && memcmp(&e->at, &at, sizeof at) != 0) {
        SEAM_TRY(graph_drop(e, stream));
    }
    if (e->graph == NULL) {
        bool made = false;
        SEAM_TRY(graph_make(&made, e, stream, a));
        if (!made) {
            e->refused = true;
            return a->run(a->context);
        }
    }
    return seam_cuda_status(cudaGraphLaunch(e->graph, seam_cuda_queue(stream)));
}
