/* What the files of this folder share about a Comm of several processes. */
#ifndef ATL_COMM_STATE_H
#define ATL_COMM_STATE_H

#include "link.h"
#include "transport.h"
#include "world.h"

#include <pthread.h>
#include <stdatomic.h>

/* What a process says of itself when it joins, and process 0 of all once they have. */
typedef struct Card {
    int pid, local_rank, local_size;
    uint32_t cores;             /* a hash of those that it may compute on */
    char host[64], machine[40]; /* of the same name and boot: the same memory and processors */
} Card;

/* The other end of a star's ray: on process 0 one for each other process, on the others one, for process 0.
 */
typedef struct Ray {
    int rank;
    int talk;             /* socket of what is agreed on; the main thread's */
    int life;             /* socket of signs of life and ends; read by the watcher */
    _Atomic double heard; /* it has last come a step further, or was told to wait */
    _Atomic double waits; /* it has last said that it waits as well */
    bool over;            /* it has said how it ended, or its socket has */
} Ray;

struct CommState {
    double timeout;
    const volatile sig_atomic_t *stop; /* the caller's */
    volatile sig_atomic_t halt;        /* the same, or another process has failed, ended or been stopped */
    Card *cards;                       /* of all, by rank */
    Ray *rays;
    int ray_count;
    char token[WORLD_TOKEN];
    bool by_mpi;     /* Open MPI has started the processes, whatever the transport is */
    int waiting_for; /* rank whose turn it is, for the message of a time-out; −1: not known */
    double said;     /* when the main thread last gave a sign of life */
    double waited;   /* when it last asked whether to go on waiting */
    double awake;    /* since when it has done so without having stood still; 0: always */

    pthread_t watcher;
    bool watching;
    int wake[2];          /* a pipe: ends the watcher */
    pthread_mutex_t lock; /* of what follows, and of writing to life sockets */
    _Atomic bool broken;
    Status how; /* of the first who ended too early */
    char why[STATUS_MESSAGE_SIZE];
    _Atomic bool lost_first;
    bool asked; /* this process's stop has been passed on */

    const CommTransport *transport;
    struct UnderWay *under_way; /* overlap.c's */
    void *own;                  /* the transport's */
    const Device *dev;
    char version[80];
};

/* join.c: finds the others; fills in c's numbers, cards and rays. */
Status join_all(Comm *c, const World *w);

/* overlap.c: adds the others' numbers, ((size - 1), count) by rank, to this process's [first, first + count)
 * of the block. */
Status add_by_rank(const Comm *c, Tensor *block, int64_t first, int64_t count, const Tensor *others);
/* overlap.c: the end of sums that nobody will finish. */
void overlap_drop(CommState *s);
/* Frees what was under way when the transport was closed. */
void overlap_let_go(CommState *s);

/* life.c: signs of life, and ends. */
Status life_begin(Comm *c); /* starts the watcher */
void life_finish(Comm *c);  /* ends it */
/* The end of this process, to all that it has a ray to. */
void life_end(Comm *c, Status how, const char *message);

/* A socket to that process has ended: why and how the watcher knows in a moment. Returns its failure. */
Status life_gone(Comm *c, int rank);

#endif
