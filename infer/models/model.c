/* A model's parts, from a diffusers folder (builtin:NAME is one) or a single file. Everything is read through
 * a Source, which gives each part's configuration and weights, so that loading a part is written once. */
#include "model.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "model_config.h"
#include "model_source.h"
#include "parts.h"

#include <string.h>

/* Loading ---------------------------------------------------------------------------------------------- */

/* The folder that the part lies in; NULL: out of memory. */
static char *part_folder(const Source *src, PartId id)
{
    return id == PART_VAE && src->vae ? mem_strdup(src->vae) : path_join(src->path, PARTS[id].folder);
}

static uint64_t stream_of(uint64_t seed, PartId id)
{
    return seed + PARTS[id].stream * 0x9e3779b97f4a7c15u;
}

static Status find_weights(const Source *src, PartId id, Weights **out)
{
    const ModelRequest *r = src->r;
    const Part *p = &PARTS[id];
    const DType dtype = r->wide & 1 << id ? DTYPE_F32 : r->dtype;
    if (r->random && p->drawn)
        return weights_random(stream_of(r->seed, id), dtype, out);
    if (id == PART_VAE && src->vae_file.file)
        return vae_file_weights(&src->vae_file, dtype, out);
    if (!src->is_folder && !(id == PART_VAE && src->vae))
        return single_file_weights(&src->single, id, dtype, out);
    char *folder = part_folder(src, id);
    if (!folder)
        return STATUS_FAILED;
    const Status s = weights_open_folder(folder, p->kind->stem, dtype, out);
    mem_free(folder);
    return s;
}

static Status create_part(Model *m, ModelShapes *shapes, PartId id, Weights *w)
{
    void *network = NULL;
    const Status s = PARTS[id].kind->create(part_config(id, shapes), w, &network);
    part_set_network(id, m, network);
    return s;
}

static Status load_part(Model *m, Source *src, PartId id)
{
    Weights *w = NULL;
    TRY(find_weights(src, id, &w));
    if (src->r->described)
        weights_describe(w);
    else
        weights_show(w, PARTS[id].folder);
    if (src->r->quantised & 1 << id)
        weights_quantise(w);
    Status s = create_part(m, &src->shapes, id, w);
    if (s == STATUS_OK && !src->r->described)
        weights_warn_unused(w, PARTS[id].unneeded);
    weights_close(w);
    if (s == STATUS_OK && src->r->narrow & 1 << id)
        layerset_narrow(part_layers(id, m));
    return s;
}

/* The folder's or the file's own tokenizer for this part, or CLIP's; *builtin: that. */
static Status open_tokenizer(const Source *src, PartId id, Tokenizer **out, bool *builtin)
{
    const char *name = PARTS[id].tokenizer;
    char *folder = src->is_folder ? path_join(src->path, name) : NULL;
    const bool there = folder && file_is_dir(folder);
    const bool zero =
        id == PART_TEXT_2 || src->single.build == BUILD_SD2; /* what its encoder was trained with */
    Status s = there            ? tokenizer_open(folder, out)
               : src->is_folder ? STATUS_OK
                                : single_tokenizer(&src->single, name, out);
    mem_free(folder);
    *builtin = s == STATUS_OK && !*out;
    if (*builtin)
        s = tokenizer_builtin(out);
    if (s == STATUS_OK && *builtin && zero)
        s = tokenizer_set_pad(*out, "!", 0);
    return s;
}

static Status check_entries(const Model *m, const Source *src, PartId part, const Tokenizer *t, int entries)
{
    if (!m->config_json[part] || tokenizer_vocab_size(t) <= entries)
        return STATUS_OK;
    return status_refuse("%s: its tokenizer has %d entries, its %s only %d", src->path,
                         tokenizer_vocab_size(t), part == PART_TEXT ? "text encoder" : PARTS[part].folder,
                         entries);
}

static Status load_tokenizers(Model *m, const Source *src, bool *builtin)
{
    TRY(open_tokenizer(src, PART_TEXT, &m->tokenizer, builtin));
    TRY(check_entries(m, src, PART_TEXT, m->tokenizer, src->shapes.clip.vocab_size));
    if (!model_has(m, PART_TEXT_2))
        return STATUS_OK;
    bool second;
    TRY(open_tokenizer(src, PART_TEXT_2, &m->tokenizer_2, &second));
    return check_entries(m, src, PART_TEXT_2, m->tokenizer_2, src->shapes.clip_2.vocab_size);
}

static Status load_schedule(Model *m, const Source *src, bool *builtin)
{
    *builtin =
        !src->is_folder ? !single_text(m->file, "scheduler/scheduler_config.json") : !m->scheduler_json;
    if (!m->scheduler_json && !(m->scheduler_json = scheduler_config_json(m->family, PREDICT_EPSILON, false)))
        return status_memory("out of memory");
    char *origin = mem_printf("%s/scheduler/scheduler_config.json", src->path);
    if (!origin)
        return STATUS_FAILED;
    const Status s = schedule_parse(m->scheduler_json, origin, &m->schedule);
    mem_free(origin);
    return s;
}

/* One line about what the model did not bring along. */
static void tell_defaults(const Model *m, const Source *src, bool tokenizer, bool schedule)
{
    if ((!tokenizer && !schedule) || src->r->described)
        return;
    log_info("%s: brings no %s%s%s; %s%s%s%s used", m->name, tokenizer ? "tokenizer" : "",
             tokenizer && schedule ? " and no " : "", schedule ? "schedule" : "", tokenizer ? "CLIP's" : "",
             tokenizer && schedule ? " and " : "",
             !schedule                             ? ""
             : m->family == FAMILY_SDXL            ? "SDXL's (scaled_linear, Euler)"
             : m->schedule.prediction == PREDICT_V ? "SD2's (scaled_linear, predicting v)"
                                                   : "SD1.5's (scaled_linear, predicting the noise)",
             tokenizer && schedule ? " are" : " is");
    if (schedule && !src->is_folder && !src->single.prediction_known)
        log_info("%s: does not say what its UNet predicts: v is taken, as for SD2's 768-pixel models; for a "
                 "512-pixel "
                 "one say epsilon (model.prediction, --prediction)",
                 m->name);
}

/* A picture's side, and what it must be a multiple of. Where the VAE was not looked at, as with SD's. */
static void set_sizes(Model *m, const ModelShapes *shapes)
{
    const int factor = shapes->vae.levels ? 1 << (shapes->vae.levels - 1) : 8;
    m->default_size = shapes->unet.sample_size * factor;
    m->size_multiple = factor << (shapes->unet.levels - 1);
}

static Status load_parts(Model *m, Source *src)
{
    bool own_tokenizer = false, own_schedule = false;
    set_sizes(m, &src->shapes);
    m->inpainting = src->shapes.unet.in_channels != src->shapes.unet.out_channels;
    TRY(load_schedule(m, src, &own_schedule));
    if (src->r->parts & MODEL_TOKENIZER)
        TRY(load_tokenizers(m, src, &own_tokenizer));
    tell_defaults(m, src, own_tokenizer, own_schedule);
    for (int i = 0; i < PART_COUNT; i++)
        if (src->r->parts & 1 << i && model_has(m, (PartId)i))
            TRY(load_part(m, src, (PartId)i));
    return STATUS_OK;
}

static Status load_source(Source *src, Model **out)
{
    Model *m = mem_calloc(1, sizeof *m);
    if (!m)
        return STATUS_FAILED;
    m->random = src->r->random;
    m->ema = src->r->ema;
    m->name = mem_strdup(src->r->name);
    m->folder = src->is_folder ? mem_strdup(src->path) : NULL;
    Status s = m->name && (m->folder || !src->is_folder) ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = source_read(src, m);
    if (s == STATUS_OK)
        s = load_parts(m, src);
    if (s != STATUS_OK) {
        model_free(m);
        return s;
    }
    *out = m;
    return STATUS_OK;
}

Status model_open(const ModelRequest *r, Model **out)
{
    *out = NULL;
    Source src;
    Status s = source_open(r, &src);
    if (s == STATUS_OK)
        s = load_source(&src, out);
    source_close(&src);
    return s;
}

Status model_load(const char *name, int parts, DType dtype, Model **out)
{
    return model_open(&(ModelRequest){.name = name, .parts = parts, .dtype = dtype}, out);
}

Status model_make(const char *name, const ModelShapes *shapes, int parts, int quantised, DType dtype,
                  uint64_t seed, Model **out)
{
    *out = NULL;
    Model *m = mem_calloc(1, sizeof *m);
    if (!m)
        return STATUS_FAILED;
    ModelShapes own = *shapes;
    set_sizes(m, shapes);
    m->family = family_of(&shapes->unet);
    m->random = true;
    m->name = mem_strdup(name);
    Status s = m->name ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < PART_COUNT && s == STATUS_OK; i++) {
        Weights *w = NULL;
        if (parts & 1 << i && model_has(m, (PartId)i))
            s = weights_random(stream_of(seed, (PartId)i), dtype, &w);
        if (w && quantised & 1 << i)
            weights_quantise(w);
        if (w)
            s = create_part(m, &own, (PartId)i, w);
        weights_close(w);
    }
    if (s == STATUS_OK)
        *out = m;
    else
        model_free(m);
    return s;
}

Status model_weights(const Model *m, PartId part, Weights **out)
{
    *out = NULL;
    const ModelRequest r = {.name = m->name, .ema = m->ema};
    Source src;
    Status s = source_of_model(m, &r, &src);
    const bool in_file = !src.is_folder || (part == PART_VAE && src.vae_file.file);
    char *folder = s == STATUS_OK && !in_file ? part_folder(&src, part) : NULL;
    if (s == STATUS_OK && (!folder || weights_in_folder(folder, PARTS[part].kind->stem)))
        s = find_weights(&src, part, out);
    mem_free(folder);
    source_close(&src);
    return s;
}

bool model_has(const Model *m, PartId part)
{
    return part_of_family(part, m->family);
}

Status model_hash(const Model *m, char hex[MODEL_HASH_SIZE])
{
    static const PartId parts[] = {PART_UNET, PART_TEXT, PART_TEXT_2};
    uint8_t hash[SHA256_SIZE];
    char all[SHA256_HEX_SIZE];
    Sha256 s;
    sha256_init(&s);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        Weights *w = NULL;
        if (model_has(m, parts[i]))
            TRY(model_weights(m, parts[i], &w));
        if (w)
            weights_hash(w, &s);
        weights_close(w);
    }
    sha256_final(&s, hash);
    sha256_hex(hash, all);
    snprintf(hex, MODEL_HASH_SIZE, "%.*s", MODEL_HASH_SIZE - 1, all);
    return STATUS_OK;
}

/* What a single file of SD2's build predicts tells its size (single_file.c): v 768 pixels, the noise 512. */
static Status set_sample_size(Model *m)
{
    UNetConfig unet;
    if (m->family != FAMILY_SD2)
        return STATUS_OK;
    TRY(unet_config_parse(m->config_json[PART_UNET], m->name, &unet));
    const int sample_size = m->schedule.prediction == PREDICT_V ? SD2_SAMPLE_SIZE : SD1_SAMPLE_SIZE;
    m->default_size = m->default_size / unet.sample_size * sample_size;
    unet.sample_size = sample_size;
    char *json = unet_config_json(&unet);
    if (!json)
        return status_memory("out of memory");
    mem_free(m->config_json[PART_UNET]);
    m->config_json[PART_UNET] = json;
    return STATUS_OK;
}

Status model_set_prediction(Model *m, PredictionType prediction)
{
    if (m->schedule.prediction == prediction)
        return STATUS_OK;
    char *json = config_with_prediction(m->scheduler_json, prediction);
    if (!json)
        return status_memory("out of memory");
    mem_free(m->scheduler_json);
    m->scheduler_json = json;
    m->schedule.prediction = prediction;
    return m->folder ? STATUS_OK : set_sample_size(m);
}

static Placement placement_of(const Model *m, PartId part)
{
    const Offload least = part == PART_UNET ? OFFLOAD_ALL : OFFLOAD_IDLE;
    return m->offload >= least ? PLACED_STREAMED : PLACED_RESIDENT;
}

Status model_place(Model *m, const Device *dev)
{
    for (int i = 0; i < PART_COUNT; i++) {
        LayerSet *set = part_layers((PartId)i, m);
        if (set)
            TRY(status_in(layerset_place(set, dev, placement_of(m, (PartId)i)), "%s", m->name));
    }
    return STATUS_OK;
}

void model_free(Model *m)
{
    if (!m)
        return;
    for (int i = 0; i < PART_COUNT; i++) {
        PARTS[i].kind->destroy(part_network((PartId)i, m));
        mem_free(m->config_json[i]);
    }
    tensorfile_close(m->file);
    tokenizer_free(m->tokenizer);
    tokenizer_free(m->tokenizer_2);
    schedule_free(&m->schedule);
    mem_free(m->scheduler_json);
    mem_free(m->vae_path);
    mem_free(m->name);
    mem_free(m->folder);
    mem_free(m);
}
