#include "modes.h"

static const struct {
    const char *name;
    Switch checkpointing;
    Switch packing;
    Offload offload;
} MODES[MODE_COUNT] = {
    [MODE_AUTO] = {"auto", SWITCH_AUTO, SWITCH_AUTO, OFFLOAD_OFF},
    [MODE_MINIMAL] = {"minimal", SWITCH_ON, SWITCH_OFF, OFFLOAD_ALL},
    [MODE_BALANCED] = {"balanced", SWITCH_ON, SWITCH_ON, OFFLOAD_IDLE},
    [MODE_SPEED] = {"speed", SWITCH_OFF, SWITCH_ON, OFFLOAD_OFF},
};

void mode_settle(Config *c, TrainMode mode)
{
    c->train.mode = mode;
    if (c->train.checkpointing == SWITCH_AUTO)
        c->train.checkpointing = MODES[mode].checkpointing;
    if (c->train.pack_weights == SWITCH_AUTO)
        c->train.pack_weights = MODES[mode].packing;
    if (!c->train.offload)
        c->train.offload = 1 + (int)MODES[mode].offload;
}

const char *mode_name(TrainMode mode)
{
    return MODES[mode].name;
}

Status mode_table(const Setup *s, ModeTable *out)
{
    for (TrainMode mode = MODE_MINIMAL; mode < MODE_COUNT; mode++) {
        Config config = s->asked;
        config.train.mode = mode;
        TRY(setup_try(s, &config, &out->need[mode]));
    }
    return STATUS_OK;
}
