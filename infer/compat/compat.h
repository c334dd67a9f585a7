/* What programs do differently with the same model, prompt and seed: a row for each. Code that depends on it
 * asks for the row's word, never for the program. */
#ifndef ATL_COMPAT_H
#define ATL_COMPAT_H

#include "infer/samplers/sampler.h"
#include "infer/text/emphasis.h"

#include <stdbool.h>

/* How many of n steps are done from a picture at strength s: ⌊n s⌋; ⌊n min(s, 0.999)⌋ + 1; or n, the last of
 * ⌊n / s⌋. */
typedef enum StrengthRule { STRENGTH_SHARE, STRENGTH_SHARE_AND_ONE, STRENGTH_LONGER_GRID } StrengthRule;

/* What inpainting does for what is outside of the mask: after each step x is the picture's there again, with
 * the noise that belongs there; or at each call of the model the picture without noise that it sees in x is
 * (of samplers that go by timesteps: x itself, as the model is given it), and x in the end; or at each call
 * both what the model is given, with the noise that belongs there, and the picture that it sees. */
typedef enum InpaintRule { INPAINT_STEPS, INPAINT_CALLS, INPAINT_BOTH } InpaintRule;

/* A mask at the latents' size: 1 where the upper left pixel of a latent's square is half white or more, else
 * 0; the mean of the square; or that of its four middle pixels. */
typedef enum MaskReduction { MASK_UPPER_LEFT, MASK_MEAN, MASK_MIDDLE } MaskReduction;

/* What a clip skip does: so many layers fewer of the prompt, and the negative prompt as ever; of both;
 * nothing; or, with SDXL, whose states are those before the last layer anyway, it counts from the last layer,
 * so that the first changes nothing. */
typedef enum SkipRule { SKIP_OF_PROMPT, SKIP_OF_BOTH, SKIP_NOTHING, SKIP_FROM_LAST } SkipRule;

/* When SDXL's negative prompt is zeros instead of what a text becomes: where there is none; where it is
 * empty; never, and no prompt is an empty one. */
typedef enum ZeroRule { ZEROS_ABSENT, ZEROS_EMPTY, ZEROS_NEVER } ZeroRule;

typedef struct Compat {
    const char *name, *label;
    /* Clip skip where all of the text encoder's layers are used: diffusers counts those left out, A1111 from
     * the end, beginning with 1. */
    int clip_skip_none;
    SkipRule skip, sdxl_skip; /* with SD1.x and SD2.x; with SDXL */
    ZeroRule zero_negative;
    PromptSyntax prompts;       /* what prompts are read as */
    SamplerConvention sampling; /* how grids of noise levels are read */
    const char *rng;            /* the generator that noise is drawn from where nothing is said */
    /* That is only what samplers add, from a generator of its own, on a processor of the seed after; the
     * first noise and Brownian motions are always a processor's. */
    bool noise_apart;
    StrengthRule strength, hires; /* the second: in a second pass */
    /* A picture's latents are drawn from what the VAE says they may be, with the picture's own seed;
     * otherwise they are its mean (A1111 draws them, but from a generator that no seed sets). */
    bool draws_latents;
    InpaintRule inpaint;
    MaskReduction mask; /* to the latents' size, where it is not asked to be soft */
    bool pastes; /* inpainting: what is not masked is put back as it was, whatever the VAE made of it */
    bool checks_pictures; /* by the model's own safety checker, where nothing is said */
} Compat;

#define COMPAT_CHOICES "diffusers|a1111|comfy"
#define COMPAT_DEFAULT "diffusers"

const Compat *compat_find(const char *name); /* NULL: no such program; name NULL: the default */
const Compat *compat_of(const Compat *row);  /* row, or the default's where it is NULL */

#endif
