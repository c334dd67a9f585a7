/* Graphs: what a stream is given while it captures, in order, to be run again and again. */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

struct GraphNodes {
    Op *first, **end;
    int users;
};
struct Capture {
    GraphNodes *nodes;
    enum cudaStreamCaptureMode mode;
    bool broken;
};
struct CUgraph_st {
    GraphNodes *nodes;
};
struct CUgraphExec_st {
    GraphNodes *nodes;
};

void graph_release(GraphNodes *n)
{
    if (--n->users > 0)
        return;
    for (Op *o = n->first, *next; o; o = next) {
        next = o->next;
        op_free(o);
    }
    free(n);
}

void graph_run(GraphNodes *n)
{
    for (Op *o = n->first; o; o = o->next)
        op_run(o);
}

/* Capturing --------------------------------------------------------------------------------------------- */

bool capture_add(cudaStream_t s, Op *o, cudaError_t *e)
{
    if (!s->capture) {
        *e = cudaSuccess;
        return false;
    }
    *e = s->capture->broken ? runtime_error(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
    if (*e != cudaSuccess) {
        op_free(o);
        return true;
    }
    *s->capture->nodes->end = o;
    s->capture->nodes->end = &o->next;
    return true;
}

cudaError_t capture_forbids(cudaStream_t asked)
{
    cudaError_t e = cudaSuccess;
    for (cudaStream_t s = queue_streams; s; s = s->next)
        if (s->capture && (!asked || asked == s)) {
            s->capture->broken = true;
            e = runtime_error(cudaErrorStreamCaptureUnsupported);
        }
    return e;
}

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
    GraphNodes *n = calloc(1, sizeof *n);
    if (!s->capture || !n)
        abort();
    n->end = &n->first;
    n->users = 1;
    s->capture->nodes = n;
    s->capture->mode = mode;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t asked, cudaGraph_t *graph)
{
    ENTER();
    *graph = NULL;
    cudaStream_t s = queue_stream(asked);
    if (!s || !s->capture)
        return runtime_error(cudaErrorInvalidValue);
    const struct Capture c = *s->capture;
    free(s->capture);
    s->capture = NULL;
    if (c.broken) {
        graph_release(c.nodes);
        return runtime_error(cudaErrorStreamCaptureInvalidated);
    }
    *graph = calloc(1, sizeof **graph);
    if (!*graph)
        abort();
    (*graph)->nodes = c.nodes;
    return cudaSuccess;
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

/* Graphs ------------------------------------------------------------------------------------------------ */

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    ENTER();
    (void)flags;
    if (!graph)
        return runtime_error(cudaErrorInvalidValue);
    *exec = calloc(1, sizeof **exec);
    if (!*exec)
        abort();
    (*exec)->nodes = graph->nodes;
    graph->nodes->users++;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t s)
{
    ENTER();
    return exec && queue_stream(s) ? cudaSuccess : runtime_error(cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    ENTER();
    if (!exec)
        return runtime_error(cudaErrorInvalidValue);
    Op *o = op_new(OP_GRAPH);
    o->nodes = exec->nodes;
    exec->nodes->users++;
    return queue_add(s, o);
}

/* The same kinds of nodes with the same kernels, one for one. */
static cudaGraphExecUpdateResult compare(const GraphNodes *old, const GraphNodes *new)
{
    const Op *a = old->first, *b = new->first;
    for (; a && b; a = a->next, b = b->next) {
        if (a->kind != b->kind)
            return cudaGraphExecUpdateErrorNodeTypeChanged;
        if (a->kind == OP_KERNEL && a->kernel != b->kernel)
            return cudaGraphExecUpdateErrorFunctionChanged;
    }
    return a || b ? cudaGraphExecUpdateErrorTopologyChanged : cudaGraphExecUpdateSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
    ENTER();
    if (!exec || !graph)
        return runtime_error(cudaErrorInvalidValue);
    *info = (cudaGraphExecUpdateResultInfo){.result = compare(exec->nodes, graph->nodes)};
    if (info->result != cudaGraphExecUpdateSuccess)
        return runtime_error(cudaErrorGraphExecUpdateFailure);
    graph_release(exec->nodes);
    exec->nodes = graph->nodes;
    graph->nodes->users++;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    ENTER();
    size_t n = 0;
    for (Op *o = graph->nodes->first; o; o = o->next, n++)
        if (nodes && n < *count)
            nodes[n] = (cudaGraphNode_t)(void *)o;
    *count = n;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    ENTER();
    if (!exec)
        return runtime_error(cudaErrorInvalidValue);
    graph_release(exec->nodes);
    free(exec);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    ENTER();
    if (!graph)
        return runtime_error(cudaErrorInvalidValue);
    graph_release(graph->nodes);
    free(graph);
    return cudaSuccess;
}
