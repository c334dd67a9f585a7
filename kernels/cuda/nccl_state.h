/* What the files of the transport by NCCL share: its two communicators, and waiting for what they do. */
#ifndef ATL_CUDA_NCCL_STATE_H
#define ATL_CUDA_NCCL_STATE_H

#include "nccl.h"

#include "kernels/comm/comm.h"
#include "kernels/device.h"

/* A communicator and the stream that it keeps to. */
typedef struct NcclLine {
    ncclComm_t comm; /* NULL: given up */
    cudaStream_t stream;
} NcclLine;

typedef struct NcclConnection {
    const Nccl *nccl;
    Comm *c;
    const Device *dev;
    NcclLine own, beside;       /* in the device's stream, and in one that goes on beside it */
    struct NcclExchange *first; /* under way beside it, the oldest first */
} NcclConnection;

/* nccl_wait.c ------------------------------------------------------------------------------------------- */

/* STATUS_OK, or the failure with what was being done and what to do about it. comm: NULL allowed. */
Status nccl_status(const NcclConnection *n, ncclComm_t comm, ncclResult_t r, const char *doing);
/* Aborts both communicators, which ends what the GPU waits in, and forgets what is under way. */
void nccl_drop(NcclConnection *n);
Status nccl_give_up(NcclConnection *n, Status s); /* the same; returns s */
/* The same after a failure of NCCL's; returns why: another process's end, where that is the reason. */
Status nccl_failed(NcclConnection *n, ncclComm_t comm, ncclResult_t r, const char *doing);

/* Whether it has taken up what it was asked: until then nothing of it is in the stream, and it may not be
 * asked for more. A failure gives up. */
Status nccl_taken_up(NcclConnection *n, ncclComm_t comm, const char *doing, bool *done);
/* What a stream or an event has answered. A failure gives up. */
Status nccl_done(NcclConnection *n, cudaError_t asked, const char *doing, bool *done);

/* One look at what is waited for. */
typedef Status (*NcclLook)(NcclConnection *n, void *arg, const char *doing, bool *done);
/* Until it is done; or another process has ended, or NCCL hangs, which give up. */
Status nccl_wait(NcclConnection *n, NcclLook look, void *arg, const char *doing);

/* nccl_beside.c ----------------------------------------------------------------------------------------- */

Status nccl_beside_open(NcclConnection *n); /* its stream */
void nccl_beside_close(NcclConnection *n);
void nccl_beside_forget(NcclConnection *n); /* frees what is under way, once its communicator is aborted */
/* CommTransport's begin, progress and end. */
Status nccl_beside_begin(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                         int receives, void **pending);
Status nccl_beside_progress(Comm *c, void *own, void *pending);
Status nccl_beside_end(Comm *c, void *own, void *pending);

/* nccl.c ------------------------------------------------------------------------------------------------ */

/* A group of sends and receives in the line's stream: what its calls came to. */
ncclResult_t nccl_send_receive(const NcclConnection *n, const NcclLine *line, const CommPart *send, int sends,
                               const CommPart *receive, int receives);
Status nccl_given_up(void); /* the failure of who asks for more after that */

#endif
