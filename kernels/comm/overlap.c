/* Sums of a block's parts while the rest of it is still computed: each part is on its way as soon as it is
 * whole, and is moved on whenever the computing looks in. Everybody gets the others' numbers of what is its
 * own, and adds them by rank. */
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "state.h"

#include <string.h>

/* One part that is on its way. */
typedef struct UnderWay {
    Tensor *block;
    int64_t first, count; /* what of it is this process's */
    Tensor *others;       /* ((size - 1), count) */
    CommPart *parts;
    void *pending; /* the transport's */
    struct UnderWay *next;
} UnderWay;

static bool of_one_machine(const Card *a, const Card *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->machine, b->machine) == 0;
}

/* Several machines, and one with several processes: by parts to each process more leaves a machine than in a
 * ring through all of them. */
static bool shares_networks(const Comm *c)
{
    const Card *cards = c->state->cards;
    bool apart = false, together = false;
    for (int r = 1; r < c->size; r++)
        for (int before = 0; before < r; before++)
            *(of_one_machine(&cards[r], &cards[before]) ? &together : &apart) = true;
    return apart && together;
}

bool comm_overlaps(const Comm *c)
{
    if (c->size == 1)
        return false;
    const CommTransport *t = c->state->transport;
    return t->begin && (!t->host_memory || c->state->dev->host_memory) &&
           !(t->reduce_scatter && shares_networks(c));
}

static int64_t within(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

static void free_one(UnderWay *u)
{
    tensor_free(u->others);
    mem_free(u->parts);
    mem_free(u);
}

/* Sends first, then as many receives. Returns how many of each. */
static int list_parts(const Comm *c, const UnderWay *u, const int64_t *at, int64_t first, int64_t end)
{
    int n = 0;
    for (int r = 0; r < c->size; r++) {
        if (r == c->rank)
            continue;
        const int64_t from = within(at[r], first, end), to = within(at[r + 1], first, end);
        u->parts[n] = (CommPart){r, (float *)u->block->data + from, (size_t)(to - from) * sizeof(float)};
        u->parts[c->size - 1 + n] = (CommPart){r, u->count ? (float *)u->others->data + n * u->count : NULL,
                                               (size_t)u->count * sizeof(float)};
        n++;
    }
    return n;
}

/* Adds one to those that are under way, if it is on its way. */
static Status begin_one(Comm *c, UnderWay *u, Tensor *block, const int64_t *at, int64_t first, int64_t end)
{
    CommState *s = c->state;
    u->block = block;
    u->first = within(at[c->rank], first, end);
    u->count = within(at[c->rank + 1], first, end) - u->first;
    u->parts = mem_alloc(2 * (size_t)c->size * sizeof *u->parts);
    if (u->count)
        u->others = tensor_new_on(s->dev, DTYPE_F32, 1, (int64_t[]){u->count * (c->size - 1)});
    if (!u->parts || (u->count && !u->others))
        return STATUS_FAILED;
    const int n = list_parts(c, u, at, first, end);
    TRY(s->transport->begin(c, s->own, u->parts, n, u->parts + n, n, &u->pending));
    UnderWay **last = &s->under_way;
    while (*last)
        last = &(*last)->next;
    *last = u;
    return STATUS_OK;
}

Status comm_sum_begin(Comm *c, Tensor *block, const int64_t *at, int64_t first, int64_t end)
{
    UnderWay *u = mem_calloc(1, sizeof *u);
    Status status = u ? comm_check(c) : STATUS_FAILED;
    if (status == STATUS_OK)
        status = begin_one(c, u, block, at, first, end);
    if (status != STATUS_OK) {
        overlap_drop(c->state);
        if (u)
            free_one(u);
    }
    return status;
}

Status add_by_rank(const Comm *c, Tensor *block, int64_t first, int64_t count, const Tensor *others)
{
    const Device *dev = c->state->dev;
    Tensor *own = count ? tensor_view(block, first, 1, &count) : NULL;
    Status s = own || !count ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < c->size - 1 && own && s == STATUS_OK; i++) {
        Tensor *other = tensor_view(others, i * count, 1, &count);
        s = other ? dev->add(own, other, own) : STATUS_FAILED;
        tensor_free(other);
    }
    tensor_free(own);
    return s;
}

Status comm_sum_progress(Comm *c)
{
    CommState *s = c->state;
    for (UnderWay *u = s->under_way; u; u = u->next)
        TRY(s->transport->progress(c, s->own, u->pending));
    return STATUS_OK;
}

/* Nothing is freed before all of them have ended: freeing a GPU's memory waits for whatever it is at. */
Status comm_sum_finish(Comm *c)
{
    CommState *s = c->state;
    Status status = STATUS_OK;
    for (UnderWay *u = s->under_way; u && status == STATUS_OK; u = u->next) {
        status = s->transport->end(c, s->own, u->pending);
        if (status == STATUS_OK)
            status = add_by_rank(c, u->block, u->first, u->count, u->others);
    }
    if (status == STATUS_OK && s->dev->settle)
        status = s->dev->settle(); /* what was received may go */
    if (status == STATUS_OK)
        overlap_let_go(s);
    else
        overlap_drop(s);
    return status;
}

void overlap_let_go(CommState *s)
{
    while (s->under_way) {
        UnderWay *u = s->under_way;
        s->under_way = u->next;
        free_one(u);
    }
}

/* Where the transport cannot drop it, what is under way stays until that is closed. */
void overlap_drop(CommState *s)
{
    if (!s->under_way || !s->transport->drop)
        return;
    s->transport->drop(s->own);
    overlap_let_go(s);
}
