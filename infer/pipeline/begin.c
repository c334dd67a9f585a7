/* Where the walk begins: at noise, or at a picture's latents with the noise of a later step, as diffusers'
 * StableDiffusionImg2ImgPipeline and StableDiffusionInpaintPipeline do it. One generator gives all noise, so
 * its order counts: the sample of the picture's latents, the noise, the sample of the masked picture's
 * latents, then what the sampler adds.
 *
 * Inpainting with an ordinary model: after each step everything outside of the mask is the picture's again,
 * with as much noise as belongs there (Lugmayr et al. 2022, without the resampling). A model of nine channels
 * sees the mask and the picture without what is under it. A1111 makes what the model says, or is given, the
 * picture's outside of the mask, ComfyUI both, of either kind of models. */
#include "infer/compat/compat.h"
#include "kernels/base/mem.h"
#include "mask.h"
#include "variation.h"
#include "walk.h"

#include <math.h>
#include <string.h>

#define STRENGTH_DEFAULT 0.8

double begin_strength(const SampleBegin *b)
{
    return b->strength > 0 ? b->strength : b->mask ? 1 : STRENGTH_DEFAULT;
}

Status begin_steps(const SampleRequest *r, int *grid, int *skipped)
{
    const double strength = begin_strength(&r->begin), n = r->steps;
    *grid = r->steps;
    *skipped = 0;
    if (!r->begin.picture && !r->begin.latents)
        return STATUS_OK;
    int done = 0;
    const Compat *compat = compat_of(r->compat);
    switch (r->steps_before ? compat->hires : compat->strength) {
    case STRENGTH_SHARE:
        done = (int)(n * strength);
        break;
    case STRENGTH_SHARE_AND_ONE:
        done = (int)(fmin(strength, 0.999) * n) + 1;
        break;
    case STRENGTH_LONGER_GRID:
        done = r->steps;
        *grid = (int)fmin(n / strength, 1e6);
        break;
    }
    if (done < 1)
        return status_refuse("strength %g of %d steps is less than one step: take more of either", strength,
                             r->steps);
    *skipped = *grid - done;
    return STATUS_OK;
}

/* A picture's latents, drawn from what the VAE says they may be. */
static Status encode(Walk *w, const float *pixels, float *out)
{
    Pipeline *p = w->p;
    const Size size = size_multiplied(w->size, vae_factor(p->m->vae));
    float *mean = mem_alloc(2 * w->n * sizeof *mean), *std = mean + w->n;
    if (!mean)
        return STATUS_FAILED;
    const Status s = encode_by_tiles(p, pixels, size, w->tile, mean, std);
    if (s == STATUS_OK) {
        const bool drawn = compat_of(w->r->compat)->draws_latents;
        if (drawn)
            w->noise.draw(w->noise.arg, out, w->n);
        for (size_t k = 0; k < w->n; k++)
            out[k] = (drawn ? mean[k] + std[k] * out[k] : mean[k]) * vae_config(p->m->vae)->scaling_factor;
    }
    mem_free(mean);
    return s;
}

/* The canvas as the VAE takes it; with `masked` grey where it is to be painted anew. All grey without a
 * picture. */
static Status encode_canvas(Walk *w, bool masked, float *out)
{
    const Size size = size_multiplied(w->size, vae_factor(w->p->m->vae));
    const size_t n = 3 * (size_t)size_area(size);
    const Canvas *k = &w->canvas;
    float *pixels = mem_calloc(n, sizeof *pixels);
    if (!pixels)
        return STATUS_FAILED;
    if (k->work.rgb && !(masked && !k->work_mask.rgb))
        picture_to_floats(!masked && k->filled.rgb ? &k->filled : &k->work, pixels);
    for (size_t i = 0; i < n && masked && k->work_mask.rgb; i++)
        if (k->work_mask.rgb[i] >= 128)
            pixels[i] = 0;
    const Status s = encode(w, pixels, out);
    mem_free(pixels);
    return s;
}

static void fill_mask(Walk *w)
{
    const Canvas *k = &w->canvas;
    if (k->work_mask.rgb)
        mask_reduce(&k->work_mask, vae_factor(w->p->m->vae),
                    w->r->begin.soft ? MASK_MEAN : compat_of(w->r->compat)->mask, w->mask);
    else
        for (size_t i = 0; i < w->plane; i++)
            w->mask[i] = 1;
}

/* A1111's latent noise and latent nothing. */
static void fill_latents(Walk *w)
{
    const MaskContent content = w->r->begin.content;
    for (size_t k = 0; k < w->n && content >= CONTENT_NOISE && w->canvas.work_mask.rgb; k++) {
        const float m = w->mask[k % w->plane];
        w->original[k] = (1 - m) * w->original[k] + (content == CONTENT_NOISE ? m * w->drawn[k] : 0);
    }
}

static void vary(Walk *w)
{
    TorchRandom other;
    torch_seed(&other, w->r->variation_seed);
    torch_randn(&other, w->spare, w->n);
    noise_between(w->drawn, w->spare, w->r->variation, LATENT_CHANNELS, w->size);
}

static Status start_nine(Walk *w)
{
    memcpy(w->more, w->mask, w->plane * sizeof *w->mask);
    return encode_canvas(w, true, w->more + w->plane);
}

/* The picture's latents, where it begins from one. */
static Status fill_original(Walk *w)
{
    const SampleBegin *b = &w->r->begin;
    if (b->latents)
        memcpy(w->original, b->latents, w->n * sizeof *w->original);
    return b->picture ? encode_canvas(w, false, w->original) : STATUS_OK;
}

/* There is a mask, and that is what is done outside of it. */
static bool blends(const Walk *w, InpaintRule rule)
{
    return w->canvas.work_mask.rgb && compat_of(w->r->compat)->inpaint == rule;
}

Status walk_start(Walk *w)
{
    const SampleBegin *b = &w->r->begin;
    const bool mask = w->canvas.work_mask.rgb, nine = w->more;
    const bool noise_alone =
        (!b->picture && !b->latents) || (begin_strength(b) >= 1 && blends(w, INPAINT_STEPS));
    fill_mask(w);
    if (!(nine && noise_alone))
        TRY(fill_original(w));
    w->noise.draw(w->noise.arg, w->drawn, w->n);
    if (w->r->variation > 0)
        vary(w);
    fill_latents(w);
    if (noise_alone)
        for (size_t k = 0; k < w->n; k++)
            w->x[k] = w->drawn[k] * sampler_initial_scale(w->sampler);
    else
        sampler_begin(w->sampler, w->original, w->drawn, w->x);
    if (nine)
        return start_nine(w);
    if (mask && compat_of(w->r->compat)->draws_latents) /* diffusers encodes the masked picture here, too */
        w->noise.draw(w->noise.arg, w->spare, w->n);
    return STATUS_OK;
}

/* x (n) becomes the original outside of the mask. */
static void blend(const Walk *w, const float *original, float *x)
{
    for (size_t k = 0; k < w->n; k++) {
        const float m = w->mask[k % w->plane];
        x[k] = (1 - m) * original[k] + m * x[k];
    }
}

/* x at step i with the noised picture outside of the mask -> spare (n). */
static void blend_noised(Walk *w, int i)
{
    sampler_add_noise(w->sampler, i, w->original, w->drawn, w->spare);
    for (size_t k = 0; k < w->n; k++) {
        const float m = w->mask[k % w->plane];
        w->spare[k] = m * w->x[k] + (1 - m) * w->spare[k];
    }
}

void walk_blend_input(Walk *w, int i)
{
    if (blends(w, INPAINT_CALLS) && sampler_goes_by_timesteps(w->sampler))
        blend(w, w->original, w->input);
    if (!blends(w, INPAINT_BOTH))
        return;
    blend_noised(w, i);
    sampler_input(w->sampler, i, w->spare, w->input);
}

void walk_blend_guided(Walk *w, int i)
{
    const bool both = blends(w, INPAINT_BOTH);
    if (!both && (!blends(w, INPAINT_CALLS) || sampler_goes_by_timesteps(w->sampler)))
        return;
    if (both)
        blend_noised(w, i); /* as the model was given it */
    sampler_picture(w->sampler, i, both ? w->spare : w->x, w->guided, w->spare);
    blend(w, w->original, w->spare);
    sampler_output(w->sampler, i, w->x, w->spare, w->guided);
}

void walk_blend(Walk *w, int i)
{
    const bool last = i + 1 == sampler_steps(w->sampler);
    const bool steps = blends(w, INPAINT_STEPS) && !w->more, calls = blends(w, INPAINT_CALLS) && last;
    if (!steps && !calls)
        return;
    if (!last)
        sampler_add_noise(w->sampler, i + 1, w->original, w->drawn, w->spare);
    blend(w, last ? w->original : w->spare, w->x);
}
