/* A noise level, and what a model's output says at it.
 *
 * A sampler carries x = signal·x0 + noise·ε: a picture x0 (its latents) and standard normal noise ε. Samplers
 * differ in how they keep x: DDIM shrinks the picture as noise comes in (signal² + noise² = 1), Euler leaves
 * it as it is (signal = 1, noise = σ), flow matching goes along a line (signal = 1 - σ, noise = σ). Each is a
 * few numbers, so nobody looks up an index of ᾱ. Arithmetic is f32 in diffusers' order, element by element.
 */
#ifndef ATL_LEVEL_H
#define ATL_LEVEL_H

#include <stddef.h>

/* What a model tells: ε, v = √ᾱ ε - √(1-ᾱ) x0 (Salimans & Ho 2022), or x0 itself. */
typedef enum PredictionType { PREDICT_EPSILON = 0, PREDICT_V, PREDICT_SAMPLE } PredictionType;

typedef struct NoiseLevel {
    float t;             /* what the model is told */
    float signal, noise; /* x = signal·x0 + noise·ε */
    float power;         /* the model is given x/√power: signal² + noise², where that is not 1 */
} NoiseLevel;

/* √ᾱ x0 + √(1-ᾱ) ε */
NoiseLevel level_of_alpha(float t, float alpha_cumprod);
/* x0 + σ ε */
NoiseLevel level_of_sigma(float t, float sigma);
/* The same level, shrunk: (x0 + σ ε)/√(σ²+1) */
NoiseLevel level_of_sigma_shrunk(float t, float sigma);

/* n numbers each; out may be x or x0. */
void level_mix(NoiseLevel l, const float *x0, const float *noise, float *out, size_t n);
/* What the model is given for x. */
void level_input(NoiseLevel l, const float *x, float *out, size_t n);
/* What the model's output says is in x: the picture, and the noise. */
void level_split(NoiseLevel l, PredictionType p, const float *x, const float *output, float *x0, float *noise,
                 size_t n);
/* The output of the model that says that the picture in x is x0; out may be x0. The level has noise. */
void level_output(NoiseLevel l, PredictionType p, const float *x, const float *x0, float *out, size_t n);

#endif
