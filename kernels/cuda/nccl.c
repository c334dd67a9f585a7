/* Blocks between GPUs by NCCL, as a transport of kernels/comm.
 *
 * What is asked for goes into the device's own stream, between what was queued before and what comes after. A
 * GPU waits in it for the others' GPUs, so a call returns only when it is through, or has been given up
 * (nccl_wait.c); communicators are of the kind whose calls do not block. What goes on beside the computing
 * has a second communicator and a stream of its own (nccl_beside.c). */
#include "nccl_state.h"

#include "kernels/base/mem.h"
#include "kernels/comm/transport.h"
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/queue.h"
#include "cuda.h"

#include <stdio.h>
#include <string.h>

/* Blocks ------------------------------------------------------------------------------------------------ */

#define EXCHANGING "exchanging blocks between GPUs"
#define GATHERING "gathering a block from all GPUs"
#define ADDING "adding up a block of all GPUs"

Status nccl_given_up(void)
{
    return status_fail("blocks cannot be exchanged any more: NCCL has been given up");
}

/* What was queued before is over, so that its failures are its own, and it is not taken for a late process.
 */
static Status begin(NcclConnection *n)
{
    if (!n->own.comm)
        return nccl_given_up();
    TRY(cuda_stream(&n->own.stream));
    return n->dev->settle();
}

static Status look(NcclConnection *n, void *arg, const char *doing, bool *done)
{
    (void)arg;
    TRY(nccl_taken_up(n, n->own.comm, doing, done));
    return *done ? nccl_done(n, cudaStreamQuery(n->own.stream), doing, done) : STATUS_OK;
}

/* r: what the group came to. */
static Status finish(NcclConnection *n, ncclResult_t r, const char *doing)
{
    return r == ncclSuccess || r == ncclInProgress ? nccl_wait(n, look, NULL, doing)
                                                   : nccl_failed(n, n->own.comm, r, doing);
}

/* Of two calls in a row, the first failure. */
static ncclResult_t both(ncclResult_t before, ncclResult_t r)
{
    return before == ncclSuccess && r != ncclInProgress ? r : before;
}

/* r: what its calls came to. */
static ncclResult_t end_group(const NcclConnection *n, ncclResult_t r)
{
    const ncclResult_t end = n->nccl->ncclGroupEnd();
    return r == ncclSuccess ? end : r;
}

ncclResult_t nccl_send_receive(const NcclConnection *n, const NcclLine *line, const CommPart *send, int sends,
                               const CommPart *receive, int receives)
{
    const Nccl *f = n->nccl;
    ncclResult_t r = f->ncclGroupStart();
    if (r != ncclSuccess)
        return r;
    for (int i = 0; i < sends; i++)
        if (send[i].bytes)
            r = both(
                r, f->ncclSend(send[i].at, send[i].bytes, ncclInt8, send[i].rank, line->comm, line->stream));
    for (int i = 0; i < receives; i++)
        if (receive[i].bytes)
            r = both(r, f->ncclRecv(receive[i].at, receive[i].bytes, ncclInt8, receive[i].rank, line->comm,
                                    line->stream));
    return end_group(n, r);
}

static Status exchange(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                       int receives)
{
    NcclConnection *n = own;
    (void)c;
    TRY(begin(n));
    return finish(n, nccl_send_receive(n, &n->own, send, sends, receive, receives), EXCHANGING);
}

static Status begin_group(NcclConnection *n)
{
    TRY(begin(n));
    const ncclResult_t r = n->nccl->ncclGroupStart();
    return r == ncclSuccess ? STATUS_OK : nccl_failed(n, n->own.comm, r, EXCHANGING);
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
    NcclConnection *n = own;
    const NcclLine *line = &n->own;
    ncclResult_t r = ncclSuccess;
    TRY(begin_group(n));
    if (even(c, at))
        r = n->nccl->ncclAllGather(block + at[c->rank], block + at[0], (size_t)(at[1] - at[0]), ncclFloat32,
                                   line->comm, line->stream);
    else
        for (int root = 0; root < c->size; root++) {
            float *part = block + at[root];
            const size_t count = (size_t)(at[root + 1] - at[root]);
            if (count)
                r = both(r, n->nccl->ncclBroadcast(part, part, count, ncclFloat32, root, line->comm,
                                                   line->stream));
        }
    return finish(n, end_group(n, r), GATHERING);
}

static Status reduce_scatter(Comm *c, void *own, float *block, const int64_t *at)
{
    NcclConnection *n = own;
    const NcclLine *line = &n->own;
    ncclResult_t r = ncclSuccess;
    TRY(begin_group(n));
    if (even(c, at))
        r = n->nccl->ncclReduceScatter(block + at[0], block + at[c->rank], (size_t)(at[1] - at[0]),
                                       ncclFloat32, ncclSum, line->comm, line->stream);
    else
        for (int root = 0; root < c->size; root++) {
            float *part = block + at[root];
            const size_t count = (size_t)(at[root + 1] - at[root]);
            if (count)
                r = both(r, n->nccl->ncclReduce(part, part, count, ncclFloat32, ncclSum, root, line->comm,
                                                line->stream));
        }
    return finish(n, end_group(n, r), ADDING);
}

/* Opening ----------------------------------------------------------------------------------------------- */

#define JOINING "joining the processes' GPUs"

/* What each process says of itself; process 0 the ids that they find each other by. */
typedef struct Introduction {
    char gpu[48]; /* UUID */
    char version[NCCL_VERSION_TEXT];
    ncclUniqueId ids[2]; /* of each communicator */
} Introduction;

static Status introduce(const NcclConnection *n, Introduction *mine)
{
    int number;
    CudaCardInfo card;
    TRY(cuda_status(cudaGetDevice(&number), JOINING));
    if (!device_cuda_info(number, &card))
        return status_fail("%s: what GPU %d is cannot be found out", JOINING, number);
    memset(mine, 0, sizeof *mine);
    memcpy(mine->gpu, card.uuid, sizeof mine->gpu);
    memcpy(mine->version, n->nccl->text, sizeof mine->version);
    for (int i = 0; i < 2 && n->c->rank == 0; i++)
        TRY(nccl_status(n, NULL, n->nccl->ncclGetUniqueId(&mine->ids[i]), JOINING));
    return STATUS_OK;
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

static Status is_ready(NcclConnection *n, void *arg, const char *doing, bool *done)
{
    const NcclLine *line = arg;
    return nccl_taken_up(n, line->comm, doing, done);
}

/* Nothing else is asked of NCCL before it is ready. */
static Status join(NcclConnection *n, NcclLine *line, const ncclUniqueId *id)
{
    ncclConfig_t config = {sizeof config, NCCL_CONFIG_MAGIC, NCCL_CONFIG_VERSION, 0};
    const ncclResult_t r = n->nccl->ncclCommInitRankConfig(&line->comm, n->c->size, *id, n->c->rank, &config);
    if ((r != ncclSuccess && r != ncclInProgress) || !line->comm)
        return nccl_failed(n, line->comm, r != ncclSuccess ? r : ncclInternalError, JOINING);
    return nccl_wait(n, is_ready, line, JOINING);
}

#define PROOF 4096 /* numbers of each process */

static Status gather_beside(Comm *c, void *own, float *block, const int64_t *at)
{
    CommPart *parts = mem_alloc(2 * (size_t)c->size * sizeof *parts);
    const size_t bytes = (size_t)(at[1] - at[0]) * sizeof *block;
    void *pending;
    int count = 0;
    if (!parts)
        return STATUS_FAILED;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank) {
            parts[count] = (CommPart){r, block + at[c->rank], bytes};
            parts[c->size + count++] = (CommPart){r, block + at[r], bytes};
        }
    Status s = nccl_beside_begin(c, own, parts, count, parts + c->size, count, &pending);
    if (s == STATUS_OK)
        s = nccl_beside_end(c, own, pending);
    mem_free(parts);
    return s;
}

/* That blocks come through, now instead of an hour into the run. */
static Status prove(NcclConnection *n, Status (*gather)(Comm *c, void *own, float *block, const int64_t *at))
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
        s = gather(n->c, n, block, at);
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

/* With buffers for each of the others' GPUs, which are there once blocks have come through: they are part of
 * what the plan counts. */
static Status join_both(NcclConnection *n, const ncclUniqueId *ids)
{
    const size_t before = n->dev->memory_left();
    TRY(nccl_beside_open(n));
    TRY(join(n, &n->own, &ids[0]));
    TRY(prove(n, all_gather));
    TRY(join(n, &n->beside, &ids[1]));
    TRY(prove(n, gather_beside));
    const size_t after = n->dev->memory_left();
    cuda_own(before > after ? before - after : 0);
    return STATUS_OK;
}

static Status connect_all(NcclConnection *n)
{
    Introduction mine = {0}, *all = mem_calloc((size_t)n->c->size, sizeof *all);
    if (!all)
        return STATUS_FAILED;
    Status s = comm_meet(n->c, introduce(n, &mine), &mine, sizeof mine, all);
    if (s == STATUS_OK)
        s = check(n->c, all);
    if (s == STATUS_OK)
        s = join_both(n, all[0].ids);
    mem_free(all);
    return s;
}

static Status open_nccl(Comm *c, const Device *dev, void **own, char *version, size_t size)
{
    const char *why;
    NcclConnection *n = mem_calloc(1, sizeof *n);
    if (!n)
        return STATUS_FAILED;
    *n = (NcclConnection){.nccl = nccl_load(&why), .c = c, .dev = dev};
    const Status s = connect_all(n);
    if (s != STATUS_OK) {
        nccl_drop(n);
        nccl_beside_close(n);
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

static void leave(NcclConnection *n, NcclLine *line)
{
    const ncclResult_t r = line->comm ? n->nccl->ncclCommFinalize(line->comm) : ncclInternalError;
    if ((r == ncclSuccess || r == ncclInProgress) &&
        nccl_wait(n, is_ready, line, "leaving NCCL") == STATUS_OK) {
        (void)n->nccl->ncclCommDestroy(line->comm);
        line->comm = NULL;
    }
}

static void close_nccl(void *own, bool broken)
{
    NcclConnection *n = own;
    if (!broken && !n->first) {
        leave(n, &n->beside);
        leave(n, &n->own);
    }
    nccl_drop(n);
    nccl_beside_close(n);
    mem_free(n);
}

static void drop(void *own)
{
    nccl_drop(own);
}

const CommTransport transport_nccl = {
    .name = "nccl",
    .host_memory = false,
    .hindrance = hindrance,
    .open = open_nccl,
    .close = close_nccl,
    .exchange = exchange,
    .begin = nccl_beside_begin,
    .progress = nccl_beside_progress,
    .end = nccl_beside_end,
    .drop = drop,
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
};
