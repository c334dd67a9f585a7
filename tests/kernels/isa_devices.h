/* The devices that operations are tested on: every instruction set's table that this processor can run, up to
 * ATELIER_ISA, and `far`. */
#ifndef TESTS_ISA_DEVICES_H
#define TESTS_ISA_DEVICES_H

#include "kernels/cpu/isa.h"

#include "tests/far/far.h"

#include <string.h>

#define ISA_DEVICES_MAX 3
#define ALL_DEVICES_MAX 4

/* Fills in table and returns how many there are; each device's name is its instruction set. */
static inline int isa_devices(Device table[ISA_DEVICES_MAX])
{
    int n = 0;
    memset(table, 0, sizeof *table * ISA_DEVICES_MAX);
    cpu_table_baseline(&table[n]);
    table[n++].name = "baseline";
#ifdef ATL_X86
    const char *best = device_cpu_isa();
    if (strcmp(best, "baseline") != 0) {
        cpu_table_avx2(&table[n]);
        table[n++].name = "avx2";
    }
    if (strncmp(best, "avx512", 6) == 0) {
        cpu_table_avx512(&table[n]);
        table[n++].name = "avx512";
    }
#endif
    return n;
}

/* The same, and the device whose memory the host may not touch; or the GPU's alone, where that is asked for.
 */
static inline int all_devices(Device table[ALL_DEVICES_MAX])
{
    if (test_device_is("cuda")) {
        table[0] = *test_device();
        return 1;
    }
    const int n = isa_devices(table);
    table[n] = *device_far();
    return n + 1;
}

#endif
