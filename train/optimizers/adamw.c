/* AdamW: two means a weight, m of the gradients and v of their squares. */
#include "optimizers.h"

#include "kernels/base/mem.h"

static void set(const OptimizerSettings *s, Update *u)
{
    u->kind = UPDATE_ADAMW;
    u->weight_decay = s->weight_decay;
    u->beta1 = s->beta1;
    u->beta2 = s->beta2;
    u->eps = s->eps;
}

static char *describe(const OptimizerSettings *s)
{
    return mem_printf("atelier.AdamW(weight_decay=%g,betas=(%g, %g),eps=%g)", s->weight_decay, s->beta1,
                      s->beta2, s->eps);
}

const Optimizer optimizer_adamw = {.name = "adamw", .states = {"m", "v"}, .set = set, .describe = describe};
