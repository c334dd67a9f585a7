/* A test's processes with a GPU each, or a stand-in of one: numbers that they exchange, and the program that
 * starts itself once for each with the name of what they are to do. */
#ifndef TESTS_KERNELS_GPU_PROCESSES_H
#define TESTS_KERNELS_GPU_PROCESSES_H

#include "kernels/base/log.h"
#include "kernels/base/text.h"
#include "kernels/comm/comm.h"
#include "kernels/cuda/cuda.h"
#include "kernels/device.h"
#include "kernels/devices/devices.h"
#include "processes.h"

#include <math.h>

static inline bool stand_in(void)
{
    return getenv("ATELIER_STAND_IN_CARDS");
}

/* What a process does ------------------------------------------------------------------------------------ */

#define CHECK(x)                                                                                             \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            return status_fail("%s:%d: not so: %s", __FILE__, __LINE__, #x);                                 \
    } while (0)

/* Number i of process `rank`; no two are alike, and sums are rounded. */
static inline float value(int rank, int64_t i)
{
    return (float)sin((double)i * 1.7 + rank * 0.31) * (float)(1 + rank * 100);
}

enum { PARTS = 3, LARGEST = 262144 };
static float host[(LARGEST + PARTS) * MOST * PARTS]; /* what is put and got */

static inline Status set(Tensor *block, int rank)
{
    const int64_t n = tensor_count(block);
    for (int64_t i = 0; i < n; i++)
        host[i] = value(rank, i);
    return tensor_put(block, host, DTYPE_F32);
}

/* Ways to share a block of n out: evenly; as near as can be; one has nothing; one has all; in odd pieces. */
enum { WAYS = 5 };

static inline void share_out(int way, int size, int64_t n, int64_t *at)
{
    for (int r = 0; r <= size; r++)
        switch (way) {
        case 0:
            at[r] = n / size * r;
            break;
        case 1:
            at[r] = n * r / size;
            break;
        case 2:
            at[r] = r == 0 ? 0 : n * (r - 1) / (size > 1 ? size - 1 : 1);
            break;
        case 3:
            at[r] = r == size ? n : 0;
            break;
        default:
            at[r] = r == size ? n : (int64_t)r * r + 1 < n ? (r ? (int64_t)r * r + 1 : 0) : n;
        }
}

typedef struct Work {
    const char *name; /* NULL: behind the last */
    Status (*run)(Comm *c, const Device *dev);
} Work;

/* One of several: RANK and the others say which. */
static inline int be_process(const char *name, const Work *works)
{
    double timeout = 60;
    Comm *c = NULL;
    const Device *dev = NULL;
    DType stored = DTYPE_F32;
    if (getenv("TEST_TIMEOUT"))
        text_to_float(getenv("TEST_TIMEOUT"), &timeout);
    log_to(log_terminal, NULL);
    Status s = comm_open(&(CommOptions){.timeout = 600}, &c);
    if (s == STATUS_OK)
        comm_set_timeout(c, timeout); /* not for starting, which takes what it takes */
    if (s == STATUS_OK && !getenv("TEST_ONE_GPU"))
        device_set_turn(c->local_rank);
    if (s == STATUS_OK)
        s = device_choose("cuda", &stored, &dev);
    if (s == STATUS_OK)
        s = comm_attach(c, dev);
    if (s == STATUS_OK)
        fprintf(stderr, "over %s\n", comm_transport_name(c));
    for (size_t i = 0; s == STATUS_OK && works[i].name; i++)
        if (strcmp(works[i].name, name) == 0)
            s = works[i].run(c, dev);
    comm_close(c, s);
    fprintf(stderr, "%s\n", s == STATUS_OK ? "done" : status_message());
    return (int)s;
}

static char *own_path;
#define RUN(size, stopped, work, ...)                                                                        \
    run_processes(size, stopped, (char *const[]){own_path, work, NULL},                                      \
                  (const char *const[]){__VA_ARGS__, NULL})

#endif
