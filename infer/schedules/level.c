#include "level.h"

#include <math.h>

NoiseLevel level_of_alpha(float t, float alpha_cumprod)
{
    return (NoiseLevel){t, sqrtf(alpha_cumprod), sqrtf(1 - alpha_cumprod), 1};
}

NoiseLevel level_of_sigma(float t, float sigma)
{
    return (NoiseLevel){t, 1, sigma, sigma * sigma + 1};
}

NoiseLevel level_of_sigma_shrunk(float t, float sigma)
{
    const float signal = 1 / sqrtf(sigma * sigma + 1);
    return (NoiseLevel){t, signal, sigma * signal, 1};
}

void level_mix(NoiseLevel l, const float *x0, const float *noise, float *out, size_t n)
{
    for (size_t k = 0; k < n; k++)
        out[k] = l.signal * x0[k] + l.noise * noise[k];
}

void level_input(NoiseLevel l, const float *x, float *out, size_t n)
{
    const float divisor = sqrtf(l.power);
    for (size_t k = 0; k < n; k++)
        out[k] = x[k] / divisor;
}

/* The model was given x/√power, in which the picture's share is signal/√power and the noise's noise/√power: v
 * is told of those. */
void level_split(NoiseLevel l, PredictionType p, const float *x, const float *output, float *x0, float *noise,
                 size_t n)
{
    const float root = sqrtf(l.power), signal = l.signal / root, share = l.noise / root;
    for (size_t k = 0; k < n; k++)
        switch (p) {
        case PREDICT_EPSILON:
            noise[k] = output[k];
            x0[k] = (x[k] - l.noise * output[k]) / l.signal;
            break;
        case PREDICT_V:
            x0[k] = l.signal * x[k] / l.power - share * output[k];
            noise[k] = signal * output[k] + l.noise * x[k] / l.power;
            break;
        case PREDICT_SAMPLE:
            x0[k] = output[k];
            noise[k] = (x[k] - l.signal * output[k]) / l.noise;
            break;
        }
}

void level_output(NoiseLevel l, PredictionType p, const float *x, const float *x0, float *out, size_t n)
{
    const float share = l.noise / sqrtf(l.power);
    for (size_t k = 0; k < n; k++)
        out[k] = p == PREDICT_EPSILON ? (x[k] - l.signal * x0[k]) / l.noise
                 : p == PREDICT_V     ? (l.signal * x[k] / l.power - x0[k]) / share
                                      : x0[k];
}
