/* AdamW with its two means in 8 bits: a quarter of the memory. */
#include "optimizers.h"

#include "kernels/base/mem.h"

static void set(const OptimizerSettings *s, Update *u)
{
    optimizer_adamw.set(s, u);
    u->kind = UPDATE_ADAMW8BIT;
}

static char *describe(const OptimizerSettings *s)
{
    return mem_printf("atelier.AdamW8bit(weight_decay=%g,betas=(%g, %g),eps=%g)", s->weight_decay, s->beta1,
                      s->beta2, s->eps);
}

const Optimizer optimizer_adamw8bit = {
    .name = "adamw8bit", .states = {"m", "v"}, .codes = true, .set = set, .describe = describe};
