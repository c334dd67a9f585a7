/* Graphs: operations and what each of them waits for. */
#ifndef TESTS_CUDA_GRAPH_H
#define TESTS_CUDA_GRAPH_H

#include "runtime.h"

/* Nodes of a graph, by number: those that something waits for. */
typedef struct NodeSet {
    int count, room;
    int *list;
} NodeSet;
void nodes_add(NodeSet *s, const NodeSet *more);
void nodes_set(NodeSet *s, int node); /* to be this one alone */
void nodes_copy(NodeSet *s, const NodeSet *from);

typedef struct Node {
    Op *op;
    NodeSet after; /* what has to have run: of lower numbers */
    bool done;
} Node;

struct GraphNodes {
    int count, room, users;
    Node *list;
};

GraphNodes *graph_new(void);
/* Takes o over; it comes after those of `after`. Its number. */
int graph_add(GraphNodes *n, Op *o, const NodeSet *after);
/* Makes a graph that has n, which is taken over. */
cudaGraph_t graph_of(GraphNodes *n);

/* capture.c: what a stream is captured into, and what its next operation comes after. */
typedef struct Capture {
    long number; /* of the capture, for events that were recorded in it */
    GraphNodes *nodes;
    enum cudaStreamCaptureMode mode;
    bool broken;
    cudaStream_t origin; /* where it was begun */
} Capture;

#endif
