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
#include "walk.h"
#include "tiles.h"

#include "infer/models/parts.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"

#include <math.h>
#include <string.h>

static Status check_model(const Model *m)
{
    const UNetConfig *u = m->unet ? unet_config(m->unet) : NULL;
    if (!u || !m->clip || !m->vae || !m->tokenizer ||
        (model_has(m, PART_TEXT_2) && (!m->clip_2 || !m->tokenizer_2)))
        return status_fail("%s was loaded without parts that sampling needs", m->name);
    if ((u->in_channels != LATENT_CHANNELS && u->in_channels != INPAINTING_CHANNELS) ||
        u->out_channels != LATENT_CHANNELS)
        return status_refuse("%s: its UNet turns %d channels into %d; pictures need one from %d, or from %d "
                             "(an inpainting model), to %d",
                             m->name, u->in_channels, u->out_channels, LATENT_CHANNELS, INPAINTING_CHANNELS,
                             LATENT_CHANNELS);
    if (vae_config(m->vae)->latent_channels != LATENT_CHANNELS)
        return status_refuse("%s: its VAE has %d latent channels, not %d", m->name,
                             vae_config(m->vae)->latent_channels, LATENT_CHANNELS);
    const int width = conditioning_shape(m).width;
    if (width != u->cross_attention_dim)
        return status_refuse("%s: its text gives %d numbers a token, its UNet takes %d", m->name, width,
                             u->cross_attention_dim);
    return STATUS_OK;
}

/* The sampler of r for n numbers, and the generator that its noise is drawn from. */
static Status choose_sampler(const Model *m, const SampleRequest *r, size_t n, Sampler **out,
                             NoiseKind *noise)
{
    const Compat *compat = compat_of(r->compat);
    int grid, skipped;
    TRY(begin_steps(r, &grid, &skipped));
    TRY(noise_kind_parse(r->rng ? r->rng : compat->rng, noise));
    const SamplerChoice choice = {.name = r->sampler,
                                  .schedule = r->schedule,
                                  .eta = r->eta,
                                  .convention = compat->sampling,
                                  .noise = compat->noise_apart ? NOISE_CPU : *noise,
                                  .seed = r->seed,
                                  .skipped = skipped,
                                  .from_picture = r->begin.picture || r->begin.latents};
    return sampler_new(&choice, &m->schedule, grid, n, out);
}

static Status walk_begin(Walk *w, Pipeline *p, const SampleRequest *r)
{
    *w = (Walk){.p = p, .r = r};
    TRY(check_model(p->m));
    SampleRequest sized = *r;
    TRY(pipeline_choose_size(p->m, &sized));
    TRY(prompts_check_clip_skip(p->m, r->clip_skip));
    w->size = size_divided(sized.size, vae_factor(p->m->vae));
    w->channels = unet_config(p->m->unet)->in_channels;
    w->plane = (size_t)size_area(w->size);
    w->n = (size_t)LATENT_CHANNELS * w->plane;
    w->tile = tile_side(p->m, w->size, r->vae_tile);
    if (w->tile && r->wrap)
        return status_refuse(
            "tiles of the VAE and a picture that fits to itself do not go together: the tiles' edges "
            "are not the picture's");
    stages_wrap(p->stages, r->wrap);
    TRY(choose_sampler(p->m, r, w->n, &w->sampler, &w->rng));
    w->first = sampler_first(w->sampler);
    TRY(told_read(p->prompts, r, sized.size, sampler_steps(w->sampler),
                  &w->told)); /* all, as A1111 counts them */
    w->shape = told_shape(w->told);
    w->batch = told_batch(w->told);
    return STATUS_OK;
}

static Status walk_allocate(Walk *w)
{
    const size_t B = (size_t)w->batch, n = w->n, in = (size_t)w->channels * w->plane;
    const size_t all = (size_t)conditioning_size(&w->shape, w->batch),
                 one = (size_t)conditioning_size(&w->shape, 1);
    const SampleFewer *f = &w->r->fewer;
    const size_t direction = f->guide_every > 1 ? n : 0;
    const size_t deep = f->deep_every > 1 ? B * w->plane * (size_t)unet_deep_channels(w->p->m->unet) : 0;
    const struct {
        float **at;
        size_t count;
    } parts[] = {{&w->x, n},
                 {&w->before, n},
                 {&w->guided, n},
                 {&w->input, B * in},
                 {&w->prediction, B * n},
                 {&w->text, all},
                 {&w->spare, n},
                 {&w->drawn, n},
                 {&w->original, n},
                 {&w->mask, w->plane},
                 {&w->more, in - n},
                 {&w->text_one, one},
                 {&w->direction, direction},
                 {&w->deep, deep}};
    const size_t count = sizeof parts / sizeof *parts;
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += parts[i].count;
    w->memory = mem_alloc(total * sizeof(float));
    if (!w->memory)
        return STATUS_FAILED;
    float *at = w->memory;
    for (size_t i = 0; i < count; at += parts[i++].count)
        *parts[i].at = parts[i].count ? at : NULL;
    return STATUS_OK;
}

static void walk_end(Walk *w)
{
    told_free(w->told);
    stages_wrap(w->p->stages, 0);
    sampler_free(w->sampler);
    canvas_free(&w->canvas);
    mem_free(w->memory);
}

static Status plan_decode(const Walk *w, size_t *bytes)
{
    return w->tile ? tiles_decode_plan(w->p->stages, w->p->m, w->size, w->tile, bytes)
                   : stage_decode_plan(w->p->stages, w->size, bytes);
}

static Status plan_encode(const Walk *w, size_t *bytes)
{
    const Model *m = w->p->m;
    return w->tile ? tiles_encode_plan(w->p->stages, m, w->size, w->tile, bytes)
                   : stage_encode_plan(w->p->stages, size_multiplied(w->size, vae_factor(m->vae)), bytes);
}

/* The largest of the stages, planned. */
static Status walk_plan(Walk *w, size_t *bytes)
{
    size_t text, whole, unet, decode, encode = 0;
    if (w->r->begin.picture || w->channels > LATENT_CHANNELS)
        TRY(plan_encode(w, &encode));
    TRY(stage_text_plan(w->p->stages, w->r->clip_skip, &text));
    TRY(stage_text_plan(w->p->stages, 0, &whole)); /* of a negative prompt of which no layer is left out */
    text = whole > text ? whole : text;
    TRY(stage_unet_plan(w->p->stages, w->batch, w->size, &w->shape,
                        w->r->fewer.deep_every > 1 ? DEEP_KEPT : DEEP_FORGOTTEN, &unet));
    TRY(plan_decode(w, &decode));
    *bytes = text > unet ? text : unet;
    *bytes = *bytes > decode ? *bytes : decode;
    *bytes = *bytes > encode ? *bytes : encode;
    return STATUS_OK;
}

Status pass_plan(Pipeline *p, const SampleRequest *r, size_t *bytes)
{
    Walk w;
    Status s = walk_begin(&w, p, r);
    if (s == STATUS_OK)
        s = walk_plan(&w, bytes);
    walk_end(&w);
    return s;
}

double pass_flop(Pipeline *p, const SampleRequest *r)
{
    Walk w;
    double flop = 0;
    if (walk_begin(&w, p, r) == STATUS_OK)
        flop = (sampler_steps(w.sampler) - w.first) * stage_unet_flop(p->stages, w.batch, w.size, &w.shape) +
               stage_decode_flop(p->stages, w.size);
    walk_end(&w);
    return flop;
}

static void seed_noise(Walk *w)
{
    const uint64_t seed = w->r->seed;
    const bool apart = compat_of(w->r->compat)->noise_apart;
    noise_seed(&w->random, apart ? NOISE_CPU : w->rng, seed);
    noise_seed(&w->random_added, w->rng, w->rng.cuda ? seed : seed + 1);
    w->noise = noise_source(&w->random);
    w->added = apart ? noise_source(&w->random_added) : w->noise;
}

/* Gives back the part's memory where that is asked for. */
static void rest(const Walk *w, PartId part, Offload least)
{
    LayerSet *set = part_layers(part, w->p->m);
    if (set && w->p->rests && w->p->rest >= least && w->p->c->dev->host_memory)
        layerset_rest(set);
}

static Status walk_prepare(Walk *w)
{
    size_t bytes;
    TRY(walk_allocate(w));
    if (w->r->begin.picture)
        TRY(canvas_new(&w->r->begin, size_multiplied(w->size, vae_factor(w->p->m->vae)), &w->canvas));
    TRY(walk_plan(w, &bytes));
    TRY(ctx_reserve(w->p->c, bytes));
    TRY(told_encode(w->told));
    rest(w, PART_TEXT, OFFLOAD_OFF);
    rest(w, PART_TEXT_2, OFFLOAD_OFF);
    seed_noise(w);
    return walk_start(w);
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

static Status walk_trace(const Walk *w, int i)
{
    const SampleStep step = {.step = i + 1 - w->first,
                             .steps = sampler_steps(w->sampler) - w->first,
                             .batch = w->batch_done,
                             .channels = LATENT_CHANNELS,
                             .input_channels = w->channels,
                             .size = w->size,
                             .text = w->shape,
                             .timestep = sampler_timestep(w->sampler, i),
                             .latents = w->before,
                             .input = w->input,
                             .conditioning = w->batch_done < w->batch ? w->text_one : w->text,
                             .prediction = w->prediction,
                             .guided = w->guided,
                             .result = w->x};
    return w->p->trace ? w->p->trace(&step, w->p->trace_arg) : STATUS_OK;
}

static Status walk_step(Walk *w, int i)
{
    memcpy(w->before, w->x, w->n * sizeof *w->x);
    told_at(w->told, i - w->first, w->text);
    sampler_input(w->sampler, i, w->x, w->input);
    walk_blend_input(w, i);
    const size_t in = (size_t)w->channels * w->plane;
    if (w->more)
        memcpy(w->input + w->n, w->more, (in - w->n) * sizeof *w->x);
    if (w->batch == 2)
        memcpy(w->input + in, w->input, in * sizeof *w->x);
    TRY(walk_predict(w, i));
    walk_blend_guided(w, i);
    sampler_step(w->sampler, i, w->guided, &w->added, w->x);
    walk_blend(w, i);
    TRY(check_finite(w, i + 1 - w->first));
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

/* tile: as SampleRequest.vae_tile. */
static Status decode(Pipeline *p, const float *latents, Size size, int tile, Picture *out)
{
    const Size picture = size_multiplied(size, vae_factor(p->m->vae));
    const float scaling = vae_config(p->m->vae)->scaling_factor;
    const size_t n = LATENT_CHANNELS * (size_t)size_area(size), pixels = 3 * (size_t)size_area(picture);
    float *z = mem_alloc((n + pixels) * sizeof *z);
    if (!z)
        return STATUS_FAILED;
    for (size_t k = 0; k < n; k++)
        z[k] = latents[k] / scaling;
    Status s =
        tile ? tiles_decode(p->stages, p->m, size, tile, z, z + n) : stage_decode(p->stages, size, z, z + n);
    if (s == STATUS_OK)
        s = make_picture(z + n, picture, out);
    mem_free(z);
    return s;
}

Status pipeline_decode(Pipeline *p, const float *latents, Size size, Picture *out)
{
    size_t bytes;
    *out = (Picture){0};
    TRY(stage_decode_plan(p->stages, size, &bytes));
    TRY(ctx_reserve(p->c, bytes));
    return decode(p, latents, size, 0, out);
}

static bool pastes(const SampleRequest *r)
{
    const SampleBegin *b = &r->begin;
    const bool automatic = b->padding != NO_PADDING || compat_of(r->compat)->pastes;
    return b->mask && (b->paste == PASTE_ON || (b->paste == PASTE_AUTO && automatic));
}

static Status walk_all(Walk *w, SampleProgress progress, void *arg, SampleResult *out)
{
    const int end = sampler_steps(w->sampler), steps = end - w->first;
    TRY(walk_prepare(w));
    for (int i = w->first; i < end; i++) {
        TRY(walk_step(w, i));
        const SampleView view = {w->size, vae_factor(w->p->m->vae), LATENT_CHANNELS, sampler_x0(w->sampler)};
        if (progress && !progress(i + 1 - w->first, steps, &view, arg))
            return status_interrupted();
    }
    out->latents = tensor_new(DTYPE_F32, 4, (int64_t[]){1, LATENT_CHANNELS, w->size.height, w->size.width});
    if (!out->latents)
        return STATUS_FAILED;
    memcpy(out->latents->data, w->x, w->n * sizeof *w->x);
    return STATUS_OK;
}

static Status walk_picture(Walk *w, Picture *out)
{
    rest(w, PART_UNET, OFFLOAD_ALL);
    TRY(decode(w->p, w->x, w->size, w->tile, out));
    rest(w, PART_VAE, OFFLOAD_IDLE);
    return pastes(w->r) ? canvas_paste(&w->canvas, out) : STATUS_OK;
}

Status pass_sample(Pipeline *p, const SampleRequest *r, bool picture, SampleProgress progress, void *arg,
                   SampleResult *out)
{
    Walk w;
    *out = (SampleResult){0};
    Status s = walk_begin(&w, p, r);
    if (s == STATUS_OK)
        s = walk_all(&w, progress, arg, out);
    if (s == STATUS_OK && picture)
        s = walk_picture(&w, &out->picture);
    walk_end(&w);
    if (s != STATUS_OK)
        sample_result_free(out);
    return s;
}

Status pass_steps(const Model *m, const SampleRequest *r, int *steps)
{
    Sampler *s;
    NoiseKind noise;
    TRY(choose_sampler(m, r, 0, &s, &noise));
    *steps = sampler_steps(s) - sampler_first(s);
    sampler_free(s);
    return STATUS_OK;
}

const char *pipeline_sampler(const Model *m, const SampleRequest *r)
{
    return !r->sampler || strcmp(r->sampler, SAMPLER_AUTO) == 0 ? sampler_of_model(&m->schedule) : r->sampler;
}
