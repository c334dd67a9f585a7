/* The stream and what is issued to it (queue.h). */
#include "queue.h"
#include "families.h"
#include "recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cudaStream_t stream;
static Recording *recording; /* being made, or NULL */
static Recording *waiting;   /* the same, while calls are issued aside from it */
static Recording *running;   /* whose results settle() hands out, or NULL */

Status cuda_status(cudaError_t e, const char *doing)
{
    if (e == cudaSuccess)
        return STATUS_OK;
    const char *advice = "";
    if (e == cudaErrorLaunchTimeout)
        advice =
            ". The GPU is also a screen's, and the system's watchdog ended a kernel: train.mode: minimal "
            "or a smaller batch makes them shorter";
    else if (e == cudaErrorMemoryAllocation)
        advice = ". A smaller batch or resolution, train.checkpointing or train.mode: minimal takes less";
    else if (e != cudaErrorInvalidValue && e != cudaErrorInvalidConfiguration)
        advice =
            ". The GPU or its driver has failed; what is on disk is whole: --resume auto goes on from there";
    return status_fail("CUDA, %s: %s (%s)%s", doing, cudaGetErrorString(e), cudaGetErrorName(e), advice);
}

/* Which GPU CUDA's calls are for is a matter of each thread, and a library's may be any. */
static Status on_this_thread(void)
{
    static _Thread_local bool here;
    if (here)
        return STATUS_OK;
    TRY(cuda_status(cudaSetDevice(cuda_card()->number), "going on with the GPU in another thread"));
    here = true;
    return STATUS_OK;
}

static Status open_stream(void)
{
    TRY(on_this_thread());
    return stream ? STATUS_OK
                  : cuda_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
}

/* Calls ------------------------------------------------------------------------------------------------- */

Status cuda_call(CudaCall call, const void *what, size_t bytes)
{
    if (recording)
        return recording_add(recording, call, what, bytes);
    TRY(open_stream());
    return call(what, stream);
}

Status cuda_stream(cudaStream_t *out)
{
    if (recording)
        return status_fail("a library's own work cannot be recorded as part of a step");
    TRY(open_stream());
    *out = stream;
    return STATUS_OK;
}

void cuda_aside(bool on)
{
    if (on)
        waiting = recording;
    recording = on ? NULL : waiting;
}

/* A launch with its arguments behind it. */
typedef struct KeptLaunch {
    const void *function;
    const char *name;
    unsigned grid[3], block[3];
    size_t shared;
    int64_t count;
    uint32_t sizes[CUDA_ARGUMENTS];
    unsigned char arguments[CUDA_ARGUMENT_BYTES] __attribute__((aligned(16)));
} KeptLaunch;

static Status issue_launch(const void *what, cudaStream_t s)
{
    const KeptLaunch *l = what;
    void *arguments[CUDA_ARGUMENTS];
    size_t at = 0;
    for (int i = 0; i < l->count; i++) {
        arguments[i] = (void *)(l->arguments + at);
        at += (l->sizes[i] + 15) / 16 * 16;
    }
    const dim3 grid = {l->grid[0], l->grid[1], l->grid[2]}, block = {l->block[0], l->block[1], l->block[2]};
    return cuda_status(cudaLaunchKernel(l->function, grid, block, arguments, l->shared, s), l->name);
}

/* Kernels that were launched before: what a kernel is told once, and its loading, which has to be done before
 * a graph is captured. */
#define KERNELS 4096 /* places of the table; kernels are a few hundred */
static struct {
    const void *function;
    size_t shared;
} known[KERNELS];

static Status introduce(const Launch *l)
{
    size_t i = ((size_t)l->function >> 4) % KERNELS;
    while (known[i].function && known[i].function != l->function)
        i = (i + 1) % KERNELS;
    if (known[i].function && known[i].shared >= l->shared)
        return STATUS_OK;
    if (!known[i].function) {
        struct cudaFuncAttributes a;
        TRY(cuda_status(cudaFuncGetAttributes(&a, l->function), l->name));
    }
    if (l->shared > 48 << 10)
        TRY(cuda_status(
            cudaFuncSetAttribute(l->function, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)l->shared),
            l->name));
    known[i].function = l->function;
    known[i].shared = l->shared;
    return STATUS_OK;
}

Status cuda_launch(const Launch *l)
{
    KeptLaunch k;
    memset(&k, 0, offsetof(KeptLaunch, arguments));
    if (l->count > CUDA_ARGUMENTS)
        return status_fail("%s has more than %d arguments", l->name, CUDA_ARGUMENTS);
    if (!l->grid[0] || !l->grid[1] || !l->grid[2]) /* nothing to compute */
        return STATUS_OK;
    size_t at = 0;
    for (int i = 0; i < l->count; i++) {
        const size_t room = (l->sizes[i] + 15) / 16 * 16;
        if (at + room > CUDA_ARGUMENT_BYTES)
            return status_fail("%s has more than %d bytes of arguments", l->name, CUDA_ARGUMENT_BYTES);
        memset(k.arguments + at + room - 16, 0, 16);
        memcpy(k.arguments + at, l->arguments[i], l->sizes[i]);
        k.sizes[i] = (uint32_t)l->sizes[i];
        at += room;
    }
    k.function = l->function;
    k.name = l->name;
    memcpy(k.grid, l->grid, sizeof k.grid);
    memcpy(k.block, l->block, sizeof k.block);
    k.shared = l->shared;
    k.count = l->count;
    TRY(on_this_thread());
    TRY(introduce(l));
    return cuda_call(issue_launch, &k, offsetof(KeptLaunch, arguments) + at);
}

/* Memory ------------------------------------------------------------------------------------------------ */

void *cuda_memory_new(size_t bytes)
{
    void *p = NULL;
    size_t free_bytes = 0, total = 0;
    if (on_this_thread() != STATUS_OK)
        return NULL;
    const cudaError_t e = cudaMalloc(&p, bytes ? bytes : 1);
    if (e == cudaSuccess)
        return p;
    (void)cudaGetLastError(); /* which it would be told again */
    if (e != cudaErrorMemoryAllocation || cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) {
        (void)cuda_status(e, "taking memory");
        return NULL;
    }
    (void)status_memory(
        "out of memory on the GPU: %.1f MB were asked for, %.0f of its %.0f MB are free; the rest "
        "is held by this program and by others (nvidia-smi lists them). A smaller batch or "
        "resolution, train.checkpointing or train.mode: minimal takes less",
        (double)bytes / 1e6, (double)free_bytes / 1e6, (double)total / 1e6);
    return NULL;
}

void cuda_memory_free(void *p, size_t bytes)
{
    (void)bytes;
    if (p)
        (void)cudaFree(p); /* waits for what is queued */
}

static size_t owned; /* of Device.own_bytes, that is taken already */

void cuda_owned(size_t bytes)
{
    owned += bytes;
}

static size_t memory_left(void)
{
    size_t left = 0, total = 0;
    return on_this_thread() == STATUS_OK && cudaMemGetInfo(&left, &total) == cudaSuccess ? left + owned : 0;
}

/* A copy between a place of the device's and one of the host's, which is pinned memory while recording. */
typedef struct Copy {
    void *to;
    const void *from;
    size_t bytes;
    int64_t kind; /* cudaMemcpyKind */
} Copy;

static Status issue_copy(const void *what, cudaStream_t s)
{
    const Copy *c = what;
    return cuda_status(cudaMemcpyAsync(c->to, c->from, c->bytes, (enum cudaMemcpyKind)c->kind, s),
                       c->kind == cudaMemcpyHostToDevice ? "copying to the GPU" : "copying from the GPU");
}

/* Outside a recording the host's memory is pageable: the call returns once that has been read. */
static Status put(void *to, const void *host, size_t bytes)
{
    Copy c = {to, host, bytes, cudaMemcpyHostToDevice};
    if (!bytes)
        return STATUS_OK;
    if (recording) {
        void *slot;
        TRY(recording_slot(recording, bytes, NULL, &slot));
        memcpy(slot, host, bytes);
        c.from = slot;
    }
    return cuda_call(issue_copy, &c, sizeof c);
}

static Status get(void *host, const void *from, size_t bytes)
{
    Copy c = {host, from, bytes, cudaMemcpyDeviceToHost};
    if (!bytes)
        return STATUS_OK;
    if (recording) {
        void *slot;
        TRY(recording_slot(recording, bytes, host, &slot));
        c.to = slot;
    }
    return cuda_call(issue_copy, &c, sizeof c);
}

static Status issue_clear(const void *what, cudaStream_t s)
{
    const Copy *c = what;
    return cuda_status(cudaMemsetAsync(c->to, 0, c->bytes, s), "clearing memory");
}

static Status clear(void *at, size_t bytes)
{
    const Copy c = {.to = at, .bytes = bytes};
    return bytes ? cuda_call(issue_clear, &c, sizeof c) : STATUS_OK;
}

/* Fetching ---------------------------------------------------------------------------------------------- */

/* A second stream brings weights beside the arithmetic. It begins behind what was issued before, for until
 * then the place that it writes to is another tensor's. */
static cudaStream_t fetches;
static cudaEvent_t place_free, fetched_event[2];

static Status open_fetches(void)
{
    cudaEvent_t *const events[] = {&place_free, &fetched_event[0], &fetched_event[1]};
    TRY(on_this_thread());
    if (fetches)
        return STATUS_OK;
    for (int i = 0; i < 3; i++)
        TRY(cuda_status(cudaEventCreateWithFlags(events[i], cudaEventDisableTiming), "making an event"));
    return cuda_status(cudaStreamCreateWithFlags(&fetches, cudaStreamNonBlocking), "making a stream");
}

typedef struct Fetching {
    Copy copy;
    int64_t slot;
} Fetching;

static Status issue_fetch(const void *what, cudaStream_t s)
{
    const Fetching *f = what;
    const char *doing = "fetching a weight";
    TRY(cuda_status(cudaEventRecord(place_free, s), doing));
    TRY(cuda_status(cudaStreamWaitEvent(fetches, place_free, 0), doing));
    TRY(issue_copy(&f->copy, fetches));
    return cuda_status(cudaEventRecord(fetched_event[f->slot], fetches), doing);
}

static Status issue_fetched(const void *what, cudaStream_t s)
{
    return cuda_status(cudaStreamWaitEvent(s, fetched_event[((const Fetching *)what)->slot], 0),
                       "waiting for a weight");
}

static Status fetch(void *to, const void *pinned, size_t bytes, int slot)
{
    const Fetching f = {{to, pinned, bytes, cudaMemcpyHostToDevice}, slot};
    TRY(open_fetches());
    return cuda_call(issue_fetch, &f, sizeof f);
}

static Status fetched(int slot)
{
    const Fetching f = {.slot = slot};
    TRY(open_fetches());
    return cuda_call(issue_fetched, &f, sizeof f);
}

static void *pinned_new(size_t bytes)
{
    void *p = NULL;
    if (on_this_thread() != STATUS_OK)
        return NULL;
    if (cudaMallocHost(&p, bytes) == cudaSuccess)
        return p;
    (void)cudaGetLastError();
    (void)status_memory(
        "out of memory: %.0f MB of the machine's memory were to be pinned for the GPU to fetch weights "
        "from. WSL pins at most half of it; train.offload: off needs none",
        (double)bytes / 1e6);
    return NULL;
}

static void pinned_free(void *p, size_t bytes)
{
    (void)bytes;
    if (p)
        (void)cudaFreeHost(p);
}

static Status settle(void)
{
    if (!stream)
        return STATUS_OK;
    Recording *r = running;
    running = NULL;
    TRY(cuda_status(cudaStreamSynchronize(stream), "computing"));
    if (r)
        recording_results(r);
    return STATUS_OK;
}

/* Steps ------------------------------------------------------------------------------------------------- */

static Status record(void **kept)
{
    TRY(open_stream());
    TRY(settle()); /* the slots are free from here on */
    *kept = recording = recording_begin(*kept);
    return recording ? STATUS_OK : STATUS_FAILED;
}

static Status recorded(void **kept, bool *again)
{
    Recording *r = *kept;
    recording = NULL;
    running = r;
    return recording_run(r, stream, again);
}

static void forget(void *kept)
{
    if (!kept)
        return;
    (void)settle();
    if (recording == kept)
        recording = NULL;
    recording_free(kept);
}

void cuda_queue_table(Device *d)
{
    d->alignment = 256;
    d->host_memory = false;
    d->memory_new = cuda_memory_new;
    d->memory_free = cuda_memory_free;
    d->memory_left = memory_left;
    d->put = put;
    d->get = get;
    d->clear = clear;
    d->settle = settle;
    d->pinned_new = pinned_new;
    d->pinned_free = pinned_free;
    d->fetch = fetch;
    d->fetched = fetched;
    d->record = record;
    d->recorded = recorded;
    d->forget = forget;
}
