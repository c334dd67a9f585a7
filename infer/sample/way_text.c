#include "way_text.h"

#include "kernels/ctx.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void append(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *out, size_t size, const char *format, ...)
{
    const size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, size - used, format, args);
    va_end(args);
}

static const char *upscaler(const SampleHires *h)
{
    return h->pixels ? "Lanczos" : "Latent";
}

void way_parameters(const SampleRequest *r, char *out, size_t size)
{
    const SampleHires *h = &r->hires;
    *out = 0;
    if (r->begin.picture)
        append(out, size, ", Denoising strength: %g", begin_strength(&r->begin));
    if (h->scale > 1) {
        append(out, size, ", Denoising strength: %g, Hires upscale: %g, Hires upscaler: %s",
               hires_strength(h), h->scale, upscaler(h));
        if (h->steps)
            append(out, size, ", Hires steps: %d", h->steps);
    }
    if (r->variation > 0)
        append(out, size, ", Variation seed: %llu, Variation seed strength: %g",
               (unsigned long long)r->variation_seed, (double)r->variation);
    if (r->wrap)
        append(out, size, ", Tiling: True");
}

static void set_hires(json_t *settings, const SampleHires *h)
{
    if (h->scale > 1)
        json_object_update_new(settings, json_pack("{s:f, s:i, s:f, s:s}", "hires", h->scale, "hires_steps",
                                                   h->steps, "hires_strength", hires_strength(h),
                                                   "hires_upscale", h->pixels ? "lanczos" : "latent"));
}

static void set_fewer(json_t *settings, const SampleFewer *f)
{
    char interval[48];
    snprintf(interval, sizeof interval, "%g:%g", (double)f->guided_above, (double)f->guided_below);
    if (f->guided_below > 0)
        json_object_set_new(settings, "cfg_interval", json_string(interval));
    if (f->guide_every > 1)
        json_object_set_new(settings, "cfg_every", json_integer(f->guide_every));
    if (f->deep_every > 1)
        json_object_set_new(settings, "deepcache", json_integer(f->deep_every));
}

json_t *way_settings(const SampleRequest *r, const BeginArguments *begin)
{
    static const char *const AXES[] = {"off", "x", "y", "xy"};
    json_t *settings = begin_arguments_settings(begin, &r->begin);
    set_hires(settings, &r->hires);
    if (r->variation > 0) {
        char seed[32];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->variation_seed);
        json_object_update_new(
            settings, json_pack("{s:f, s:s}", "variation", (double)r->variation, "variation_seed", seed));
    }
    if (r->wrap)
        json_object_set_new(settings, "tiling", json_string(AXES[r->wrap & (WRAP_X | WRAP_Y)]));
    set_fewer(settings, &r->fewer);
    if (r->vae_tile)
        json_object_set_new(settings, "vae_tile", json_integer(r->vae_tile));
    return settings;
}
