/* Adapter files onto layers.
 *
 * A file is read in two passes: its keys are sorted to the layers of the model they name, and only when every
 * key has its place and every shape fits are the adapters made and attached; a refused file leaves the model
 * as it was. Adapters are kept in f32 whatever the file has. scale = the user's weight * alpha / rank, with
 * alpha from the tensor beside the others, or from what PEFT says of the file (settings.h), or else the rank,
 * as all readers take it. */
#include "adapters.h"

#include "infer/models/parts.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "decompose.h"
#include "family.h"
#include "keys.h"
#include "settings.h"
#include "tucker.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A layer that can carry an adapter, and what the file has for it. */
typedef struct Module {
    PartId part;
    Layer *layer;
    const AdapterKind *kind;
    const TensorEntry *tensors[ADAPTER_TENSORS], *alpha;
    const TensorEntry *magnitude; /* DoRA's lengths */
    bool peft_lengths;            /* which follow the scaled change */
    const TensorEntry *first;     /* of the tensors: for messages */
} Module;
/* One of the names that files have for it. */
typedef struct ModuleName {
    char name[ADAPTER_MODULE_SIZE];
    int module;
} ModuleName;
typedef struct ModuleList {
    Module *items;
    ModuleName *names; /* sorted */
    int count, name_count;
} ModuleList;

struct LoraFile {
    Adapter *adapters;
    Layer **layers; /* adapters[i] is attached to layers[i] */
    int count;
    int there; /* how many the file has, those of strength 0 too */
};

/* The file's keys, sorted to modules ------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ModuleName *)a)->name, ((const ModuleName *)b)->name);
}

/* A linear layer or a convolution, by its weight's dimensions: an embedding has two as well, and is told by
 * name. */
static bool may_carry(const Layer *l)
{
    static const char END[] = "_embedding";
    const size_t size = strlen(l->name), length = sizeof END - 1;
    return l->weight && l->weight->ndim >= 2 &&
           !(size >= length && strcmp(l->name + size - length, END) == 0);
}

static Status add_module(ModuleList *list, const Model *m, PartId part, Layer *layer)
{
    const AdapterLayer at = {m, part, layer->name};
    char names[ADAPTER_NAMES][ADAPTER_MODULE_SIZE];
    int count;
    TRY(adapter_modules(&at, names, &count));
    for (int k = 0; k < count; k++) {
        ModuleName *n = &list->names[list->name_count++];
        memcpy(n->name, names[k], sizeof n->name);
        n->module = list->count;
    }
    list->items[list->count++] = (Module){.part = part, .layer = layer};
    return STATUS_OK;
}

static const PartId CARRIERS[] = {PART_UNET, PART_TEXT, PART_TEXT_2};
#define CARRIER_COUNT (sizeof CARRIERS / sizeof *CARRIERS)

static Status list_modules(Model *m, ModuleList *list)
{
    size_t room = 0;
    for (size_t p = 0; p < CARRIER_COUNT; p++) {
        const LayerSet *set = part_layers(CARRIERS[p], m);
        room += set ? (size_t)set->count : 0;
    }
    list->items = mem_alloc(room * sizeof *list->items);
    list->names = mem_alloc(ADAPTER_NAMES * room * sizeof *list->names);
    if (!list->items || !list->names)
        return STATUS_FAILED;
    for (size_t p = 0; p < CARRIER_COUNT; p++) {
        const LayerSet *set = part_layers(CARRIERS[p], m);
        for (int i = 0; set && i < set->count; i++)
            if (may_carry(set->items[i]))
                TRY(add_module(list, m, CARRIERS[p], set->items[i]));
    }
    qsort(list->names, (size_t)list->name_count, sizeof *list->names, by_name);
    return STATUS_OK;
}

static Module *find_module(const ModuleList *list, const char name[ADAPTER_MODULE_SIZE])
{
    ModuleName key;
    memcpy(key.name, name, sizeof key.name);
    const ModuleName *found = bsearch(&key, list->names, (size_t)list->name_count, sizeof key, by_name);
    return found ? &list->items[found->module] : NULL;
}

/* How keys of LoRAs for certain kinds of models begin, and who writes them so. */
static const struct {
    const char *start, *model, *writer;
} MADE_FOR[] = {
    {"lora_te1_", "SDXL", "sd-scripts (kohya_ss) and OneTrainer"},
    {"lora_te2_", "SDXL", "sd-scripts (kohya_ss) and OneTrainer"},
    {"text_encoder_2.", "SDXL", "diffusers"},
    {"lora_unet_input_blocks_", "SDXL, in ldm's names", "sd-scripts (kohya_ss)"},
    {"lora_unet_middle_block_", "SDXL, in ldm's names", "sd-scripts (kohya_ss)"},
    {"lora_unet_output_blocks_", "SDXL, in ldm's names", "sd-scripts (kohya_ss)"},
    {"lora_unet_double_blocks_", "Flux", "sd-scripts (kohya_ss)"},
    {"lora_unet_single_blocks_", "Flux", "sd-scripts (kohya_ss)"},
    {"lora_unet_joint_blocks_", "Stable Diffusion 3", "sd-scripts (kohya_ss)"},
    {"lora_transformer_", "Flux or Stable Diffusion 3", "OneTrainer"},
    {"transformer.", "Flux or Stable Diffusion 3", "diffusers"},
};

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

#define OTHER_MODEL "; was this LoRA made for another model?"

static Status refuse_key(const Model *m, const char *key, const AdapterKey *k, int others)
{
    const bool xl = m->family == FAMILY_SDXL;
    char more[64] = "";
    if (others)
        snprintf(more, sizeof more, " (and %d other key%s)", others, others == 1 ? "" : "s");
    if (k->type == ADAPTER_KEY_OTHER)
        return status_refuse("`%s`%s: %s is not supported; LoRA, LoHa, LoKr and DoRA are", key, more,
                             k->other);
    for (size_t i = 0; i < sizeof MADE_FOR / sizeof *MADE_FOR; i++)
        if (begins_with(key, MADE_FOR[i].start) && !(xl && begins_with(MADE_FOR[i].model, "SDXL")))
            return status_refuse("`%s`%s: this LoRA is for %s, as %s write%s it, and the model is not", key,
                                 more, MADE_FOR[i].model, MADE_FOR[i].writer,
                                 strstr(MADE_FOR[i].writer, " and ") ? "" : "s");
    return status_refuse("`%s`%s: the model has no such layer" OTHER_MODEL, key, more);
}

static Status place_entry(Module *m, const TensorEntry *e, const AdapterKey *k)
{
    const bool is_alpha = k->type == ADAPTER_KEY_ALPHA, is_length = k->type == ADAPTER_KEY_MAGNITUDE;
    const bool beside = is_alpha || is_length;
    if (!beside && m->kind && m->kind != k->kind)
        return status_fail("`%s` and `%s` are of two kinds of adapters, %s and %s, for the same layer",
                           m->first->name, e->name, m->kind->title, k->kind->title);
    const TensorEntry **place = is_alpha ? &m->alpha : is_length ? &m->magnitude : &m->tensors[k->role];
    if (*place)
        return status_fail("`%s` and `%s` are for the same layer", (*place)->name, e->name);
    *place = e;
    m->peft_lengths |= is_length && k->spelling == SPELLED_PEFT;
    if (!beside && !m->kind) {
        m->kind = k->kind;
        m->first = e;
    }
    return STATUS_OK;
}

/* What the keys say of the file as a whole. */
typedef struct Findings {
    int known, alphas;
    bool kohya;
} Findings;

static Status place_keys(const Model *m, ModuleList *list, const TensorFile *f, Findings *found)
{
    const char *first_bad = NULL;
    AdapterKey first_key = {0};
    int bad = 0;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        AdapterKey k;
        adapter_key_parse(e->name, &k);
        found->known += k.type != ADAPTER_KEY_UNKNOWN;
        found->alphas += k.type == ADAPTER_KEY_ALPHA;
        found->kohya |= k.type == ADAPTER_KEY_TENSOR && k.spelling == SPELLED_KOHYA;
        Module *module = k.type <= ADAPTER_KEY_MAGNITUDE ? find_module(list, k.module) : NULL;
        if (module) {
            TRY(place_entry(module, e, &k));
            continue;
        }
        if (!bad++) {
            first_bad = e->name;
            first_key = k;
        }
    }
    if (bad && !found->known)
        return status_refuse(
            "is not a LoRA: no key names a low-rank pair (`%s`, …); a model is given with --model",
            first_bad);
    return bad ? refuse_key(m, first_bad, &first_key, bad - 1) : STATUS_OK;
}

/* Adapters of modules ---------------------------------------------------------------------------------- */

/* The entry as a tensor of its own, f32, of `least` dimensions or more. */
static Status read_tensor(const TensorEntry *e, int least, Tensor **out)
{
    if (!element_is_float(e->type))
        return status_fail("`%s` holds numbers of type %s, floats are needed", e->name, e->type_name);
    if (e->ndim < least || e->ndim > TENSOR_MAX_DIMS || tensor_entry_count(e) < 1)
        return status_fail("`%s`: %s is expected", e->name, least > 1 ? "a matrix" : "a vector");
    TRY(tensor_entry_check_finite(e, 0, tensor_entry_count(e), DTYPE_F32));
    *out = tensor_new(DTYPE_F32, e->ndim, e->shape);
    return *out ? tensor_entry_read(e, DTYPE_F32, (*out)->data) : STATUS_FAILED;
}

static Status read_tensors(const Module *m, Adapter *a)
{
    const TensorEntry *alone = m->alpha ? m->alpha : m->magnitude;
    if (!m->kind)
        return status_fail("`%s` is there, but nothing else of the same layer", alone->name);
    a->kind = m->kind;
    for (int r = 0; r < ADAPTER_TENSORS; r++)
        if (m->tensors[r])
            TRY(read_tensor(m->tensors[r], 2, &a->tensors[r]));
    TRY(status_in(tucker_expand(a, m->layer->weight), "`%s`", m->first->name));
    return status_in(a->kind->check(a, m->layer->weight), "`%s`", m->first->name);
}

/* The user's strength: LyCORIS's lengths are for the whole change, of which a share is taken; PEFT's follow
 * the scaled one. */
static Status set_strength(const Module *m, Adapter *a, double scale, float strength)
{
    Tensor *lengths = NULL;
    const bool shared = m->magnitude && !m->peft_lengths;
    a->scale = shared ? (float)scale : (float)scale * strength;
    if (!m->magnitude)
        return STATUS_OK;
    TRY(read_tensor(m->magnitude, 1, &lengths));
    if (m->peft_lengths) { /* of rows, whatever their shape: (1,out,1,1) on convolutions */
        lengths->shape[0] = tensor_count(lengths);
        lengths->ndim = 1;
    }
    const Status s = adapter_decompose(a, m->layer, lengths, shared ? strength : 1);
    tensor_free(lengths);
    return status_in(s, "`%s`", m->magnitude->name);
}

/* What the file multiplies the adapter's output by; *said: it says so. */
static Status module_scale(const Module *m, const Adapter *a, const AdapterSettings *settings, double *scale,
                           bool *said)
{
    double alpha = 0;
    const int64_t rank = a->kind->rank(a);
    *said = m->alpha != NULL;
    *scale = 1;
    if (!m->magnitude && adapter_settings_dora(settings, m->part))
        return status_fail("`%s`: use_dora is said, but its lora_magnitude_vector is not there",
                           m->first->name);
    if (!m->alpha)
        TRY(adapter_settings_scale(settings, m->part, m->layer->name, rank, scale, said));
    else
        TRY(tensor_entry_number(m->alpha, &alpha));
    if (m->alpha && rank)
        *scale = (double)((float)alpha / (float)rank);
    return isfinite((float)*scale) ? STATUS_OK
                                   : status_fail("`%s`: alpha is not a finite number", m->first->name);
}

static void drop_last(LoraFile *file)
{
    adapter_free_tensors(&file->adapters[--file->count]);
    file->adapters[file->count] = (Adapter){0};
}

static Status make_adapters(LoraFile *file, const ModuleList *list, const AdapterSettings *settings,
                            const AdapterStrength *strength, bool *said_all)
{
    *said_all = true;
    file->adapters = mem_calloc((size_t)list->count, sizeof *file->adapters);
    file->layers = mem_calloc((size_t)list->count, sizeof *file->layers);
    if (!file->adapters || !file->layers)
        return STATUS_FAILED;
    for (int i = 0; i < list->count; i++) {
        const Module *m = &list->items[i];
        const float own = adapter_strength_of(strength, m->part, m->layer->name);
        if (!m->kind && !m->alpha && !m->magnitude)
            continue;
        file->there++;
        double scale;
        bool said;
        Adapter *a = &file->adapters[file->count];
        file->layers[file->count++] = m->layer;
        TRY(read_tensors(m, a));
        TRY(module_scale(m, a, settings, &scale, &said));
        TRY(set_strength(m, a, scale, own));
        *said_all &= said;
        if (own == 0) /* as if it were not there; DoRA's lengths would stay */
            drop_last(file);
    }
    return file->there ? STATUS_OK : status_refuse("there is no LoRA in it");
}

/* Where the layers' weights are already in a device's memory, so are their adapters. */
static Status place_all(LoraFile *file)
{
    for (int i = 0; i < file->count; i++) {
        const Device *home = file->layers[i]->weight->home;
        Adapter *a = &file->adapters[i];
        for (int k = 0; home && k < ADAPTER_TENSORS; k++)
            if (a->tensors[k])
                TRY(tensor_place(a->tensors[k], home));
        if (home && a->delta_factor) {
            TRY(tensor_place(a->weight_factor, home));
            TRY(tensor_place(a->delta_factor, home));
        }
    }
    return STATUS_OK;
}

static void attach_all(LoraFile *file)
{
    for (int i = 0; i < file->count; i++)
        layer_attach(file->layers[i], &file->adapters[i]);
}

static void free_file(LoraFile *f)
{
    for (int i = 0; i < f->count; i++)
        adapter_free_tensors(&f->adapters[i]);
    mem_free(f->adapters);
    mem_free(f->layers);
    mem_free(f);
}

/* Says of a file that does not fit for which models it was made, where that is another family. */
static Status tell_family(Status s, const Model *m, const TensorFile *f)
{
    char why[128], message[1024];
    const char *family = s == STATUS_OK || status_is_memory() ? NULL : adapter_family(f, why, sizeof why);
    const char *own = model_family(m);
    const bool tiny = family && !own && strstr(family, "Diffusion 1") != NULL;
    if (!family || tiny || (own && !strcmp(family, own)) || strstr(status_message(), family))
        return s;
    snprintf(message, sizeof message, "%s", status_message());
    char *question = strstr(message, OTHER_MODEL);
    if (question)
        *question = 0; /* is answered */
    return status_refuse("%s; it was made for %s (%s)%s%s", message, family, why,
                         own ? ", the model is " : "", own ? own : "");
}

static Status read_file(Model *m, const TensorFile *f, const AdapterStrength *strength, LoraFile *file)
{
    ModuleList list = {0};
    AdapterSettings *settings = NULL;
    Findings found = {0};
    bool said_all = true;
    Status s = list_modules(m, &list);
    if (s == STATUS_OK)
        s = place_keys(m, &list, f, &found);
    if (s == STATUS_OK)
        s = adapter_settings_read(f, !found.kohya && !found.alphas, &settings);
    if (s == STATUS_OK)
        s = make_adapters(file, &list, settings, strength, &said_all);
    s = tell_family(s, m, f);
    if (s == STATUS_OK && !said_all)
        log_info("%s says no alpha%s: taken to be the rank, as other readers do", tensorfile_path(f),
                 found.alphas || settings ? " for some layers" : "");
    adapter_settings_free(settings);
    mem_free(list.items);
    mem_free(list.names);
    return s;
}

Status adapter_file_open(const char *path, TensorFile **out)
{
    static const char *const NAMES[] = {"adapter_model.safetensors", "pytorch_lora_weights.safetensors",
                                        "lora.safetensors"}; /* PEFT's, diffusers', a run's */
    if (!file_is_dir(path))
        return tensorfile_open(path, out);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char *inside = path_join(path, NAMES[i]);
        if (!inside)
            return STATUS_FAILED;
        const bool there = file_exists(inside);
        const Status s = there ? tensorfile_open(inside, out) : STATUS_OK;
        mem_free(inside);
        if (there)
            return s;
    }
    return status_refuse("%s: the folder holds neither %s nor %s nor %s; name an adapter's file", path,
                         NAMES[0], NAMES[1], NAMES[2]);
}

Status lora_attach(Model *m, const char *path, float scale, LoraFile **out)
{
    const AdapterStrength strength = adapter_strength(scale);
    return lora_attach_as(m, path, &strength, out);
}

Status lora_attach_as(Model *m, const char *path, const AdapterStrength *strength, LoraFile **out)
{
    TensorFile *f;
    *out = NULL;
    TRY(status_in(adapter_strength_check(strength, m), "%s", path));
    TRY(adapter_file_open(path, &f));
    LoraFile *file = mem_calloc(1, sizeof *file);
    Status s = file ? read_file(m, f, strength, file) : STATUS_FAILED;
    tensorfile_close(f);
    if (s != STATUS_OK) {
        if (file)
            free_file(file);
        return status_in(s, "%s", path);
    }
    s = place_all(file);
    if (s != STATUS_OK) {
        free_file(file);
        return status_in(s, "%s", path);
    }
    attach_all(file);
    *out = file;
    return STATUS_OK;
}

void lora_detach(LoraFile *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->count; i++)
        layer_detach(f->layers[i], &f->adapters[i]);
    free_file(f);
}
