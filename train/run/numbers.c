#include "numbers.h"

#include "kernels/base/machine.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>

#define SMOOTHING 50 /* steps */

/* The log ---------------------------------------------------------------------------------------------- */

static json_t *number_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *bands_json(const double bands[PASS_BANDS])
{
    json_t *list = json_array();
    for (int i = 0; i < PASS_BANDS; i++)
        json_array_append_new(list, number_or_null(bands[i]));
    return list;
}

json_t *numbers_json(const Setup *setup, const CheckpointState *s, bool validated)
{
    json_t *line =
        json_pack("{s:I,s:f,s:f,s:o,s:f,s:f,s:f,s:f,s:I,s:I,s:o,s:I,s:I}", "step", (json_int_t)s->step,
                  "loss", s->loss, "lr", s->lr, "grad_norm", number_or_null(s->grad_norm), "seconds",
                  s->seconds, "epoch", setup_epochs(setup, s->step), "update_norm", s->moved.unet,
                  "change_norm", s->change_norm, "updates", (json_int_t)(s->step - s->skipped), "skipped",
                  (json_int_t)s->skipped, "loss_bands", bands_json(s->bands), "memory_bytes",
                  (json_int_t)machine_current_bytes(), "allocated_bytes", (json_int_t)mem_in_use());
    if (line && setup->parameters->groups & 1 << GROUP_TEXT)
        json_object_set_new(line, "update_norm_text_encoder", json_real(s->moved.text));
    if (line && setup->parameters->groups & 1 << GROUP_TEXT_2)
        json_object_set_new(line, "update_norm_text_encoder_2", json_real(s->moved.text_2));
    if (line && s->scale.on)
        json_object_set_new(line, "loss_scale", json_real(s->scale.factor));
    if (line && config_has_prior(setup->config)) {
        json_object_set_new(line, "loss_subject", json_real(s->loss_subject));
        json_object_set_new(line, "loss_prior", json_real(s->loss_prior));
    }
    if (line && validated)
        json_object_set_new(line, "validation_loss", json_real(s->validation));
    if (line && s->step == 1 && isfinite(s->validation_before))
        json_object_set_new(line, "validation_loss_before", json_real(s->validation_before));
    return line;
}

/* The progress line ------------------------------------------------------------------------------------ */

Smoothed numbers_unseen(void)
{
    Smoothed m = {0};
    for (int i = 0; i < PASS_BANDS; i++)
        m.bands[i] = NAN;
    return m;
}

void numbers_show(const Config *config, const CheckpointState *s, Smoothed *m, Progress *progress)
{
    const double rate = 1.0 / SMOOTHING;
    char bands[80] = "", skipped[40] = "", prior[40] = "";
    size_t at = 0;
    m->loss = m->loss * (1 - rate) + s->loss * rate;
    m->weight = m->weight * (1 - rate) + rate;
    if (config_has_prior(config)) {
        m->prior = m->prior * (1 - rate) + s->loss_prior * rate;
        snprintf(prior, sizeof prior, "  prior %.4f", m->prior / m->weight);
    }
    for (int i = 0; i < PASS_BANDS; i++) {
        double *band = &m->bands[i];
        if (isfinite(s->bands[i]))
            *band = isfinite(*band) ? *band * (1 - rate) + s->bands[i] * rate : s->bands[i];
        if (at < sizeof bands)
            at += (size_t)snprintf(bands + at, sizeof bands - at, isfinite(*band) ? "%s%.3f" : "%s–",
                                   i ? " " : "", *band);
    }
    if (s->skipped)
        snprintf(skipped, sizeof skipped, "  %lld skipped", (long long)s->skipped);
    progress_update(progress, s->step, "loss %.4f%s  moved %.3g  %.2f GB%s  [%s]", m->loss / m->weight, prior,
                    s->change_norm, (double)machine_current_bytes() / 1e9, skipped, bands);
}
