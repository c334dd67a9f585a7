/* The device's one stream: memory, copies, kernels, and steps recorded as CUDA graphs. */
#ifndef ATL_CUDA_QUEUE_H
#define ATL_CUDA_QUEUE_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* kernel<<<grid, block, shared>>>(arguments), each a pointer to `sizes` bytes. */
typedef struct Launch {
    const void *function;
    const char *name;
    unsigned grid[3], block[3];
    size_t shared; /* bytes; above 48 KB the kernel is told of it */
    int count;
    void **arguments;
    const size_t *sizes;
} Launch;
Status cuda_launch(const Launch *l);

#ifdef __cplusplus
}
#endif
#endif
