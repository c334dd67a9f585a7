/* LoRA files onto layers.
 *
 * A file is read in two passes: its keys are sorted to the layers of the model they name, and only when every
 * key has its place and every shape fits are the adapters made and attached; a refused file leaves the model
 * as it was. Adapters are kept in f32 whatever the file has. scale = the user's weight * alpha / rank, and
 * alpha = rank where a file says nothing (as all readers take it); PEFT files may say it in their metadata,
 * as JSON in lora_adapter_metadata. */
#include "adapters.h"

#include "infer/models/single_file.h"
#include "kernels/adapter.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "lora_names.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A layer that can carry an adapter, and what the file has for it. */
typedef struct Module {
    char name[LORA_NAME_SIZE];
    Layer *layer;
    bool text_encoder;
    const TensorEntry *down, *up;
    const TensorEntry *alpha;
} Module;
typedef struct ModuleList {
    Module *items;
    int count;
} ModuleList;

struct LoraFile {
    Adapter *adapters;
    Layer **layers; /* adapters[i] is attached to layers[i] */
    int count;
};

/* Layers by target ------------------------------------------------------------------------------------- */

static bool ends_with_any(const char *name, const char *const *endings, int count)
{
    const size_t size = strlen(name);
    for (int i = 0; i < count; i++) {
        const size_t length = strlen(endings[i]);
        if (size >= length && strcmp(name + size - length, endings[i]) == 0)
            return true;
    }
    return false;
}

static bool in_attention(const char *name)
{
    static const char *const ENDINGS[] = {".to_q", ".to_k", ".to_v", ".to_out.0"};
    return strstr(name, ".transformer_blocks.") && ends_with_any(name, ENDINGS, 4);
}

static bool in_attention_or_mlp(const char *name)
{
    static const char *const ENDINGS[] = {".ff.net.0.proj", ".ff.net.2", ".proj_in", ".proj_out"};
    return in_attention(name) || (strstr(name, ".attentions.") && ends_with_any(name, ENDINGS, 4));
}

static bool in_text_layer(const char *name)
{
    static const char *const ENDINGS[] = {".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2"};
    return ends_with_any(name, ENDINGS, 6);
}

static Status select_layers(const LayerSet *set, bool (*wanted)(const char *name), Layer ***out, int *count)
{
    *count = 0;
    *out = mem_alloc((size_t)set->count * sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    for (int i = 0; i < set->count; i++)
        if (wanted(set->items[i]->name))
            (*out)[(*count)++] = set->items[i];
    return STATUS_OK;
}

Status lora_unet_layers(Model *m, LoraTargets targets, Layer ***out, int *count)
{
    return select_layers(unet_layers(m->unet), targets == LORA_ATTENTION ? in_attention : in_attention_or_mlp,
                         out, count);
}

Status lora_text_layers(Model *m, Layer ***out, int *count)
{
    return select_layers(clip_layers(m->clip), in_text_layer, out, count);
}

Status lora_kohya_name(const Layer *l, bool text_encoder, char *out, size_t size)
{
    return lora_module_name(l->name, text_encoder, out, size);
}

/* The file's keys, sorted to modules ------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Module *)a)->name, ((const Module *)b)->name);
}

/* A linear layer or a convolution, by its weight's dimensions: an embedding has two as well, and is told by
 * name. */
static bool may_carry(const Layer *l)
{
    return l->weight && l->weight->ndim >= 2 &&
           !ends_with_any(l->name, (const char *const[]){"_embedding"}, 1);
}

static Status add_modules(ModuleList *list, const LayerSet *set, bool text_encoder)
{
    for (int i = 0; i < set->count; i++) {
        if (!may_carry(set->items[i]))
            continue;
        Module *module = &list->items[list->count++];
        *module = (Module){.layer = set->items[i], .text_encoder = text_encoder};
        TRY(lora_kohya_name(module->layer, text_encoder, module->name, sizeof module->name));
    }
    return STATUS_OK;
}

static Status list_modules(Model *m, ModuleList *list)
{
    const LayerSet *unet = m->unet ? unet_layers(m->unet) : NULL,
                   *text = m->clip ? clip_layers(m->clip) : NULL;
    list->items =
        mem_alloc((size_t)((unet ? unet->count : 0) + (text ? text->count : 0)) * sizeof *list->items);
    if (!list->items)
        return STATUS_FAILED;
    if (unet)
        TRY(add_modules(list, unet, false));
    if (text)
        TRY(add_modules(list, text, true));
    qsort(list->items, (size_t)list->count, sizeof *list->items, by_name);
    return STATUS_OK;
}

static Module *find_module(const ModuleList *list, const char *name)
{
    Module key;
    memcpy(key.name, name, sizeof key.name);
    return bsearch(&key, list->items, (size_t)list->count, sizeof key, by_name);
}

/* How keys of LoRAs for other kinds of models begin. */
static const struct {
    const char *start, *model;
} OTHER_MODELS[] = {
    {"lora_te1_", "SDXL"},
    {"lora_te2_", "SDXL"},
    {"text_encoder_2.", "SDXL"},
    {"lora_unet_double_blocks_", "Flux"},
    {"lora_unet_single_blocks_", "Flux"},
    {"lora_unet_joint_blocks_", "Stable Diffusion 3"},
    {"lora_transformer_", "Flux or Stable Diffusion 3"},
    {"transformer.", "Flux or Stable Diffusion 3"},
};

static Status refuse_key(const char *key, const LoraKey *k, int others)
{
    char more[64] = "";
    if (others)
        snprintf(more, sizeof more, " (and %d other keys)", others);
    if (k->role == LORA_OTHER_KIND)
        return status_fail("`%s`%s: %s is not supported; LoRA on linear layers and 1x1 convolutions is", key,
                           more, k->kind);
    for (size_t i = 0; i < sizeof OTHER_MODELS / sizeof *OTHER_MODELS; i++)
        if (strncmp(key, OTHER_MODELS[i].start, strlen(OTHER_MODELS[i].start)) == 0)
            return status_fail("`%s`%s: this LoRA is for %s, the model is not", key, more,
                               OTHER_MODELS[i].model);
    return status_fail("`%s`%s: the model has no such layer; was this LoRA made for another model?", key,
                       more);
}

static Status place_entry(ModuleList *list, const TensorEntry *e, const LoraKey *k)
{
    Module *m = find_module(list, k->module);
    const TensorEntry **place = k->role == LORA_KEY_DOWN ? &m->down
                                : k->role == LORA_KEY_UP ? &m->up
                                                         : &m->alpha;
    if (*place)
        return status_fail("`%s` and `%s` are for the same layer", (*place)->name, e->name);
    *place = e;
    return STATUS_OK;
}

static Status place_keys(ModuleList *list, const TensorFile *f)
{
    const char *first_bad = NULL;
    LoraKey first_key = {0};
    int bad = 0, known = 0;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        LoraKey k;
        lora_key_parse(e->name, &k);
        known += k.role != LORA_UNKNOWN;
        if (k.role <= LORA_ALPHA && find_module(list, k.module)) {
            TRY(place_entry(list, e, &k));
            continue;
        }
        if (!bad++) {
            first_bad = e->name;
            first_key = k;
        }
    }
    if (bad && !known)
        return status_fail(
            "is not a LoRA: no key names a low-rank pair (`%s`, …); a model is given with --model",
            first_bad);
    return bad ? refuse_key(first_bad, &first_key, bad - 1) : STATUS_OK;
}

/* Shapes ----------------------------------------------------------------------------------------------- */

/* (rows,columns), possibly with two more dimensions of 1. */
static bool is_matrix(const TensorEntry *e, int64_t *rows, int64_t *columns)
{
    if (e->ndim != 2 && !(e->ndim == 4 && e->shape[2] == 1 && e->shape[3] == 1))
        return false;
    *rows = e->shape[0];
    *columns = e->shape[1];
    return true;
}

static Status check_shapes(const Module *m, int64_t *rank)
{
    const Tensor *w = m->layer->weight;
    int64_t in, out, up_rank;
    if (!m->down || !m->up) {
        const TensorEntry *there = m->down ? m->down : m->up ? m->up : m->alpha;
        return status_fail("`%s` is there, but not the %s part of the same layer", there->name,
                           m->down ? "up" : "down");
    }
    for (int i = 0; i < 2; i++)
        if (!element_is_float((i ? m->up : m->down)->type))
            return status_fail("`%s` holds numbers of type %s, floats are needed",
                               (i ? m->up : m->down)->name, (i ? m->up : m->down)->type_name);
    if (w->ndim == 4 && (w->shape[2] != 1 || w->shape[3] != 1))
        return status_fail("`%s`: LoCon (LoRA on 3x3 convolutions) is not supported", m->down->name);
    if (!is_matrix(m->down, rank, &in) || !is_matrix(m->up, &out, &up_rank))
        return status_fail("`%s`: a matrix is expected", m->down->name);
    if (*rank < 1 || up_rank != *rank)
        return status_fail("`%s` has rank %lld, its up part %lld", m->down->name, (long long)*rank,
                           (long long)up_rank);
    if (in != w->shape[1] || out != w->shape[0])
        return status_fail(
            "`%s` is for a layer of (%lld,%lld), the model's is (%lld,%lld); was this LoRA made for "
            "another model?",
            m->down->name, (long long)out, (long long)in, (long long)w->shape[0], (long long)w->shape[1]);
    return STATUS_OK;
}

/* Alpha ------------------------------------------------------------------------------------------------ */

static const json_t *part_setting(const json_t *metadata, bool text_encoder, const char *key)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", text_encoder ? "text_encoder" : "unet", key);
    const json_t *found = json_object_get(metadata, full);
    return found ? found : json_object_get(metadata, key); /* a file of one part has no prefix */
}

/* PEFT's alpha_pattern: {"end of the path": alpha}; a caret says that it is the whole path. */
static const json_t *pattern_for(const json_t *patterns, const char *path)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)patterns, key, value)
    {
        const char *end = key[0] == '^' ? key + 1 : key;
        const size_t size = strlen(path), length = strlen(end);
        if (size < length || strcmp(path + size - length, end) != 0)
            continue;
        if (size == length || (key[0] != '^' && path[size - length - 1] == '.'))
            return value;
    }
    return NULL;
}

/* alpha / rank as the file means it. */
static Status module_scale(const Module *m, const json_t *metadata, int64_t rank, float *scale)
{
    *scale = 1;
    if (m->alpha) {
        double alpha;
        TRY(tensor_entry_number(m->alpha, &alpha));
        *scale = (float)alpha / (float)rank;
    } else if (metadata) {
        const json_t *alpha =
            pattern_for(part_setting(metadata, m->text_encoder, "alpha_pattern"), m->layer->name);
        if (!alpha)
            alpha = part_setting(metadata, m->text_encoder, "lora_alpha");
        const bool rslora = json_is_true(part_setting(metadata, m->text_encoder, "use_rslora"));
        if (json_is_true(part_setting(metadata, m->text_encoder, "use_dora")))
            return status_fail("DoRA is not supported");
        if (json_is_number(alpha))
            *scale = (float)(json_number_value(alpha) / (rslora ? sqrt((double)rank) : (double)rank));
    }
    if (!isfinite(*scale))
        return status_fail("`%s`: alpha is not a finite number", m->down->name);
    return STATUS_OK;
}

static Status read_metadata(const TensorFile *f, json_t **out)
{
    *out = NULL;
    const char *text = tensorfile_metadata(f, "lora_adapter_metadata");
    if (!text)
        return STATUS_OK;
    json_error_t error;
    *out = json_parse(text, 0, &error);
    return *out ? STATUS_OK : status_fail("metadata lora_adapter_metadata is no JSON: %s", error.text);
}

/* Attaching -------------------------------------------------------------------------------------------- */

/* The entry as a tensor of its own, f32 (rows,columns). */
static Status read_matrix(const TensorEntry *e, Tensor **out)
{
    *out = tensor_new(DTYPE_F32, 2, e->shape);
    return *out ? tensor_entry_read(e, DTYPE_F32, (*out)->data) : STATUS_FAILED;
}

static Status make_adapters(LoraFile *file, const ModuleList *list, const json_t *metadata, float user_scale)
{
    file->adapters = mem_calloc((size_t)list->count, sizeof *file->adapters);
    file->layers = mem_calloc((size_t)list->count, sizeof *file->layers);
    if (!file->adapters || !file->layers)
        return STATUS_FAILED;
    for (int i = 0; i < list->count; i++) {
        const Module *m = &list->items[i];
        if (!m->down && !m->up && !m->alpha)
            continue;
        int64_t rank = 0;
        TRY(check_shapes(m, &rank));
        Adapter *a = &file->adapters[file->count];
        file->layers[file->count++] = m->layer;
        a->kind = &adapter_lora;
        TRY(module_scale(m, metadata, rank, &a->scale));
        a->scale *= user_scale;
        TRY(read_matrix(m->down, &a->tensors[LORA_DOWN]));
        TRY(read_matrix(m->up, &a->tensors[LORA_UP]));
    }
    return file->count ? STATUS_OK : status_fail("there is no LoRA in it");
}

static void attach_all(LoraFile *file)
{
    for (int i = 0; i < file->count; i++) {
        Adapter **end = &file->layers[i]->adapters;
        while (*end)
            end = &(*end)->next;
        *end = &file->adapters[i];
    }
}

static void free_file(LoraFile *f)
{
    for (int i = 0; i < f->count; i++) {
        adapter_free_tensors(&f->adapters[i]);
    }
    mem_free(f->adapters);
    mem_free(f->layers);
    mem_free(f);
}

static Status read_file(Model *m, const TensorFile *f, float scale, LoraFile *file)
{
    ModuleList list = {0};
    json_t *metadata = NULL;
    Status s = list_modules(m, &list);
    if (s == STATUS_OK)
        s = place_keys(&list, f);
    if (s == STATUS_OK)
        s = read_metadata(f, &metadata);
    if (s == STATUS_OK)
        s = make_adapters(file, &list, metadata, scale);
    json_decref(metadata);
    mem_free(list.items);
    return s;
}

Status lora_attach(Model *m, const char *path, float scale, LoraFile **out)
{
    TensorFile *f;
    *out = NULL;
    TRY(tensorfile_open(path, &f));
    LoraFile *file = mem_calloc(1, sizeof *file);
    Status s = file ? read_file(m, f, scale, file) : STATUS_FAILED;
    tensorfile_close(f);
    if (s != STATUS_OK) {
        if (file)
            free_file(file);
        return status_in(s, "%s", path);
    }
    attach_all(file);
    *out = file;
    return STATUS_OK;
}

void lora_detach(Model *m, LoraFile *f)
{
    (void)m;
    if (!f)
        return;
    for (int i = 0; i < f->count; i++)
        for (Adapter **at = &f->layers[i]->adapters; *at; at = &(*at)->next)
            if (*at == &f->adapters[i]) {
                *at = (*at)->next;
                break;
            }
    free_file(f);
}
