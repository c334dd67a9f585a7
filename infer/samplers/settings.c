#include "settings.h"

#include "infer/files/json_config.h"

#include <string.h>

static SigmaCurve read_curve(JsonConfig *c)
{
    static const struct {
        const char *key;
        SigmaCurve curve;
    } CURVES[] = {{"use_karras_sigmas", CURVE_KARRAS},
                  {"use_exponential_sigmas", CURVE_EXPONENTIAL},
                  {"use_beta_sigmas", CURVE_BETA},
                  {"use_lu_lambdas", CURVE_LU}};
    SigmaCurve found = CURVE_NONE;
    for (size_t i = 0; i < sizeof CURVES / sizeof *CURVES; i++)
        if (json_config_bool(c, CURVES[i].key, false)) {
            if (found != CURVE_NONE)
                json_config_fail(c, "%s and another curve of sigmas at once", CURVES[i].key);
            found = CURVES[i].curve;
        }
    return found;
}

static void read_solver(JsonConfig *c, SamplerSettings *s)
{
    const char *type = json_config_text(c, "solver_type", "");
    s->order = json_config_int(c, "solver_order", 2, 1, 3);
    s->heun = strcmp(type, "heun") == 0;
    s->bh1 = strcmp(type, "bh1") == 0;
    s->lower_order_final = json_config_bool(c, "lower_order_final", true);
    s->euler_at_final = json_config_bool(c, "euler_at_final", false);
}

static void read_limits(JsonConfig *c, const SettingsDefaults *d, SamplerSettings *s)
{
    if (d->thresholds) {
        s->threshold = json_config_bool(c, "thresholding", false);
        s->threshold_ratio = json_config_float(c, "dynamic_thresholding_ratio", 0.995, 0, 1);
        s->threshold_most = json_config_float(c, "sample_max_value", 1, JSON_POSITIVE, 1e6);
    }
    const double range = json_config_float(c, "clip_sample_range", 1, JSON_POSITIVE, 1e6);
    if (d->clips && json_config_bool(c, "clip_sample", d->clip_sample) && !s->threshold)
        s->clip = range;
}

static void read_seed(JsonConfig *c, SamplerSettings *s)
{
    s->has_noise_seed = json_config_get(c, "noise_sampler_seed") != NULL;
    s->noise_seed = (uint64_t)json_config_int(c, "noise_sampler_seed", 0, 0, 0x7fffffff);
}

Status sampler_settings_read(const char *json, const SettingsDefaults *d, SamplerSettings *out)
{
    static const SettingsDefaults NOTHING = {0};
    JsonConfig c;
    d = d ? d : &NOTHING;
    *out = (SamplerSettings){0};
    json_config_open(&c, json, "scheduler_config.json");
    if (d->curves) {
        out->curve = read_curve(&c);
        out->sigma_max = json_config_float(&c, "sigma_max", 0, 0, 1e6);
        out->sigma_min = json_config_float(&c, "sigma_min", 0, 0, 1e6);
    }
    if (d->final_sigma)
        out->to_sigma_min = strcmp(json_config_text(&c, "final_sigmas_type", "zero"), "sigma_min") == 0;
    if (d->solver)
        read_solver(&c, out);
    read_limits(&c, d, out);
    out->end_at_first = !json_config_bool(&c, "set_alpha_to_one", d->set_alpha_to_one);
    out->runge_kutta = !json_config_bool(&c, "skip_prk_steps", false);
    out->original_steps = json_config_int(&c, "original_inference_steps", 50, 1, 100000);
    out->timestep_scaling = json_config_float(&c, "timestep_scaling", 10, 0, 1e6);
    read_seed(&c, out);
    return json_config_close(&c);
}
