#include "plans.h"

#include "kernels/base/mem.h"

#include <string.h>

typedef struct Kept Kept;
struct Kept {
    Plan *plan;
    size_t bytes; /* of the plan and of this */
    Kept *older;
    size_t size;
    unsigned char key[];
};

struct Plans {
    Kept *newest; /* by last use */
    size_t bytes, limit;
};

Plans *plans_new(size_t limit)
{
    Plans *p = mem_calloc(1, sizeof *p);
    if (p)
        p->limit = limit;
    return p;
}

static void forget(Plans *p, Kept **at)
{
    Kept *k = *at;
    *at = k->older;
    p->bytes -= k->bytes;
    plan_free(k->plan);
    mem_free(k);
}

void plans_free(Plans *p)
{
    if (!p)
        return;
    while (p->newest)
        forget(p, &p->newest);
    mem_free(p);
}

static void put_first(Plans *p, Kept *k)
{
    k->older = p->newest;
    p->newest = k;
}

/* The one with the key, taken out of the row; NULL: there is none. */
static Kept *take(Plans *p, const void *key, size_t size)
{
    for (Kept **at = &p->newest; *at; at = &(*at)->older) {
        Kept *k = *at;
        if (k->size == size && memcmp(k->key, key, size) == 0) {
            *at = k->older;
            return k;
        }
    }
    return NULL;
}

/* All after the newest that come to more than is allowed. */
static void make_room(Plans *p)
{
    size_t bytes = 0;
    for (Kept **at = &p->newest; *at;) {
        bytes += (*at)->bytes;
        if (*at != p->newest && bytes > p->limit)
            forget(p, at);
        else
            at = &(*at)->older;
    }
}

Status plans_get(Plans *p, Ctx *c, const void *key, size_t size, StepFn fn, void *arg, const Plan **out)
{
    Kept *k = take(p, key, size);
    if (!k) {
        k = mem_calloc(1, sizeof *k + size);
        if (!k)
            return STATUS_FAILED;
        const Status s = ctx_rehearse(c, fn, arg, &k->plan);
        if (s != STATUS_OK) {
            mem_free(k);
            return s;
        }
        memcpy(k->key, key, size);
        k->size = size;
        k->bytes = sizeof *k + size + plan_own_bytes(k->plan);
        p->bytes += k->bytes;
    }
    put_first(p, k);
    make_room(p);
    *out = k->plan;
    return STATUS_OK;
}

size_t plans_bytes(const Plans *p)
{
    return p->bytes;
}
