/* Where NaN or infinity first appeared: what ctx_set_checks does between operations.
 *
 * An operation is done when the next one begins; then its results are still in their places, so nothing is
 * copied or kept, and the step's numbers and memory are what they are without checks. Looked at are the
 * tensors that the operation made and, in the backward pass, the gradients of its layer's parameters, which
 * it may have added to. Scratch memory is not: it may hold anything. */
#include "ctx_state.h"

#include <math.h>

static bool holds(const Tensor *t, double *value)
{
    int64_t index = -1;
    if (!t || !t->data)
        return false;
    const Device *dev = t->home ? t->home : device_cpu();
    if (dev->first_not_finite(t, &index, value) != STATUS_OK || index < 0)
        return false;
    *value = isnan(*value) ? NAN : *value; /* no "-nan" in messages */
    return true;
}

/* Parameters and their gradients ------------------------------------------------------------------------ */

static const char *broken_part(const Layer *l)
{
    double value;
    if (holds(l->weight, &value))
        return "weight";
    if (holds(l->bias, &value))
        return "bias";
    for (const Adapter *a = l->adapters; a; a = a->next)
        for (int i = 0; i < ADAPTER_TENSORS; i++)
            if (holds(a->tensors[i], &value))
                return "adapter";
    return NULL;
}

static const char *broken_gradient(const Layer *l, double *value)
{
    if (holds(weight_grad(l->weight), value))
        return "gradient of its weight";
    if (holds(weight_grad(l->bias), value))
        return "gradient of its bias";
    for (const Adapter *a = l->adapters; a; a = a->next)
        for (int i = 0; i < ADAPTER_TENSORS; i++)
            if (holds(weight_grad(a->tensors[i]), value))
                return "gradient of its adapter";
    return NULL;
}

/* Operations -------------------------------------------------------------------------------------------- */

void checks_reset(CtxState *s)
{
    s->made = NULL;
    s->made_end = &s->made;
    s->near = NULL;
    s->found = (CtxFinding){0};
}

void checks_made(Ctx *c, const Tensor *t)
{
    CtxState *s = c->state;
    if (s->mode == RUN_REHEARSE)
        return;
    Made *m = ctx_host(c, sizeof *m);
    m->tensor = t;
    *s->made_end = m;
    s->made_end = &m->next;
}

void checks_done(Ctx *c)
{
    CtxState *s = c->state;
    if (s->layer)
        s->near = s->layer;
    double value = 0;
    const char *what = NULL;
    for (const Made *m = s->made; m && c->live && !what; m = m->next)
        if (holds(m->tensor, &value))
            what = s->backward ? "gradient of its input" : "result";
    if (!what && c->live && s->backward && s->layer)
        what = broken_gradient(s->layer, &value);
    s->made = NULL;
    s->made_end = &s->made;
    if (!what)
        return;
    s->found = (CtxFinding){.op = s->op,
                            .layer = s->near ? s->near->name : NULL,
                            .own = s->layer != NULL,
                            .backward = s->backward,
                            .what = what,
                            .value = value,
                            .broken = s->layer ? broken_part(s->layer) : NULL};
    op_fail(c, "its %s holds %g", what, value);
}

void ctx_set_checks(Ctx *c, bool on)
{
    c->state->checks = on;
}

const CtxFinding *ctx_finding(const Ctx *c)
{
    return &c->state->found;
}
