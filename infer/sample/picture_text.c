#include "picture_text.h"

#include "data/pictures/picture.h"
#include "infer/samplers/sampler.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "way_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BUILTIN "builtin:"
#define PNG_LIMIT ((size_t)256 << 20)

/* The last part of a path that says something: a run's result is always called "model". */
static const char *telling_name(const char *path)
{
    const char *base = path_base(path), *at = base;
    if (strcmp(base, "model") != 0 || base - path < 2)
        return base;
    for (at = base - 1; at > path && at[-1] != '/'; at--)
        ;
    return at < base - 1 ? at : base;
}

/* "tiny" of "builtin:tiny", "sd15" of "models/sd15/" and of "models/sd15.safetensors", "cat/model" of
 * "runs/cat/model"; as UTF-8. Caller: mem_free. NULL: out of memory. */
static char *short_name(const char *path)
{
    static const char *const endings[] = {".safetensors", ".ckpt"};
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    char *whole = mem_printf("%.*s", (int)length, path);
    if (!whole)
        return NULL;
    char *base = whole + (telling_name(whole) - whole);
    if (strncmp(base, BUILTIN, strlen(BUILTIN)) == 0)
        base += strlen(BUILTIN);
    for (int i = 0; i < 2; i++) {
        const size_t n = strlen(base), ending = strlen(endings[i]);
        if (n > ending && strcasecmp(base + n - ending, endings[i]) == 0)
            base[n - ending] = 0;
    }
    char *name = text_as_utf8(base);
    mem_free(whole);
    return name;
}

static const char *sampler_label(const char *name)
{
    const SamplerKind *kind = sampler_kind(name);
    return kind ? kind->label : name;
}

/* ", Schedule type: Karras", where the request names one that A1111 has too. */
static void schedule_label(const SampleRequest *r, char *out, size_t size)
{
    const GridKind *kind = r->schedule ? grid_kind(r->schedule) : NULL;
    snprintf(out, size, "%s%s", kind && kind->label ? ", Schedule type: " : "",
             kind && kind->label ? kind->label : "");
}

/* A1111 reads values up to the next comma; others are quoted as JSON. Caller: mem_free. NULL: out of memory.
 */
static char *quote_value(const char *text)
{
    if (!strpbrk(text, ",:\n\""))
        return mem_strdup(text);
    char *quoted = json_text(json_string(text), JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    char *copy = quoted ? mem_strdup(quoted) : NULL;
    free(quoted);
    return copy;
}

/* " <lora:NAME:SCALE>" for each, as A1111 has them in the prompt. Caller: mem_free. */
static char *lora_tags(const PictureOrigin *o)
{
    char *tags = mem_strdup("");
    for (int i = 0; tags && i < o->lora_count; i++) {
        char *name = short_name(o->loras[i].path);
        for (char *c = name; c && *c; c++) /* a line is a field */
            if ((unsigned char)*c < ' ')
                *c = ' ';
        char *more = adapter_strength_text(&o->loras[i].strength);
        char *longer = name && more ? mem_printf("%s <lora:%s:%g%s>", tags, name,
                                                 (double)o->loras[i].strength.whole, more)
                                    : NULL;
        mem_free(name);
        mem_free(more);
        mem_free(tags);
        tags = longer;
    }
    return tags;
}

char *picture_parameters(const PictureOrigin *o)
{
    const SampleRequest *r = o->request;
    char skip[32] = "", schedule[64], way[400];
    char *name = short_name(o->model), *model = name ? quote_value(name) : NULL, *tags = lora_tags(o);
    if (r->clip_skip) /* A1111 counts from 1 */
        snprintf(skip, sizeof skip, ", Clip skip: %d", r->clip_skip + 1);
    way_parameters(r, way, sizeof way);
    schedule_label(r, schedule, sizeof schedule);
    const bool negative = r->negative && *r->negative;
    char *text = !model || !tags ? NULL
                                 : mem_printf("%s%s\n%s%s%sSteps: %d, Sampler: %s%s, CFG scale: %g, Seed: "
                                              "%llu, Size: %dx%d, Model: %s%s%s, "
                                              "Version: atelier " ATELIER_VERSION,
                                              r->prompt, tags, negative ? "Negative prompt: " : "",
                                              negative ? r->negative : "", negative ? "\n" : "", r->steps,
                                              sampler_label(r->sampler), schedule, (double)r->guidance,
                                              (unsigned long long)r->seed, r->size.width, r->size.height,
                                              model, skip, way);
    mem_free(name);
    mem_free(model);
    mem_free(tags);
    return text;
}

json_t *used_lora_json(const UsedLora *l, const char *file)
{
    json_t *facts = json_pack("{s:o, s:f}", "file", json_name(file), "scale", (double)l->strength.whole);
    char *more = adapter_strength_text(&l->strength);
    if (more && *more)
        json_object_set_new(facts, "strength", json_string(more + 1));
    mem_free(more);
    return facts;
}

static json_t *lora_list(const PictureOrigin *o)
{
    json_t *list = json_array();
    for (int i = 0; i < o->lora_count; i++)
        json_array_append_new(list, used_lora_json(&o->loras[i], path_base(o->loras[i].path)));
    return list;
}

/* What is there for some pictures only. */
static void add_beside(json_t *settings, const PictureOrigin *o)
{
    if (o->licence && *o->licence)
        json_object_set_new(settings, "license", json_string(o->licence));
    if (o->watermark)
        json_object_set_new(settings, "watermark", json_string(o->watermark));
    if (o->flagged)
        json_object_set_new(settings, "flagged", json_true());
}

/* Settings that are mostly left as they are stand only where they are not. */
static void add_choices(json_t *settings, const SampleRequest *r)
{
    if (r->schedule && strcmp(r->schedule, SCHEDULE_AUTO) != 0)
        json_object_set_new(settings, "schedule", json_string(r->schedule));
    if (r->prompt_2 && *r->prompt_2)
        json_object_set_new(settings, "prompt_2", json_string(r->prompt_2));
    if (r->negative_2 && *r->negative_2)
        json_object_set_new(settings, "negative_2", json_string(r->negative_2));
    if (r->rng)
        json_object_set_new(settings, "rng", json_string(r->rng));
    if (r->guidance_rescale > 0)
        json_object_set_new(settings, "guidance_rescale", json_real(r->guidance_rescale));
}

char *picture_settings(const PictureOrigin *o)
{
    const SampleRequest *r = o->request;
    char seed[32];
    const bool builtin = !strncmp(o->model, BUILTIN, strlen(BUILTIN)); /* which leads to it anywhere */
    char *model = builtin ? mem_strdup(o->model) : short_name(o->model);
    if (!model)
        return NULL;
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->seed); /* JSON's integers end at 2^63 - 1 */
    json_t *settings =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:f, s:s, s:s, s:i, s:i, s:i, s:s, s:o}", "version",
                  ATELIER_VERSION, "model", model, "weights", o->weights, "prompt", r->prompt, "negative",
                  r->negative ? r->negative : "", "steps", r->steps, "cfg", (double)r->guidance, "sampler",
                  r->sampler, "seed", seed, "width", r->size.width, "height", r->size.height, "clip_skip",
                  r->clip_skip, "dtype", o->dtype, "loras", lora_list(o));
    mem_free(model);
    if (!r->negative && o->tells_none)
        json_object_set_new(settings, "negative", json_null());
    if (o->tf32)
        json_object_set_new(settings, "tf32", json_true());
    add_beside(settings, o);
    json_object_set_new(settings, "compat", json_string(compat_of(r->compat)->name));
    json_object_update_new(settings, way_settings(r, o->begin));
    add_choices(settings, r);
    json_error_t error;
    if (o->options)
        json_object_set_new(settings, PICTURE_OPTIONS, json_parse(o->options, 0, &error));
    char *text = json_text(settings, JSON_COMPACT | JSON_REAL_PRECISION(7));
    char *copy = text ? mem_strdup(text) : NULL;
    free(text);
    return copy;
}

Status picture_check_own(const char *path)
{
    char *bytes = NULL, *text = NULL;
    size_t size = 0;
    if (!file_exists(path) || file_size(path) == 0)
        return STATUS_OK;
    Status s = file_read(path, PNG_LIMIT, &bytes, &size);
    if (s == STATUS_OK)
        s = picture_text((const uint8_t *)bytes, size, PICTURE_SETTINGS, &text);
    mem_free(bytes);
    if (s != STATUS_OK && status_is_memory())
        return s;
    const bool own = s == STATUS_OK && text;
    mem_free(text);
    return own ? STATUS_OK
               : status_refuse(
                     "%s: is there, and is no picture that was drawn here; it is left alone: choose "
                     "another name",
                     path);
}
