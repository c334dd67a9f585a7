/* The four pieces of work that pictures are made of, each a step on the context: text to states, latents to a
 * prediction, latents to pixels, pixels to moments. Their memory is planned once for each set of sizes and
 * adapters, and the plans used last are kept. Nothing is recorded on the tape: these also run between
 * training steps, on the same context. */
#ifndef ATL_STAGES_H
#define ATL_STAGES_H

#include "data/pictures/size.h"
#include "infer/models/model.h"

#define STAGES_PLAN_BYTES ((size_t)8 << 20) /* of plans kept: some fifty of SD1.5's UNet */

typedef struct Stages Stages;

Status stages_new(Ctx *c, Model *m, Stages **out); /* borrows both */
void stages_free(Stages *s);
/* From now on maps go on at the opposite edge: bits of kernels/ctx.h's Wrap. */
void stages_wrap(Stages *s, unsigned wrap);

/* What of the UNet's deep part is kept for later calls: f32 (batch,h,w,D), D unet_deep_channels. */
typedef enum DeepUse { DEEP_FORGOTTEN, DEEP_KEPT, DEEP_TAKEN } DeepUse;

/* Bytes of arena that each needs for these sizes; nothing is computed. */
Status stage_text_plan(Stages *s, int clip_skip, size_t *bytes);
Status stage_unet_plan(Stages *s, int batch, Size size, const ConditioningShape *text, DeepUse use,
                       size_t *bytes);
Status stage_decode_plan(Stages *s, Size size, size_t *bytes);
Status stage_encode_plan(Stages *s, Size size, size_t *bytes);

/* Arithmetic of one run of each, after it was planned. */
double stage_unet_flop(Stages *s, int batch, Size size, const ConditioningShape *text);
double stage_decode_flop(Stages *s, Size size);
double stage_encode_flop(Stages *s, Size size);

/* ids, as conditioning_ids gives them, and vectors in place of some tokens' own, or NULL -> out:
 * conditioning_text_size floats. */
Status stage_text(Stages *s, int clip_skip, const int32_t *ids, const TokenVectors *vectors, float *out);
/* One evaluation of the UNet. */
typedef struct UNetCall {
    int batch;
    Size size;
    ConditioningShape shape;
    const float *x, *text; /* (batch,C,h,w); the floats of a batch of that shape */
    float timestep;        /* one for all */
    DeepUse use;
    float *deep; /* written, or read */
    float *out;  /* (batch,C,h,w) */
} UNetCall;
Status stage_unet(Stages *s, const UNetCall *call);
/* z f32 (4,h,w), divided by the scaling factor -> out f32 (h·f,w·f,3), about [-1,1]. */
Status stage_decode(Stages *s, Size size, const float *z, float *out);
/* pixels f32 (H,W,3) in [-1,1] -> out f32 (8,H/f,W/f): means, then log-variances. */
Status stage_encode(Stages *s, Size size, const float *pixels, float *out);
/* The same in two halves (infer/models/vae.h): between them f32 (h,w,D), D vae_inner_channels. */
Status stage_decode_inner(Stages *s, Size size, const float *z, float *out);
Status stage_encode_inner(Stages *s, Size size, const float *h, float *out);
/* The outer ones take parts of the picture, all of one size, whose group norms go by one statistic: f32
 * (2·norms,norm_groups) each, norms vae_outer_norms; kernels/ops.h, GroupStatistics, says what each is. */
typedef struct PartNorms {
    int parts;
    const float *given, *correction;
    float *measured;
    int top, left; /* in latents: of one part what is measured where they are given */
    Size piece;
} PartNorms;
Status stage_decode_outer(Stages *s, Size size, const float *h, const PartNorms *norms, float *out);
Status stage_encode_outer(Stages *s, Size size, const float *pixels, const PartNorms *norms, float *out);
Status stage_decode_inner_plan(Stages *s, Size size, size_t *bytes);
Status stage_encode_inner_plan(Stages *s, Size size, size_t *bytes);
Status stage_decode_outer_plan(Stages *s, Size size, const PartNorms *norms, size_t *bytes);
Status stage_encode_outer_plan(Stages *s, Size size, const PartNorms *norms, size_t *bytes);

#endif
