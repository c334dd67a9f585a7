/* Races, and accesses outside of what there is.
 *
 * Two accesses to the same bytes by different threads, one of them a write, are a race unless something
 * orders them: a barrier of the block, a __syncwarp() of lanes of one warp, the end of the launch. Shuffles
 * and products order nothing. Blocks of a launch are not ordered but by atomics: who has done one is taken to
 * see what those blocks wrote that had done one before.
 *
 * Each thread counts its ticks: it takes one with each barrier and __syncwarp. An access is stamped with
 * block, thread and tick. What thread a did before tick n is known to all after a barrier (known_to_all), and
 * to the lanes of its warp after a __syncwarp (known: a clock for each pair of lanes, joined there). For each
 * two bytes of memory the last write and two reads are kept, preferably one of another block, or else another
 * warp: by the 16 bytes as long as those are only touched together, by four bytes from the first time that
 * they are not, by two once those are parted too, until a write of all of them makes them one again. */
#include "watch.h"

#include "banks.h"
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* bytes of memory that a cell is for */
#define GROUP 16
#define WORD 4
#define HALF 2
#define CHUNK 512 /* bytes of memory whose cells are cleared together */
#define THREADS 1024
#define TICK_BITS 21

/* Block (30 bits), thread (10), tick (21), whether it is an atomic (1), which of the two bytes (2). 0: none.
 */
typedef uint64_t Stamp;
typedef struct Cell {
    Stamp write, reads[2];
    uint16_t sites[3];
    bool parted; /* see the smaller cells instead */
} Cell;

/* The cells of a region of memory. They are of this launch, or block; those of a chunk that are older are
 * cleared when it is touched. */
typedef struct Shadow {
    char *begin;
    Cell *groups, *words, *halves;
    uint32_t *ages; /* of each chunk */
    uint32_t age;
} Shadow;

bool watch_on;
static Shadow device, shared;
static uint32_t block_number; /* in the launch, from 0 */
static uint32_t ticks[THREADS], known_to_all[THREADS];
static uint32_t known[THREADS][STAND_IN_WARP]; /* to each thread of each lane of its warp */
static int thread_count;
static bool acquired;     /* the running block has done an atomic */
static uint8_t *released; /* a bit for each block that has */
static size_t released_room;

/* Order ------------------------------------------------------------------------------------------------- */

static Stamp stamp(int thread, bool atomic)
{
    return (Stamp)(block_number & 0x3fffffff) << 34 | (Stamp)thread << 24 | (Stamp)ticks[thread] << 3 |
           (Stamp)atomic << 2;
}
static uint32_t block_of(Stamp s)
{
    return (uint32_t)(s >> 34);
}
static int thread_of(Stamp s)
{
    return (int)(s >> 24 & 0x3ff);
}
static uint32_t tick_of(Stamp s)
{
    return (uint32_t)(s >> 3 & ((1u << TICK_BITS) - 1));
}

static bool has_released(uint32_t block)
{
    return block / 8 < released_room && released[block / 8] >> block % 8 & 1;
}

/* What s stamps has happened, for the thread that runs. */
static bool ordered(Stamp s, int thread)
{
    if (block_of(s) != (block_number & 0x3fffffff))
        return acquired && has_released(block_of(s));
    const int earlier = thread_of(s);
    if (earlier == thread || tick_of(s) < known_to_all[earlier])
        return true;
    return earlier / STAND_IN_WARP == thread / STAND_IN_WARP &&
           tick_of(s) < known[thread][earlier % STAND_IN_WARP];
}

static void note_atomic(void)
{
    acquired = true;
    if (block_number / 8 >= released_room) {
        const size_t room = 2 * (size_t)block_number / 8 + 64;
        released = realloc(released, room);
        if (!released)
            abort();
        memset(released + released_room, 0, room - released_room);
        released_room = room;
    }
    released[block_number / 8] |= (uint8_t)(1u << block_number % 8);
}

static void *room_for(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "stand-in: no room to watch memory in\n");
        abort();
    }
    return p;
}

static void shadow_new(Shadow *s, char *begin, size_t bytes)
{
    s->begin = begin;
    s->groups = room_for(bytes / GROUP * sizeof(Cell));
    s->words = room_for(bytes / WORD * sizeof(Cell));
    s->halves = room_for(bytes / HALF * sizeof(Cell));
    s->ages = room_for(bytes / CHUNK * sizeof(uint32_t));
}

void watch_launch(void)
{
    if (memory_region && !device.begin)
        shadow_new(&device, memory_region, MEMORY_REGION);
    if (!shared.begin)
        shadow_new(&shared, block_shared_room, SHARED_MOST);
    device.age++;
    block_number = UINT32_MAX;
    if (released)
        memset(released, 0, released_room);
}

void watch_block(int threads)
{
    block_number++;
    shared.age++;
    thread_count = threads;
    acquired = false;
    if (ticks[0] > 1u << (TICK_BITS - 1)) {
        memset(ticks, 0, sizeof ticks);
        memset(known, 0, sizeof known);
    }
    watch_barrier();
}

void watch_barrier(void)
{
    for (int i = 0; i < thread_count; i++)
        known_to_all[i] = ++ticks[i];
}

void watch_syncwarp(int warp, unsigned mask)
{
    const int first = warp * STAND_IN_WARP;
    uint32_t all[STAND_IN_WARP] = {0};
    for (int i = 0; i < STAND_IN_WARP; i++)
        if (mask >> i & 1) {
            known[first + i][i] = ++ticks[first + i];
            for (int j = 0; j < STAND_IN_WARP; j++)
                if (all[j] < known[first + i][j])
                    all[j] = known[first + i][j];
        }
    for (int i = 0; i < STAND_IN_WARP; i++)
        if (mask >> i & 1)
            memcpy(known[first + i], all, sizeof all);
}

static void forget(Cell *cells, size_t of, const char *p, size_t bytes)
{
    madvise(cells + (size_t)(p - device.begin) / of, bytes / of * sizeof(Cell), MADV_DONTNEED);
}

void watch_forget(const char *p, size_t bytes)
{
    if (!device.begin)
        return;
    forget(device.groups, GROUP, p, bytes);
    forget(device.words, WORD, p, bytes);
    forget(device.halves, HALF, p, bytes);
}

/* Races ------------------------------------------------------------------------------------------------- */

static const char *did(WatchKind kind)
{
    return kind == WATCH_READ ? "reads" : kind == WATCH_ATOMIC ? "updates" : "writes";
}

static void race(const char *p, WatchKind kind, unsigned site, Stamp other, bool wrote, unsigned other_site)
{
    char here[512], there[512], memory[256], who[128];
    site_name(here, sizeof here, site);
    site_name(there, sizeof there, other_site);
    const bool in_shared = p >= block_shared && p < block_shared + block_shared_bytes;
    if (in_shared)
        snprintf(memory, sizeof memory, "byte %td of shared memory", p - block_shared);
    else
        memory_describe(memory, sizeof memory, p);
    const dim3 g = stand_in_grid_dim;
    const uint32_t b = block_of(other);
    const uint3 t = block_thread(thread_of(other));
    if (b == (block_number & 0x3fffffff))
        snprintf(who, sizeof who, "thread (%u,%u,%u)", t.x, t.y, t.z);
    else
        snprintf(who, sizeof who, "block (%u,%u,%u), thread (%u,%u,%u)", b % g.x, b / g.x % g.y,
                 b / g.x / g.y, t.x, t.y, t.z);
    stand_in_fail(NULL, 0, "race on %s: this thread %s it at %s; %s %s it at %s, and nothing orders the two",
                  memory, did(kind), here, who, wrote ? "wrote" : "read", there);
}

/* How far apart two accesses are: in other blocks, in other warps. */
static int distance(Stamp a, Stamp b)
{
    return block_of(a) != block_of(b) ? 2 : thread_of(a) / STAND_IN_WARP != thread_of(b) / STAND_IN_WARP;
}

static void touch(Cell *c, const char *p, Stamp me, WatchKind kind, unsigned site)
{
    const int thread = stand_in_self->number;
    const bool both_atomic = kind == WATCH_ATOMIC && c->write & 4;
    if (c->write & me & 3 && !both_atomic && !ordered(c->write, thread))
        race(p, kind, site, c->write, true, c->sites[0]);
    if (kind == WATCH_READ) {
        if (c->reads[0] == me)
            return;
        if (c->reads[0] && (!c->reads[1] || distance(c->reads[0], me) >= distance(c->reads[1], me))) {
            c->reads[1] = c->reads[0];
            c->sites[2] = c->sites[1];
        }
        c->reads[0] = me;
        c->sites[1] = (uint16_t)site;
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (c->reads[i] & me & 3 && !ordered(c->reads[i], thread))
            race(p, kind, site, c->reads[i], false, c->sites[1 + i]);
        c->reads[i] = 0;
    }
    c->write = me;
    c->sites[0] = (uint16_t)site;
}

/* An access under way: its bytes, counted from where the shadow's memory begins. */
typedef struct Access {
    Shadow *of;
    size_t first, end;
    Stamp stamp; /* without which bytes */
    WatchKind kind;
    unsigned site;
} Access;

static void touch_halves(const Access *a, size_t first, size_t end)
{
    for (size_t half = first / HALF; half <= (end - 1) / HALF; half++) {
        const unsigned which = (half * HALF >= first ? 1u : 0) | (half * HALF + 1 < end ? 2u : 0);
        touch(&a->of->halves[half], a->of->begin + half * HALF, a->stamp | which, a->kind, a->site);
    }
}

/* What the cell of all of them says holds for each of its parts. */
static void part(Cell *whole, Cell *parts, int count)
{
    for (int i = 0; i < count; i++)
        parts[i] = *whole;
    whole->parted = true;
}

static void touch_words(const Access *a, size_t first, size_t end)
{
    for (size_t word = first / WORD; word <= (end - 1) / WORD; word++) {
        const size_t begin = word * WORD, from = first > begin ? first : begin;
        const size_t to = end < begin + WORD ? end : begin + WORD;
        Cell *c = &a->of->words[word], *halves = &a->of->halves[begin / HALF];
        if (!c->parted) {
            if (to - from == WORD) {
                touch(c, a->of->begin + begin, a->stamp | 3, a->kind, a->site);
                continue;
            }
            part(c, halves, WORD / HALF);
        }
        touch_halves(a, from, to);
        if (to - from == WORD && a->kind != WATCH_READ)
            *c = halves[0];
    }
}

static void touch_groups(const Access *a)
{
    for (size_t group = a->first / GROUP; group <= (a->end - 1) / GROUP; group++) {
        const size_t begin = group * GROUP, from = a->first > begin ? a->first : begin;
        const size_t to = a->end < begin + GROUP ? a->end : begin + GROUP;
        Cell *c = &a->of->groups[group], *words = &a->of->words[begin / WORD];
        if (!c->parted) {
            if (to - from == GROUP) {
                touch(c, a->of->begin + begin, a->stamp | 3, a->kind, a->site);
                continue;
            }
            part(c, words, GROUP / WORD);
        }
        touch_words(a, from, to);
        if (to - from == GROUP && a->kind != WATCH_READ)
            *c = words[0];
    }
}

static void touch_all(Shadow *s, const char *p, size_t bytes, WatchKind kind, unsigned site)
{
    const Access a = {.of = s,
                      .first = (size_t)(p - s->begin),
                      .end = (size_t)(p - s->begin) + bytes,
                      .stamp = stamp(stand_in_self->number, kind == WATCH_ATOMIC),
                      .kind = kind,
                      .site = site};
    for (size_t chunk = a.first / CHUNK; chunk <= (a.end - 1) / CHUNK; chunk++)
        if (s->ages[chunk] != s->age) {
            s->ages[chunk] = s->age;
            memset(&s->groups[chunk * CHUNK / GROUP], 0, CHUNK / GROUP * sizeof(Cell));
        }
    touch_groups(&a);
}

/* Places ------------------------------------------------------------------------------------------------ */

static void outside(const void *p, size_t bytes, WatchKind kind, unsigned site)
{
    char here[512], memory[256];
    site_name(here, sizeof here, site);
    memory_describe(memory, sizeof memory, p);
    stand_in_fail(NULL, 0, "%s %zu bytes at %p, at %s: %s", did(kind), bytes, p, here, memory);
}

/* Of the host's memory a kernel may touch what is pinned; what belongs to the program is not looked at. */
static void check_host(const void *p, size_t bytes, WatchKind kind, const void *place)
{
    bool whole;
    char here[512];
    if (site_in_program(p) || (memory_kind(p, bytes, &whole) == MEMORY_PINNED && whole))
        return;
    site_name(here, sizeof here, site_of(place));
    stand_in_fail(NULL, 0, "%s %zu bytes at %p, at %s: the host's memory, which is not pinned", did(kind),
                  bytes, p, here);
}

void watch_access(const void *address, size_t bytes, WatchKind kind, bool aligned, const void *place)
{
    const char *p = address;
    if (!stand_in_self || bytes == 0)
        return;
    const bool in_device = memory_region && p >= memory_region && p < memory_region + MEMORY_REGION;
    const bool in_shared = p >= block_shared_room && p < block_shared_room + SHARED_MOST;
    if (!in_device && !in_shared) {
        if (!block_own(p) && !block_argument(p))
            check_host(p, bytes, kind, place);
        return;
    }
    const unsigned site = site_of(place);
    if (in_shared && (p < block_shared || p + bytes > block_shared + block_shared_bytes))
        outside(p, bytes, kind, site);
    if (in_device) {
        const MemoryBlock *b = memory_block(p);
        if (!b || b->freed || p < b->begin || p + bytes > b->begin + b->bytes)
            outside(p, bytes, kind, site);
    }
    if (aligned && (uintptr_t)p % bytes) {
        char here[512];
        site_name(here, sizeof here, site);
        stand_in_fail(NULL, 0, "%s %zu bytes at %s: address %p is not aligned to them", did(kind), bytes,
                      here, address);
    }
    if (kind == WATCH_ATOMIC && in_device)
        note_atomic();
    if (kind != WATCH_LANDS)
        banks_access(p, bytes, in_shared, kind != WATCH_READ, site);
    touch_all(in_device ? &device : &shared, p, bytes, kind, site);
}
