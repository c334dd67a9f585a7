#include "whole.h"

#include "kernels/base/mem.h"

#include <stdlib.h>

/* A trained tensor, by its address. */
typedef struct Known {
    const Tensor *weight;
    int number;
} Known;

struct Whole {
    Ctx *c;
    Known *known; /* sorted; of each tensor of the list one */
    int count;
    int *times, *left; /* by tensor: how often it is touched in a step, and how often it still will be */
    int *first, *last; /* moments */
    bool *added;       /* the last touch is an addition: it is whole on the way */
    int moments;
    bool rehearsing;
    WholeCalls calls;
};

static int by_address(const void *a, const void *b)
{
    const Known *x = a, *y = b;
    return (x->weight > y->weight) - (x->weight < y->weight);
}

/* Which of the list a weight is; −1: none. */
static int number_of(const Whole *w, const Tensor *weight)
{
    const Known wanted = {.weight = weight};
    const Known *k = weight ? bsearch(&wanted, w->known, (size_t)w->count, sizeof *k, by_address) : NULL;
    return k ? k->number : -1;
}

static void touch(Whole *w, const Tensor *weight, bool adds)
{
    const int i = number_of(w, weight);
    if (i < 0)
        return;
    if (!w->rehearsing) {
        if (--w->left[i] == 0 && adds)
            w->calls.tensor(w->c, i, w->calls.arg);
        return;
    }
    w->times[i]++;
    w->added[i] = adds;
    if (!adds)
        return;
    if (w->first[i] < 0)
        w->first[i] = w->moments;
    w->last[i] = w->moments;
}

static void touch_all(Whole *w, const Layer *layer, bool adds)
{
    touch(w, layer->weight, adds);
    touch(w, layer->bias, adds);
    for (const Adapter *a = layer->adapters; a; a = a->next)
        for (int k = 0; k < ADAPTER_TENSORS; k++)
            touch(w, a->tensors[k], adds);
}

static void layer_begins(Ctx *c, const Layer *layer, void *arg)
{
    (void)c;
    touch_all(arg, layer, false);
}

static void layer_added(Ctx *c, const Layer *layer, void *arg)
{
    Whole *w = arg;
    touch_all(w, layer, true);
    w->moments += w->rehearsing;
    if (!w->rehearsing && w->calls.layer)
        w->calls.layer(c, w->calls.arg);
}

static Status rehearse(Whole *w, StepFn fn, void *arg)
{
    Plan *plan = NULL;
    w->rehearsing = true;
    ctx_watch_layers(w->c, layer_begins, layer_added, w);
    const Status s = ctx_rehearse(w->c, fn, arg, &plan);
    ctx_watch_layers(w->c, NULL, NULL, NULL);
    w->rehearsing = false;
    plan_free(plan);
    for (int i = 0; i < w->count; i++) {
        if (w->first[i] < 0)
            w->first[i] = w->moments;
        if (!w->added[i])
            w->last[i] = w->moments;
    }
    w->moments++;
    return s;
}

static Status make(Whole *w, const Parameters *p)
{
    const size_t n = (size_t)p->count;
    w->known = mem_calloc(n, sizeof *w->known);
    w->times = mem_calloc(4 * n, sizeof *w->times);
    w->added = mem_calloc(n, sizeof *w->added);
    if (!w->known || !w->times || !w->added)
        return STATUS_FAILED;
    w->left = w->times + n;
    w->first = w->left + n;
    w->last = w->first + n;
    w->count = p->count;
    for (int i = 0; i < p->count; i++) {
        w->known[i] = (Known){p->items[i].weight, i};
        w->first[i] = -1;
    }
    qsort(w->known, n, sizeof *w->known, by_address);
    return STATUS_OK;
}

Status whole_new(Ctx *c, const Parameters *p, StepFn fn, void *arg, Whole **out)
{
    Whole *w = mem_calloc(1, sizeof *w);
    if (!w)
        return STATUS_FAILED;
    w->c = c;
    Status s = make(w, p);
    if (s == STATUS_OK)
        s = rehearse(w, fn, arg);
    if (s != STATUS_OK) {
        whole_free(w);
        return s;
    }
    *out = w;
    return STATUS_OK;
}

void whole_free(Whole *w)
{
    if (!w)
        return;
    mem_free(w->known);
    mem_free(w->times);
    mem_free(w->added);
    mem_free(w);
}

void whole_life(const Whole *w, int i, int *first, int *last)
{
    *first = w->first[i];
    *last = w->last[i];
}

int whole_moments(const Whole *w)
{
    return w->moments;
}

void whole_begin(Whole *w, const WholeCalls *calls)
{
    w->calls = *calls;
    for (int i = 0; i < w->count; i++)
        w->left[i] = w->times[i];
    ctx_watch_layers(w->c, layer_begins, layer_added, w);
}

bool whole_end(Whole *w)
{
    bool followed = true;
    ctx_watch_layers(w->c, NULL, NULL, NULL);
    for (int i = 0; i < w->count; i++) {
        followed = followed && w->left[i] == 0;
        if (w->left[i] == 0 && !w->added[i])
            w->calls.tensor(w->c, i, w->calls.arg);
    }
    return followed;
}
