/* Streams: what is put into them runs on the calling thread, as late as it may, when somebody waits for it.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A point in a stream, for those that wait for it. */
struct Mark {
    bool done;
    int users;
    cudaStream_t stream;
};

struct CUevent_st {
    Mark *mark;   /* of the last record, or NULL */
    long capture; /* the number of the capture that it was recorded in, or 0, and what it stands for there */
    NodeSet tails;
};

static NodeSet legacy_tails;
static struct CUstream_st legacy = {.tails = &legacy_tails};
cudaStream_t queue_streams;

/* Operations -------------------------------------------------------------------------------------------- */

Op *op_new(OpKind kind)
{
    Op *o = calloc(1, sizeof *o);
    if (!o)
        abort();
    o->kind = kind;
    return o;
}

static void release(Mark *m)
{
    if (m && --m->users == 0)
        free(m);
}

void op_free(Op *o)
{
    release(o->mark);
    if (o->nodes)
        graph_release(o->nodes);
    free(o->arguments);
    free(o->own);
    free(o);
}

/* A function of the host's, which may not touch the device's memory. */
static void run_function(const Op *o)
{
    const int depth = memory_shut();
    o->function(o->data);
    memory_reopen(depth);
}

void op_run(Op *o)
{
    switch (o->kind) {
    case OP_KERNEL:
        memory_reach_all();
        block_run(o->kernel, o->grid, o->block, o->arguments, o->shared);
        break;
    case OP_COPY:
        memory_reach(o->to, o->bytes);
        if (!o->own)
            memory_reach(o->from, o->bytes);
        memmove(o->to, o->own ? o->own : o->from, o->bytes);
        break;
    case OP_SET:
        memory_reach(o->to, o->bytes);
        memset(o->to, o->value, o->bytes);
        break;
    case OP_RECORD:
        o->mark->done = true;
        break;
    case OP_WAIT:
        break;
    case OP_GRAPH:
        graph_run(o->nodes);
        break;
    case OP_OTHER:
        memory_reach_all();
        o->run(o);
        break;
    case OP_HOST:
        run_function(o);
        break;
    }
}

/* Running ----------------------------------------------------------------------------------------------- */

/* The next of s, unless it waits for what has not happened. held: the host waits for it. */
static bool step(cudaStream_t s, bool held)
{
    Op *o = s->first;
    if (!o || (o->kind == OP_WAIT && !o->mark->done) || (o->ready && !o->ready(o, held)))
        return false;
    s->first = o->next;
    if (!s->first)
        s->end = &s->first;
    memory_open();
    op_run(o);
    memory_close();
    op_free(o);
    return true;
}

/* Other streams are not obliged to wait: now and then one of them takes a step. */
static void others(void)
{
    if (queue_streams && queue_streams->next && block_random() % 2)
        for (cudaStream_t s = queue_streams; s; s = s->next)
            if (block_random() % 2)
                step(s, false);
}

/* Everything of s, or until m is reached. */
static void drain(cudaStream_t s, const Mark *m)
{
    if (!s->first)
        return;
    memory_open(); /* once for all that is queued */
    while (s->first && !(m && m->done)) {
        others();
        if (!s->first || (m && m->done) || step(s, true))
            continue;
        if (s->first->kind == OP_WAIT)
            drain(s->first->mark->stream, s->first->mark);
        else
            usleep(100); /* for another process */
    }
    memory_close();
}

void queue_drain_all(void)
{
    for (cudaStream_t s = queue_streams; s; s = s->next)
        drain(s, NULL);
}

void queue_drop_all(void)
{
    for (cudaStream_t s = queue_streams; s; s = s->next) {
        for (Op *o = s->first, *next; o; o = next) {
            next = o->next;
            if (o->kind == OP_RECORD)
                o->mark->done = true;
            op_free(o);
        }
        s->first = NULL;
        s->end = &s->first;
    }
}

/* Streams ----------------------------------------------------------------------------------------------- */

cudaStream_t queue_stream(cudaStream_t s)
{
    if (!legacy.end) {
        legacy.end = &legacy.first;
        legacy.next = queue_streams;
        queue_streams = &legacy;
    }
    if (!s || s == cudaStreamLegacy)
        return &legacy;
    for (cudaStream_t known = queue_streams; known; known = known->next)
        if (known == s)
            return s;
    return NULL;
}

static void append(cudaStream_t s, Op *o)
{
    *s->end = o;
    s->end = &o->next;
}

static Mark *record(cudaStream_t s)
{
    Mark *m = calloc(1, sizeof *m);
    if (!m)
        abort();
    m->stream = s;
    m->users = 1;
    Op *o = op_new(OP_RECORD);
    o->mark = m;
    append(s, o);
    return m;
}

static void wait_for(cudaStream_t s, Mark *m)
{
    Op *o = op_new(OP_WAIT);
    o->mark = m;
    m->users++;
    append(s, o);
}

/* The legacy stream and those that do not say otherwise wait for each other. */
static void order_with_legacy(cudaStream_t s)
{
    for (cudaStream_t t = queue_streams; t; t = t->next)
        if (t != s && t->first && !((s == &legacy ? t : s)->flags & cudaStreamNonBlocking) &&
            (s == &legacy || t == &legacy))
            wait_for(s, record(t));
}

cudaError_t queue_add(cudaStream_t asked, Op *o)
{
    cudaStream_t s = card_is_current() ? queue_stream(asked) : NULL;
    if (!s) {
        op_free(o);
        return runtime_error(cudaErrorInvalidResourceHandle);
    }
    cudaError_t e = s == &legacy ? capture_forbids_legacy() : cudaSuccess;
    if (e != cudaSuccess) {
        op_free(o);
        return e;
    }
    if (capture_add(s, o, &e))
        return e;
    order_with_legacy(s);
    append(s, o);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *made, unsigned int flags)
{
    ENTER_ON_CARD();
    queue_stream(NULL);
    cudaStream_t s = calloc(1, sizeof *s);
    NodeSet *tails = calloc(1, sizeof *tails);
    if (!s || !tails)
        abort();
    s->tails = tails;
    s->flags = flags;
    s->end = &s->first;
    s->next = queue_streams;
    queue_streams = s;
    *made = s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned int flags, int priority)
{
    (void)priority;
    return cudaStreamCreateWithFlags(s, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t asked)
{
    ENTER();
    cudaStream_t s = asked ? queue_stream(asked) : NULL;
    if (!s || s == &legacy)
        return runtime_error(cudaErrorInvalidResourceHandle);
    const cudaError_t e = capture_forbids(s);
    if (e != cudaSuccess)
        return e;
    drain(s, NULL);
    cudaStream_t *at = &queue_streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s->tails->list);
    free(s->tails);
    free(s);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t asked)
{
    ENTER();
    cudaStream_t s = queue_stream(asked);
    if (!s)
        return runtime_error(cudaErrorInvalidResourceHandle);
    cudaError_t e = capture_forbids(s);
    if (e == cudaSuccess)
        e = capture_unsafe();
    if (e == cudaSuccess && s == &legacy)
        e = capture_forbids_legacy();
    if (e == cudaSuccess)
        drain(s, NULL);
    return e;
}

cudaError_t cudaStreamQuery(cudaStream_t asked)
{
    ENTER();
    cudaStream_t s = queue_stream(asked);
    if (!s)
        return runtime_error(cudaErrorInvalidResourceHandle);
    const cudaError_t e = capture_forbids(s);
    if (e != cudaSuccess)
        return e;
    step(s, false); /* somebody may ask until it is done */
    return s->first ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    ENTER();
    const cudaError_t e = capture_forbids(NULL);
    if (e == cudaSuccess)
        queue_drain_all();
    return e;
}

cudaError_t cudaDeviceReset(void)
{
    if (runtime_lost())
        queue_drop_all();
    else
        queue_drain_all();
    runtime_reset();
    memory_reset();
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t function, void *data)
{
    ENTER();
    Op *o = op_new(OP_HOST);
    o->function = function;
    o->data = data;
    return queue_add(s, o);
}

/* Events ------------------------------------------------------------------------------------------------ */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *made, unsigned int flags)
{
    ENTER();
    (void)flags;
    *made = calloc(1, sizeof **made);
    return *made ? cudaSuccess : runtime_error(cudaErrorMemoryAllocation);
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    ENTER();
    if (!e)
        return runtime_error(cudaErrorInvalidResourceHandle);
    release(e->mark);
    free(e->tails.list);
    free(e);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t asked)
{
    ENTER();
    cudaStream_t s = queue_stream(asked);
    if (!s || !e)
        return runtime_error(cudaErrorInvalidResourceHandle);
    if (s->capture)
        return capture_record(s, &e->capture, &e->tails);
    e->capture = 0;
    order_with_legacy(s);
    release(e->mark);
    e->mark = record(s);
    e->mark->users++;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t asked, cudaEvent_t e, unsigned int flags)
{
    ENTER();
    (void)flags;
    cudaStream_t s = queue_stream(asked);
    if (!s || !e)
        return runtime_error(cudaErrorInvalidResourceHandle);
    if (s->capture || capture_active(e->capture))
        return capture_wait(s, e->capture, &e->tails);
    if (e->mark && !e->mark->done && e->mark->stream != s)
        wait_for(s, e->mark);
    return cudaSuccess;
}

/* While a capture goes on nobody can be waited for, and an event of the capture has nothing to tell. */
static cudaError_t cannot_be_asked(cudaEvent_t e)
{
    if (!e)
        return runtime_error(cudaErrorInvalidResourceHandle);
    if (e->capture)
        return runtime_error(cudaErrorCapturedEvent);
    return capture_unsafe();
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    ENTER();
    const cudaError_t forbidden = cannot_be_asked(e);
    if (forbidden != cudaSuccess)
        return forbidden;
    if (e->mark && !e->mark->done)
        drain(e->mark->stream, e->mark);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    ENTER();
    const cudaError_t forbidden = cannot_be_asked(e);
    if (forbidden != cudaSuccess)
        return forbidden;
    if (e->mark && !e->mark->done)
        step(e->mark->stream, false); /* somebody may ask until it is done */
    return e->mark && !e->mark->done ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    ENTER();
    if (!from->mark || !to->mark)
        return runtime_error(cudaErrorInvalidResourceHandle);
    if (!from->mark->done || !to->mark->done)
        return cudaErrorNotReady;
    *ms = 1;
    return cudaSuccess;
}
