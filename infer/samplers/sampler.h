/* Samplers: the ways from noise to a picture, as diffusers' defaults have them. What one is, for the files in
 * this folder, says family.h.
 *
 *     TRY(sampler_new("euler", &model->schedule, 20, n, &s));
 *     x = noise * sampler_initial_scale(s)
 *     for (int i = 0; i < sampler_steps(s); i++) {
 *         sampler_input(s, i, x, input);
 *         output = model(input, sampler_timestep(s, i))
 *         sampler_step(s, i, output, &noise, x);
 *     }
 */
#ifndef ATL_SAMPLER_H
#define ATL_SAMPLER_H

#include "kernels/base/random.h"
#include "kernels/base/status.h"
#include "schedule.h"

/* All of them, by the word that users choose one by: infer/samplers/WORD.c has sampler_WORD. */
#define ATL_SAMPLERS(X)                                                                                      \
    X(ddim)                                                                                                  \
    X(euler)                                                                                                 \
    X(euler_a)                                                                                               \
    X(dpmpp_2m)
#define SAMPLER_DEFAULT "ddim"

/* "ddim|euler|…", as options and the configuration's schema have choices. */
#define SAMPLER_OR(word) "|" #word
#define SAMPLER_WORDS (&ATL_SAMPLERS(SAMPLER_OR)[1])

typedef struct SamplerKind {
    const char *name, *label; /* "euler_a"; "Euler a", as A1111 writes it into pictures */
    const char *description;  /* what it is good for, in few words */
    bool clips;               /* clamps x0 where the model's schedule says clip_sample */
} SamplerKind;
const SamplerKind *sampler_kinds(int *count);      /* in the table's order */
const SamplerKind *sampler_kind(const char *name); /* NULL: there is none of this name */

/* Where the noise comes from that a sampler adds on its way: one source a picture, the same that the first x
 * was drawn from. */
typedef struct NoiseSource {
    void (*draw)(void *arg, float *out, size_t n);
    void *arg;
} NoiseSource;
NoiseSource noise_from_torch(TorchRandom *g); /* torch.randn(generator=g) */

typedef struct Sampler Sampler;
/* One walk of one picture of n numbers, from the first step to the last. */
Status sampler_new(const char *name, const NoiseSchedule *s, int steps, size_t n, Sampler **out);
void sampler_free(Sampler *s);
int sampler_steps(const Sampler *s);
float sampler_timestep(const Sampler *s, int i);                         /* what the model is told */
float sampler_initial_scale(const Sampler *s);                           /* the first x = noise * this */
void sampler_input(const Sampler *s, int i, const float *x, float *out); /* what the model is given for x */
/* x of step i and the model's (guided) output -> x of step i+1, in place. */
void sampler_step(Sampler *s, int i, const float *output, const NoiseSource *noise, float *x);
/* Noises clean latents to the level of step `start` (picture to picture). */
void sampler_add_noise(const Sampler *s, int start, const float *x0, const float *noise, float *out);

#endif
