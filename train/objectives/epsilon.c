/* The model tells the noise. */
#include "objective.h"

#include <math.h>
#include <string.h>

static void target(NoiseLevel l, const float *latent, const float *noise, int64_t n, float *out)
{
    (void)l;
    (void)latent;
    memcpy(out, noise, (size_t)n * sizeof *out);
}

static double min_snr(double snr, double gamma)
{
    return snr > gamma ? gamma / snr : 1; /* also right where the SNR is 0 */
}

static double debiased(double snr)
{
    return 1 / sqrt(snr);
}

const Objective objective_epsilon = {.name = "epsilon",
                                     .prediction = PREDICT_EPSILON,
                                     .timestep = objective_uniform_timestep,
                                     .level = objective_alpha_level,
                                     .target = target,
                                     .min_snr = min_snr,
                                     .debiased = debiased,
                                     .loss = objective_mean_squares};
