/* The device's memory, and the host's that is pinned.
 *
 * The device's blocks are pages of their own with a page between them; no address is given out twice. The
 * host may not touch them: their pages are open only while something runs. New memory is NaN. */
#include "runtime.h"

#include "bounds.h"
#include "card.h"
#include "fibre.h"
#include "watch.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGION MEMORY_REGION
#define PAGE MEMORY_PAGE
#define ALIGNMENT ((size_t)256)
#define BLOCKS ((size_t)1 << 24) /* that are ever given out */
#define PINNED 4096
#define PARTS_MOST 16 /* that are open by themselves */
#define HUGE                                                                                                 \
    ((size_t)2 << 20) /* pages that the system has of large blocks, if it can: there are fewer to open */

typedef MemoryBlock Block;

char *memory_region;
#define region memory_region
static size_t end, taken;
static Block
    *blocks; /* all that were ever given out; room for BLOCKS, of which the system gives what is touched */
static uint32_t block_count;
static uint32_t *live; /* numbers of those that have not been freed */
static size_t live_count, live_room;
static Block pinned[PINNED];
static int pinned_count, open_count;
static uint32_t *owners; /* of each page of the region: its block's number and one, or 0 */

/* Memory is not taken or given while a stream is captured, unless in relaxed mode. */
#define UNCAPTURED()                                                                                         \
    do {                                                                                                     \
        const cudaError_t forbidden_ = capture_unsafe();                                                     \
        if (forbidden_ != cudaSuccess)                                                                       \
            return forbidden_;                                                                               \
    } while (0)

static size_t pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* Blocks end where their last page does, but for what their alignment takes. */
static char *first_page(const Block *b)
{
    return (char *)((uintptr_t)b->begin / PAGE * PAGE);
}

static size_t bytes_of_pages(const Block *b)
{
    return (size_t)(b->begin + b->bytes - first_page(b) + (ptrdiff_t)PAGE - 1) / PAGE * PAGE;
}

const MemoryBlock *memory_block(const void *p)
{
    const uint32_t owner = owners[(size_t)((const char *)p - region) / PAGE];
    return owner ? &blocks[owner - 1] : NULL;
}

/* What went wrong -------------------------------------------------------------------------------------- */

static struct sigaction before;

/* Whose memory p is in or next to. */
void memory_describe(char *text, size_t size, const char *p)
{
    const bool in_region = region && p >= region && p < region + REGION;
    const Block *nearest = NULL;
    for (size_t page = in_region ? (size_t)(p - region) / PAGE : 0; in_region && !nearest && page > 0; page--)
        nearest = memory_block(region + page * PAGE);
    if (fibre_overflow(p))
        snprintf(text, size, "the thread's stack is full: arrays too large for registers");
    else if (p >= block_shared_room && p < block_shared_room + SHARED_MOST + 2 * PAGE)
        snprintf(text, size, "byte %td of shared memory, which has %zu", p - block_shared,
                 block_shared_bytes);
    else if (!in_region)
        snprintf(text, size, "no memory of the device");
    else if (!nearest)
        snprintf(text, size, "device memory that was never given out");
    else
        snprintf(text, size, "byte %td of device memory of %zu bytes%s", p - nearest->begin, nearest->bytes,
                 nearest->freed ? ", which has been freed" : "");
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const char *p = info->si_addr;
    const bool ours = p >= region && p < region + REGION;
    if (stand_in_self || ours) {
        char text[256];
        memory_describe(text, sizeof text, p);
        if (stand_in_self)
            stand_in_fail(NULL, 0, "illegal address %p: %s", (const void *)p, text);
        stand_in_fail(NULL, 0, "touched the device's memory itself: %p, %s", (const void *)p, text);
    }
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else {
        signal(number, SIG_DFL);
        raise(number);
    }
}

/* Test programs put handlers of their own in the place: it is asked for again and again. */
static void catch_faults(void)
{
    static char stack[65536];
    struct sigaction now;
    sigaction(SIGSEGV, NULL, &now);
    if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_fault)
        return;
    before = now;
    bounds_report();
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    struct sigaction mine = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGSEGV, &mine, NULL);
}

/* Who may touch it ------------------------------------------------------------------------------------- */

/* Of more blocks than these the pages between them are opened too: a thousand of the system's calls each time
 * anything runs would take most of it. What lies past a block's end is then seen by watched kernels alone. */
#define BLOCKS_APART 64

static void protect(int how)
{
    if (live_count > BLOCKS_APART) {
        if (mprotect(region, end, how) != 0)
            abort();
        return;
    }
    for (size_t i = 0; i < live_count; i++)
        if (mprotect(first_page(&blocks[live[i]]), bytes_of_pages(&blocks[live[i]]), how) != 0)
            abort();
}

/* Pages are opened when they are needed, and all that are open are closed together: to open and close all of
 * them for each copy of a few bytes would take most of the time. */
static bool all_open;
static struct {
    char *begin;
    size_t bytes;
} parts[PARTS_MOST];
static int part_count;

static void shut(void)
{
    if (all_open)
        protect(PROT_NONE);
    else
        for (int i = 0; i < part_count; i++)
            if (mprotect(parts[i].begin, parts[i].bytes, PROT_NONE) != 0)
                abort();
    all_open = false;
    part_count = 0;
}

void memory_open(void)
{
    if (open_count++ == 0)
        catch_faults();
}

void memory_close(void)
{
    if (--open_count == 0)
        shut();
}

void memory_reach_all(void)
{
    if (!all_open)
        protect(PROT_READ | PROT_WRITE);
    all_open = true;
}

void memory_reach(const void *p, size_t bytes)
{
    const char *c = p;
    if (all_open || !region || c < region || c >= region + REGION)
        return;
    if (part_count == PARTS_MOST) {
        memory_reach_all();
        return;
    }
    char *begin = region + (size_t)(c - region) / PAGE * PAGE;
    const size_t length = pages((size_t)(c - begin) + bytes);
    if (mprotect(begin, length, PROT_READ | PROT_WRITE) != 0)
        abort();
    parts[part_count].begin = begin;
    parts[part_count++].bytes = length;
}

int memory_shut(void)
{
    const int depth = open_count;
    shut();
    open_count = 0;
    return depth;
}

void memory_reopen(int depth)
{
    open_count = depth;
}

/* Blocks ------------------------------------------------------------------------------------------------ */

static Block *find_pinned(const char *p)
{
    for (int i = 0; i < pinned_count; i++)
        if (!pinned[i].freed && p >= pinned[i].begin && p < pinned[i].begin + pinned[i].bytes)
            return &pinned[i];
    return NULL;
}

/* The block of the device that holds p, which is in the region. */
static Block *find_block(const char *p)
{
    Block *b = (Block *)memory_block(p);
    return b && !b->freed && p >= b->begin && p < b->begin + b->bytes ? b : NULL;
}

MemoryKind memory_kind(const void *p, size_t bytes, bool *whole)
{
    const char *c = p;
    const bool device = region && c >= region && c < region + REGION;
    const Block *b = device ? find_block(c) : find_pinned(c);
    *whole = b ? c + bytes <= b->begin + b->bytes : !device;
    return device ? MEMORY_DEVICE : b ? MEMORY_PINNED : MEMORY_PAGEABLE;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    ENTER_ON_CARD();
    UNCAPTURED();
    *p = NULL;
    if (bytes == 0)
        return cudaSuccess;
    if (!region) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        region = mmap(NULL, REGION, PROT_NONE, flags, -1, 0);
        owners = mmap(NULL, REGION / PAGE * sizeof *owners, PROT_READ | PROT_WRITE, flags, -1, 0);
        blocks = mmap(NULL, BLOCKS * sizeof *blocks, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (region == MAP_FAILED || owners == MAP_FAILED || blocks == MAP_FAILED)
            abort();
    }
    const size_t room = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes > card_memory() || taken + room > card_memory() || block_count == BLOCKS ||
        end + pages(room) + 2 * PAGE > REGION)
        return runtime_error(cudaErrorMemoryAllocation);
    end += PAGE + pages(room);
    Block *b = &blocks[block_count++];
    *b = (Block){.begin = region + end - room, .bytes = bytes};
    taken += room;
    for (char *page = first_page(b); page < b->begin + bytes; page += PAGE)
        owners[(size_t)(page - region) / PAGE] = block_count;
    if (live_count == live_room) {
        live_room = live_room ? 2 * live_room : 1024;
        live = realloc(live, live_room * sizeof *live);
        if (!live)
            abort();
    }
    live[live_count++] = block_count - 1;
    if (mprotect(first_page(b), bytes_of_pages(b), PROT_READ | PROT_WRITE) != 0)
        return runtime_error(cudaErrorMemoryAllocation);
    if (room >= 2 * HUGE)
        madvise(first_page(b), bytes_of_pages(b), MADV_HUGEPAGE);
    memset(b->begin, STAND_IN_POISON, room);
    bounds_close(first_page(b) - PAGE, (size_t)(b->begin - first_page(b)) + PAGE);
    bounds_close(b->begin + bytes, room - bytes + PAGE);
    if (!all_open)
        mprotect(first_page(b), bytes_of_pages(b), PROT_NONE);
    catch_faults();
    *p = b->begin;
    return cudaSuccess;
}

static void give_back(Block *b)
{
    taken -= (b->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    b->freed = true;
    size_t i = 0;
    while (&blocks[live[i]] != b)
        i++;
    live[i] = live[--live_count];
    bounds_close(first_page(b), bytes_of_pages(b));
    if (watch_on)
        watch_forget(first_page(b), bytes_of_pages(b));
    madvise(first_page(b), bytes_of_pages(b), MADV_DONTNEED);
    mprotect(first_page(b), bytes_of_pages(b), PROT_NONE);
}

void memory_reset(void)
{
    while (live_count)
        give_back(&blocks[live[0]]);
}

cudaError_t cudaFree(void *p)
{
    ENTER();
    UNCAPTURED();
    if (!p)
        return cudaSuccess;
    const bool device = region && (char *)p >= region && (char *)p < region + REGION;
    Block *b = device ? find_block(p) : NULL;
    if (!b || b->begin != p)
        return runtime_error(cudaErrorInvalidValue);
    queue_drain_all();
    give_back(b);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    ENTER_ON_CARD();
    *total = card_memory();
    *available = *total - taken;
    return cudaSuccess;
}

/* Pinned memory ----------------------------------------------------------------------------------------- */

static cudaError_t pin(void *p, size_t bytes, bool own)
{
    int i = 0;
    while (i < pinned_count && !pinned[i].freed)
        i++;
    if (i == PINNED)
        return runtime_error(cudaErrorMemoryAllocation);
    pinned[i] = (Block){.begin = p, .bytes = bytes, .own = own};
    pinned_count += i == pinned_count;
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned int flags)
{
    ENTER_ON_CARD();
    UNCAPTURED();
    (void)flags;
    *p = bytes ? aligned_alloc(PAGE, pages(bytes)) : NULL;
    if (bytes == 0)
        return cudaSuccess;
    if (!*p)
        return runtime_error(cudaErrorMemoryAllocation);
    memset(*p, STAND_IN_POISON, bytes);
    return pin(*p, bytes, true);
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    ENTER();
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

static cudaError_t unpin(void *p, bool own, cudaError_t otherwise)
{
    Block *b = find_pinned(p);
    if (!b || b->begin != p || b->own != own)
        return runtime_error(otherwise);
    queue_drain_all();
    b->freed = true;
    if (own)
        free(p);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    ENTER();
    UNCAPTURED();
    return p ? unpin(p, true, cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned int flags)
{
    ENTER();
    (void)flags;
    if (!p || bytes == 0)
        return runtime_error(cudaErrorInvalidValue);
    if (find_pinned(p))
        return runtime_error(cudaErrorHostMemoryAlreadyRegistered);
    return pin(p, bytes, false);
}

cudaError_t cudaHostUnregister(void *p)
{
    ENTER();
    return unpin(p, false, cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned int flags)
{
    ENTER();
    (void)flags;
    *device = host;
    return find_pinned(host) ? cudaSuccess : runtime_error(cudaErrorInvalidValue);
}
