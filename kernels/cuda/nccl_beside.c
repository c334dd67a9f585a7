/* Exchanges that go on beside the computing (CommTransport's begin, progress and end), by a communicator and
 * a stream of their own.
 *
 * An exchange waits there, on the GPU, for what the device's stream had been given when it began. NCCL takes
 * up one group at a time, by a thread of its own, and only then is the group in the stream: so exchanges
 * stand in a row, and each call here moves the row on as far as that goes without waiting. */
#include "nccl_state.h"

#include "kernels/base/mem.h"
#include "kernels/cuda/base/queue.h"

#define EXCHANGING "exchanging blocks between GPUs beside the computing"

typedef enum Stage { STANDS, ASKED, QUEUED } Stage;

typedef struct NcclExchange {
    const CommPart *send, *receive; /* the caller's */
    int sends, receives;
    Stage stage;
    cudaEvent_t before, after; /* the device's stream has got to where it began; it is over */
    struct NcclExchange *next;
} NcclExchange;

/* Beginning ---------------------------------------------------------------------------------------------- */

/* Of higher priority: the few blocks of threads that move numbers do not wait until the GPU has nothing else
 * to do. */
Status nccl_beside_open(NcclConnection *n)
{
    return cuda_status(cudaStreamCreateWithPriority(&n->beside.stream, cudaStreamNonBlocking, -1),
                       "making a stream");
}

void nccl_beside_close(NcclConnection *n)
{
    if (n->beside.stream)
        (void)cudaStreamDestroy(n->beside.stream);
}

static void free_exchange(NcclExchange *e)
{
    if (e->before)
        (void)cudaEventDestroy(e->before);
    if (e->after)
        (void)cudaEventDestroy(e->after);
    mem_free(e);
}

void nccl_beside_forget(NcclConnection *n)
{
    while (n->first) {
        NcclExchange *e = n->first;
        n->first = e->next;
        free_exchange(e);
    }
}

/* Puts e at the end of the row. */
static Status line_up(NcclConnection *n, NcclExchange *e)
{
    NcclExchange **last = &n->first;
    while (*last)
        last = &(*last)->next;
    *last = e;
    TRY(cuda_stream(&n->own.stream));
    TRY(cuda_status(cudaEventCreateWithFlags(&e->before, cudaEventDisableTiming), "making an event"));
    TRY(cuda_status(cudaEventCreateWithFlags(&e->after, cudaEventDisableTiming), "making an event"));
    return cuda_status(cudaEventRecord(e->before, n->own.stream), EXCHANGING);
}

/* Moving on ---------------------------------------------------------------------------------------------- */

static Status ask(NcclConnection *n, NcclExchange *e)
{
    const cudaError_t waits = cudaStreamWaitEvent(n->beside.stream, e->before, 0);
    if (waits != cudaSuccess)
        return nccl_give_up(n, cuda_status(waits, EXCHANGING));
    const ncclResult_t r = nccl_send_receive(n, &n->beside, e->send, e->sends, e->receive, e->receives);
    if (r != ncclSuccess && r != ncclInProgress)
        return nccl_failed(n, n->beside.comm, r, EXCHANGING);
    e->stage = ASKED;
    return STATUS_OK;
}

static Status mark_end(NcclConnection *n, NcclExchange *e)
{
    const cudaError_t marked = cudaEventRecord(e->after, n->beside.stream);
    if (marked != cudaSuccess)
        return nccl_give_up(n, cuda_status(marked, EXCHANGING));
    e->stage = QUEUED;
    return STATUS_OK;
}

static Status move_on(NcclConnection *n)
{
    NcclExchange *e = n->first;
    for (;;) {
        bool ready;
        TRY(nccl_taken_up(n, n->beside.comm, EXCHANGING, &ready));
        while (e && e->stage == QUEUED)
            e = e->next;
        if (!ready || !e)
            return STATUS_OK;
        TRY(e->stage == STANDS ? ask(n, e) : mark_end(n, e));
    }
}

Status nccl_beside_begin(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                         int receives, void **pending)
{
    NcclConnection *n = own;
    (void)c;
    if (!n->beside.comm)
        return nccl_given_up();
    NcclExchange *e = mem_calloc(1, sizeof *e);
    if (!e)
        return nccl_give_up(n, STATUS_FAILED);
    *e = (NcclExchange){.send = send, .sends = sends, .receive = receive, .receives = receives};
    const Status s = line_up(n, e);
    if (s != STATUS_OK)
        return nccl_give_up(n, s);
    *pending = e;
    return move_on(n);
}

Status nccl_beside_progress(Comm *c, void *own, void *pending)
{
    NcclConnection *n = own;
    (void)c;
    (void)pending;
    return n->beside.comm ? move_on(n) : nccl_given_up();
}

/* Ending ------------------------------------------------------------------------------------------------- */

static Status look(NcclConnection *n, void *arg, const char *doing, bool *done)
{
    NcclExchange *e = arg;
    TRY(move_on(n));
    return e->stage == QUEUED ? nccl_done(n, cudaEventQuery(e->after), doing, done) : STATUS_OK;
}

/* What the device was given before is over first: no other process is late for that. */
Status nccl_beside_end(Comm *c, void *own, void *pending)
{
    NcclConnection *n = own;
    NcclExchange *e = pending;
    (void)c;
    if (!n->beside.comm)
        return nccl_given_up();
    const Status s = n->dev->settle();
    if (s != STATUS_OK)
        return nccl_give_up(n, s);
    TRY(nccl_wait(n, look, e, EXCHANGING));
    const cudaError_t waits = cudaStreamWaitEvent(n->own.stream, e->after, 0);
    if (waits != cudaSuccess)
        return nccl_give_up(n, cuda_status(waits, EXCHANGING));
    n->first = e->next;
    free_exchange(e);
    return STATUS_OK;
}
