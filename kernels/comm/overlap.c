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

bool comm_overlaps(const Comm *c)
{
    return c->size > 1 && c->state->transport->begin &&
           (!c->state->transport->host_memory || c->state->dev->host_memory);
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

Status comm_sum_begin(Comm *c, Tensor *block, const int64_t *at, int64_t first, int64_t end)
{
    CommState *s = c->state;
    TRY(comm_check(c));
    UnderWay *u = mem_calloc(1, sizeof *u);
    if (!u)
        return STATUS_FAILED;
    u->block = block;
    u->first = within(at[c->rank], first, end);
    u->count = within(at[c->rank + 1], first, end) - u->first;
    u->parts = mem_alloc(2 * (size_t)c->size * sizeof *u->parts);
    if (u->count)
        u->others = tensor_new_on(s->dev, DTYPE_F32, 1, (int64_t[]){u->count * (c->size - 1)});
    Status status = u->parts && (u->others || !u->count) ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK) {
        const int n = list_parts(c, u, at, first, end);
        status = s->transport->begin(c, s->own, u->parts, n, u->parts + n, n, &u->pending);
    }
    if (status != STATUS_OK) {
        free_one(u);
        return status;
    }
    UnderWay **last = &s->under_way;
    while (*last)
        last = &(*last)->next;
    *last = u;
    return STATUS_OK;
}

static Status add_others(const Comm *c, UnderWay *u)
{
    const Device *dev = c->state->dev;
    Tensor *own = u->count ? tensor_view(u->block, u->first, 1, &u->count) : NULL;
    Status s = own || !u->count ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < c->size - 1 && own && s == STATUS_OK; i++) {
        Tensor *other = tensor_view(u->others, i * u->count, 1, &u->count);
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

/* What is left over when the others are gone is let go with the transport. */
Status comm_sum_finish(Comm *c)
{
    CommState *s = c->state;
    Status status = STATUS_OK;
    while (s->under_way) {
        UnderWay *u = s->under_way;
        if (status == STATUS_OK)
            status = s->transport->end(c, s->own, u->pending);
        if (status == STATUS_OK)
            status = add_others(c, u);
        s->under_way = u->next;
        if (status == STATUS_OK && s->dev->settle)
            status = s->dev->settle(); /* what was received may go */
        free_one(u);
    }
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
