/* Blocks between GPUs by NCCL, as a transport of kernels/comm.
 *
 * What is asked for goes into the device's own stream, between what was queued before and what comes after. A
 * GPU waits in it for the others' GPUs, so a call returns only when it is through: until then the stream and
 * NCCL are asked in turn how it stands, and the processes' control whether all are still there. Where they
 * are not, the communicator is given up, which ends what the GPU waits in. For the same reason communicators
 * are of the kind whose calls do not block. */
#include "nccl.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "kernels/comm/transport.h"
#include "kernels/cuda/base/queue.h"
#include "cuda.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct Connection {
    const Nccl *nccl;
    ncclComm_t comm; /* NULL: given up */
    Comm *c;
    const Device *dev;
    cudaStream_t stream;
} Connection;

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

static Status nccl_status(const Connection *n, ncclResult_t r, const char *doing)
{
    if (r == ncclSuccess || r == ncclInProgress)
        return STATUS_OK;
    const char *detail = n->nccl->ncclGetLastError(n->comm);
    const bool more = detail && *detail;
    return status_fail("%s, by NCCL %s: %s%s%.600s%s%s", doing, n->nccl->text, n->nccl->ncclGetErrorString(r),
                       more ? " (" : "", more ? detail : "", more ? ")" : "", advice(r));
}

/* Ends what the GPU waits in. */
static Status give_up(Connection *n, Status s)
{
    if (n->comm)
        (void)n->nccl->ncclCommAbort(n->comm);
    n->comm = NULL;
    return s;
}

static void nap(long microseconds)
{
    const struct timespec t = {0, microseconds * 1000};
    (void)nanosleep(&t, NULL);
}

static Status waiting(const Connection *n, double since)
{
    return n->c->size > 1 ? comm_waiting(n->c, since) : STATUS_OK;
}

#define CONTROL_SECONDS 1.0 /* within which the control knows that a process has ended */

/* NCCL may see the end of a process first, but not whose it was. */
static Status failed(Connection *n, ncclResult_t r, const char *doing)
{
    const double since = seconds_now();
    while (n->c->size > 1 && seconds_now() - since < CONTROL_SECONDS) {
        const Status s = waiting(n, since);
        if (s != STATUS_OK)
            return give_up(n, s);
        nap(10000);
    }
    return give_up(n, nccl_status(n, r, doing));
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
static Status hangs(const Connection *n, Wait *w, double now, const char *doing)
{
    if (n->c->size > 1 && !comm_all_wait(n->c))
        w->all_since = now;
    if (n->c->size == 1 || now - w->all_since <= comm_timeout(n->c) + MERELY_LATE)
        return STATUS_OK;
    return status_fail("%s: all processes have been waiting for NCCL %s for %.0f seconds (train.timeout). "
                       "Between some GPUs it hangs unless NCCL_P2P_DISABLE=1 is set. " DEBUG,
                       doing, n->nccl->text, now - w->all_since);
}

static Status go_on_waiting(const Connection *n, Wait *w, const char *doing)
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

/* Until NCCL has taken up what it was asked, and, with the stream, has done it. */
static Status wait_for(Connection *n, bool stream, const char *doing)
{
    const double now = seconds_now();
    Wait w = {now, now, now};
    for (;;) {
        ncclResult_t state = ncclSuccess;
        const ncclResult_t r = n->nccl->ncclCommGetAsyncError(n->comm, &state);
        if (r != ncclSuccess || (state != ncclSuccess && state != ncclInProgress))
            return failed(n, r != ncclSuccess ? r : state, doing);
        if (state == ncclSuccess) {
            const cudaError_t e = stream ? cudaStreamQuery(n->stream) : cudaSuccess;
            if (e == cudaSuccess)
                return STATUS_OK;
            if (e != cudaErrorNotReady)
                return give_up(n, cuda_status(e, doing));
        }
        const Status s = go_on_waiting(n, &w, doing);
        if (s != STATUS_OK)
            return give_up(n, s);
    }
}

/* Blocks ------------------------------------------------------------------------------------------------ */

#define EXCHANGING "exchanging blocks between GPUs"
#define GATHERING "gathering a block from all GPUs"
#define ADDING "adding up a block of all GPUs"

/* What was queued before is over, so that its failures are its own, and it is not taken for a late process.
 */
static Status begin(Connection *n)
{
    if (!n->comm)
        return status_fail("blocks cannot be exchanged any more: NCCL has been given up");
    TRY(cuda_stream(&n->stream));
    TRY(n->dev->settle());
    return nccl_status(n, n->nccl->ncclGroupStart(), EXCHANGING);
}

/* r: what the calls of the group came to. */
static Status finish(Connection *n, ncclResult_t r, const char *doing)
{
    const ncclResult_t end = n->nccl->ncclGroupEnd();
    if (r == ncclSuccess)
        r = end;
    return r == ncclSuccess || r == ncclInProgress ? wait_for(n, true, doing) : failed(n, r, doing);
}

/* Of two calls in a row, the first failure. */
static ncclResult_t both(ncclResult_t before, ncclResult_t r)
{
    return before == ncclSuccess && r != ncclInProgress ? r : before;
}

static Status exchange(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                       int receives)
{
    Connection *n = own;
    ncclResult_t r = ncclSuccess;
    (void)c;
    TRY(begin(n));
    for (int i = 0; i < sends; i++)
        if (send[i].bytes)
            r = both(
                r, n->nccl->ncclSend(send[i].at, send[i].bytes, ncclInt8, send[i].rank, n->comm, n->stream));
    for (int i = 0; i < receives; i++)
        if (receive[i].bytes)
            r = both(r, n->nccl->ncclRecv(receive[i].at, receive[i].bytes, ncclInt8, receive[i].rank, n->comm,
                                          n->stream));
    return finish(n, r, EXCHANGING);
}

/* All parts are of one size, for which NCCL has faster ways. */
static bool even(const Comm *c, const int64_t *at)
{
    for (int r = 1; r < c->size; r++)
        if (at[r + 1] - at[r] != at[1] - at[0])
            return false;
    return at[1] > at[0];
}

static Status all_gather(Comm *c, void *own, float *block, const int64_t *at)
{
    Connection *n = own;
    ncclResult_t r = ncclSuccess;
    TRY(begin(n));
    if (even(c, at))
        r = n->nccl->ncclAllGather(block + at[c->rank], block + at[0], (size_t)(at[1] - at[0]), ncclFloat32,
                                   n->comm, n->stream);
    else
        for (int root = 0; root < c->size; root++) {
            float *part = block + at[root];
            const size_t count = (size_t)(at[root + 1] - at[root]);
            if (count)
                r = both(r, n->nccl->ncclBroadcast(part, part, count, ncclFloat32, root, n->comm, n->stream));
        }
    return finish(n, r, GATHERING);
}

static Status reduce_scatter(Comm *c, void *own, float *block, const int64_t *at)
{
    Connection *n = own;
    ncclResult_t r = ncclSuccess;
    TRY(begin(n));
    if (even(c, at))
        r = n->nccl->ncclReduceScatter(block + at[0], block + at[c->rank], (size_t)(at[1] - at[0]),
                                       ncclFloat32, ncclSum, n->comm, n->stream);
    else
        for (int root = 0; root < c->size; root++) {
            float *part = block + at[root];
            const size_t count = (size_t)(at[root + 1] - at[root]);
            if (count)
                r = both(r, n->nccl->ncclReduce(part, part, count, ncclFloat32, ncclSum, root, n->comm,
                                                n->stream));
        }
    return finish(n, r, ADDING);
}

/* Opening ----------------------------------------------------------------------------------------------- */

#define JOINING "joining the processes' GPUs"

/* What each process says of itself; process 0 the id that they find each other by. */
typedef struct Introduction {
    char gpu[48]; /* UUID */
    char version[NCCL_VERSION_TEXT];
    ncclUniqueId id;
} Introduction;

static Status introduce(const Connection *n, Introduction *mine)
{
    int number;
    CudaCardInfo card;
    TRY(cuda_status(cudaGetDevice(&number), JOINING));
    if (!device_cuda_info(number, &card))
        return status_fail("%s: what GPU %d is cannot be found out", JOINING, number);
    memset(mine, 0, sizeof *mine);
    memcpy(mine->gpu, card.uuid, sizeof mine->gpu);
    memcpy(mine->version, n->nccl->text, sizeof mine->version);
    return n->c->rank == 0 ? nccl_status(n, n->nccl->ncclGetUniqueId(&mine->id), JOINING) : STATUS_OK;
}

/* What NCCL would refuse in words of its own, or be stuck with. Every process sees the same. */
static Status check(const Comm *c, const Introduction *all)
{
    char one[96], other[96];
    for (int r = 1; r < c->size; r++)
        if (strcmp(all[r].version, all[0].version) != 0)
            return status_refuse("%s has NCCL %s, %s has %s: install the same on all machines",
                                 comm_name(c, r, other, sizeof other), all[r].version,
                                 comm_name(c, 0, one, sizeof one), all[0].version);
    for (int r = 1; r < c->size; r++)
        for (int before = 0; before < r; before++)
            if (strcmp(all[r].gpu, all[before].gpu) == 0)
                return status_refuse(
                    "%s and %s compute on one GPU, %s: each takes one of its own (train.device, "
                    "CUDA_VISIBLE_DEVICES), and there are no more processes than GPUs",
                    comm_name(c, before, one, sizeof one), comm_name(c, r, other, sizeof other), all[r].gpu);
    return STATUS_OK;
}

/* The one communicator. Nothing else of NCCL has been called before it is ready. */
static Status join(Connection *n, const ncclUniqueId *id)
{
    ncclConfig_t config = {sizeof config, NCCL_CONFIG_MAGIC, NCCL_CONFIG_VERSION, 0};
    const ncclResult_t r = n->nccl->ncclCommInitRankConfig(&n->comm, n->c->size, *id, n->c->rank, &config);
    if ((r != ncclSuccess && r != ncclInProgress) || !n->comm)
        return failed(n, r != ncclSuccess ? r : ncclInternalError, JOINING);
    return wait_for(n, false, JOINING);
}

#define PROOF 4096 /* numbers of each process */

/* That blocks come through, now instead of an hour into the run. */
static Status prove(Connection *n)
{
    const int size = n->c->size, rank = n->c->rank;
    const int64_t count = (int64_t)PROOF * size;
    float *host = mem_alloc((size_t)count * sizeof *host), *block = NULL;
    int64_t *at = mem_alloc(((size_t)size + 1) * sizeof *at);
    Status s = host && at ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && !(block = n->dev->memory_new((size_t)count * sizeof *block)))
        s = STATUS_FAILED;
    for (int64_t i = 0; i < PROOF && s == STATUS_OK; i++)
        host[i] = (float)(rank + 1);
    for (int r = 0; r <= size && s == STATUS_OK; r++)
        at[r] = (int64_t)PROOF * r;
    if (s == STATUS_OK)
        s = n->dev->put(block + at[rank], host, PROOF * sizeof *host);
    if (s == STATUS_OK)
        s = all_gather(n->c, n, block, at);
    if (s == STATUS_OK)
        s = n->dev->get(host, block, (size_t)count * sizeof *host);
    if (s == STATUS_OK)
        s = n->dev->settle();
    for (int64_t i = 0; i < count && s == STATUS_OK; i++)
        if (host[i] != (float)(i / PROOF + 1))
            s = status_fail(
                "%s: NCCL %s delivers wrong numbers (%g from process %d). NCCL_P2P_DISABLE=1 goes another "
                "way between the GPUs",
                JOINING, n->nccl->text, (double)host[i], (int)(i / PROOF));
    n->dev->memory_free(block, (size_t)count * sizeof *block);
    mem_free(at);
    mem_free(host);
    return s;
}

static Status connect_all(Connection *n)
{
    Introduction mine = {0}, *all = mem_calloc((size_t)n->c->size, sizeof *all);
    if (!all)
        return STATUS_FAILED;
    Status s = comm_meet(n->c, introduce(n, &mine), &mine, sizeof mine, all);
    if (s == STATUS_OK)
        s = check(n->c, all);
    if (s == STATUS_OK)
        s = join(n, &all[0].id);
    mem_free(all);
    return s == STATUS_OK ? prove(n) : s;
}

static Status open_nccl(Comm *c, const Device *dev, void **own, char *version, size_t size)
{
    const char *why;
    Connection *n = mem_calloc(1, sizeof *n);
    if (!n)
        return STATUS_FAILED;
    *n = (Connection){.nccl = nccl_load(&why), .c = c, .dev = dev};
    const Status s = connect_all(n);
    if (s != STATUS_OK) {
        (void)give_up(n, s);
        mem_free(n);
        return s;
    }
    snprintf(version, size, "nccl %s", n->nccl->text);
    *own = n;
    return STATUS_OK;
}

static const char *hindrance(const Comm *c)
{
    const char *why;
    (void)c;
    (void)nccl_load(&why);
    return why;
}

static void close_nccl(void *own, bool broken)
{
    Connection *n = own;
    const ncclResult_t r = n->comm && !broken ? n->nccl->ncclCommFinalize(n->comm) : ncclInternalError;
    if ((r == ncclSuccess || r == ncclInProgress) && wait_for(n, false, "leaving NCCL") == STATUS_OK) {
        (void)n->nccl->ncclCommDestroy(n->comm);
        n->comm = NULL;
    }
    (void)give_up(n, STATUS_OK);
    mem_free(n);
}

const CommTransport transport_nccl = {
    .name = "nccl",
    .host_memory = false,
    .hindrance = hindrance,
    .open = open_nccl,
    .close = close_nccl,
    .exchange = exchange,
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
};
