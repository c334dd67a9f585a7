/* A single file of a model's stored tensors, as the original code names them: SD1.x with CLIP's names for its
 * text encoder, SD2.x with OpenCLIP's, whose attention has one tensor for query, key and value. OpenCLIP's
 * last layer, which SD2 does not use and diffusers' folders do not have, is left out, as diffusers' own
 * converter does.
 *
 * A single file has no place for what a folder says in its JSON files. What others can be told, they are told
 * in their ways: what is predicted by a tensor (global_step, v_pred), and "modelspec" metadata. For this
 * program the texts themselves stand in the metadata, under "atelier:" and their path in the folder, so that
 * nothing is lost on the way to a single file and back. */
#include "carry.h"
#include "convert.h"
#include "narrow.h"
#include "texts.h"

#include "infer/models/single_file.h"
#include "infer/safety/licence.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE_STEPS 875000 /* of SD2's 512-pixel base, by which diffusers knows that it predicts the noise */

typedef struct Writer {
    const Model *m;
    const ConvertRequest *r;
    Narrow narrow;
    ModelShapes shapes;
    SingleBuild build;
    StoredPart parts[PART_COUNT];
    SafeItem *items; /* names are its own */
    int count, capacity;
    TensorMeta *meta; /* keys and values are its own */
    int meta_count, meta_capacity;
    Tensor *marks[2];
    TurnedEntry turned; /* of the one matrix that lies there with rows and columns changed */
} Writer;

/* Tensors ------------------------------------------------------------------------------------------------ */

static Status add_item(Writer *w, SafeItem item)
{
    if (!item.name || !mem_grow(&w->items, w->count, &w->capacity, sizeof *w->items)) {
        mem_free((char *)item.name);
        return STATUS_FAILED;
    }
    w->items[w->count++] = item;
    return STATUS_OK;
}

/* One more third of a tensor of which others may be there: they come one after another. *whole: the place of
 * the tensor that this is the last third of, or -1. */
static Status add_third(Writer *w, SafeItem item, int third, int *whole)
{
    SafeItem *there = NULL;
    *whole = -1;
    for (int i = w->count - 1; i >= 0 && i >= w->count - 4 && !there; i--)
        if (!strcmp(w->items[i].name, item.name))
            there = &w->items[i];
    if (!there) {
        const SafePiece piece = item.pieces[0];
        item.shape[0] *= KEYMAP_PARTS;
        item.piece_count = KEYMAP_PARTS;
        item.pieces[0] = (SafePiece){0};
        item.pieces[third] = piece;
        return add_item(w, item);
    }
    const bool same = there->type == item.type;
    there->pieces[third] = item.pieces[0];
    if (there->pieces[0].entry && there->pieces[1].entry && there->pieces[2].entry)
        *whole = (int)(there - w->items);
    const Status s =
        same ? STATUS_OK
             : status_refuse("%s: query, key and value of a layer are stored in different types; say "
                             "which with --dtype",
                             item.name);
    mem_free((char *)item.name);
    return s;
}

/* The VAE's attention is a 1×1 convolution there. */
static void shape_as_original(PartId id, SafeItem *item)
{
    if (id == PART_VAE && item->ndim == 2) {
        item->shape[2] = item->shape[3] = 1;
        item->ndim = 4;
    }
}

/* As the original code has it. */
static Status turn(Writer *w, SafeItem *item)
{
    const int64_t rows = item->shape[0];
    TRY(tensor_entry_turn(item->pieces[0].entry, &w->turned));
    item->pieces[0].entry = &w->turned.entry;
    item->shape[0] = item->shape[1];
    item->shape[1] = rows;
    return STATUS_OK;
}

/* The weight in this place in 8 bits, and right after it its scales. */
static Status narrow_at(Writer *w, int place)
{
    SafeItem scales = {0};
    TRY(narrow_item(&w->narrow, &w->items[place], &scales));
    TRY(add_item(w, scales));
    SafeItem *next = &w->items[place + 1];
    memmove(next + 1, next, sizeof *next * (size_t)(w->count - place - 2));
    *next = scales;
    return STATUS_OK;
}

static Status add_part(Writer *w, PartId id)
{
    const SingleNames *names = &PARTS[id].single[w->build];
    StoredPart *p = &w->parts[id];
    TRY(stored_part_open(w->m, id, p));
    for (int i = 0; i < p->count; i++) {
        char key[KEYMAP_MAX];
        int third = -1;
        if (!names->name_back)
            snprintf(key, sizeof key, "%s", p->items[i].name);
        else if (!names->name_back(p->items[i].name, part_config(id, &w->shapes), key, &third))
            return status_refuse("%s: %s of its %s has no name in a single file", w->m->name,
                                 p->items[i].name, PARTS[id].folder);
        SafeItem item = stored_item(&p->items[i], mem_printf("%s%s", names->prefix, key), w->r->dtype);
        shape_as_original(id, &item);
        const bool turned = names->turned && !strcmp(p->items[i].name, names->turned);
        if (turned)
            TRY(turn(w, &item));
        int place = w->count;
        TRY(third < 0 || !item.name ? add_item(w, item) : add_third(w, item, third, &place));
        if (place >= 0 && w->r->quantise && !turned && narrow_takes(id, &p->items[i]))
            TRY(narrow_at(w, place));
    }
    return STATUS_OK;
}

/* A tensor that says something by being there; takes it over. */
static Status add_mark(Writer *w, const char *name, Tensor *mark)
{
    Tensor **at = &w->marks[w->marks[0] != NULL];
    *at = mark;
    return mark ? add_item(
                      w,
                      (SafeItem){.name = mem_strdup(name), .tensor = mark, .dtype = mark->dtype, .ndim = -1})
                : STATUS_FAILED;
}

static bool ends_in_noise(const NoiseSchedule *s)
{
    return s->alphas_cumprod[s->train_steps - 1] <= 0;
}

/* What others know a model's kind by. */
static Status add_marks(Writer *w)
{
    const bool v = w->m->schedule.prediction == PREDICT_V;
    const int64_t none = 0;
    if (ends_in_noise(&w->m->schedule))
        TRY(add_mark(w, "ztsnr", tensor_new(DTYPE_F32, 1, &none)));
    if (v == (w->build == BUILD_SD2)) /* as is expected of such a file */
        return STATUS_OK;
    if (v)
        return add_mark(w, "v_pred", tensor_new(DTYPE_F32, 1, &none));
    Tensor *steps = tensor_new(DTYPE_I64, 0, NULL);
    if (steps)
        *(int64_t *)steps->data = BASE_STEPS;
    return add_mark(w, "global_step", steps);
}

/* Metadata ----------------------------------------------------------------------------------------------- */

/* Both are taken over; NULL: out of memory. */
static Status add_meta(Writer *w, char *key, char *value)
{
    if (!key || !value || !mem_grow(&w->meta, w->meta_count, &w->meta_capacity, sizeof *w->meta)) {
        mem_free(key);
        mem_free(value);
        return STATUS_FAILED;
    }
    w->meta[w->meta_count++] = (TensorMeta){key, value};
    return STATUS_OK;
}

static Status add_text(void *arg, const char *path, const char *text)
{
    return add_meta(arg, mem_printf(SINGLE_TEXT "%s", path), mem_strdup(text));
}

static Status add_spec(Writer *w)
{
    static const char *const ARCHITECTURES[BUILD_COUNT][2] = {
        {"stable-diffusion-v1", "stable-diffusion-v1"},
        {"stable-diffusion-v2-512", "stable-diffusion-v2-768-v"},
        {"stable-diffusion-xl-v1-base", "stable-diffusion-xl-v1-base"}};
    const bool v = w->m->schedule.prediction == PREDICT_V;
    TRY(add_meta(w, mem_strdup("format"), mem_strdup("pt")));
    TRY(add_meta(w, mem_strdup("modelspec.sai_model_spec"), mem_strdup("1.0.0")));
    TRY(add_meta(w, mem_strdup("modelspec.prediction_type"), mem_strdup(v ? "v" : "epsilon")));
    TRY(add_meta(w, mem_strdup("modelspec.resolution"),
                 mem_printf("%dx%d", w->m->default_size, w->m->default_size)));
    const Licence licence = licence_of(w->m);
    if (licence.name[0])
        TRY(add_meta(w, mem_strdup("modelspec.license"), mem_strdup(licence.name)));
    return w->shapes.unet.channels[0] != 320
               ? STATUS_OK
               : add_meta(w, mem_strdup("modelspec.architecture"), mem_strdup(ARCHITECTURES[w->build][v]));
}

/* The whole ---------------------------------------------------------------------------------------------- */

static Status collect(Writer *w)
{
    static const PartId order[PART_COUNT] = {PART_UNET, PART_VAE, PART_TEXT, PART_TEXT_2};
    for (int i = 0; i < PART_COUNT; i++)
        if (model_has(w->m, (PartId)i))
            TRY(PARTS[i].kind->parse(w->m->config_json[i], w->m->name, part_config((PartId)i, &w->shapes)));
    w->build = w->m->family == FAMILY_SDXL ? BUILD_SDXL : w->shapes.clip.quick_gelu ? BUILD_SD1 : BUILD_SD2;
    for (int i = 0; i < PART_COUNT; i++)
        if (model_has(w->m, order[i]))
            TRY(add_part(w, order[i]));
    TRY(add_marks(w));
    TRY(add_spec(w));
    return texts_each(w->m, add_text, w);
}

static void free_writer(Writer *w)
{
    for (int i = 0; i < w->count; i++)
        mem_free((char *)w->items[i].name);
    for (int i = 0; i < w->meta_count; i++) {
        mem_free((char *)w->meta[i].key);
        mem_free((char *)w->meta[i].value);
    }
    for (int i = 0; i < PART_COUNT; i++)
        stored_part_close(&w->parts[i]);
    narrow_free(&w->narrow);
    for (int i = 0; i < 2; i++)
        tensor_free(w->marks[i]);
    mem_free(w->items);
    mem_free(w->meta);
}

Status single_write(const Model *m, const char *path, const ConvertRequest *r, ConvertResult *out)
{
    Writer w = {.m = m, .r = r};
    Status s = collect(&w);
    if (s == STATUS_OK)
        s = safetensors_write(path, w.items, w.count, w.meta, w.meta_count);
    if (s == STATUS_OK)
        s = texts_needed(path, &w.shapes, &out->told_alone);
    if (s == STATUS_OK)
        s = carry_tell_left_out(m);
    out->tensors = w.count - w.narrow.count;
    out->quantised = w.narrow.count;
    free_writer(&w);
    return s;
}
