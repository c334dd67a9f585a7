/* The device's one stream: memory, copies, calls, and steps recorded as CUDA graphs.
 *
 * A call is a function and a few bytes that say what it does. It is issued to the stream at once; between
 * record() and recorded() it is kept, and compared with the call at the same place of the recording before:
 * if all are the same, byte for byte, the graph that was made of those is launched, and nothing is issued.
 * What is put and got may differ each time: a recording has slots of pinned memory that the copies go
 * through. */
#ifndef ATL_CUDA_QUEUE_H
#define ATL_CUDA_QUEUE_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/device.h"

/* Issues what `what` says to the stream. Runs while a graph is captured, so it may not wait, ask or allocate.
 */
typedef Status (*CudaCall)(const void *what, cudaStream_t stream);
/* what is copied; its bytes are compared, so padding has to be zero. */
Status cuda_call(CudaCall call, const void *what, size_t bytes);

/* Between true and false calls are issued at once, also while a step is recorded: what is made once and kept
 * is no part of it. */
void cuda_aside(bool on);

/* The stream, for a library that puts its work there by itself. Refused while a step is recorded: that work
 * would be no part of it. */
Status cuda_stream(cudaStream_t *stream);

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

/* Device.memory_new and memory_free, for forms that the device keeps. */
void *cuda_memory_new(size_t bytes);
void cuda_memory_free(void *p, size_t bytes);

/* So much of Device.own_bytes has been taken: memory_left() tells of what is left beside own_bytes. */
void cuda_owned(size_t bytes);

/* STATUS_OK, or the failure with what was being done and what to do about it. */
Status cuda_status(cudaError_t e, const char *doing);

#ifdef __cplusplus
}
#endif
#endif
