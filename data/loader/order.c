/* Turns and rows (order.h). What is kept: for each size the permutation of its row that was looked at last,
 * and the turns of one epoch. */
#include "order.h"

#include "kernels/base/mem.h"
#include "kernels/base/random.h"

#include <math.h>
#include <string.h>

#define TURNS_SAMPLE 0x80000000u /* the key of an epoch's turns: no row has this number */

typedef struct Group {
    Size size;
    int64_t start, count; /* its positions in members */
    int64_t pass;         /* whose permutation stands in places; 0: none yet */
    int64_t had;          /* turns before step first + at */
    int64_t planned;      /* turns up to the end of the epoch */
} Group;

struct Order {
    int64_t count, batch;
    uint64_t seed;
    int stream;
    Group *groups;
    int group_count;
    uint32_t *members;           /* (count): positions, group after group */
    uint32_t *places;            /* (count): a permutation of each group's */
    int *planned, *turns;        /* (most): the groups of the epoch's steps, as planned and as they come */
    uint32_t *shuffle;           /* (most) */
    int64_t epoch, first, steps; /* the one at hand: 0 is none; its first step, and how many */
    int64_t at;                  /* of its steps, before which the groups' `had` has counted */
};

/* Groups ------------------------------------------------------------------------------------------------- */

static int compare_sizes(Size a, Size b)
{
    return a.width != b.width ? (a.width > b.width) - (a.width < b.width)
                              : (a.height > b.height) - (a.height < b.height);
}

/* The number of the group of that size; −1: none. */
static int find_group(const Order *o, Size size)
{
    int low = 0, high = o->group_count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (compare_sizes(o->groups[middle].size, size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < o->group_count && size_equal(o->groups[low].size, size) ? low : -1;
}

/* A place for the size among the groups, which stay in order. */
static Status count_size(Order *o, Size size)
{
    int at = find_group(o, size);
    if (at < 0) {
        Group *more = mem_realloc(o->groups, ((size_t)o->group_count + 1) * sizeof *more);
        if (!more)
            return STATUS_FAILED;
        o->groups = more;
        at = 0;
        while (at < o->group_count && compare_sizes(more[at].size, size) < 0)
            at++;
        memmove(more + at + 1, more + at, (size_t)(o->group_count++ - at) * sizeof *more);
        more[at] = (Group){.size = size};
    }
    o->groups[at].count++;
    return STATUS_OK;
}

static Status make_groups(Order *o, const Size *sizes)
{
    int64_t start = 0;
    for (int64_t i = 0; i < o->count; i++)
        TRY(count_size(o, sizes[i]));
    for (int g = 0; g < o->group_count; g++) {
        o->groups[g].start = start;
        start += o->groups[g].count;
        o->groups[g].count = 0;
    }
    for (int64_t i = 0; i < o->count; i++) {
        Group *g = &o->groups[find_group(o, sizes[i])];
        o->members[g->start + g->count++] = (uint32_t)i;
    }
    return STATUS_OK;
}

Status order_new(const OrderOptions *options, Order **out)
{
    *out = NULL;
    if (options->count > INT32_MAX)
        return status_fail("%lld samples an epoch are too many; use fewer repeats",
                           (long long)options->count);
    Order *o = mem_calloc(1, sizeof *o);
    if (!o)
        return STATUS_FAILED;
    *o = (Order){.count = options->count,
                 .batch = options->batch,
                 .seed = options->seed,
                 .stream = options->stream,
                 .first = 1};
    const size_t most = (size_t)(options->count / options->batch) + 1; /* steps of an epoch */
    o->members = mem_alloc((size_t)o->count * sizeof *o->members);
    o->places = mem_alloc((size_t)o->count * sizeof *o->places);
    o->planned = mem_alloc(most * sizeof *o->planned);
    o->turns = mem_alloc(most * sizeof *o->turns);
    o->shuffle = mem_alloc(most * sizeof *o->shuffle);
    const bool made = o->members && o->places && o->planned && o->turns && o->shuffle;
    Status s = made ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = make_groups(o, options->sizes);
    if (s != STATUS_OK) {
        order_free(o);
        return s;
    }
    *out = o;
    return STATUS_OK;
}

void order_free(Order *o)
{
    if (!o)
        return;
    mem_free(o->groups);
    mem_free(o->members);
    mem_free(o->places);
    mem_free(o->planned);
    mem_free(o->turns);
    mem_free(o->shuffle);
    mem_free(o);
}

int order_groups(const Order *o)
{
    return o->group_count;
}

Size order_size(const Order *o, int group)
{
    return o->groups[group].size;
}

/* Turns -------------------------------------------------------------------------------------------------- */

/* Whose turn step t is: of those that are due (their share is far enough ahead of what they have had) the one
 * that has to come soonest. All numbers times `count` and 2m − 2, so that only the deadline is no whole one.
 */
static int next_turn(const Order *o, int64_t t)
{
    const int64_t m = 2 * (int64_t)o->group_count - 2;
    int best = 0;
    double soonest = INFINITY;
    for (int i = 0; i < o->group_count; i++) {
        const Group *g = &o->groups[i];
        const int64_t behind = m * (g->count * t - g->planned * o->count);
        const double deadline = (double)((m - 1) * o->count - behind) / (double)g->count;
        if (behind >= o->count && deadline < soonest) {
            soonest = deadline;
            best = i;
        }
    }
    return best;
}

/* The first step whose first sample lies in epoch e or later. */
static int64_t first_of(const Order *o, int64_t e)
{
    return ((e - 1) * o->count + o->batch - 1) / o->batch + 1;
}

/* Whose turns there are in the epoch after the one at hand. */
static void plan_epoch(Order *o)
{
    o->epoch++;
    o->first = first_of(o, o->epoch);
    o->steps = first_of(o, o->epoch + 1) - o->first;
    o->at = 0;
    for (int i = 0; i < o->group_count; i++)
        o->groups[i].had = o->groups[i].planned;
    for (int64_t k = 0; k < o->steps; k++) {
        o->planned[k] = next_turn(o, o->first + k);
        o->groups[o->planned[k]].planned++;
    }
}

static void shuffle_epoch(Order *o)
{
    const RandomKey key = {
        .seed = o->seed, .step = (uint32_t)o->epoch, .sample = TURNS_SAMPLE, .purpose = RANDOM_ORDER};
    random_permutation(key, o->shuffle, (uint32_t)o->steps);
    for (int64_t k = 0; k < o->steps; k++)
        o->turns[k] = o->planned[o->shuffle[k]];
}

/* The step's epoch becomes the one at hand. */
static void go_to(Order *o, int64_t step)
{
    if (step < o->first + o->at) {
        for (int i = 0; i < o->group_count; i++)
            o->groups[i].planned = 0;
        o->epoch = o->steps = o->at = 0;
        o->first = 1;
    }
    if (o->epoch > 0 && step < o->first + o->steps)
        return;
    while (o->epoch == 0 || step >= o->first + o->steps)
        plan_epoch(o);
    shuffle_epoch(o);
}

OrderTurn order_turn(Order *o, int64_t step)
{
    if (o->group_count == 1)
        return (OrderTurn){0, o->groups[0].size, (step - 1) * o->batch};
    go_to(o, step);
    for (; o->first + o->at < step; o->at++)
        o->groups[o->turns[o->at]].had++;
    const int group = o->turns[o->at];
    const Group *g = &o->groups[group];
    return (OrderTurn){group, g->size, g->had * o->batch};
}

OrderTurn order_follow(const Order *o, const OrderTurn *turn)
{
    return (OrderTurn){find_group(o, turn->size), turn->size, turn->first};
}

/* Rows --------------------------------------------------------------------------------------------------- */

int64_t order_position(Order *o, const OrderTurn *turn, int64_t i)
{
    Group *g = &o->groups[turn->group];
    const int64_t at = turn->first + i, pass = at / g->count + 1;
    uint32_t *places = o->places + g->start;
    if (g->pass != pass) {
        const RandomKey key = {.seed = o->seed,
                               .step = (uint32_t)pass,
                               .sample = 2 * (uint32_t)turn->group + (uint32_t)o->stream,
                               .purpose = RANDOM_ORDER};
        random_permutation(key, places, (uint32_t)g->count);
        g->pass = pass;
    }
    return o->members[g->start + places[at % g->count]];
}
