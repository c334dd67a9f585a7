/* The model tells the velocity between picture and noise. */
#include "objective.h"

#include <math.h>

static void target(NoiseLevel l, const float *latent, const float *noise, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = l.signal * noise[i] - l.noise * latent[i];
}

static double min_snr(double snr, double gamma)
{
    return fmin(snr, gamma) / (snr + 1);
}

/* As sd-scripts has it; OneTrainer takes the root of it. */
static double debiased(double snr)
{
    return 1 / (snr + 1);
}

const Objective objective_v_prediction = {.name = "v_prediction",
                                          .prediction = PREDICT_V,
                                          .timestep = objective_uniform_timestep,
                                          .level = objective_alpha_level,
                                          .target = target,
                                          .min_snr = min_snr,
                                          .debiased = debiased,
                                          .loss = objective_mean_squares};
