/* From prompts to pictures: the one path that `atelier sample`, previews and class pictures take. */
#ifndef ATL_PIPELINE_H
#define ATL_PIPELINE_H

#include "infer/compat/compat.h"
#include "infer/models/model.h"
#include "infer/models/size_numbers.h"
#include "infer/safety/guard.h"
#include "infer/text/chunks.h"
#include "begin.h"
#include "fewer.h"

/* A second pass over the picture, enlarged: A1111's "hires fix". */
typedef struct SampleHires {
    double scale;    /* of each side; 1 or less: no second pass */
    int steps;       /* 0: as many as the first */
    double strength; /* 0: 0.7 */
    bool pixels;     /* the picture is enlarged (Lanczos) and encoded, instead of its latents (bilinear) */
} SampleHires;
double hires_strength(const SampleHires *h); /* what 0 stands for */

typedef struct SampleRequest {
    const char *prompt, *negative;     /* negative NULL: none, which is "", or zeros (Compat.zero_negative) */
    const char *prompt_2, *negative_2; /* for SDXL's second text encoder; NULL or "": the same */
    int steps;                         /* 20 */
    float guidance;                    /* 7.5; 1 or less: no guidance */
    double guidance_rescale;           /* 0 to 1: how far the guided prediction takes the other's spread */
    const char *sampler;               /* one of SAMPLER_WORDS */
    float eta;                         /* SamplerChoice's */
    const char *schedule;              /* one of SCHEDULE_WORDS; NULL: auto */
    const char *rng;                   /* as noise_kind_parse() takes it; NULL: what compat says */
    uint64_t seed;
    Size size; /* in pixels; a side of 0: as pipeline_choose_size() says */
    int clip_skip;
    /* What SDXL is told of sizes; a size of 0 is the picture's. With the negative prompt: a size of 0 is that
     * told with the prompt, and so is the crop where neither is given. */
    SizeNumbers sizes, negative_sizes;
    bool unmarked;                  /* without the guard's watermark: the picture will be trained on */
    const Compat *compat;           /* the program whose conventions are followed; NULL: the default's */
    int steps_before;               /* of the pass before this one over the same picture; 0: there is none */
    PromptReading reading;          /* how prompts are read; words alone, cut to one chunk */
    const EmbeddingSet *embeddings; /* or NULL */
    SampleBegin begin;              /* borrowed pictures */
    SampleHires hires;
    SampleFewer fewer;
    float variation; /* share of the way from the seed's noise to variation_seed's, to 1; 0: the seed's */
    uint64_t variation_seed;
    int vae_tile;  /* pixels a side of the tiles that the VAE works by; 0: the whole picture at once */
    unsigned wrap; /* axes along which the picture fits to itself: bits of kernels/ctx.h's Wrap */
} SampleRequest;
SampleRequest sample_request_default(void);

/* What one sampling step saw and made, for `--trace`. All f32, feature maps NCHW; the pointers live until the
 * call returns. */
typedef struct SampleStep {
    int step, steps;              /* from 1 */
    int batch;                    /* 2 with guidance: without the prompt, with it */
    Size size;                    /* of the latents, (h,w) below */
    int channels, input_channels; /* more of them where the model also sees a mask */
    ConditioningShape text;
    float timestep;
    const float *latents;      /* (1,C,h,w) before the step */
    const float *input;        /* (batch,input_channels,h,w): the latents as the UNet got them */
    const float *conditioning; /* (batch,T,D), and what else the text gives */
    const float *prediction;   /* (batch,C,h,w) */
    const float *guided;       /* (1,C,h,w) */
    const float *result;       /* (1,C,h,w): the latents after the step */
} SampleStep;
typedef Status (*SampleTrace)(const SampleStep *step, void *arg);

/* How far a picture has come. */
typedef struct SampleView {
    Size size;            /* of the latents, (h,w) below */
    int factor, channels; /* of pixels a latent a side; C */
    const float *latents; /* f32 (1,C,h,w), scaled: what the picture is taken to be without its noise */
} SampleView;
/* Called after every step; returning false stops (STATUS_INTERRUPTED). */
typedef bool (*SampleProgress)(int step, int steps, const SampleView *view, void *arg);

typedef struct SampleResult {
    Picture picture; /* RGB */
    Tensor *latents; /* f32 (1,4,h,w) NCHW, final, scaled */
    bool flagged;    /* by the safety checker: the picture is black */
} SampleResult;
void sample_result_free(SampleResult *r);

typedef struct Pipeline Pipeline;
/* The pipeline borrows c and m, whose weights go where c computes; it plans (text, UNet, VAE) steps once per
 * size and keeps the plans. */
Status pipeline_new(Ctx *c, Model *m, Pipeline **out);
void pipeline_free(Pipeline *p);
/* What of the model gives back its memory, as far as it comes from files again, while it is not needed, on
 * the processor: off: the text encoder alone, which is used once for each prompt; idle: the VAE too; all: the
 * UNet. Before this nothing does. */
void pipeline_rest(Pipeline *p, Offload what);
const Model *pipeline_model(const Pipeline *p);
bool pipeline_tf32(const Pipeline *p); /* Ctx.tf32 */
/* The largest arena that a picture of this size needs, in bytes, without computing anything. */
Status pipeline_plan(Pipeline *p, const SampleRequest *r, size_t *bytes);
/* Arithmetic of the picture's sampling steps and decoding, after pipeline_plan; 0: it has no plan. */
double pipeline_flop(Pipeline *p, const SampleRequest *r);
/* The same for the encoding of one caption, and of one picture. */
Status pipeline_encode_text_plan(Pipeline *p, int clip_skip, size_t *bytes);
Status pipeline_encode_picture_plan(Pipeline *p, Size size, size_t *bytes);
double pipeline_encode_picture_flop(Pipeline *p, Size size); /* after its plan */
Status pipeline_sample(Pipeline *p, const SampleRequest *r, SampleProgress progress, void *arg,
                       SampleResult *out);
/* How often r asks the UNet (some samplers ask twice a step, a few counts are rounded to one more; from a
 * picture it is the share that its strength says); refuses a sampler, its settings or a number of steps that
 * the model does not allow. */
Status pipeline_steps(const Model *m, const SampleRequest *r, int *steps);
/* The sampler that r comes to for this model, where it says auto. */
const char *pipeline_sampler(const Model *m, const SampleRequest *r);
/* Calls trace after every sampling step from now on; NULL: no more. */
void pipeline_trace(Pipeline *p, SampleTrace trace, void *arg);
/* Every picture goes through g from now on, which is borrowed; NULL: no more. */
void pipeline_guard(Pipeline *p, Guard *g);
/* Refuses sides that are no multiples of the model's, naming the nearest good ones; a side of 0 becomes the
 * default. */
Status pipeline_check_size(const Model *m, Size *size);
/* The same for r, where a side of 0 becomes the begun picture's own, rounded down to what the model makes;
 * the default where there is none, or where only a part of it is worked at. */
Status pipeline_choose_size(const Model *m, SampleRequest *r);
/* The size of what r's last pass draws. */
Status pipeline_final_size(const Model *m, const SampleRequest *r, Size *size);
/* What a text becomes, one caption at a time (design, section 2): conditioning_text_size floats, the
 * caller's. */
Status pipeline_encode_text(Pipeline *p, const char *prompt, int clip_skip, float *out);
/* latents f32 (1,4,h,w) NCHW, scaled, of this size -> the picture. */
Status pipeline_decode(Pipeline *p, const float *latents, Size size, Picture *out);
/* pixels f32 NHWC (H,W,3) in [-1,1] -> mean and standard deviation f32 (4,h,w) NCHW each, unscaled. */
Status pipeline_encode_picture(Pipeline *p, const float *pixels, Size size, float *mean, float *std);

#endif
