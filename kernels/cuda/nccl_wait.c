/* Waiting for what NCCL does, and its failures. A GPU waits in its stream for the others' GPUs, so the
 * streams and NCCL are asked in turn how they stand, and the processes' control whether all are still there.
 * Where they are not, the communicators are given up, which ends what the GPU waits in. */
#include "nccl_state.h"

#include "kernels/base/clock.h"
#include "kernels/comm/transport.h"
#include "kernels/cuda/base/queue.h"

#include <sched.h>
#include <time.h>

/* Failures ---------------------------------------------------------------------------------------------- */

#define DEBUG "NCCL_DEBUG=INFO says more"

static const char *advice(ncclResult_t r)
{
    switch (r) {
    case ncclSystemError:
        return ". In a container /dev/shm may be too small (docker run --shm-size=1g); with several network "
               "interfaces NCCL_SOCKET_IFNAME names the one that leads to the others. " DEBUG;
    case ncclRemoteError:
        return ". The network between the machines, or a process there, has failed. " DEBUG;
    case ncclUnhandledCudaError:
        return ". An NCCL for a later CUDA than the driver knows cannot start; where GPUs cannot reach each "
               "other's memory NCCL_P2P_DISABLE=1 goes another way. " DEBUG;
    default:
        return ". " DEBUG;
    }
}

Status nccl_status(const NcclConnection *n, ncclComm_t comm, ncclResult_t r, const char *doing)
{
    if (r == ncclSuccess || r == ncclInProgress)
        return STATUS_OK;
    const char *detail = n->nccl->ncclGetLastError(comm);
    const bool more = detail && *detail;
    return status_fail("%s, by NCCL %s: %s%s%.600s%s%s", doing, n->nccl->text, n->nccl->ncclGetErrorString(r),
                       more ? " (" : "", more ? detail : "", more ? ")" : "", advice(r));
}

static void abort_one(const NcclConnection *n, NcclLine *line)
{
    if (line->comm)
        (void)n->nccl->ncclCommAbort(line->comm);
    line->comm = NULL;
}

void nccl_drop(NcclConnection *n)
{
    abort_one(n, &n->beside);
    abort_one(n, &n->own);
    nccl_beside_forget(n);
}

Status nccl_give_up(NcclConnection *n, Status s)
{
    nccl_drop(n);
    return s;
}

static void nap(long microseconds)
{
    const struct timespec t = {0, microseconds * 1000};
    (void)nanosleep(&t, NULL);
}

static Status waiting(const NcclConnection *n, double since)
{
    return n->c->size > 1 ? comm_waiting(n->c, since) : STATUS_OK;
}

#define CONTROL_SECONDS 1.0 /* within which the control knows that a process has ended */

/* NCCL may see the end of a process first, but not whose it was. */
Status nccl_failed(NcclConnection *n, ncclComm_t comm, ncclResult_t r, const char *doing)
{
    const double since = seconds_now();
    while (n->c->size > 1 && seconds_now() - since < CONTROL_SECONDS) {
        const Status s = waiting(n, since);
        if (s != STATUS_OK)
            return nccl_give_up(n, s);
        nap(10000);
    }
    return nccl_give_up(n, nccl_status(n, comm, r, doing));
}

/* Waiting ----------------------------------------------------------------------------------------------- */

#define ASKED_EVERY 0.005 /* seconds between two questions to the control */
#define AWAKE 0.0002      /* seconds before naps begin: small blocks take less */
#define NAP 20            /* microseconds */
#define MERELY_LATE 6.0   /* seconds within which a process that has stopped still counts as waiting */

/* A wait that all processes are in: from when on, and when the control was last asked. */
typedef struct Wait {
    double since, asked, all_since;
} Wait;

/* That all wait and nothing comes is NCCL's fault, and nobody is late. Process 0 can tell. */
static Status hangs(const NcclConnection *n, Wait *w, double now, const char *doing)
{
    if (n->c->size > 1 && !comm_all_wait(n->c))
        w->all_since = now;
    if (n->c->size == 1 || now - w->all_since <= comm_timeout(n->c) + MERELY_LATE)
        return STATUS_OK;
    return status_fail("%s: all processes have been waiting for NCCL %s for %.0f seconds (train.timeout). "
                       "Between some GPUs it hangs unless NCCL_P2P_DISABLE=1 is set. " DEBUG,
                       doing, n->nccl->text, now - w->all_since);
}

static Status go_on_waiting(const NcclConnection *n, Wait *w, const char *doing)
{
    const double now = seconds_now();
    if (now - w->asked > ASKED_EVERY) {
        w->asked = now;
        TRY(waiting(n, w->since));
        TRY(hangs(n, w, now, doing));
    }
    if (now - w->since > AWAKE)
        nap(NAP);
    else
        sched_yield();
    return STATUS_OK;
}

Status nccl_taken_up(NcclConnection *n, ncclComm_t comm, const char *doing, bool *done)
{
    ncclResult_t state = ncclSuccess;
    const ncclResult_t r = n->nccl->ncclCommGetAsyncError(comm, &state);
    if (r != ncclSuccess || (state != ncclSuccess && state != ncclInProgress))
        return nccl_failed(n, comm, r != ncclSuccess ? r : state, doing);
    *done = state == ncclSuccess;
    return STATUS_OK;
}

Status nccl_done(NcclConnection *n, cudaError_t asked, const char *doing, bool *done)
{
    *done = asked == cudaSuccess;
    return *done || asked == cudaErrorNotReady ? STATUS_OK : nccl_give_up(n, cuda_status(asked, doing));
}

Status nccl_wait(NcclConnection *n, NcclLook look, void *arg, const char *doing)
{
    const double now = seconds_now();
    Wait w = {now, now, now};
    for (;;) {
        bool done = false;
        TRY(look(n, arg, doing, &done));
        if (done)
            return STATUS_OK;
        const Status s = go_on_waiting(n, &w, doing);
        if (s != STATUS_OK)
            return nccl_give_up(n, s);
    }
}
