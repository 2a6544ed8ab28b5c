/* Both ends of a stream with their credits, any order of what they do: frames sent and received,
 * consumed, grants told, late, again or forged, the stream lost.  Nothing may trip an assertion; no
 * more than a window is ever on its way or waits; no honest frame is refused; and from wherever the
 * input has left them, receiving, consuming and telling alone lets the largest frame go out.
 *
 * Input: the windows of both ends, then a byte says what happens next, its operands follow. */
#include "credit.h"
#include "fuzz.h"

enum {
    ACTIONS_MAX = 2000,
    FRAME_BYTES_MAX = SEAM_FRAME_HEADER_BYTES + SEAM_CHUNK_BYTES_MAX,
    QUEUE_MAX = 2048, /* above it no frame is sent: that is memory of this program, no credit */
};

typedef struct message {
    bool is_grant;
    uint64_t bytes; /* of a frame; a grant's limit */
} message;

typedef struct queue {
    message items[QUEUE_MAX];
    uint32_t begin, count;
} queue;

typedef struct end {
    seam_credit_tx tx; /* of what this end sends */
    seam_credit_rx rx; /* of what comes to it */
    bool counts;       /* else its peer may send what it likes */
    queue wire;        /* on the way to this end */
    queue waiting;     /* frames that have come and are not consumed */
    uint64_t wire_bytes, waiting_bytes;
    seam_credit_rx alone; /* what a hostile peer meets */
} end;

static void queue_push(queue *q, message item) {
    FUZZ_CHECK(q->count < QUEUE_MAX);
    q->items[(q->begin + q->count++) % QUEUE_MAX] = item;
}

static message queue_pop(queue *q) {
    const message item = q->items[q->begin];
    q->begin = (q->begin + 1) % QUEUE_MAX;
    q->count--;
    return item;
}

/* At every attach, the first as the later ones: nothing of an older stream counts. */
static void attach(end ends[2]) {
    for (int e = 0; e < 2; e++) {
        end *const own = &ends[e];
        const uint64_t window = own->rx.window;
        seam_credit_rx_open(&own->rx, window);
        seam_credit_tx_open(&ends[1 - e].tx, own->counts ? window : 0);
        own->wire.count = own->waiting.count = 0;
        own->wire_bytes = own->waiting_bytes = 0;
    }
}

static void frame_send(end *from, end *to, uint64_t bytes) {
    if (to->wire.count + to->waiting.count < QUEUE_MAX / 2 &&
        seam_credit_tx_fits(&from->tx, bytes)) {
        seam_credit_tx_add(&from->tx, bytes);
        queue_push(&to->wire, (message){.bytes = bytes});
        to->wire_bytes += bytes;
    }
}

/* What stands in front on the wire is read, whatever it is and whatever waits. */
static void receive(end *to) {
    if (to->wire.count == 0) {
        return;
    }
    const message item = queue_pop(&to->wire);
    if (item.is_grant) {
        seam_credit_tx_grant(&to->tx, item.bytes);
        return;
    }
    if (to->counts) {
        FUZZ_CHECK(seam_credit_rx_take(&to->rx, item.bytes, NULL) == SEAM_OK);
    }
    to->wire_bytes -= item.bytes;
    to->waiting_bytes += item.bytes;
    queue_push(&to->waiting, item);
}

static void consume(end *to) {
    if (to->waiting.count == 0) {
        return;
    }
    const message item = queue_pop(&to->waiting);
    to->waiting_bytes -= item.bytes;
    if (to->counts) {
        seam_credit_rx_consume(&to->rx, item.bytes);
    }
}

static void grant(end *from, end *to, bool again) {
    uint64_t limit = from->rx.granted;
    if (!from->counts || to->wire.count >= QUEUE_MAX - 1) {
        return;
    }
    if (seam_credit_rx_grant(&limit, &from->rx)) {
        FUZZ_CHECK(limit == from->rx.granted && limit == from->rx.consumed + from->rx.window);
        queue_push(&to->wire, (message){.is_grant = true, .bytes = limit});
    } else if (again) { /* and an older one too, as of a repetition that comes late */
        queue_push(&to->wire, (message){.is_grant = true, .bytes = limit - from->rx.window / 8});
    }
}

/* Any sizes, without credit: what is taken fits the window, and a refusal changes nothing. */
static void hostile(seam_credit_rx *rx, fuzz_input *input) {
    const seam_credit_rx before = *rx;
    const uint8_t shift = fuzz_u8(input);
    const uint64_t drawn = (uint64_t)fuzz_u32(input)
                           << shift % 33; /* or what is left, or a byte more */
    const uint64_t frame = shift < 192 ? drawn : rx->granted - rx->received + shift % 2;
    const bool fits = frame <= rx->window && rx->received - rx->consumed <= rx->window - frame;
    const seam_status st = seam_credit_rx_take(rx, frame, NULL);
    FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_OUT_OF_SEQUENCE);
    FUZZ_CHECK(st != SEAM_OK || fits);
    FUZZ_CHECK(st == SEAM_OK || memcmp(rx, &before, sizeof before) == 0);
    uint64_t limit = 0;
    const uint64_t part = fuzz_u8(input);
    seam_credit_rx_consume(rx, (rx->received - rx->consumed) / 255 * part);
    FUZZ_CHECK(!seam_credit_rx_grant(&limit, rx) || limit > before.granted);
}

/* A sender with limits of the input's: never above the largest of them. */
static void forged(fuzz_input *input) {
    seam_credit_tx tx = {0};
    uint64_t most = UINT64_C(1) + fuzz_u32(input), sent = 0;
    seam_credit_tx_open(&tx, most);
    for (int i = 0; i < 8; i++) {
        uint64_t limit = 0;
        fuzz_take(&limit, sizeof limit, input);
        const uint64_t frame = (uint64_t)fuzz_u32(input) << fuzz_u8(input) % 33;
        seam_credit_tx_grant(&tx, limit);
        most = limit > most ? limit : most;
        const bool fits = frame <= most && sent <= most - frame;
        FUZZ_CHECK(seam_credit_tx_fits(&tx, frame) == fits);
        if (fits) {
            seam_credit_tx_add(&tx, frame);
            sent += frame;
        }
        FUZZ_CHECK(tx.sent == sent && tx.limit == most);
    }
}

static void check(const end *own, const end *peer) {
    const seam_credit_rx *const rx = &own->rx;
    if (!own->counts) {
        return;
    }
    FUZZ_CHECK(own->wire_bytes + own->waiting_bytes <= rx->window);
    FUZZ_CHECK(rx->consumed <= rx->received && rx->received <= rx->granted);
    FUZZ_CHECK(rx->granted <= rx->consumed + rx->window);
    FUZZ_CHECK(rx->received - rx->consumed == own->waiting_bytes);
    FUZZ_CHECK(peer->tx.sent == rx->received + own->wire_bytes);
    FUZZ_CHECK(peer->tx.sent <= peer->tx.limit && peer->tx.limit <= rx->granted);
}

static void act(end ends[2], fuzz_input *input) {
    const uint8_t what = fuzz_u8(input);
    end *const own = &ends[what & 1u], *const peer = &ends[1 - (what & 1u)];
    switch (what >> 1 & 7u) {
    case 0:
    case 1: {
        const uint32_t part = fuzz_u8(input) + 256u * (what >> 4); /* 0..4095 */
        frame_send(own, peer, 1 + (uint64_t)(FRAME_BYTES_MAX - 1) * part / 4095);
        break;
    }
    case 2:
    case 3:
        receive(own);
        break;
    case 4:
        consume(own);
        break;
    case 5:
        grant(own, peer, (what & 128u) != 0);
        break;
    case 6:
        hostile(&own->alone, input);
        break;
    default:
        if ((what & 0x70u) == 0) {
            attach(ends);
        } else {
            forged(input);
        }
        break;
    }
}

/* What two ends do that only wait: nothing of it needs credit. */
static void settle(end ends[2]) {
    for (int turn = 0; turn < 3; turn++) {
        for (int e = 0; e < 2; e++) {
            while (ends[e].wire.count > 0) {
                receive(&ends[e]);
            }
            while (ends[e].waiting.count > 0) {
                consume(&ends[e]);
            }
            grant(&ends[e], &ends[1 - e], false);
        }
    }
    for (int e = 0; e < 2; e++) {
        FUZZ_CHECK(ends[e].wire_bytes + ends[e].waiting_bytes == 0);
        FUZZ_CHECK(seam_credit_tx_fits(&ends[e].tx, FRAME_BYTES_MAX));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    static end ends[2];
    fuzz_input input = {data, count};
    memset(ends, 0, sizeof ends);
    for (int e = 0; e < 2; e++) {
        const uint8_t kind = fuzz_u8(&input);
        ends[e].counts = kind != 255;
        ends[e].rx.window = SEAM_CREDIT_BYTES_MIN + (uint64_t)kind * kind * 101;
        seam_credit_rx_open(&ends[e].alone, ends[e].rx.window);
    }
    attach(ends);
    for (int i = 0; i < ACTIONS_MAX && input.left > 0; i++) {
        act(ends, &input);
        check(&ends[0], &ends[1]);
        check(&ends[1], &ends[0]);
    }
    settle(ends);
    return 0;
}
