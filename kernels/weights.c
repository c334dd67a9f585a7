/* Weights that are not where a product wants them, or not what it multiplies.
 *
 * In 8 bits (Tensor.scales) they are decoded into the step's memory each time. In the host's memory (layer.h:
 * streamed) they are fetched under the arithmetic:
 *
 *     operations    … │ conv of A │ linear of B │ conv of C │ …
 *     fetched             B …       C …           D …             one ahead, beside the arithmetic
 *     slot of B           ├─────────────────┤                     from A's fetch on, to B's last use
 *
 * Which layer comes next, rehearsal does not say (a plan outlives the model it was made from); the first run
 * of a plan notes it, and later ones fetch ahead what came next then. Where something else comes after all,
 * it is fetched when it comes. */
#include "ctx_state.h"

static Tensor *slot(Ctx *c, const Tensor *w)
{
    CtxState *s = c->state;
    Tensor *t = ctx_place(c, w->dtype, w->ndim, w->shape, PLACE_WEIGHT);
    if (s->mode == RUN_REHEARSE && s->failed == STATUS_OK)
        op_check(c, plan_fetch(s->drawing, t->place));
    return t;
}

/* Begins the fetch of number n into its slot. */
static void begin(Ctx *c, int32_t n, const void *from)
{
    CtxState *s = c->state;
    const Place *p = &s->plan->places[s->plan->fetches[n].place];
    RUN(c, c->dev->fetch(s->arena + p->offset, from, p->bytes, n % 2));
    s->ahead = (Ahead){n, from};
}

/* The weight in the device's memory. */
static Tensor *fetched(Ctx *c, const Tensor *w)
{
    CtxState *s = c->state;
    Tensor *t = slot(c, w);
    if (!c->live)
        return t;
    if (s->mode == RUN_FREE) {
        RUN(c, c->dev->put(t->data, w->data, tensor_bytes(w)));
        return t;
    }
    const Plan *p = s->plan;
    const int32_t n = s->fetches++;
    if (n >= p->fetch_count || p->fetches[n].place != t->place) {
        op_fail(c, "the plan has no weight to be fetched here: it is not the step that was planned");
        return t;
    }
    if (n == 0 || s->ahead.number != n || s->ahead.from != w->data)
        begin(c, n, w->data);
    RUN(c, c->dev->fetched(n % 2));
    p->fetches[n].from = w->data;
    if (n + 1 < p->fetch_count && p->fetches[n + 1].from)
        begin(c, n + 1, p->fetches[n + 1].from);
    return t;
}

/* Where the device can read it, in the type that it is stored in. */
static Tensor *stored(Ctx *c, const Layer *l)
{
    if (!l->weight || !l->streamed)
        return l->weight;
    Tensor *w = fetched(c, l->weight);
    w->scales = l->weight->scales;
    return w;
}

Tensor *op_weight(Ctx *c, const Layer *l)
{
    Tensor *w = stored(c, l);
    if (!w || !w->scales) /* nothing to decode it with: the operation reads its type */
        return w;
    Tensor *decoded = ctx_place(c, c->dtype, w->ndim, w->shape, PLACE_WEIGHT);
    RUN(c, c->dev->decode(w, w->scales, decoded));
    return decoded;
}

Tensor *op_product_weight(Ctx *c, const Layer *l)
{
    return c->dev->product_decodes ? stored(c, l) : op_weight(c, l);
}
