/* How blocks of numbers travel between processes: a table of functions, one file a way. sockets: always
 * there, host memory (kernels/comm/mesh.c). mpi: host memory (kernels/comm/mpi.c), where the processes were
 * started by Open MPI. nccl: a GPU's memory (kernels/cuda/nccl.c); Device.transport names it. Where a
 * device's memory is not the host's and it has no transport, comm.c copies through the host.
 *
 * A function returns when the memory may be used by what is queued next on the device (for host memory: when
 * it is done). While it waits it asks comm_waiting(): a process that is gone must not keep the others. */
#ifndef ATL_COMM_TRANSPORT_H
#define ATL_COMM_TRANSPORT_H

#include "comm.h"

typedef struct CommTransport {
    const char *name;
    bool host_memory; /* works on the host's memory; else on the attached device's */
    /* What keeps it from being used by these processes: a message (without a point), or NULL. Asked on every
     * process; it is taken only where nobody has anything against it. */
    const char *(*hindrance)(const Comm *c);
    /* On all processes at once; the control may be used (comm_meet, comm_tell). *own: its state. version:
     * what comm_transport_name() says, "nccl 2.28.3". */
    Status (*open)(Comm *c, const Device *dev, void **own, char *version, size_t size);
    /* broken: the others may be gone; nothing may wait for them. */
    void (*close)(void *own, bool broken);
    Status (*exchange)(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                       int receives);
    /* The same without waiting: begin; progress, as often as there is time, which never waits; end, which
     * waits and frees. The lists stay until then. Several may be under way; they end in the order in which
     * they began. Where it fails nothing of it is touched any more. begin NULL: it cannot be done. */
    Status (*begin)(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                    int receives, void **pending);
    Status (*progress)(Comm *c, void *own, void *pending);
    Status (*end)(Comm *c, void *own, void *pending);
    /* What is under way will not be ended: afterwards its memory may go, and blocks travel no more. NULL:
     * close is early enough for that. */
    void (*drop)(void *own);
    /* f32; at: size + 1 places. NULL: made of exchange. */
    Status (*all_gather)(Comm *c, void *own, float *block, const int64_t *at);
    Status (*reduce_scatter)(Comm *c, void *own, float *block, const int64_t *at);
} CommTransport;

extern const CommTransport transport_sockets, transport_mpi;

/* Of a wait that began at `since` (seconds_now): OK, go on waiting; else somebody is gone, or not heard of
 * for the timeout, and the wait has to end with this status. To be asked some 20 to 1,000 times a second. */
Status comm_waiting(Comm *c, double since);
/* All have said within the last seconds that they wait too: nobody is late, and what does not come is the
 * transport's fault. Process 0 can tell; on the others it is false. */
bool comm_all_wait(const Comm *c);
double comm_timeout(const Comm *c); /* seconds; not where size is 1 */

/* Open MPI, for finding each other (kernels/comm/world.c) before there is a transport. */
bool mpi_started_us(void); /* the environment says so */
/* Loads and initialises it; a second call does nothing. Refused with what to install where it is missing. */
Status mpi_begin(int *rank, int *size);
Status mpi_share(void *data, size_t bytes); /* process 0's bytes to all, before there is a control */
/* Of a process that has begun it, at its end, whatever the transport was: waits for all others to do the
 * same; broken: not, since they may be gone. mpirun ends those that are left when one has not done it. */
void mpi_end(bool broken);
/* "Open MPI v4.1.4" where the library can be loaded, without initialising it; else NULL and why in *why. */
const char *mpi_version(const char **why);

#endif
