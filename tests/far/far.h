/* `far`: a device of the tests. The processor's arithmetic on memory that the host may not touch, computed as
 * late as it may be: what a GPU does to a program that mistakes its memory for its own, without a GPU.
 *
 *  - Its memory faults when the host reads or writes it. Only calls see it, at other addresses.
 *  - Calls are queued and run when they are waited for, on a thread of their own. What a get() fills holds
 *    FAR_POISON until then; new memory holds it until it is written.
 *  - Memory of the host in a call, and memory that is given back while queued calls use it, are failures with
 *    the call's name.
 *  - Recordings are compared call for call: function, addresses, shapes, numbers.
 *
 * Results are the processor's to the byte. */
#ifndef TESTS_FAR_H
#define TESTS_FAR_H

#include "kernels/cuda/cuda.h"
#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAR_POISON 0xff /* every byte: NaN in every floating type, −1 in whole numbers */

const Device *device_far(void);

/* What a test computes on: ATELIER_TEST_DEVICE=far takes this device and =cuda the GPU's (tests/cuda), so
 * that a test is run on all. */
static inline bool test_device_is(const char *wanted)
{
    const char *name = getenv("ATELIER_TEST_DEVICE");
    return name && !strcmp(name, wanted);
}

static inline const Device *test_device(void)
{
    const Device *dev = test_device_is("far")    ? device_far()
                        : test_device_is("cuda") ? device_cuda("cuda")
                                                 : device_cpu();
    if (!dev) {
        fprintf(stderr, "%s\n", status_message());
        exit(1);
    }
    return dev;
}

/* Blackwell's chips of data centres multiply bytes slower than halves, and are not asked to. */
static inline bool test_card_multiplies_bytes(void)
{
    CudaCardInfo card;
    return device_cuda_info(0, &card) && card.major != 10;
}

/* tests/cuda is slow, and the processor's run of the same test has everything that the host does by itself:
 * there one sampler stands for all, one spelling of a file for the others. */
static inline bool test_device_slow(void)
{
    CudaCardInfo card;
    return test_device_is("cuda") && device_cuda_info(0, &card) && !strncmp(card.name, "Stand-in", 8);
}
static inline bool test_sampler(const char *name)
{
    return !test_device_slow() || !strcmp(name, "ddim");
}

typedef struct FarCount {
    long calls, waits;        /* run; times that something was waited for */
    long recordings, replays; /* steps recorded anew; steps that were the recording of before */
    char differs[128];        /* the call because of which the last one was recorded anew; "" at first */
} FarCount;
FarCount far_count(void);

size_t far_memory(void); /* bytes that are taken now */

#endif
