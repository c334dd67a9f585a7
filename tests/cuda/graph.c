/* Graphs: run again and again, their operations in any order that their dependencies allow. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

struct CUgraph_st {
    GraphNodes *nodes;
};
struct CUgraphExec_st {
    GraphNodes *nodes;
};

/* Nodes ------------------------------------------------------------------------------------------------- */

static void add_node(NodeSet *s, int node)
{
    for (int i = 0; i < s->count; i++)
        if (s->list[i] == node)
            return;
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 4;
        s->list = realloc(s->list, (size_t)s->room * sizeof *s->list);
        if (!s->list)
            abort();
    }
    s->list[s->count++] = node;
}

void nodes_add(NodeSet *s, const NodeSet *more)
{
    for (int i = 0; i < more->count; i++)
        add_node(s, more->list[i]);
}

void nodes_set(NodeSet *s, int node)
{
    s->count = 0;
    add_node(s, node);
}

void nodes_copy(NodeSet *s, const NodeSet *from)
{
    s->count = 0;
    nodes_add(s, from);
}

GraphNodes *graph_new(void)
{
    GraphNodes *n = calloc(1, sizeof *n);
    if (!n)
        abort();
    n->users = 1;
    return n;
}

int graph_add(GraphNodes *n, Op *o, const NodeSet *after)
{
    if (n->count == n->room) {
        n->room = n->room ? 2 * n->room : 64;
        n->list = realloc(n->list, (size_t)n->room * sizeof *n->list);
        if (!n->list)
            abort();
    }
    Node *node = &n->list[n->count];
    *node = (Node){.op = o};
    nodes_copy(&node->after, after);
    return n->count++;
}

void graph_release(GraphNodes *n)
{
    if (--n->users > 0)
        return;
    for (int i = 0; i < n->count; i++) {
        op_free(n->list[i].op);
        free(n->list[i].after.list);
    }
    free(n->list);
    free(n);
}

static bool able(const GraphNodes *n, const Node *node)
{
    for (int i = 0; i < node->after.count; i++)
        if (!n->list[node->after.list[i]].done)
            return false;
    return !node->done;
}

/* Passes over the nodes; one that could run is now and then left for later. */
void graph_run(GraphNodes *n)
{
    for (int i = 0; i < n->count; i++)
        n->list[i].done = false;
    int first = 0; /* those before are done */
    while (first < n->count) {
        for (int i = first; i < n->count; i++) {
            Node *node = &n->list[i];
            if (!able(n, node) || (i != first && block_random() % 4 == 0))
                continue;
            if (i == first && n->count - first > 1 && block_random() % 4 == 0)
                continue;
            op_run(node->op);
            node->done = true;
        }
        while (first < n->count && n->list[first].done)
            first++;
    }
}

/* Graphs ------------------------------------------------------------------------------------------------ */

cudaGraph_t graph_of(GraphNodes *n)
{
    cudaGraph_t g = calloc(1, sizeof *g);
    if (!g)
        abort();
    g->nodes = n;
    return g;
}

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

/* The same kinds of nodes in the same order, one for one. */
static cudaGraphExecUpdateResult compare(const GraphNodes *old, const GraphNodes *new)
{
    if (old->count != new->count)
        return cudaGraphExecUpdateErrorTopologyChanged;
    for (int i = 0; i < old->count; i++) {
        const Node *a = &old->list[i], *b = &new->list[i];
        if (a->op->kind != b->op->kind)
            return cudaGraphExecUpdateErrorNodeTypeChanged;
        if (a->after.count != b->after.count ||
            (a->after.count &&
             memcmp(a->after.list, b->after.list, (size_t)a->after.count * sizeof(int)) != 0))
            return cudaGraphExecUpdateErrorTopologyChanged;
    }
    return cudaGraphExecUpdateSuccess;
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
    for (int i = 0; nodes && i < graph->nodes->count && (size_t)i < *count; i++)
        nodes[i] = (cudaGraphNode_t)(void *)&graph->nodes->list[i];
    *count = (size_t)graph->nodes->count;
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
