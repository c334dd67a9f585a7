#include "request.h"

#include "infer/models/clip.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MASK_BLUR_MOST 1024 /* pixels */
#define STEPS_MOST 100000
#define HIRES_MOST 16

static Status within(const char *field, double value, double least, double most)
{
    return value >= least && value <= most
               ? STATUS_OK
               : status_refuse("AtlSample.%s is %g: it goes from %g to %g", field, value, least, most);
}

/* The host's pixels as the library's own kind of picture. */
static Status borrow(const char *field, const AtlPicture *from, Picture *out)
{
    if (!from->rgb || from->width < 1 || from->height < 1)
        return status_refuse("AtlSample.%s: there is no picture in it", field);
    *out = (Picture){{from->width, from->height}, from->rgb};
    return STATUS_OK;
}

static Status read_begin(const AtlSample *s, Asked *a)
{
    SampleBegin *b = &a->request.begin;
    if (!s->init)
        return s->mask ? status_refuse("AtlSample.mask goes with init: there is nothing to paint over")
                       : STATUS_OK;
    TRY(borrow("init", s->init, &a->init));
    b->picture = &a->init;
    if (s->mask)
        TRY(borrow("mask", s->mask, &a->mask));
    b->mask = s->mask ? &a->mask : NULL;
    TRY(within("strength", s->strength, 0, 1));
    TRY(within("mask_blur", s->mask_blur, 0, MASK_BLUR_MOST));
    b->strength = s->strength;
    b->blur = s->mask_blur;
    return STATUS_OK;
}

static Status read_hires(const AtlSample *s, SampleHires *h)
{
    const char *what = s->hires_upscale ? s->hires_upscale : "latent";
    if (s->hires_scale != 0)
        TRY(within("hires_scale", s->hires_scale, 1, HIRES_MOST));
    TRY(within("hires_steps", s->hires_steps, 0, STEPS_MOST));
    TRY(within("hires_strength", s->hires_strength, 0, 1));
    if (strcmp(what, "latent") && strcmp(what, "lanczos"))
        return status_refuse("AtlSample.hires_upscale: %s is none of latent|lanczos", what);
    *h = (SampleHires){s->hires_scale, s->hires_steps, s->hires_strength, !strcmp(what, "lanczos")};
    return STATUS_OK;
}

static Status read_compat(const AtlSample *s, SampleRequest *r)
{
    r->compat = compat_find(s->compat);
    if (!r->compat)
        return status_refuse("AtlSample.compat: %s is none of " COMPAT_CHOICES, s->compat);
    r->reading = (PromptReading){.syntax = r->compat->prompts, .chunks = r->compat->prompts != PROMPT_PLAIN};
    return STATUS_OK;
}

static Status read_way(const AtlSample *s, SampleRequest *r)
{
    TRY(within("guidance_rescale", s->guidance_rescale, 0, 1));
    TRY(within("variation", (double)s->variation, 0, 1));
    TRY(within("eta", s->eta, 0, 1));
    TRY(within("vae_tile", s->vae_tile, 0, PICTURE_MAX_SIDE));
    r->schedule = s->schedule;
    r->rng = s->rng;
    r->guidance_rescale = s->guidance_rescale;
    r->eta = (float)s->eta;
    r->variation = s->variation;
    r->variation_seed = s->variation_seed;
    r->vae_tile = s->vae_tile;
    TRY(read_hires(s, &r->hires));
    return read_compat(s, r);
}

static Status read_size(const char *field, int width, int height, Size *out)
{
    TRY(within(field, width, 0, SIZE_MOST));
    TRY(within(field, height, 0, SIZE_MOST));
    if (!width != !height)
        return status_refuse("AtlSample.%s and its height: one of them is 0", field);
    *out = (Size){width, height};
    return STATUS_OK;
}

static Status read_sizes(const AtlSample *s, SampleRequest *r)
{
    SizeNumbers *n = &r->sizes, *other = &r->negative_sizes;
    TRY(within("crop_top", s->crop_top, 0, SIZE_MOST));
    TRY(within("crop_left", s->crop_left, 0, SIZE_MOST));
    n->top = s->crop_top;
    n->left = s->crop_left;
    TRY(read_size("original_width", s->original_width, s->original_height, &n->original));
    TRY(read_size("target_width", s->target_width, s->target_height, &n->target));
    TRY(read_size("negative_original_width", s->negative_original_width, s->negative_original_height,
                  &other->original));
    return read_size("negative_target_width", s->negative_target_width, s->negative_target_height,
                     &other->target);
}

static void add_text(json_t *list, const char *option, const char *value)
{
    if (value)
        json_array_append_new(list, json_pack("[s, o]", option, json_name(value)));
}

static void add_number(json_t *list, const char *option, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", value);
    add_text(list, option, value != 0 ? text : NULL);
}

static void add_size(json_t *list, const char *option, Size size)
{
    char text[32];
    snprintf(text, sizeof text, "%dx%d", size.width, size.height);
    add_text(list, option, size.width ? text : NULL);
}

static void add_sizes(json_t *list, const SampleRequest *r)
{
    add_size(list, "original-size", r->sizes.original);
    add_size(list, "target-size", r->sizes.target);
    add_number(list, "crop-top", r->sizes.top);
    add_number(list, "crop-left", r->sizes.left);
    add_size(list, "negative-original-size", r->negative_sizes.original);
    add_size(list, "negative-target-size", r->negative_sizes.target);
}

static void add_seed(json_t *list, const char *option, uint64_t seed)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    add_text(list, option, seed ? text : NULL);
}

/* As given_options names them, so that `atelier sample --again` draws the same. */
static Status name_options(const AtlSample *s, Asked *a)
{
    json_t *list = json_array();
    add_text(list, "schedule", s->schedule);
    add_text(list, "rng", s->rng);
    add_text(list, "compat", s->compat);
    add_number(list, "clip-skip", s->clip_skip ? s->clip_skip + a->request.compat->clip_skip_none : 0);
    add_number(list, "eta", s->eta);
    add_number(list, "guidance-rescale", s->guidance_rescale);
    add_number(list, "hires", s->hires_scale);
    add_number(list, "hires-steps", s->hires_steps);
    add_number(list, "hires-strength", s->hires_strength);
    add_text(list, "hires-upscale", s->hires_upscale);
    add_number(list, "vae-tile", s->vae_tile);
    add_number(list, "variation", (double)s->variation);
    add_seed(list, "variation-seed", s->variation_seed);
    add_sizes(list, &a->request);
    for (int i = 0; i < s->embedding_count; i++)
        add_text(list, "embedding", path_base(s->embeddings[i]));
    char *text = json_text(list, JSON_COMPACT);
    a->options = text ? mem_strdup(text) : NULL;
    free(text);
    return a->options ? STATUS_OK : STATUS_FAILED;
}

static Status read_embeddings(const AtlSample *s, const Model *m, Asked *a)
{
    if (s->embedding_count < 0 || (s->embedding_count > 0 && !s->embeddings))
        return status_refuse("AtlSample.embedding_count is %d, and embeddings %s", s->embedding_count,
                             s->embeddings ? "is given" : "is NULL");
    if (!s->embedding_count)
        return STATUS_OK;
    EmbeddingSet *set = &a->embeddings;
    set->width = clip_config(m->clip)->hidden;
    set->width_2 = m->clip_2 ? clip_config(m->clip_2)->hidden : 0;
    for (int i = 0; i < s->embedding_count; i++) {
        if (!s->embeddings[i])
            return status_refuse("AtlSample.embeddings[%d] is NULL", i);
        TRY(status_in(embeddings_add(set, s->embeddings[i]), "AtlSample.embeddings"));
        TRY(status_in(embedding_check(&set->items[i], set->width, set->width_2), "AtlSample.embeddings"));
    }
    a->request.embeddings = &a->embeddings;
    return STATUS_OK;
}

Status asked_read(const AtlSample *s, const Model *m, Asked *out)
{
    *out = (Asked){.request = sample_request_default()};
    SampleRequest *r = &out->request;
    r->prompt = s->prompt;
    r->negative = s->negative;
    r->prompt_2 = s->prompt_2;
    r->negative_2 = s->negative_2;
    r->steps = s->steps ? s->steps : r->steps;
    r->guidance = s->guidance != 0 ? s->guidance : r->guidance;
    r->sampler = s->sampler ? s->sampler : r->sampler;
    r->seed = s->seed;
    r->size = (Size){s->width, s->height};
    r->clip_skip = s->clip_skip;
    TRY(read_begin(s, out));
    TRY(read_way(s, r));
    TRY(read_sizes(s, r));
    TRY(read_embeddings(s, m, out));
    return name_options(s, out);
}

void asked_free(Asked *a)
{
    embeddings_free(&a->embeddings);
    mem_free(a->options);
}
