/* A stand-in for NCCL, as a library of its own, libnccl.so.2, that is opened at run time as NVIDIA's is. Its
 * processes find each other by the id's text, and have a socket for each two of them. It knows the calls that
 * Atelier makes, and ends the process with a message for whatever NCCL would answer with wrong numbers or by
 * hanging: docs/cuda-host.md. What is asked for is put into the stream of the CUDA runtime's stand-in, and
 * runs when that one gets there: as far as the other processes have come, whenever somebody asks for the
 * stream.
 *
 * interface.c: NCCL's functions. check.c: what one process's call may be. wire.c: sockets. work.c: what a
 * group of calls does, and whether it is the others' too. */
#ifndef TESTS_CUDA_NCCL_STAND_IN_H
#define TESTS_CUDA_NCCL_STAND_IN_H

#include "kernels/cuda/nccl.h"

#include "tests/cuda/machine.h"
#include "tests/cuda/runtime.h"

typedef enum CallKind {
    CALL_BROADCAST,
    CALL_REDUCE,
    CALL_ALL_GATHER,
    CALL_REDUCE_SCATTER,
    CALL_SEND, /* from here on with a peer alone */
    CALL_RECEIVE
} CallKind;

typedef struct Call {
    CallKind kind;
    int type, peer; /* peer: the root of a broadcast and a reduction */
    size_t count;
    const char *from;
    char *to;
} Call;

/* What one process tells another of a group: this, its calls, the bytes that are the other's. */
typedef struct Letter {
    uint32_t kind, collectives, sends, receives;
    uint64_t bytes; /* that follow */
} Letter;
enum { LETTER_GROUP = 0x9c01, LETTER_BYE };

/* A letter on its way in each direction. */
typedef struct Mail {
    bool wanted;    /* the group has calls for this peer */
    char *out, *in; /* in: without the letter's head */
    size_t out_bytes, out_at, in_at;
    Letter head;
    size_t head_at;
} Mail;

typedef struct Group Group;
struct Group {
    ncclComm_t comm;
    cudaStream_t stream;
    Call *calls;
    int count, number; /* number: of the communicator's, from 1 */
    Mail *mail;        /* of each rank, once it has begun */
    double begun;
    bool done;
    Group *next; /* of the communicator's, the latest first */
};

typedef enum CommPhase { COMM_JOINING, COMM_READY, COMM_FINALIZED, COMM_DESTROYED, COMM_ABORTED } CommPhase;
struct ncclComm {
    int rank, size;
    bool blocking;
    CommPhase phase;
    ncclResult_t state; /* what ncclCommGetAsyncError() says */
    int polls;          /* until what is in progress goes on */
    Group *waiting;     /* of its group that is not in the stream yet */
    Group *groups;
    int group_count;
    cudaStream_t stream;
    bool has_stream;
    char id[128];
    int listening;
    int *sockets; /* to each rank, −1: none, or gone */
    bool *gone;
    ncclComm_t next; /* of all that there ever were */
};

/* check.c ---------------------------------------------------------------------------------------------- */

size_t type_bytes(int type);
bool is_collective(const Call *c);
/* How many bytes it reads and writes here. */
size_t call_reads(const struct ncclComm *comm, const Call *c);
size_t call_writes(const struct ncclComm *comm, const Call *c);
/* "ncclBroadcast(12 float32, root 1)". */
const char *call_text(const Call *c, char *text, size_t size);
/* Ends the process unless the memory of the call is the device's and whole. */
void check_memory(const struct ncclComm *comm, const Call *c);
/* That no call of the group writes what it or another one uses, but for what NCCL calls in place. */
void check_overlaps(const Group *g);

/* wire.c ------------------------------------------------------------------------------------------------ */

void wire_begin(ncclComm_t comm);
/* True once all have come. */
bool wire_join(ncclComm_t comm);
/* As far as it goes now; the bytes. A peer that has ended is gone from then on. */
size_t wire_write(ncclComm_t comm, int peer, const void *data, size_t bytes);
size_t wire_read(ncclComm_t comm, int peer, void *data, size_t bytes);
void wire_close(ncclComm_t comm, bool bye);

/* work.c ------------------------------------------------------------------------------------------------ */

/* Puts the group into its stream. */
cudaError_t work_queue(Group *g);

/* wishes.c ---------------------------------------------------------------------------------------------- */

/* ATELIER_STAND_IN_NCCL="WORD[:N[:RANK]],…": N of the word where it is there and for that rank, −1: it is
 * not. */
long wish(const char *word, int rank);

#endif
