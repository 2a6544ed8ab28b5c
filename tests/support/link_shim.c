/* The wide part of a wide area network: every packet between two network namespaces passes through
 * this program, which holds it back, loses it or cuts the line.  Where the kernel has no netem.
 *
 *   link_shim NEAR FAR DELAY_MS LOSS_PERCENT [SEED]
 *
 * NEAR and FAR are names of `ip netns`.  In each a TUN device `wan0` is made; its addresses and its
 * rate (tc tbf) are the caller's.  DELAY_MS is of one direction.  Losses are drawn by a counter
 * under SEED, so that TCP meets them as on a real line.  Packets keep their order.
 *
 * Commands by lines on standard input:  cut MS    nothing passes either way for so long
 *                                       end       leave (so does the end of the input)
 * The first line of the output is "ready"; the last one counts, for each direction, packets that
 * passed, their bytes, and packets lost. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKET_BYTES = 2048, QUEUE_PACKETS = 1 << 14 };

typedef struct packet {
    uint64_t due_ns;
    uint32_t count;
    uint8_t bytes[PACKET_BYTES];
} packet;

typedef struct direction {
    int from, to;
    packet *queue; /* ring of QUEUE_PACKETS */
    uint64_t begin, end;
    uint64_t passed, passed_bytes, lost;
} direction;

typedef struct shim {
    uint64_t delay_ns, cut_until_ns, random;
    uint32_t loss_of_million;
    direction ways[2];
} shim;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* SplitMix64. */
static uint64_t draw(shim *s) {
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int tun_open(const char *space) {
    char path[256];
    (void)snprintf(path, sizeof path, "/run/netns/%s", space);
    const int netns = open(path, O_RDONLY | O_CLOEXEC);
    if (netns < 0 || setns(netns, CLONE_NEWNET) != 0) {
        fail(path);
    }
    close(netns);
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, "wan0", sizeof "wan0");
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
        fail("/dev/net/tun");
    }
    return fd;
}

/* All that the sender's side has for us now. */
static void take(shim *s, direction *way) {
    const uint64_t now = now_ns();
    while (way->end - way->begin < QUEUE_PACKETS) {
        packet *const slot = &way->queue[way->end % QUEUE_PACKETS];
        const ssize_t count = read(way->from, slot->bytes, PACKET_BYTES);
        if (count <= 0) {
            return;
        }
        if (now < s->cut_until_ns || draw(s) % 1000000u < s->loss_of_million) {
            way->lost++;
            continue;
        }
        slot->due_ns = now + s->delay_ns;
        slot->count = (uint32_t)count;
        way->end++;
    }
}

/* What is due goes on; what was under way when the line was cut is gone. */
static void deliver(shim *s, direction *way) {
    const uint64_t now = now_ns();
    while (way->begin < way->end && way->queue[way->begin % QUEUE_PACKETS].due_ns <= now) {
        const packet *const slot = &way->queue[way->begin++ % QUEUE_PACKETS];
        if (now < s->cut_until_ns || write(way->to, slot->bytes, slot->count) < 0) {
            way->lost++;
            continue;
        }
        way->passed++;
        way->passed_bytes += slot->count;
    }
}

/* Nanoseconds until something is due, at most a second. */
static uint64_t wait_ns(const shim *s) {
    const uint64_t now = now_ns();
    uint64_t due = now + 1000000000u;
    for (int i = 0; i < 2; i++) {
        const direction *const way = &s->ways[i];
        const uint64_t first = way->queue[way->begin % QUEUE_PACKETS].due_ns;
        due = way->begin < way->end && first < due ? first : due;
    }
    return due > now ? due - now : 0;
}

/* False: leave. */
static bool command(shim *s) {
    static char line[64];
    static size_t at;
    char byte = 0;
    const ssize_t count = read(0, &byte, 1);
    if (count < 0 && errno == EINTR) {
        return true;
    }
    if (count <= 0) {
        return false;
    }
    if (byte != '\n') {
        at += at + 1 < sizeof line;
        line[at - 1] = byte;
        return true;
    }
    line[at] = '\0';
    at = 0;
    if (strncmp(line, "cut ", 4) == 0) {
        s->cut_until_ns = now_ns() + strtoull(line + 4, NULL, 10) * 1000000u;
    }
    return strcmp(line, "end") != 0;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        (void)fprintf(stderr, "usage: link_shim NEAR FAR DELAY_MS LOSS_PERCENT [SEED]\n");
        return 2;
    }
    shim s = {.delay_ns = (uint64_t)(strtod(argv[3], NULL) * 1e6),
              .loss_of_million = (uint32_t)(strtod(argv[4], NULL) * 1e4),
              .random = argc > 5 ? strtoull(argv[5], NULL, 10) : 1};
    const int near = tun_open(argv[1]), far = tun_open(argv[2]);
    for (int i = 0; i < 2; i++) {
        s.ways[i] = (direction){.from = i == 0 ? near : far,
                                .to = i == 0 ? far : near,
                                .queue = calloc(QUEUE_PACKETS, sizeof(packet))};
        if (s.ways[i].queue == NULL) {
            fail("memory");
        }
    }
    (void)printf("ready\n");
    (void)fflush(stdout);
    for (bool runs = true; runs;) {
        struct pollfd fds[3] = {{.fd = 0, .events = POLLIN},
                                {.fd = near, .events = POLLIN},
                                {.fd = far, .events = POLLIN}};
        const uint64_t ns = wait_ns(&s);
        const struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000u),
                                         .tv_nsec = (long)(ns % 1000000000u)};
        if (ppoll(fds, 3, &timeout, NULL) < 0 && errno != EINTR) {
            fail("ppoll");
        }
        for (int i = 0; i < 2; i++) {
            take(&s, &s.ways[i]);
            deliver(&s, &s.ways[i]);
        }
        runs = (fds[0].revents & (POLLIN | POLLHUP)) == 0 || command(&s);
    }
    for (int i = 0; i < 2; i++) {
        (void)printf("%s passed %llu bytes %llu lost %llu\n", i == 0 ? "up" : "down",
                     (unsigned long long)s.ways[i].passed,
                     (unsigned long long)s.ways[i].passed_bytes,
                     (unsigned long long)s.ways[i].lost);
    }
    return 0;
}
