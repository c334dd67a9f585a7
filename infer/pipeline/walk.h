/* Everything that one picture needs while it is made, for the files that make it. */
#ifndef ATL_WALK_H
#define ATL_WALK_H

#include "infer/samplers/sampler.h"
#include "canvas.h"
#include "inside.h"

#define INPAINTING_CHANNELS (2 * LATENT_CHANNELS + 1) /* latents, mask, the latents of what is not masked */

typedef struct Walk {
    Pipeline *p;
    const SampleRequest *r;
    Sampler *sampler;
    NoiseKind rng;
    Noise random, random_added;
    NoiseSource noise, added; /* the first, and what the sampler adds */
    Size size;                /* of the latents */
    int batch;                /* 2 with guidance */
    int first;                /* the step that is done first */
    int tile;                 /* side in latents of the tiles that the VAE works by; 0: none */
    int channels;             /* that the UNet takes */
    size_t plane, n;          /* numbers of one channel, and of the latents */
    Told *told;
    ConditioningShape shape; /* of text */
    Canvas canvas;           /* of r->begin, where there is a picture */
    float *memory;
    float *x, *before, *guided;     /* (n) */
    float *input, *prediction;      /* (batch,channels,h,w), (batch,n) */
    float *text, *text_one, *spare; /* a batch's; the prompt's alone; (n) */
    float *direction; /* (n): the guidance of the last step that had both halves, where that is kept */
    bool direction_known;
    float *deep;     /* (batch,h,w,D): the UNet's deep part, where that is kept */
    int deep_batch;  /* of how many it is; 0: of none yet */
    int batch_done;  /* predictions of the step */
    float *drawn;    /* (n): the noise that x was begun with; for x beside a picture only */
    float *original; /* (n): the picture's latents, scaled; likewise */
    float *mask;     /* (plane): 1 is painted anew; likewise */
    float *more;     /* (channels - 4,h,w): what the UNet is given beside the latents */
} Walk;

/* How the steps are counted where only a share of them is done: a walk of `grid` steps of which the first
 * `skipped` are left out. Refuses a strength with which nothing would be done. */
Status begin_steps(const SampleRequest *r, int *grid, int *skipped);
/* Fills x and what else the walk begins with, drawing noise in diffusers' order. */
Status walk_start(Walk *w);
/* Fills in prediction and guided for step i from input. */
Status walk_predict(Walk *w, int i);
/* Outside of the mask it is the picture's again, where the program that is followed does it there: of the
 * latents that the UNet is given at step i, of what it said, of x after the step. */
void walk_blend_input(Walk *w, int i);
void walk_blend_guided(Walk *w, int i);
void walk_blend(Walk *w, int i);

/* One pass: pipeline_plan(), pipeline_flop(), pipeline_steps() and pipeline_sample() of a request without a
 * second; picture: it is decoded, not only its latents made. */
Status pass_plan(Pipeline *p, const SampleRequest *r, size_t *bytes);
double pass_flop(Pipeline *p, const SampleRequest *r);
Status pass_steps(const Model *m, const SampleRequest *r, int *steps);
Status pass_sample(Pipeline *p, const SampleRequest *r, bool picture, SampleProgress progress, void *arg,
                   SampleResult *out);

#endif
