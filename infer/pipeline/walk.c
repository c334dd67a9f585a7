/* From a prompt to a picture, as diffusers' StableDiffusionPipeline does it:
 *
 *   states = CLIP(negative), CLIP(prompt)
 *   x = randn(seed) * the sampler's first scale      the same generator gives what a sampler adds later
 *   for each timestep t:
 *       u, p = UNet(x scaled, t, states)              one call with a batch of 2
 *       x = sampler(u + guidance (p - u), x)
 *   picture = VAE decoder(x / scaling factor)
 *
 * Latents stay f32 NCHW on the host between the steps, whatever the context computes in; sampling is a few
 * thousand numbers a step. */
#include "inside.h"

#include "infer/samplers/sampler.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

/* Everything that one picture needs while it is made; latents of n numbers. */
typedef struct Walk {
    Pipeline *p;
    const SampleRequest *r;
    Sampler *sampler;
    TorchRandom random;
    NoiseSource noise;
    Size size; /* of the latents */
    int batch; /* 2 with guidance */
    size_t n;
    Told *told;
    ConditioningShape shape; /* of text */
    float *memory;
    float *x, *before, *input, *prediction, *guided, *text;
} Walk;

static Status check_model(const Model *m)
{
    const UNetConfig *u = m->unet ? unet_config(m->unet) : NULL;
    if (!u || !m->clip || !m->vae || !m->tokenizer)
        return status_fail("%s was loaded without parts that sampling needs", m->name);
    if (u->in_channels != LATENT_CHANNELS || u->out_channels != LATENT_CHANNELS)
        return status_refuse("%s: its UNet takes %d channels (%s); pictures from a prompt need %d", m->name,
                             u->in_channels, u->in_channels == 9 ? "an inpainting model" : "a special model",
                             LATENT_CHANNELS);
    if (vae_config(m->vae)->latent_channels != LATENT_CHANNELS)
        return status_refuse("%s: its VAE has %d latent channels, not %d", m->name,
                             vae_config(m->vae)->latent_channels, LATENT_CHANNELS);
    if (clip_config(m->clip)->hidden != u->cross_attention_dim)
        return status_refuse("%s: its text encoder gives %d numbers a token, its UNet takes %d", m->name,
                             clip_config(m->clip)->hidden, u->cross_attention_dim);
    return STATUS_OK;
}

static Status walk_begin(Walk *w, Pipeline *p, const SampleRequest *r)
{
    *w = (Walk){.p = p, .r = r};
    TRY(check_model(p->m));
    Size size = r->size;
    TRY(pipeline_check_size(p->m, &size));
    TRY(prompts_check_clip_skip(p->m, r->clip_skip));
    TRY(p->guard ? guard_admit(p->guard, r->prompt, size) : STATUS_OK);
    w->size = size_divided(size, vae_factor(p->m->vae));
    w->batch = r->guidance > 1 ? 2 : 1;
    w->n = (size_t)LATENT_CHANNELS * (size_t)size_area(w->size);
    TRY(sampler_new(r->sampler, &p->m->schedule, r->steps, w->n, &w->sampler));
    TRY(told_read(p->prompts, r, sampler_steps(w->sampler), &w->told));
    w->shape = told_shape(w->told);
    return STATUS_OK;
}

static Status walk_allocate(Walk *w)
{
    const size_t B = (size_t)w->batch;
    const size_t all = (size_t)conditioning_size(&w->shape, w->batch);
    w->memory = mem_alloc(((3 + 2 * B) * w->n + all) * sizeof(float));
    if (!w->memory)
        return STATUS_FAILED;
    w->x = w->memory;
    w->before = w->x + w->n;
    w->guided = w->before + w->n;
    w->input = w->guided + w->n;
    w->prediction = w->input + B * w->n;
    w->text = w->prediction + B * w->n;
    return STATUS_OK;
}

static void walk_end(Walk *w)
{
    told_free(w->told);
    sampler_free(w->sampler);
    mem_free(w->memory);
}

/* The largest of the three stages, planned. */
static Status walk_plan(Walk *w, size_t *bytes)
{
    size_t text, unet, decode;
    TRY(stage_text_plan(w->p->stages, w->r->clip_skip, &text));
    TRY(stage_unet_plan(w->p->stages, w->batch, w->size, &w->shape, &unet));
    TRY(stage_decode_plan(w->p->stages, w->size, &decode));
    *bytes = text > unet ? text : unet;
    *bytes = *bytes > decode ? *bytes : decode;
    return STATUS_OK;
}

Status pipeline_plan(Pipeline *p, const SampleRequest *r, size_t *bytes)
{
    Walk w;
    Status s = walk_begin(&w, p, r);
    if (s == STATUS_OK)
        s = walk_plan(&w, bytes);
    walk_end(&w);
    return s;
}

double pipeline_flop(Pipeline *p, const SampleRequest *r)
{
    Walk w;
    double flop = 0;
    if (walk_begin(&w, p, r) == STATUS_OK)
        flop = sampler_steps(w.sampler) * stage_unet_flop(p->stages, w.batch, w.size, &w.shape) +
               stage_decode_flop(p->stages, w.size);
    walk_end(&w);
    return flop;
}

static Status walk_prepare(Walk *w)
{
    size_t bytes;
    const SampleRequest *r = w->r;
    TRY(walk_allocate(w));
    TRY(walk_plan(w, &bytes));
    TRY(ctx_reserve(w->p->c, bytes));
    TRY(told_encode(w->told));
    torch_seed(&w->random, r->seed);
    w->noise = noise_from_torch(&w->random);
    w->noise.draw(w->noise.arg, w->x, w->n);
    for (size_t k = 0; k < w->n; k++)
        w->x[k] *= sampler_initial_scale(w->sampler);
    return STATUS_OK;
}

static Status check_finite(const Walk *w, int step)
{
    for (size_t k = 0; k < w->n; k++)
        if (!isfinite(w->x[k]))
            return status_fail(
                "the latents are not finite after step %d; %s", step,
                w->p->c->dtype == DTYPE_F16
                    ? "with f16 that is an overflow: use bf16 or f32, or a lower guidance scale"
                    : "try a lower guidance scale, or without LoRAs, to see what makes them so");
    return STATUS_OK;
}

/* Ho & Salimans 2022: away from the prediction without the prompt. */
static void guide(Walk *w)
{
    const float *without = w->prediction, *with = w->prediction + (size_t)(w->batch - 1) * w->n;
    for (size_t k = 0; k < w->n; k++)
        w->guided[k] = w->batch == 2 ? without[k] + w->r->guidance * (with[k] - without[k]) : with[k];
}

static Status walk_trace(const Walk *w, int i)
{
    const SampleStep step = {.step = i + 1,
                             .steps = sampler_steps(w->sampler),
                             .batch = w->batch,
                             .channels = LATENT_CHANNELS,
                             .size = w->size,
                             .text = w->shape,
                             .timestep = sampler_timestep(w->sampler, i),
                             .latents = w->before,
                             .input = w->input,
                             .conditioning = w->text,
                             .prediction = w->prediction,
                             .guided = w->guided,
                             .result = w->x};
    return w->p->trace ? w->p->trace(&step, w->p->trace_arg) : STATUS_OK;
}

static Status walk_step(Walk *w, int i)
{
    memcpy(w->before, w->x, w->n * sizeof *w->x);
    told_at(w->told, i, w->text);
    sampler_input(w->sampler, i, w->x, w->input);
    if (w->batch == 2)
        memcpy(w->input + w->n, w->input, w->n * sizeof *w->x);
    TRY(stage_unet(w->p->stages, w->batch, w->size, w->input, sampler_timestep(w->sampler, i), &w->shape,
                   w->text, w->prediction));
    guide(w);
    sampler_step(w->sampler, i, w->guided, &w->noise, w->x);
    TRY(check_finite(w, i + 1));
    return walk_trace(w, i);
}

/* (H,W,3) about [-1,1] -> bytes, rounded as diffusers does: half to even, of x/2 + 1/2 clamped to [0,1]. */
static Status make_picture(const float *pixels, Size size, Picture *out)
{
    TRY(picture_new(size, out));
    const size_t n = 3 * (size_t)size_area(size);
    for (size_t i = 0; i < n; i++) {
        const float v = pixels[i] * 0.5f + 0.5f;
        out->rgb[i] = (uint8_t)rintf((v > 1 ? 1 : v > 0 ? v : 0) * 255);
    }
    return STATUS_OK;
}

static Status walk_decode(Walk *w, Picture *out)
{
    const Size size = size_multiplied(w->size, vae_factor(w->p->m->vae));
    const float scaling = vae_config(w->p->m->vae)->scaling_factor;
    float *pixels = mem_alloc(3 * (size_t)size_area(size) * sizeof *pixels);
    if (!pixels)
        return STATUS_FAILED;
    for (size_t k = 0; k < w->n; k++)
        w->input[k] = w->x[k] / scaling;
    Status s = stage_decode(w->p->stages, w->size, w->input, pixels);
    if (s == STATUS_OK)
        s = make_picture(pixels, size, out);
    mem_free(pixels);
    return s;
}

static Status walk_all(Walk *w, SampleProgress progress, void *arg, SampleResult *out)
{
    const int steps = sampler_steps(w->sampler);
    TRY(walk_prepare(w));
    for (int i = 0; i < steps; i++) {
        TRY(walk_step(w, i));
        if (progress && !progress(i + 1, steps, w->x, arg))
            return status_interrupted();
    }
    out->latents = tensor_new(DTYPE_F32, 4, (int64_t[]){1, LATENT_CHANNELS, w->size.height, w->size.width});
    if (!out->latents)
        return STATUS_FAILED;
    memcpy(out->latents->data, w->x, w->n * sizeof *w->x);
    return walk_decode(w, &out->picture);
}

Status pipeline_sample(Pipeline *p, const SampleRequest *r, SampleProgress progress, void *arg,
                       SampleResult *out)
{
    Walk w;
    *out = (SampleResult){0};
    Status s = walk_begin(&w, p, r);
    if (s == STATUS_OK)
        s = walk_all(&w, progress, arg, out);
    walk_end(&w);
    if (s == STATUS_OK && p->guard)
        s = guard_picture(p->guard, r->seed, &out->picture, &out->flagged);
    if (s != STATUS_OK)
        sample_result_free(out);
    return s;
}

Status pipeline_steps(const Model *m, const SampleRequest *r, int *steps)
{
    Sampler *s;
    TRY(sampler_new(r->sampler, &m->schedule, r->steps, 0, &s));
    *steps = sampler_steps(s);
    sampler_free(s);
    return STATUS_OK;
}
