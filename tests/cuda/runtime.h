/* What the files behind the CUDA runtime's interface share. */
#ifndef TESTS_CUDA_RUNTIME_H
#define TESTS_CUDA_RUNTIME_H

#include "block.h"
#include "card.h"

/* errors.c --------------------------------------------------------------------------------------------- */

/* Each function of the interface begins with ENTER(): what it fails with whatever it was asked. */
cudaError_t runtime_enter(const char *name);
#define ENTER()                                                                                              \
    do {                                                                                                     \
        const cudaError_t entered_ = runtime_enter(__func__);                                                \
        if (entered_ != cudaSuccess)                                                                         \
            return entered_;                                                                                 \
    } while (0)
/* The same of those that concern the thread's current card. */
#define ENTER_ON_CARD()                                                                                      \
    do {                                                                                                     \
        ENTER();                                                                                             \
        if (!card_is_current())                                                                              \
            return runtime_error(cudaErrorInvalidResourceHandle);                                            \
    } while (0)
/* The code that the call of a function is to fail with, because a test asks for it; 0: none. It is counted.
 */
int runtime_wanted(const char *name);
/* The context has been lost with an error that stays; and what cudaDeviceReset() does about that. */
bool runtime_lost(void);
void runtime_reset(void);
/* e, kept for cudaGetLastError(). */
cudaError_t runtime_error(cudaError_t e);

/* memory.c --------------------------------------------------------------------------------------------- */

typedef enum MemoryKind { MEMORY_PAGEABLE, MEMORY_PINNED, MEMORY_DEVICE } MemoryKind;
/* Of the bytes at p. Those that begin in device memory or pinned memory and do not end in the same block are
 * a mistake: *whole is false. */
MemoryKind memory_kind(const void *p, size_t bytes, bool *whole);
/* Gives all of the device's memory back. */
void memory_reset(void);
/* The device's memory is in one region, in blocks of pages of their own. */
#define MEMORY_REGION ((size_t)1 << 37)
#define MEMORY_PAGE ((size_t)4096)
extern char *memory_region;
typedef struct MemoryBlock {
    char *begin;
    size_t bytes;
    bool freed, own; /* own: pinned memory that is ours to free */
} MemoryBlock;
/* The block that has p's page, which is in the region; NULL: none has had it. */
const MemoryBlock *memory_block(const void *p);
/* Whose memory p is in or next to, in words. */
void memory_describe(char *text, size_t size, const char *p);
/* Between these two, which may be nested, the device's memory can be touched: what is reached for. */
void memory_open(void);
void memory_close(void);
void memory_reach_all(void);
void memory_reach(const void *p, size_t bytes); /* nothing, where p is not the device's */
/* For a while, whatever is open: what the second is to be given. */
int memory_shut(void);
void memory_reopen(int depth);

/* queue.c ---------------------------------------------------------------------------------------------- */

typedef struct Op Op;
typedef struct Mark Mark;
typedef struct GraphNodes GraphNodes;
typedef enum OpKind { OP_KERNEL, OP_COPY, OP_SET, OP_HOST, OP_RECORD, OP_WAIT, OP_GRAPH, OP_OTHER } OpKind;
struct Op {
    OpKind kind;
    Op *next;
    const StandInKernel *kernel; /* OP_KERNEL */
    dim3 grid, block;
    size_t shared;
    void **arguments; /* and what they point to, in one block of memory */
    void *to;         /* OP_COPY, OP_SET */
    const void *from;
    void *own; /* the copy's own bytes, taken at the call, or NULL */
    size_t bytes;
    int value;
    cudaHostFn_t function; /* OP_HOST */
    void *data;
    Mark *mark;        /* OP_RECORD, OP_WAIT */
    GraphNodes *nodes; /* OP_GRAPH */
    void (*run)(Op *); /* OP_OTHER: data */
    /* OP_OTHER that waits for another process, or NULL. It is asked again and again; held: the host does
     * nothing else meanwhile. */
    bool (*ready)(Op *, bool held);
    size_t data_bytes;
};

Op *op_new(OpKind kind);
void op_free(Op *o);
void op_run(Op *o);
/* Puts o, which is taken over, at the end of the stream, or into what it captures. */
cudaError_t queue_add(cudaStream_t s, Op *o);
/* Runs everything that is queued, or drops it. */
void queue_drain_all(void);
void queue_drop_all(void);
/* The stream that is meant by s, or NULL. */
cudaStream_t queue_stream(cudaStream_t s);

/* graph.c, capture.c ------------------------------------------------------------------------------------ */

struct Capture;
struct NodeSet;
void graph_run(GraphNodes *n);
void graph_release(GraphNodes *n);
/* Takes o over if the stream is captured. */
bool capture_add(cudaStream_t s, Op *o, cudaError_t *e);
/* A call that no capture survives, of stream s, or of any where it is NULL; one that may be made while
 * streams are captured in relaxed mode; the use of the legacy stream. */
cudaError_t capture_forbids(cudaStream_t s);
cudaError_t capture_unsafe(void);
cudaError_t capture_forbids_legacy(void);
/* An event is recorded in a captured stream, and waited for. */
cudaError_t capture_record(cudaStream_t s, long *number, struct NodeSet *tails);
cudaError_t capture_wait(cudaStream_t s, long number, const struct NodeSet *tails);
bool capture_active(long number);

struct CUstream_st {
    unsigned flags;
    Op *first, **end;
    struct Capture *capture;
    struct NodeSet *tails; /* while it is captured: what the next operation comes after */
    cudaStream_t next;     /* of all streams */
};
extern cudaStream_t queue_streams; /* all, the legacy stream too */

#endif
