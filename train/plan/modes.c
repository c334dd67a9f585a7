#include "modes.h"

static const struct {
    const char *name;
    Switch checkpointing;
    Switch packing;
} MODES[MODE_COUNT] = {
    [MODE_AUTO] = {"auto", SWITCH_AUTO, SWITCH_AUTO},
    [MODE_MINIMAL] = {"minimal", SWITCH_ON, SWITCH_OFF},
    [MODE_BALANCED] = {"balanced", SWITCH_ON, SWITCH_ON},
    [MODE_SPEED] = {"speed", SWITCH_OFF, SWITCH_ON},
};

void mode_settle(Config *c, TrainMode mode)
{
    c->train.mode = mode;
    if (c->train.checkpointing == SWITCH_AUTO)
        c->train.checkpointing = MODES[mode].checkpointing;
    if (c->train.pack_weights == SWITCH_AUTO)
        c->train.pack_weights = MODES[mode].packing;
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
