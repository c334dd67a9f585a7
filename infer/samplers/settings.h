/* What a model's scheduler_config.json says about the way from noise to a picture, beside its noise schedule.
 * A key that stands in it is kept by every sampler whose scheduler in diffusers knows it. */
#ifndef ATL_SAMPLER_SETTINGS_H
#define ATL_SAMPLER_SETTINGS_H

#include "infer/schedules/grid.h"

#include <stdint.h>

typedef struct SamplerSettings {
    SigmaCurve curve;            /* use_karras_sigmas and its like */
    double sigma_max, sigma_min; /* of the curve; 0: as the schedule has it */
    bool to_sigma_min;           /* final_sigmas_type: sigma_min, not zero */
    int order;                   /* solver_order */
    bool heun;                   /* solver_type: heun, not midpoint */
    bool bh1;                    /* solver_type: bh1, not bh2 */
    bool lower_order_final, euler_at_final;
    bool threshold; /* x0 is clamped to its own quantile and divided by it (Saharia et al. 2022) */
    double threshold_ratio, threshold_most;
    double clip;       /* x0 is clamped to ± clip; 0: it is not */
    bool end_at_first; /* the last step ends at the first timestep's level, not at no noise */
    bool runge_kutta;  /* PNDM's first steps */
    int original_steps;
    double timestep_scaling; /* LCM's */
    bool has_noise_seed;
    uint64_t noise_seed;
} SamplerSettings;

/* Which of them a scheduler of diffusers follows, and what it takes where the file says nothing. */
typedef struct SettingsDefaults {
    bool curves, final_sigma, solver, thresholds, clips;
    bool clip_sample;      /* absent: true */
    bool set_alpha_to_one; /* absent: true */
} SettingsDefaults;

/* Refuses values of the wrong type or range, naming the key. d NULL: follows nothing. */
Status sampler_settings_read(const char *json, const SettingsDefaults *d, SamplerSettings *out);

#endif
