/* Runs the blocks of a kernel one after the other, each thread a fibre.
 *
 * Warps run in an order that changes from barrier to barrier, each as far as it gets; the lanes of a warp in
 * one that changes from collective to collective. A thread that returns without having waited for anything
 * leaves its fibre to the next, so a kernel without barriers runs on one stack, by plain calls. A thread that
 * has to wait hands on to another lane of its warp that can run; only where there is none, to the loop over
 * warps below.
 *
 * Shared memory ends at a page that may not be touched, and begins as NaN in each block. */
#include "block.h"

#include "banks.h"
#include "bounds.h"
#include "fibre.h"
#include "watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define THREADS_MOST 1024
#define WARPS_MOST (THREADS_MOST / STAND_IN_WARP)
#define PAGE ((size_t)4096)

/* Lanes that wait for each other at a collective. */
typedef struct Meeting {
    unsigned mask, here;
    const char *name;
    int detail;
    StandInCompute compute;
    const char *file;
    int line;
} Meeting;

typedef struct Warp {
    unsigned fresh, ready;         /* lanes that have not begun, or can go on */
    unsigned there, barrier, gone; /* that the block has; that wait for the barrier; that have returned */
    Fibre *fibres[STAND_IN_WARP];  /* of lanes that have begun */
    void *operands[STAND_IN_WARP];
    int meetings;
    Meeting meeting[STAND_IN_WARP];
    unsigned turn; /* the order of the lanes: where it begins, and which way it goes */
} Warp;

StandInThread *stand_in_self;
uint3 stand_in_block_index;
dim3 stand_in_block_dim, stand_in_grid_dim;
char *block_shared, *block_shared_room;
size_t block_shared_bytes;
const char *block_stack;
size_t block_stack_bytes;

static StandInThread threads[THREADS_MOST];
static Warp warps[WARPS_MOST];
static int warp_count;
static const StandInKernel *kernel;
static void **arguments;
static Fibre *idle[THREADS_MOST + 1]; /* fibres that no thread has */
static int idle_count;
static Fibre *running;         /* NULL: the loop over warps */
static const Meeting *meeting; /* the collective that is being computed, or NULL */
static const char *barrier_file;
static int barrier_line, barrier_number;

unsigned block_random(void)
{
    static unsigned state;
    if (!state) {
        const char *seed = getenv("ATELIER_STAND_IN_SEED");
        state = (seed ? (unsigned)atoi(seed) : 0) * 2654435761u + 88172645u;
        state += !state;
    }
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/* Messages ---------------------------------------------------------------------------------------------- */

uint3 block_thread(int number)
{
    return threads[number].index;
}

void block_where(char *text, size_t bytes)
{
    if (!kernel) {
        snprintf(text, bytes, "the host");
        return;
    }
    const uint3 b = stand_in_block_index;
    char name[1024];
    snprintf(name, sizeof name, "%s", kernel->name);
    if (strchr(name, '<')) /* what was written at the launch, not what it stands for */
        site_function(name, sizeof name, kernel->function);
    int n = snprintf(text, bytes, "kernel %s, block (%u,%u,%u)", name, b.x, b.y, b.z);
    if (stand_in_self && n >= 0 && (size_t)n < bytes) {
        const uint3 t = stand_in_self->index;
        snprintf(text + n, bytes - (size_t)n, ", thread (%u,%u,%u), lane %d of warp %d", t.x, t.y, t.z,
                 stand_in_self->lane, stand_in_self->warp);
    }
}

void stand_in_fail(const char *file, int line, const char *format, ...)
{
    char where[2048];
    block_where(where, sizeof where);
    if (!file && meeting) {
        file = meeting->file;
        line = meeting->line;
    }
    fflush(stdout);
    fprintf(stderr, "stand-in: %s: ", where);
    if (file)
        fprintf(stderr, "%s:%d: ", file, line);
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
    abort();
}

void stand_in_access(const void *p, size_t bytes, bool shared, const char *what, const char *file, int line)
{
    if ((uintptr_t)p % bytes)
        stand_in_fail(file, line, "%s: address %p is not aligned to %zu bytes", what, p, bytes);
    if (shared &&
        ((const char *)p < block_shared || (const char *)p + bytes > block_shared + block_shared_bytes))
        stand_in_fail(file, line,
                      "%s: address %p is not in the block's %zu bytes of shared memory (its byte %td)", what,
                      p, block_shared_bytes, (const char *)p - block_shared);
}

/* Switching --------------------------------------------------------------------------------------------- */

/* The lane of w that is to go on, in its present order. There is one. */
static int next_lane(Warp *w)
{
    const unsigned able = w->fresh | w->ready, from = w->turn & 31;
    const unsigned turned = able >> from | able << (-from & 31);
    const int step = w->turn & 32 ? 31 - __builtin_clz(turned) : __builtin_ctz(turned);
    return (int)((from + (unsigned)step) & 31);
}

static void switch_to(Fibre *f)
{
    Fibre *from = running;
    running = f;
    if (watch_on || BOUNDS_EXACT) { /* who else asks would pay for it millions of times */
        block_stack_bytes = 0;
        block_stack = f ? fibre_stack(f, &block_stack_bytes) : NULL;
    }
    fibre_switch(from ? from : fibre_main(), f ? f : fibre_main());
}

static void thread_main(void);

/* What runs goes on with the next lane of w that can: its fibre, one for a new thread, or, where none can,
 * the loop over warps. Returns when it is its turn again. `again`: it is a fibre whose thread is done, and
 * may take a new one on without a switch. */
static void pass_on(Warp *w, bool again)
{
    if (!(w->fresh | w->ready)) {
        if (again)
            idle[idle_count++] = running;
        switch_to(NULL);
        return;
    }
    const int lane = next_lane(w);
    stand_in_self = &threads[(w - warps) * STAND_IN_WARP + lane];
    if (w->fresh >> lane & 1) {
        w->fresh &= ~(1u << lane);
        if (!again)
            w->fibres[lane] = idle_count ? idle[--idle_count] : fibre_new(thread_main);
        else
            w->fibres[lane] = running;
    } else {
        w->ready &= ~(1u << lane);
        if (again)
            idle[idle_count++] = running;
    }
    if (w->fibres[lane] != running)
        switch_to(w->fibres[lane]);
}

/* A fibre: one thread after the other. */
static void thread_main(void)
{
    for (;;) {
        StandInThread *t = stand_in_self;
        Warp *w = &warps[t->warp];
        kernel->call(kernel->function, arguments);
        stand_in_thread_ends(t->number);
        w->gone |= 1u << t->lane;
        pass_on(w, true);
    }
}

/* Waiting ----------------------------------------------------------------------------------------------- */

/* Names are mostly the same pointer. */
static bool same(const char *a, const char *b)
{
    return a == b || strcmp(a, b) == 0;
}

void stand_in_barrier(const char *file, int line)
{
    const StandInThread *t = stand_in_self;
    Warp *w = &warps[t->warp];
    if (!barrier_file) {
        barrier_file = file;
        barrier_line = line;
        barrier_number = t->number;
    } else if (barrier_line != line || !same(barrier_file, file)) {
        const uint3 i = threads[barrier_number].index;
        stand_in_fail(file, line, "__syncthreads() here, while thread (%u,%u,%u) waits at that of %s:%d", i.x,
                      i.y, i.z, barrier_file, barrier_line);
    }
    w->barrier |= 1u << t->lane;
    pass_on(w, false);
}

void stand_in_collective(const char *name, unsigned mask, int detail, void *operands, StandInCompute compute,
                         const char *file, int line)
{
    const StandInThread *t = stand_in_self;
    Warp *w = &warps[t->warp];
    const unsigned me = 1u << t->lane;
    if (!(mask & me))
        stand_in_fail(file, line, "%s: the mask %08x is without lane %d, which calls it", name, mask,
                      t->lane);
    if (mask & ~w->there)
        stand_in_fail(file, line, "%s: the mask %08x has lanes that the block has not: its warp has %08x",
                      name, mask, w->there);
    Meeting *m = w->meeting;
    while (m < w->meeting + w->meetings && !(m->mask & mask))
        m++;
    if (m == w->meeting + w->meetings) {
        *m = (Meeting){mask, 0, name, detail, compute, file, line};
        w->meetings++;
    } else if (m->mask != mask || m->compute != compute || m->detail != detail || m->line != line ||
               !same(m->name, name)) {
        stand_in_fail(
            file, line,
            "the warp has parted: this lane is at %s with mask %08x, and lanes %08x are at %s of %s:%d with "
            "mask %08x",
            name, mask, m->here, m->name, m->file, m->line, m->mask);
    }
    w->operands[t->lane] = operands;
    m->here |= me;
    if (m->here == mask) {
        if (watch_on && mask == w->there)
            banks_meet(t->warp);
        if (compute) {
            meeting = m;
            compute(w->operands, mask, detail);
            meeting = NULL;
        } else if (watch_on)
            watch_syncwarp(t->warp, mask);
        w->ready |= mask;
        *m = w->meeting[--w->meetings];
        w->turn = block_random();
    }
    pass_on(w, false);
}

/* Blocks ------------------------------------------------------------------------------------------------ */

/* A warp can go no further: either it waits for the barrier or has returned, or it is a mistake. */
static void check_warp(const Warp *w)
{
    if (!w->meetings)
        return;
    const Meeting *m = w->meeting;
    const unsigned missing = m->mask & ~m->here;
    const int lane = __builtin_ctz(m->here);
    stand_in_self = &threads[(w - warps) * STAND_IN_WARP + lane];
    const char *why = missing & w->gone      ? "have returned"
                      : missing & w->barrier ? "wait at __syncthreads()"
                                             : "wait elsewhere";
    stand_in_fail(m->file, m->line, "%s with mask %08x waits for lanes %08x, which %s", m->name, m->mask,
                  missing, why);
}

/* All that have not returned wait for the barrier: nobody may have returned. */
static void check_barrier(void)
{
    for (int i = 0; i < warp_count; i++)
        if (warps[i].gone) {
            const uint3 t = threads[barrier_number].index;
            stand_in_self = &threads[i * STAND_IN_WARP + __builtin_ctz(warps[i].gone)];
            stand_in_fail(
                barrier_file, barrier_line,
                "__syncthreads() is not reached by this thread, which has returned; thread (%u,%u,%u) waits",
                t.x, t.y, t.z);
        }
}

static void run_warp(Warp *w)
{
    w->turn = block_random();
    if (w->fresh | w->ready)
        pass_on(w, false);
    stand_in_self = NULL;
    check_warp(w);
}

static void meet_all(void)
{
    for (int i = 0; i < warp_count; i++)
        banks_meet(i);
}

/* Up to the next barrier, or the end. False: the block is done. */
static bool run_warps(void)
{
    int order[WARPS_MOST];
    for (int i = 0; i < warp_count; i++) {
        const int j = (int)(block_random() % (unsigned)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    for (int i = 0; i < warp_count; i++)
        run_warp(&warps[order[i]]);
    if (!barrier_file)
        return false;
    check_barrier();
    barrier_file = NULL;
    for (int i = 0; i < warp_count; i++) {
        warps[i].ready = warps[i].barrier;
        warps[i].barrier = 0;
    }
    if (watch_on) {
        meet_all();
        watch_barrier();
    }
    return true;
}

static void number_threads(dim3 block)
{
    int n = 0;
    for (unsigned z = 0; z < block.z; z++)
        for (unsigned y = 0; y < block.y; y++)
            for (unsigned x = 0; x < block.x; x++, n++)
                threads[n] = (StandInThread){{x, y, z}, n, n % STAND_IN_WARP, n / STAND_IN_WARP};
    warp_count = (n + STAND_IN_WARP - 1) / STAND_IN_WARP;
    for (int i = 0; i < warp_count; i++) {
        const int lanes = n - i * STAND_IN_WARP;
        warps[i].there = lanes >= STAND_IN_WARP ? 0xffffffffu : (1u << lanes) - 1;
    }
}

static void run_block(void)
{
    memset(block_shared, STAND_IN_POISON, block_shared_bytes);
    for (int i = 0; i < warp_count; i++) {
        Warp *w = &warps[i];
        w->fresh = w->there;
        w->ready = w->barrier = w->gone = 0;
        w->meetings = 0;
    }
    barrier_file = NULL;
    if (watch_on)
        watch_block(warp_count * STAND_IN_WARP);
    while (run_warps())
        ;
    if (watch_on)
        meet_all();
}

/* Shared memory, whose end is that of a page before one that nobody may touch. */
static void place_shared(size_t bytes)
{
    static char *end;
    if (!end) {
        char *low =
            mmap(NULL, SHARED_MOST + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (low == MAP_FAILED || mprotect(low + PAGE, SHARED_MOST, PROT_READ | PROT_WRITE) != 0)
            abort();
        block_shared_room = low + PAGE;
        end = low + PAGE + SHARED_MOST;
    }
    block_shared_bytes = bytes;
    block_shared = end - (bytes + 15) / 16 * 16;
    bounds_close(block_shared_room, SHARED_MOST);
    bounds_open(block_shared, bytes);
}

bool block_argument(const void *p)
{
    return launch_argument(arguments, kernel, p);
}

void *stand_in_shared(void)
{
    return block_shared;
}

void block_run(const StandInKernel *k, dim3 grid, dim3 block, void **list, size_t shared)
{
    kernel = k;
    arguments = list;
    stand_in_grid_dim = grid;
    stand_in_block_dim = block;
    place_shared(shared);
    number_threads(block);
    if (watch_on) {
        watch_launch();
        banks_launch(k, grid, block, shared);
    }
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                stand_in_block_index = (uint3){x, y, z};
                run_block();
            }
    kernel = NULL;
    stand_in_self = NULL;
    block_shared_bytes = 0;
}
