#include "optimizers.h"

#define IN_TABLE(name, what) &optimizer_##name,
static const Optimizer *const TABLE[] = {OPTIMIZERS(IN_TABLE)};

const Optimizer *optimizer_at(int kind)
{
    return kind >= 0 && kind < (int)(sizeof TABLE / sizeof *TABLE) ? TABLE[kind] : NULL;
}

int optimizer_states(const Optimizer *o)
{
    int count = 0;
    while (count < UPDATE_STATES && o->states[count])
        count++;
    return count;
}
