/* The clock between operations (profile.h). */
#include "profile.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "ctx_state.h"

#include <string.h>

void ctx_set_profile(Ctx *c, Profile *p)
{
    c->state->profile = p;
}

void profile_free(Profile *p)
{
    mem_free(p->entries);
    *p = (Profile){0};
}

/* The profile that the context's step goes into, or NULL. */
static Profile *open_profile(const Ctx *c)
{
    return c->live ? c->state->profile : NULL;
}

void profile_begin(Ctx *c)
{
    Profile *p = open_profile(c);
    if (p)
        p->at = 0;
}

/* The open operation has ended. */
void profile_done(Ctx *c)
{
    Profile *p = open_profile(c);
    if (!p || p->at == 0)
        return;
    op_check(c, c->dev->settle());
    ProfileEntry *e = &p->entries[p->at - 1];
    const double seconds = seconds_now() - p->began;
    if (e->seconds == 0 || seconds < e->seconds)
        e->seconds = seconds;
    e->flop = p->flop;
    e->bytes = p->bytes;
}

void profile_next(Ctx *c, const char *op, const Layer *layer)
{
    profile_done(c);
    Profile *p = open_profile(c);
    if (!p)
        return;
    if (!mem_grow(&p->entries, p->at, &p->capacity, sizeof *p->entries)) {
        op_check(c, STATUS_FAILED);
        return;
    }
    if (p->at == p->count)
        p->entries[p->count++] = (ProfileEntry){.op = op, .layer = layer};
    p->at++;
    p->flop = p->bytes = 0;
    p->seen_count = 0;
    p->began = seconds_now();
}

void profile_flop(Ctx *c, double flop)
{
    Profile *p = open_profile(c);
    if (p)
        p->flop += flop;
}

void profile_tensor(Ctx *c, const Tensor *t)
{
    Profile *p = open_profile(c);
    if (!p || !t || !t->data || p->seen_count == PROFILE_TENSORS)
        return;
    for (int i = 0; i < p->seen_count; i++)
        if (p->seen[i] == t->data)
            return;
    p->seen[p->seen_count++] = t->data;
    p->bytes += (double)tensor_bytes(t);
}
