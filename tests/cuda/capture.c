/* Streams while they are captured: what they are given becomes a graph. Events that were recorded in a
 * captured stream draw other streams in, which have to come back to the first before it ends. What a capture
 * does not survive breaks it: every later call on it fails, and there is no graph. */
#include "graph.h"

#include <stdlib.h>

static long captures; /* so far */

static cudaError_t broken(Capture *c, cudaError_t e)
{
    c->broken = true;
    return runtime_error(e);
}

bool capture_add(cudaStream_t s, Op *o, cudaError_t *e)
{
    *e = cudaSuccess;
    if (!s->capture)
        return false;
    if (s->capture->broken) {
        op_free(o);
        *e = runtime_error(cudaErrorStreamCaptureInvalidated);
        return true;
    }
    nodes_set(s->tails, graph_add(s->capture->nodes, o, s->tails));
    return true;
}

cudaError_t capture_forbids(cudaStream_t asked)
{
    cudaError_t e = cudaSuccess;
    for (cudaStream_t s = queue_streams; s; s = s->next)
        if (s->capture && (!asked || asked == s))
            e = broken(s->capture, cudaErrorStreamCaptureUnsupported);
    return e;
}

cudaError_t capture_unsafe(void)
{
    cudaError_t e = cudaSuccess;
    for (cudaStream_t s = queue_streams; s; s = s->next)
        if (s->capture && s->capture->mode != cudaStreamCaptureModeRelaxed)
            e = broken(s->capture, cudaErrorStreamCaptureUnsupported);
    return e;
}

cudaError_t capture_forbids_legacy(void)
{
    cudaError_t e = cudaSuccess;
    for (cudaStream_t s = queue_streams; s; s = s->next)
        if (s->capture && !(s->flags & cudaStreamNonBlocking))
            e = broken(s->capture, cudaErrorStreamCaptureImplicit);
    return e;
}

/* Events ------------------------------------------------------------------------------------------------ */

cudaError_t capture_record(cudaStream_t s, long *number, NodeSet *tails)
{
    if (s->capture->broken)
        return runtime_error(cudaErrorStreamCaptureInvalidated);
    *number = s->capture->number;
    nodes_copy(tails, s->tails);
    return cudaSuccess;
}

/* The capture of that number, while it goes on. */
static Capture *find(long number)
{
    for (cudaStream_t s = queue_streams; s; s = s->next)
        if (s->capture && s->capture->number == number)
            return s->capture;
    return NULL;
}

bool capture_active(long number)
{
    return number && find(number);
}

cudaError_t capture_wait(cudaStream_t s, long number, const NodeSet *tails)
{
    Capture *c = number ? find(number) : NULL;
    if (!c) /* the event is of the world outside */
        return broken(s->capture, cudaErrorStreamCaptureIsolation);
    if (s->capture && s->capture != c) {
        (void)broken(s->capture, cudaErrorStreamCaptureMerge);
        return broken(c, cudaErrorStreamCaptureMerge);
    }
    if (!s->capture) {
        s->capture = c;
        nodes_copy(s->tails, tails);
    } else
        nodes_add(s->tails, tails);
    return c->broken ? runtime_error(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}

/* Beginning and ending ---------------------------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t asked, enum cudaStreamCaptureMode mode)
{
    ENTER();
    cudaStream_t s = queue_stream(asked);
    if (!s)
        return runtime_error(cudaErrorInvalidResourceHandle);
    if (s == queue_stream(NULL))
        return runtime_error(cudaErrorStreamCaptureUnsupported);
    if (s->capture)
        return runtime_error(cudaErrorInvalidValue);
    s->capture = calloc(1, sizeof *s->capture);
    if (!s->capture)
        abort();
    *s->capture = (Capture){.number = ++captures, .nodes = graph_new(), .mode = mode, .origin = s};
    s->tails->count = 0;
    return cudaSuccess;
}

/* Everything that was captured comes before the end of the stream that began. */
static bool joined(const Capture *c)
{
    bool *before = calloc((size_t)c->nodes->count + 1, sizeof *before);
    if (!before)
        abort();
    for (int i = 0; i < c->origin->tails->count; i++)
        before[c->origin->tails->list[i]] = true;
    bool all = true;
    for (int i = c->nodes->count - 1; i >= 0; i--) {
        all = all && before[i];
        for (int j = 0; before[i] && j < c->nodes->list[i].after.count; j++)
            before[c->nodes->list[i].after.list[j]] = true;
    }
    free(before);
    return all;
}

cudaError_t cudaStreamEndCapture(cudaStream_t asked, cudaGraph_t *graph)
{
    const cudaError_t wanted = runtime_enter(__func__); /* it is over with one, too */
    *graph = NULL;
    cudaStream_t s = queue_stream(asked);
    if (!s || !s->capture)
        return runtime_error(cudaErrorInvalidValue);
    Capture *c = s->capture;
    if (c->origin != s)
        return broken(c, cudaErrorStreamCaptureUnmatched);
    cudaError_t e = wanted;
    if (e == cudaSuccess && c->broken)
        e = runtime_error(cudaErrorStreamCaptureInvalidated);
    else if (e == cudaSuccess && !joined(c))
        e = runtime_error(cudaErrorStreamCaptureUnjoined);
    for (cudaStream_t t = queue_streams; t; t = t->next)
        if (t->capture == c)
            t->capture = NULL;
    if (e == cudaSuccess)
        *graph = graph_of(c->nodes);
    else
        graph_release(c->nodes);
    free(c);
    return e;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t asked, enum cudaStreamCaptureStatus *status)
{
    ENTER();
    cudaStream_t s = queue_stream(asked);
    if (!s)
        return runtime_error(cudaErrorInvalidResourceHandle);
    *status = !s->capture          ? cudaStreamCaptureStatusNone
              : s->capture->broken ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    ENTER();
    static enum cudaStreamCaptureMode now = cudaStreamCaptureModeGlobal;
    const enum cudaStreamCaptureMode old = now;
    now = *mode;
    *mode = old;
    return cudaSuccess;
}
