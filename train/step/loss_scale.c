#include "loss_scale.h"

#define GROWTH 2.0
#define BACKOFF 0.5

LossScale loss_scale_begin(DType activations, LossScale kept)
{
    if (activations != DTYPE_F16)
        return (LossScale){.factor = 1};
    return kept.factor >= 1 ? (LossScale){.factor = kept.factor, .good = kept.good, .on = true}
                            : (LossScale){.factor = LOSS_SCALE_FIRST, .on = true};
}

void loss_scale_grow(LossScale *s)
{
    if (!s->on || ++s->good < LOSS_SCALE_PATIENCE)
        return;
    s->factor *= GROWTH;
    s->good = 0;
}

bool loss_scale_shrink(LossScale *s)
{
    if (!s->on || s->factor <= 1)
        return false;
    s->factor *= BACKOFF;
    s->good = 0;
    return true;
}
