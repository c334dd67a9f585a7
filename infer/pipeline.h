/* From prompts to pictures: the one path that `atelier sample`, previews and class pictures take. */
#ifndef ATL_PIPELINE_H
#define ATL_PIPELINE_H

#include "../data/picture.h"
#include "model.h"

typedef struct SampleRequest {
    const char *prompt, *negative;   /* negative NULL: "" */
    int steps;                       /* 20 */
    float guidance;                  /* 7.5; 1 or less: no guidance */
    const char *sampler;             /* "ddim" */
    uint64_t seed;
    int width, height;               /* 0: the model's default size */
    int clip_skip;
} SampleRequest;
SampleRequest sample_request_default(void);

/* Called after every step; returning false stops (STATUS_INTERRUPTED). latents f32 (1,4,h,w) NCHW. */
typedef bool (*SampleProgress)(int step, int steps, const float *latents, void *arg);

typedef struct SampleResult {
    Picture picture;                 /* RGB */
    Tensor *latents;                 /* f32 (1,4,h,w) NCHW, final, scaled */
} SampleResult;
void sample_result_free(SampleResult *r);

typedef struct Pipeline Pipeline;
/* The pipeline borrows c and m; it plans (text, UNet, VAE) steps once per size and keeps the plans. */
Status pipeline_new(Ctx *c, Model *m, Pipeline **out);
void pipeline_free(Pipeline *p);
/* The largest arena that a picture of this size needs, in bytes, without computing anything. */
Status pipeline_plan(Pipeline *p, const SampleRequest *r, size_t *bytes);
Status pipeline_sample(Pipeline *p, const SampleRequest *r, SampleProgress progress, void *arg, SampleResult *out);
/* Prompt -> f32 (1,77,D), one caption at a time (design, section 2). out: D*77 floats, caller's. */
Status pipeline_encode_text(Pipeline *p, const char *prompt, int clip_skip, float *out);
/* pixels f32 NHWC (H,W,3) in [-1,1] -> mean and standard deviation f32 (4,h,w) NCHW each, unscaled. */
Status pipeline_encode_picture(Pipeline *p, const float *pixels, int height, int width, float *mean, float *std);

#endif
