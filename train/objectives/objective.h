/* What a model is asked in training, and how its answer is judged: a latent, a noise level, noise, and the
 * answer that it should give. Each objective is a file here and a line of OBJECTIVES; from the table follow
 * the words of model.prediction and their help. One without PyTorch's numbers does not pass its test
 * (tests/train/test_objectives.c).
 *
 * Ho et al. 2020: x_t = √ᾱ x₀ + √(1−ᾱ) ε. All but the step is small host work in f32, so that the numbers are
 * the same whatever the model is computed in, and tests can give PyTorch's. Everything drawn comes from the
 * keyed generator: optimizer step and place of the sample in that step tell the numbers, so batch 4 and batch
 * 1 × accumulate 4 see the same ones. Latents, noise and targets are (C,H,W), one sample at a time. */
#ifndef ATL_OBJECTIVE_H
#define ATL_OBJECTIVE_H

#include "infer/schedules/schedule.h"
#include "kernels/tensor.h"

typedef struct Ctx Ctx;

/* X(name, what the model tells, as a sentence) */
#define OBJECTIVES(X)                                                                                        \
    X(epsilon, "The noise ε; Ho et al. 2020")                                                                \
    X(v_prediction, "v = √ᾱ·ε − √(1−ᾱ)·x₀; Salimans & Ho 2022")                                              \
    X(sample, "The picture's latent x₀ itself")

/* Which sample: the seed, the optimizer step (from 1), the place in the step over all micro-batches. */
typedef struct SampleKey {
    uint64_t seed;
    uint32_t step, sample;
} SampleKey;

/* The training step, as far as an objective has to do with it: each is asked for once or more, in the order
 * in which its memory is to be taken. of: what they want to be given. */
typedef struct StepParts {
    const void *of;
    Tensor *(*prediction)(Ctx *c, const void *of); /* (B,H,W,C) f32: the model's answers */
    Tensor *(*target)(Ctx *c, const void *of);     /* (B,H,W,C) f32: those it should give */
    Tensor *(*weights)(Ctx *c, const void *of);    /* (B) samples', or (B,H,W) positions': factors */
} StepParts;

typedef struct Objective {
    const char *name;          /* the word of model.prediction, and of prediction_type in a model's files */
    PredictionType prediction; /* what samplers take the answer for */
    /* What it prepares: which timestep a sample is asked at, the level that is, what should be answered
     * there. The model is given the level's mixture of latent and noise. */
    int (*timestep)(SampleKey k, const NoiseSchedule *s);
    NoiseLevel (*level)(const NoiseSchedule *s, int t);
    void (*target)(NoiseLevel l, const float *latent, const float *noise, int64_t n, float *target);
    /* How much an answer counts: min-SNR-γ (Hang et al. 2023), and the debiased estimation loss's 1/√SNR on ε
     * (Yu et al. 2023), where they are asked for. */
    double (*min_snr)(double snr, double gamma);
    double (*debiased)(double snr);
    /* The passes through the model, and the loss (one number) of what came out; *per_sample: (B), unweighted.
     */
    Tensor *(*loss)(Ctx *c, const StepParts *parts, Tensor **per_sample);
} Objective;

#define OBJECTIVE_DECLARED(name, what) extern const Objective objective_##name;
OBJECTIVES(OBJECTIVE_DECLARED)
#undef OBJECTIVE_DECLARED

/* The words one after the other, "|epsilon|…", and the sentences, " epsilon: ….…". */
#define OBJECTIVE_WORD(name, what) "|" #name
#define OBJECTIVE_SENTENCE(name, what) " " #name ": " what "."
#define OBJECTIVE_WORDS OBJECTIVES(OBJECTIVE_WORD)
#define OBJECTIVE_SENTENCES OBJECTIVES(OBJECTIVE_SENTENCE)

/* The one at this place of the table; NULL past the last. */
const Objective *objective_at(int i);
/* The one of a model that tells this. */
const Objective *objective_for(PredictionType prediction);

/* What several objectives have in common ---------------------------------------------------------------- */

/* Uniform in [0, schedule's steps). */
int objective_uniform_timestep(SampleKey k, const NoiseSchedule *s);
/* √ᾱ and √(1−ᾱ) of the schedule. */
NoiseLevel objective_alpha_level(const NoiseSchedule *s, int t);
/* mean of weight · mean((prediction − target)²) over the samples. */
Tensor *objective_mean_squares(Ctx *c, const StepParts *parts, Tensor **per_sample);

/* For all of them ---------------------------------------------------------------------------------------- */

/* n = channels × area standard normal numbers; offset > 0 adds offset × one normal number a channel (offset
 * noise). */
void objective_noise(SampleKey k, float offset, int channels, int64_t area, float *out);
/* A latent drawn from the VAE's posterior: (mean + deviation × normal) × scaling. */
void objective_latent(SampleKey k, const float *mean, const float *deviation, float scaling, int64_t n,
                      float *out);
/* The noisy latent at timestep t and what the model should answer. noisy may be latent. */
void objective_prepare(const Objective *o, const NoiseSchedule *s, int t, const float *latent,
                       const float *noise, int64_t n, float *noisy, float *target);
/* Weight of the sample's loss: min-SNR-γ, 1 where gamma is 0, times the debiased one where that is asked for.
 * As sd-scripts has it: SNR at most 1000. */
float objective_weight(const Objective *o, const NoiseSchedule *s, int t, float gamma, bool debiased);
/* Prior preservation puts as many class pictures beside the subject's: the loss is mean(weight · error) of
 * the subject's samples + prior.weight · mean(weight · error) of the class's: diffusers' train_dreambooth.py
 * where all weights are 1, and where they are not the weights of sd-scripts, which look at no kind. The step
 * divides by the number of both, so each sample's weight counts twice. */
#define OBJECTIVE_PRIOR_SHARE 2.0f

#endif
