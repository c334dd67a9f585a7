/* Several processes that share the work of one run: who they are, agreeing, small messages, and blocks of
 * numbers exchanged and summed between them.
 *
 *     TRY(comm_open(&options, &c));               // alone: size 1, and everything below does nothing
 *     TRY(comm_attach(c, dev));                   // how blocks travel: NCCL, MPI, sockets
 *     TRY(comm_agree(c, status));                 // all go on, or none
 *     TRY(comm_all_gather(c, block, slices));
 *     comm_close(c, status);
 *
 * Two ways lead from process to process. The control (kernels/comm/join.c, kernels/comm/life.c) is a star of
 * sockets around process 0: it carries what is agreed on, and notices at once who has ended. The transport
 * (kernels/comm/transport.h) carries blocks. Every process makes the same calls in the same order.
 *
 * Whatever happens to one of them (its own failure, a signal, its end, or that it is not heard of for
 * options.timeout seconds) ends the call that the others are in, with a message that says who and what. After
 * a failure only comm_close may follow. */
#ifndef ATL_COMM_H
#define ATL_COMM_H

#include "kernels/base/status.h"
#include "kernels/tensor.h"

#include <signal.h>

typedef struct CommOptions {
    double timeout;                    /* seconds that one may let the others wait */
    const volatile sig_atomic_t *stop; /* NULL: none */
} CommOptions;

typedef struct CommState CommState;
typedef struct Comm {
    int rank, size;             /* this process counts from 0; size 1: it is alone */
    int local_rank, local_size; /* the same among those of this machine */
    int sharing;                /* of those, how many compute on the same cores as this one */
    CommState *state;           /* NULL: alone */
} Comm;

/* Who this process is says the environment: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun and
 * those who do as it does, `--processes`), Open MPI's mpirun, or Slurm's srun. Waits until all have come. */
Status comm_open(const CommOptions *o, Comm **out);
/* A process alone; nothing has to be closed. planned: of so many on this machine, for what a plan asks: it
 * reaches nobody. */
Comm *comm_alone(void);
Comm comm_planned(int size);
/* How many processes the environment speaks of, and which of them this is, without opening anything; 1 and 0:
 * none. */
int comm_announced(void);
int comm_announced_rank(void);
/* Once the configuration is known. */
void comm_set_timeout(Comm *c, double seconds);
/* Chooses how blocks travel between devices like this one. The device has to stay until comm_close. */
Status comm_attach(Comm *c, const Device *dev);
/* Tells the others how this process has ended, with status_message() where it failed. Whoever is not process
 * 0 waits until that one has closed too: a starter like mpirun kills all once one has failed. NULL allowed.
 */
void comm_close(Comm *c, Status how);

/* What work between two meetings looks at: goes up with options.stop, and when another process has failed or
 * ended. Then comm_check() says so. */
const volatile sig_atomic_t *comm_stop(const Comm *c); /* not where size is 1 */
/* The failure of another process, or STATUS_OK. */
Status comm_check(const Comm *c);
/* Process 0 has ended without a word, or is not heard of. */
bool comm_lost_first(const Comm *c);
/* "process 1 of 4 (4711 on b)": with its process id. */
const char *comm_name(const Comm *c, int rank, char *out, size_t size);
/* "mpi (Open MPI v4.1.4)", "sockets", "nccl 2.28.3"; "" where nothing travels. */
const char *comm_transport_name(const Comm *c);
/* Work that only one of them does has come a step further: the others' patience begins anew. Cheap. */
void comm_alive(Comm *c);

/* Agreeing --------------------------------------------------------------------------------------------- */

/* All meet here. mine: how the work since the last meeting has ended for this process, with its message. OK
 * only if it is for all; else everybody gets the worst (a failure before an interruption), with the message
 * of the first who had it. */
Status comm_agree(Comm *c, Status mine);
/* The same, and everybody learns everybody's record: all has size × bytes, by rank. Not filled in where the
 * result isn't OK; then sums that have been begun are given up. */
Status comm_meet(Comm *c, Status mine, const void *record, size_t bytes, void *all);
/* Process 0's bytes to all. */
Status comm_tell(Comm *c, void *data, size_t bytes);
/* Bytes of process `from` to process 0; nothing happens in the others, nor where from is 0. */
Status comm_bring(Comm *c, int from, void *data, size_t bytes);
/* Refuses, naming who and what differs, unless all give the same. text: lines "name: value"; what differs is
 * told by name and both values. about: "the configuration", for the message. */
Status comm_compare(Comm *c, const char *about, const char *text);

/* Things of the same size that do not depend on each other: thing k is made by process k % size, and process
 * 0 takes all of them in order, so that one process gives what many do. Ends in the
 * same way for all. */
typedef struct CommWork {
    int64_t count;
    size_t bytes; /* of a thing */
    void *thing;  /* room for one */
    Status (*make)(int64_t k, void *thing, void *arg);
    Status (*take)(int64_t k, const void *thing, void *arg); /* process 0 */
    void *arg;
} CommWork;
Status comm_work(Comm *c, const CommWork *w);

/* This process has failed (or is asked to stop) in the middle of something that the others take part in: they
 * are told now, and every later call fails, with the same message. Returns how. */
Status comm_give_up(Comm *c, Status how);

/* A number of things, shared out in turn, as evenly as can be: this process has [*first, *first + *count) of
 * total. rank's share of them: the same for any process. */
void comm_share(int64_t total, int size, int rank, int64_t *first, int64_t *count);

/* Blocks ----------------------------------------------------------------------------------------------- */

/* Memory of the device. */
typedef struct CommPart {
    int rank; /* of the other process */
    void *at;
    size_t bytes; /* a multiple of 4; the same on both sides. 0: left out on both */
} CommPart;

/* Sends and receives; between two processes in the order of the lists. */
Status comm_exchange(Comm *c, const CommPart *send, int sends, const CommPart *receive, int receives);
/* block: f32 (n), of the attached device. Process r has its numbers [at[r], at[r+1]); after it all have all.
 */
Status comm_all_gather(Comm *c, Tensor *block, const int64_t *at);
/* Process r's part becomes the sum of all processes'; the rest of its block is undefined then. In an order
 * that the transport chooses. */
Status comm_reduce_scatter(Comm *c, Tensor *block, const int64_t *at);

/* The same by parts, while others of them are still computed. True: the transport can, and it is no detour:
 * where several machines have several processes each, the transport's own reduce_scatter sends less. */
bool comm_overlaps(const Comm *c);
/* Numbers [first, end) of the block are what this process adds to the sum; they are on their way. */
Status comm_sum_begin(Comm *c, Tensor *block, const int64_t *at, int64_t first, int64_t end);
Status comm_sum_progress(Comm *c); /* never waits */
/* All that have been begun are sums. */
Status comm_sum_finish(Comm *c);

#endif
