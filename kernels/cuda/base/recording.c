/* Recorded steps (recording.h).
 *
 * Calls lie one after the other in one buffer, each a Head and its bytes, so that two steps are compared by
 * comparing two buffers. Slots are given out in order from the same blocks in every step: as long as a step
 * copies what the one before did, its copies have the same addresses. */
#include "recording.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <string.h>

typedef struct Head {
    CudaCall call;
    size_t bytes; /* that follow, without what fills them up to 16 */
} Head;

typedef struct Calls {
    unsigned char *at;
    size_t bytes, capacity;
} Calls;

#define SLOT_ALIGNMENT ((size_t)256)
#define SLOT_BLOCK ((size_t)1 << 20) /* smallest block of pinned memory */

typedef struct Block {
    unsigned char *at;
    size_t bytes;
} Block;

typedef struct Result {
    void *host;
    const void *slot;
    size_t bytes;
} Result;

struct Recording {
    Calls now, before; /* before: what the graph was made of */
    cudaGraphExec_t graph;
    Block *blocks;
    int block_count, block_capacity, block; /* block, used: where the next slot comes from */
    size_t used;
    Result *results;
    int result_count, result_capacity;
};

Recording *recording_begin(Recording *r)
{
    if (!r)
        r = mem_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    const Calls swap = r->before;
    r->before = r->now;
    r->now = swap;
    r->now.bytes = 0;
    r->block = 0;
    r->used = 0;
    r->result_count = 0;
    return r;
}

static size_t whole(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

Status recording_add(Recording *r, CudaCall call, const void *what, size_t bytes)
{
    Calls *c = &r->now;
    const size_t more = whole(sizeof(Head)) + whole(bytes);
    if (c->bytes + more > c->capacity) {
        const size_t capacity = c->capacity ? c->capacity * 2 + more : 1 << 16;
        unsigned char *at = mem_realloc(c->at, capacity);
        if (!at)
            return STATUS_FAILED;
        c->at = at;
        c->capacity = capacity;
    }
    const Head head = {call, bytes};
    unsigned char *to = c->at + c->bytes;
    memset(to, 0, more);
    memcpy(to, &head, sizeof head);
    memcpy(to + whole(sizeof head), what, bytes);
    c->bytes += more;
    return STATUS_OK;
}

/* Slots ------------------------------------------------------------------------------------------------- */

static Status add_block(Recording *r, size_t bytes)
{
    Block b = {NULL, bytes > SLOT_BLOCK ? bytes : SLOT_BLOCK};
    if (!mem_grow(&r->blocks, r->block_count, &r->block_capacity, sizeof b))
        return STATUS_FAILED;
    TRY(cuda_status(cudaMallocHost((void **)&b.at, b.bytes), "taking pinned memory of the host for copies"));
    r->blocks[r->block_count++] = b;
    return STATUS_OK;
}

static Status keep_result(Recording *r, void *host, const void *slot, size_t bytes)
{
    if (!mem_grow(&r->results, r->result_count, &r->result_capacity, sizeof *r->results))
        return STATUS_FAILED;
    r->results[r->result_count++] = (Result){host, slot, bytes};
    return STATUS_OK;
}

Status recording_slot(Recording *r, size_t bytes, void *host, void **slot)
{
    const size_t room = (bytes + SLOT_ALIGNMENT - 1) / SLOT_ALIGNMENT * SLOT_ALIGNMENT;
    while (r->block < r->block_count && r->used + room > r->blocks[r->block].bytes) {
        r->block++;
        r->used = 0;
    }
    if (r->block == r->block_count)
        TRY(add_block(r, room));
    *slot = r->blocks[r->block].at + r->used;
    r->used += room;
    return host ? keep_result(r, host, *slot, bytes) : STATUS_OK;
}

void recording_results(Recording *r)
{
    for (int i = 0; i < r->result_count; i++)
        memcpy(r->results[i].host, r->results[i].slot, r->results[i].bytes);
    r->result_count = 0;
}

/* Graphs ------------------------------------------------------------------------------------------------ */

static Status issue_all(const Calls *c, cudaStream_t stream)
{
    for (size_t at = 0; at < c->bytes;) {
        const Head *head = (const Head *)(const void *)(c->at + at);
        TRY(head->call(c->at + at + whole(sizeof *head), stream));
        at += whole(sizeof *head) + whole(head->bytes);
    }
    return STATUS_OK;
}

static void drop_graph(Recording *r)
{
    if (r->graph)
        (void)cudaGraphExecDestroy(r->graph);
    r->graph = NULL;
}

/* Other threads of the program may go on with CUDA's functions meanwhile: the capture is this thread's own.
 */
static Status capture(Recording *r, cudaStream_t stream)
{
    cudaGraph_t graph = NULL;
    drop_graph(r);
    TRY(cuda_status(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a step"));
    Status s = issue_all(&r->now, stream);
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (s == STATUS_OK)
        s = cuda_status(ended, "recording a step");
    if (s == STATUS_OK)
        s = cuda_status(cudaGraphInstantiate(&r->graph, graph, 0), "making a graph of a step");
    if (graph)
        (void)cudaGraphDestroy(graph);
    return s;
}

/* Without a graph: the call that failed to be captured may work when it is made, or say better why not. */
static Status run_directly(Recording *r, cudaStream_t stream)
{
    static bool said;
    if (!said)
        log_warn("%s. The step is computed call by call, which is slower", status_message());
    said = true;
    (void)cudaGetLastError();
    drop_graph(r);
    return issue_all(&r->now, stream);
}

Status recording_run(Recording *r, cudaStream_t stream, bool *again)
{
    *again =
        r->graph && r->now.bytes == r->before.bytes && memcmp(r->now.at, r->before.at, r->now.bytes) == 0;
    if (!*again && capture(r, stream) != STATUS_OK)
        return run_directly(r, stream);
    return cuda_status(cudaGraphLaunch(r->graph, stream), "running a recorded step");
}

void recording_free(Recording *r)
{
    if (!r)
        return;
    drop_graph(r);
    for (int i = 0; i < r->block_count; i++)
        (void)cudaFreeHost(r->blocks[i].at);
    mem_free(r->blocks);
    mem_free(r->results);
    mem_free(r->now.at);
    mem_free(r->before.at);
    mem_free(r);
}
