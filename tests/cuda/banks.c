/* How a kernel's accesses would lie in the banks of shared memory and in the sectors of the device's, by
 * place in the code: ATELIER_STAND_IN_REPORT=FILE adds a line of JSON for each kernel when the process ends.
 *
 * A warp's lanes execute an instruction together; here they come one after the other. So the n-th time that
 * each lane passes a place between two meetings of the warp is taken for one instruction, whose addresses are
 * put together. Shared memory has 32 banks of 4 bytes: different words of one bank take a cycle each. 16
 * bytes a lane are served in four parts of 8 lanes, 8 bytes in two of 16. The device's memory comes in
 * sectors of 32 bytes. */
#include "banks.h"

#include "watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SITES 65536
#define WARPS 32
#define LANES STAND_IN_WARP
#define BANKS 32
#define SECTOR 32

/* An instruction of a warp: where its lanes' accesses are. */
typedef struct Together {
    uint32_t lanes;
    uint64_t at[LANES];
} Together;

/* What a warp has done at a place since it met last. */
typedef struct Pending {
    unsigned site, bytes;
    bool shared, write;
    int passed[LANES]; /* times that each lane has */
    int count, room;
    Together *list;
} Pending;

typedef struct Totals {
    unsigned site, bytes;
    bool shared, write;
    long times;           /* instructions of warps */
    long cycles, least;   /* of shared memory: taken, and without conflicts */
    int worst;            /* cycles that the worst part took */
    long sectors, wanted; /* of the device's memory: touched, and needed for the bytes */
    long long moved;      /* bytes */
} Totals;

typedef struct Report {
    const StandInKernel *kernel;
    long launches;
    dim3 grid, block; /* of the last */
    size_t shared;    /* the most */
    Totals *by_site[SITES];
    int count;
    unsigned sites[SITES];
} Report;

static const char *path;
static Report **reports, *now;
static int report_count;
static Pending *pending[WARPS][SITES];
static unsigned touched[WARPS][SITES]; /* sites where something is pending */
static int touched_count[WARPS];

/* Putting together -------------------------------------------------------------------------------------- */

void banks_access(const char *p, size_t bytes, bool shared, bool write, unsigned site)
{
    if (!now || bytes > 16)
        return;
    const int warp = stand_in_self->warp, lane = stand_in_self->lane;
    Pending *w = pending[warp][site];
    if (!w) {
        w = pending[warp][site] = calloc(1, sizeof *w);
        if (!w)
            abort();
        w->site = site;
    }
    if (w->count == 0) {
        touched[warp][touched_count[warp]++] = site;
        w->bytes = (unsigned)bytes;
        w->shared = shared;
        w->write = write;
        memset(w->passed, 0, sizeof w->passed);
    }
    const int n = w->passed[lane]++;
    if (n >= w->room) {
        w->room = w->room ? 2 * w->room : 8;
        w->list = realloc(w->list, (size_t)w->room * sizeof *w->list);
        if (!w->list)
            abort();
    }
    for (; w->count <= n; w->count++)
        w->list[w->count].lanes = 0;
    w->list[n].lanes |= 1u << lane;
    w->list[n].at[lane] = (uint64_t)(uintptr_t)p;
}

/* Cycles for the lanes from `first` on: the most different words in one bank. */
static int cycles_of(const Together *g, unsigned bytes, int first, int lanes)
{
    uint64_t words[BANKS][LANES];
    int in_bank[BANKS] = {0}, most = 0;
    for (int i = first; i < first + lanes; i++) {
        if (!(g->lanes >> i & 1))
            continue;
        for (uint64_t word = g->at[i] / 4; word <= (g->at[i] + bytes - 1) / 4; word++) {
            const int bank = (int)(word % BANKS);
            int j = 0;
            while (j < in_bank[bank] && words[bank][j] != word)
                j++;
            if (j == in_bank[bank] && j < LANES)
                words[bank][in_bank[bank]++] = word;
            if (most < in_bank[bank])
                most = in_bank[bank];
        }
    }
    return most;
}

static void add_shared(Totals *t, const Together *g)
{
    const int lanes = t->bytes == 16 ? 8 : t->bytes == 8 ? 16 : LANES;
    for (int first = 0; first < LANES; first += lanes) {
        const int cycles = cycles_of(g, t->bytes, first, lanes);
        t->cycles += cycles;
        t->least += cycles > 0;
        if (t->worst < cycles)
            t->worst = cycles;
    }
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void add_device(Totals *t, const Together *g)
{
    uint64_t at[LANES];
    int n = 0, distinct = 0;
    long sectors = 0;
    for (int i = 0; i < LANES; i++)
        if (g->lanes >> i & 1)
            at[n++] = g->at[i];
    qsort(at, (size_t)n, sizeof *at, by_value);
    uint64_t last = UINT64_MAX;
    for (int i = 0; i < n; i++) {
        distinct += i == 0 || at[i] != at[i - 1];
        for (uint64_t sector = at[i] / SECTOR; sector <= (at[i] + t->bytes - 1) / SECTOR; sector++)
            if (last == UINT64_MAX || sector > last) {
                sectors++;
                last = sector;
            }
    }
    t->sectors += sectors;
    t->wanted += ((long)distinct * t->bytes + SECTOR - 1) / SECTOR;
    t->moved += (long long)n * t->bytes;
}

static Totals *totals_of(const Pending *w)
{
    Totals *t = now->by_site[w->site];
    if (!t) {
        t = now->by_site[w->site] = calloc(1, sizeof *t);
        if (!t)
            abort();
        *t = (Totals){.site = w->site, .bytes = w->bytes, .shared = w->shared, .write = w->write};
        now->sites[now->count++] = w->site;
    }
    return t;
}

void banks_meet(int warp)
{
    for (int i = 0; i < touched_count[warp]; i++) {
        Pending *w = pending[warp][touched[warp][i]];
        Totals *t = totals_of(w);
        t->times += w->count;
        for (int j = 0; j < w->count; j++)
            if (t->shared)
                add_shared(t, &w->list[j]);
            else
                add_device(t, &w->list[j]);
        w->count = 0;
    }
    touched_count[warp] = 0;
}

/* Reporting --------------------------------------------------------------------------------------------- */

/* Of all places of a kind: ,"NAME":{"mean":…,"worst":…} */
static void write_conflicts(FILE *f, const Report *r, const char *name, bool write)
{
    long cycles = 0, least = 0;
    int worst = 0;
    for (int i = 0; i < r->count; i++) {
        const Totals *t = r->by_site[r->sites[i]];
        if (!t->shared || t->write != write)
            continue;
        cycles += t->cycles;
        least += t->least;
        if (worst < t->worst)
            worst = t->worst;
    }
    fprintf(f, ",\"%s\":{\"mean\":%.3f,\"worst\":%d}", name, least ? (double)cycles / (double)least : 0,
            worst);
}

static void write_device(FILE *f, const Report *r)
{
    long sectors = 0, wanted = 0;
    long long moved = 0;
    for (int i = 0; i < r->count; i++) {
        const Totals *t = r->by_site[r->sites[i]];
        sectors += t->sectors;
        wanted += t->wanted;
        moved += t->moved;
    }
    fprintf(f, ",\"device_bytes\":%lld,\"sectors_of_needed\":%.3f", moved,
            wanted ? (double)sectors / (double)wanted : 0);
}

/* What a place takes, of what it could. */
static double share_of(const Totals *t)
{
    return t->shared   ? (double)t->cycles / (double)t->least
           : t->wanted ? (double)t->sectors / (double)t->wanted
                       : 1;
}
#define NOTED 1.01

/* Places that are less than they could be. */
static void write_places(FILE *f, const Report *r)
{
    const char *before = "";
    fprintf(f, ",\"places\":[");
    for (int i = 0; i < r->count; i++) {
        const Totals *t = r->by_site[r->sites[i]];
        const double share = share_of(t);
        if (share < NOTED)
            continue;
        char name[1024];
        site_name(name, sizeof name, t->site);
        fprintf(f, "%s{\"place\":\"%s\",\"what\":\"%s %s\",\"bytes\":%u,\"times\":%ld,", before, name,
                t->shared ? "shared" : "device", t->write ? "store" : "load", t->bytes, t->times);
        if (t->shared)
            fprintf(f, "\"mean\":%.3f,\"worst\":%d}", share, t->worst);
        else
            fprintf(f, "\"sectors_of_needed\":%.3f}", share);
        before = ",";
    }
    fprintf(f, "]");
}

static void look_up_names(void)
{
    static unsigned asked[SITES];
    int n = 0;
    for (int i = 0; i < report_count; i++) {
        const Report *r = reports[i];
        if (n < SITES)
            asked[n++] = site_of_function(r->kernel->function);
        for (int j = 0; j < r->count && n < SITES; j++)
            if (share_of(r->by_site[r->sites[j]]) >= NOTED)
                asked[n++] = r->sites[j];
    }
    sites_ask(asked, n);
}

static void report(void)
{
    FILE *f = fopen(path, "a");
    if (!f) {
        fprintf(stderr, "stand-in: cannot write %s\n", path);
        return;
    }
    look_up_names();
    for (int i = 0; i < report_count; i++) {
        const Report *r = reports[i];
        char kernel[1024];
        snprintf(kernel, sizeof kernel, "%s", r->kernel->name);
        site_function(kernel, sizeof kernel, r->kernel->function);
        fprintf(f,
                "{\"kernel\":\"%s\",\"launches\":%ld,\"grid\":[%u,%u,%u],\"block\":[%u,%u,%u],\"shared_"
                "bytes\":%zu",
                kernel, r->launches, r->grid.x, r->grid.y, r->grid.z, r->block.x, r->block.y, r->block.z,
                r->shared);
        write_conflicts(f, r, "shared_loads", false);
        write_conflicts(f, r, "shared_stores", true);
        write_device(f, r);
        write_places(f, r);
        fprintf(f, "}\n");
    }
    fclose(f);
}

void banks_launch(const StandInKernel *k, dim3 grid, dim3 block, size_t shared)
{
    now = NULL;
    if (!path) {
        path = getenv("ATELIER_STAND_IN_REPORT");
        if (!path)
            return;
        atexit(report);
    }
    for (int i = 0; i < report_count; i++)
        if (reports[i]->kernel == k)
            now = reports[i];
    if (!now) {
        reports = realloc(reports, (size_t)(report_count + 1) * sizeof(Report *));
        now = calloc(1, sizeof *now);
        if (!reports || !now)
            abort();
        reports[report_count++] = now;
        now->kernel = k;
    }
    now->launches++;
    now->grid = grid;
    now->block = block;
    if (now->shared < shared)
        now->shared = shared;
}
