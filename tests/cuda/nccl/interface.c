/* NCCL's functions. Calls that do not block are in progress for some questions longer than they have to be.
 */
#include "stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
#define DECLARE(type, name, parameters) EXPORTED type name parameters;
NCCL_FUNCTIONS(DECLARE)

static ncclComm_t communicators; /* also those that are no more */
static int depth;                /* of ncclGroupStart() */
static Group *open_group;
static ncclResult_t group_error; /* of a call in it */
static const char *last_error = "";

/* The result that a test asks for, or that everything has once the GPU is lost. */
#define ENTER_NCCL()                                                                                         \
    do {                                                                                                     \
        const ncclResult_t entered_ = enter(__func__);                                                       \
        if (entered_ != ncclSuccess)                                                                         \
            return entered_;                                                                                 \
    } while (0)

static ncclResult_t failure(ncclResult_t r, const char *why)
{
    last_error = why;
    if (depth && group_error == ncclSuccess)
        group_error = r;
    return r;
}

static ncclResult_t enter(const char *name)
{
    const ncclResult_t wanted = (ncclResult_t)runtime_wanted(name);
    if (wanted != ncclSuccess)
        return failure(wanted, "the stand-in was asked to fail");
    return runtime_lost() ? failure(ncclUnhandledCudaError, "the GPU is lost") : ncclSuccess;
}

/* What there is, whatever its state. */
static void check_known(ncclComm_t comm, const char *name)
{
    ncclComm_t known = communicators;
    while (known && known != comm)
        known = known->next;
    if (!known)
        stand_in_fail(NULL, 0, "%s: %p is no communicator", name, (void *)comm);
    if (comm->phase == COMM_ABORTED || comm->phase == COMM_DESTROYED)
        stand_in_fail(NULL, 0, "%s: rank %d's communicator has been %s", name, comm->rank,
                      comm->phase == COMM_ABORTED ? "aborted" : "destroyed");
}

/* Nothing may be asked of a communicator until what was asked before is taken up. */
static void check_ready(ncclComm_t comm, const char *name)
{
    check_known(comm, name);
    if (comm->state == ncclInProgress)
        stand_in_fail(NULL, 0,
                      "%s: rank %d's communicator is still at what it was asked before (ncclInProgress)",
                      name, comm->rank);
    if (comm->phase == COMM_FINALIZED)
        stand_in_fail(NULL, 0, "%s: rank %d's communicator has been finalized", name, comm->rank);
}

/* What takes a while, and is asked for by ncclCommGetAsyncError() until it is over. */
static ncclResult_t in_progress(ncclComm_t comm)
{
    comm->state = ncclInProgress;
    comm->polls = 1 + (int)(block_random() % 3);
    while (comm->blocking && comm->state == ncclInProgress) {
        ncclResult_t state;
        ncclCommGetAsyncError(comm, &state);
        usleep(100);
    }
    return comm->state;
}

/* About it ---------------------------------------------------------------------------------------------- */

ncclResult_t ncclGetVersion(int *version)
{
    const char *word = getenv("ATELIER_STAND_IN_NCCL_VERSION");
    *version = word ? atoi(word) : 22803;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "in progress"};
    return result <= ncclInProgress ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return last_error;
}

/* Communicators ----------------------------------------------------------------------------------------- */

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    ENTER_NCCL();
    static int ids;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "atelier-nccl-%d-%d-%lld%09ld", (int)getpid(), ids++,
             (long long)now.tv_sec, now.tv_nsec);
    return ncclSuccess;
}

static void *room(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p)
        abort();
    return p;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *made, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    ENTER_NCCL();
    if (rank < 0 || rank >= size || strncmp(id.internal, "atelier-nccl-", 13) != 0)
        stand_in_fail(NULL, 0, "ncclCommInitRankConfig: rank %d of %d, and the id %s", rank, size,
                      id.internal[0] ? "is not ncclGetUniqueId()'s" : "is empty");
    if (config && (config->magic != NCCL_CONFIG_MAGIC || config->size < sizeof *config))
        return ncclInvalidArgument;
    ncclComm_t comm = room(sizeof *comm);
    *comm = (struct ncclComm){.rank = rank, .size = size, .listening = -1, .next = communicators};
    comm->blocking = !config || config->blocking != 0;
    memcpy(comm->id, id.internal, sizeof comm->id - 1);
    comm->sockets = room((size_t)size * sizeof *comm->sockets);
    comm->gone = room((size_t)size * sizeof *comm->gone);
    for (int r = 0; r < size; r++)
        comm->sockets[r] = -1;
    communicators = comm;
    wire_begin(comm);
    *made = comm;
    return in_progress(comm);
}

static bool all_done(const struct ncclComm *comm)
{
    for (const Group *g = comm->groups; g; g = g->next)
        if (!g->done)
            return false;
    return true;
}

/* A step of what is in progress. */
static void progress(ncclComm_t comm)
{
    if (comm->phase == COMM_JOINING) {
        if (!wire_join(comm))
            return;
        comm->phase = COMM_READY;
    }
    if (comm->phase == COMM_FINALIZED && !all_done(comm))
        return;
    if (comm->waiting && work_queue(comm->waiting) != cudaSuccess)
        comm->state = ncclUnhandledCudaError;
    comm->waiting = NULL;
    if (comm->state == ncclInProgress)
        comm->state = ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    check_known(comm, __func__);
    const ncclResult_t wanted = enter(__func__);
    if (wanted != ncclSuccess)
        comm->state = wanted;
    if (comm->state == ncclInProgress && comm->polls-- <= 0)
        progress(comm);
    *state = comm->state;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    ENTER_NCCL();
    check_ready(comm, __func__);
    comm->phase = COMM_FINALIZED;
    return in_progress(comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    ENTER_NCCL();
    check_known(comm, __func__);
    if (comm->state == ncclInProgress || !all_done(comm))
        stand_in_fail(NULL, 0, "ncclCommDestroy: rank %d's communicator still has work in its stream",
                      comm->rank);
    wire_close(comm, true);
    comm->phase = COMM_DESTROYED;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    check_known(comm, __func__);
    wire_close(comm, false);
    comm->phase = COMM_ABORTED;
    return ncclSuccess;
}

/* Groups ------------------------------------------------------------------------------------------------ */

ncclResult_t ncclGroupStart(void)
{
    ENTER_NCCL();
    depth++;
    return ncclSuccess;
}

static ncclResult_t end_group(Group *g)
{
    ncclComm_t comm = g->comm;
    check_overlaps(g);
    g->number = ++comm->group_count;
    g->next = comm->groups;
    comm->groups = g;
    comm->waiting = g;
    return in_progress(comm);
}

ncclResult_t ncclGroupEnd(void)
{
    if (depth == 0)
        stand_in_fail(NULL, 0, "ncclGroupEnd() without ncclGroupStart()");
    if (--depth > 0)
        return ncclSuccess;
    Group *g = open_group;
    const ncclResult_t e = group_error;
    open_group = NULL;
    group_error = ncclSuccess;
    ENTER_NCCL();
    return e == ncclSuccess && g ? end_group(g) : e;
}

/* One communicator in one stream: what goes through another has no order with it that all processes share. */
static void check_stream(ncclComm_t comm, cudaStream_t asked, const char *name)
{
    const cudaStream_t s = queue_stream(asked);
    if (!s)
        stand_in_fail(NULL, 0, "%s: %p is no stream", name, (void *)asked);
    if (s->capture)
        stand_in_fail(NULL, 0, "%s: rank %d's stream is captured: a recorded step has nothing of NCCL in it",
                      name, comm->rank);
    if (comm->has_stream && comm->stream != s)
        stand_in_fail(NULL, 0, "%s: rank %d's communicator is used in a second stream", name, comm->rank);
    comm->stream = s;
    comm->has_stream = true;
}

static void check_group(const Group *g, ncclComm_t comm, const char *name)
{
    if (g->comm && g->comm != comm)
        stand_in_fail(NULL, 0, "%s: a group has calls of two communicators", name);
}

static ncclResult_t add(const char *name, ncclComm_t comm, cudaStream_t stream, Call c)
{
    check_ready(comm, name);
    check_stream(comm, stream, name);
    const bool reduces = c.kind == CALL_REDUCE || c.kind == CALL_REDUCE_SCATTER;
    if (type_bytes(c.type) == 0 || (reduces && c.type != ncclFloat32) || c.peer < 0 || c.peer >= comm->size) {
        comm->state = ncclInvalidArgument;
        return failure(comm->state, "a type, an operation, or a rank that there is not");
    }
    check_memory(comm, &c);
    Group *g = open_group ? open_group : room(sizeof *g);
    check_group(g, comm, name);
    g->comm = comm;
    g->stream = stream;
    g->calls = realloc(g->calls, ((size_t)g->count + 1) * sizeof *g->calls);
    if (!g->calls)
        abort();
    g->calls[g->count++] = c;
    open_group = depth ? g : NULL;
    return depth ? ncclSuccess : end_group(g);
}

/* Calls ------------------------------------------------------------------------------------------------- */

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    ENTER_NCCL();
    return add(__func__, comm, stream, (Call){CALL_SEND, (int)type, peer, count, from, NULL});
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    ENTER_NCCL();
    return add(__func__, comm, stream, (Call){CALL_RECEIVE, (int)type, peer, count, NULL, to});
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    ENTER_NCCL();
    return add(__func__, comm, stream, (Call){CALL_BROADCAST, (int)type, root, count, from, to});
}

ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                        int root, ncclComm_t comm, cudaStream_t stream)
{
    ENTER_NCCL();
    return add(__func__, comm, stream,
               (Call){CALL_REDUCE, (int)type, op == ncclSum ? root : -1, count, from, to});
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    ENTER_NCCL();
    return add(__func__, comm, stream, (Call){CALL_ALL_GATHER, (int)type, 0, count, from, to});
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream)
{
    ENTER_NCCL();
    return add(__func__, comm, stream,
               (Call){CALL_REDUCE_SCATTER, (int)type, op == ncclSum ? 0 : -1, count, from, to});
}
