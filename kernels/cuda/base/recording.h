/* A step's calls, the graph that was made of them, and the pinned memory that its copies go through. */
#ifndef ATL_CUDA_RECORDING_H
#define ATL_CUDA_RECORDING_H

#include "queue.h"

/* Most of a kernel's launch. */
#define CUDA_ARGUMENTS 24
#define CUDA_ARGUMENT_BYTES 1024

typedef struct Recording Recording;

/* The next step's calls are added to it from here on. before: the recording of the step before, which is used
 * on, or NULL. NULL: out of memory. */
Recording *recording_begin(Recording *before);
Status recording_add(Recording *r, CudaCall call, const void *what, size_t bytes);
/* Pinned memory for the step's next copy. host: where its bytes go once they are there; NULL: it is filled
 * now. */
Status recording_slot(Recording *r, size_t bytes, void *host, void **slot);
/* Launches what was added: as the graph of before where it is the same, and *again says so; else as a new
 * one, or call by call where no graph can be made of it. */
Status recording_run(Recording *r, cudaStream_t stream, bool *again);
/* Hands out what was got, once the stream is done. */
void recording_results(Recording *r);
void recording_free(Recording *r);

#endif
