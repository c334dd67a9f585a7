#include "fused.h"
#include "whole.h"

#include "kernels/base/mem.h"
#include "kernels/op.h"
#include "kernels/plan.h"

struct Fused {
    Ctx *c;
    Parameters *p;
    Whole *whole;
    Segment *alone;  /* by tensor: of a block that has nothing else */
    size_t *at;      /* by tensor: where its gradient lies in the block, bytes */
    int64_t *sample; /* by tensor: its first number in Update.from */
    size_t bytes;    /* of the block */
    Update update;
    bool begun;    /* a weight of this step has moved */
    bool over;     /* the step's operations are done */
    Status status; /* once it is over */
};

/* Places ------------------------------------------------------------------------------------------------- */

static Status place_all(Fused *f, Plan *plan)
{
    const Parameters *p = f->p;
    plan->ticks = whole_moments(f->whole);
    for (int i = 0; i < p->count; i++) {
        int first, last;
        whole_life(f->whole, i, &first, &last);
        const int32_t n =
            plan_add(plan, "gradient", (size_t)p->segments[i].count * sizeof(float), first, PLACE_GRADIENT);
        if (n < 0)
            return STATUS_FAILED;
        plan->places[n].last = last;
    }
    TRY(plan_pack(plan));
    for (int i = 0; i < p->count; i++) {
        f->alone[i] = (Segment){0, p->segments[i].count, p->segments[i].group};
        f->at[i] = plan->places[i].offset;
    }
    f->bytes = plan->peak_bytes;
    return STATUS_OK;
}

static Status give_places(Fused *f)
{
    Parameters *p = f->p;
    Plan *plan = plan_new(p->dev);
    Status s = plan ? place_all(f, plan) : STATUS_FAILED;
    plan_free(plan);
    TRY(s);
    return p->flat.described ? STATUS_OK : parameters_place_gradients(p, f->at, f->bytes);
}

Status fused_new(Ctx *c, Parameters *p, StepFn fn, void *arg, Fused **out)
{
    Fused *f = mem_calloc(1, sizeof *f);
    if (!f)
        return STATUS_FAILED;
    *f = (Fused){.c = c, .p = p};
    f->alone = mem_calloc((size_t)p->count, sizeof *f->alone);
    f->at = mem_calloc((size_t)p->count, sizeof *f->at);
    f->sample = mem_calloc((size_t)p->count, sizeof *f->sample);
    Status s = f->alone && f->at && f->sample ? whole_new(c, p, fn, arg, &f->whole) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = give_places(f);
    if (s != STATUS_OK) {
        fused_free(f);
        return s;
    }
    *out = f;
    return STATUS_OK;
}

void fused_free(Fused *f)
{
    if (!f)
        return;
    whole_free(f->whole);
    mem_free(f->alone);
    mem_free(f->at);
    mem_free(f->sample);
    mem_free(f);
}

size_t fused_bytes(const Fused *f)
{
    return f->bytes;
}

/* Moving ------------------------------------------------------------------------------------------------- */

/* Tensor i's weights, states and average move by its gradient, which is 0 then. */
static Status move(Fused *f, int i)
{
    Parameters *p = f->p;
    Tensor w = parameters_part(p, p->flat.weights, i), states[UPDATE_STATES] = {0}, average = {0};
    Tensor *g = p->items[i].weight->grad;
    for (int k = 0; k < UPDATE_STATES; k++)
        if (p->states[k])
            states[k] = parameters_part(p, p->states[k], i);
    if (p->averages)
        average = parameters_part(p, p->averages, i);
    Update u = f->update;
    u.segments = &f->alone[i];
    u.count = 1;
    u.more = f->begun;
    u.number = i;
    if (u.from)
        u.from += f->sample[i];
    f->begun = true;
    p->torn = true;
    TRY(p->dev->update(&u, &w, g, p->states[0] ? &states[0] : NULL, p->states[1] ? &states[1] : NULL,
                       p->averages ? &average : NULL, p->numbers, p->scratch));
    return p->dev->clear(g->data, tensor_bytes(g));
}

static void tensor_whole(Ctx *c, int i, void *arg)
{
    Fused *f = arg;
    if (f->over) {
        if (f->status == STATUS_OK)
            f->status = move(f, i);
        return;
    }
    ctx_go_through(c); /* what has begun to move ends as weights of a whole step */
    RUN(c, status_in(move(f, i), f->p->items[i].name));
}

static void take(Fused *f, const Update *u)
{
    f->update = *u;
    f->begun = f->over = false;
    int64_t samples = 0;
    for (int i = 0; u->from && i < f->p->count; i++) {
        f->sample[i] = samples;
        samples += (f->p->segments[i].count + u->stride - 1) / u->stride;
    }
}

void fused_begin(Fused *f, const Update *u)
{
    take(f, u);
    whole_begin(f->whole, &(WholeCalls){.tensor = tensor_whole, .arg = f});
}

Status fused_end(Fused *f, Status ran)
{
    f->over = true;
    f->status = ran;
    const bool followed = whole_end(f->whole);
    if (f->status == STATUS_OK && !followed)
        f->status = status_fail("the step's layers were not used as often as when it was rehearsed");
    return f->status;
}

Status fused_try(Fused *f, const Update *u)
{
    take(f, u);
    for (int i = 0; i < f->p->count; i++)
        TRY(move(f, i));
    return STATUS_OK;
}
