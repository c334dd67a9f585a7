#include "model_source.h"

#include "infer/files/json_config.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "model_config.h"
#include "parts.h"
#include "size_numbers.h"

#include <stdio.h>
#include <string.h>

#define REFINER_NUMBERS 5     /* that SDXL's refiner is told: a score in place of the target size */
#define CONFIG_MAX (1u << 20) /* bytes of a config.json */

/* r->vae itself, or its folder of that name: a whole model's. */
static Status find_vae(const char *vae, Source *src)
{
    char *path = NULL;
    TRY(model_find(vae, &path));
    if (!file_is_dir(path)) {
        src->vae = path;
        return vae_file_open(path, &src->vae_file);
    }
    char *inner = path_join(path, PARTS[PART_VAE].folder);
    const bool whole = inner && file_is_dir(inner);
    src->vae = whole ? inner : path;
    mem_free(whole ? path : inner);
    return inner ? STATUS_OK : STATUS_FAILED;
}

/* Configurations --------------------------------------------------------------------------------------- */

/* FOLDER/NAME as text; *text stays NULL if it is not there and need not be. */
static Status read_text(const char *folder, const char *name, bool needed, char **text)
{
    char *path = path_join(folder, name);
    if (!path)
        return STATUS_FAILED;
    Status s = STATUS_OK;
    size_t size = 0;
    if (file_exists(path))
        s = file_read(path, CONFIG_MAX, text, &size);
    else if (needed)
        s = status_refuse(
            "%s: has no %s (a model is a diffusers folder, a .safetensors or .ckpt file or builtin:NAME)",
            folder, name);
    mem_free(path);
    return s;
}

static bool has(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    const bool there = path && file_exists(path);
    mem_free(path);
    return there;
}

/* A folder that is no model's of a family that there is here is named for what it is. */
static Status refuse_other_folders(const char *folder)
{
    static const char *const lora =
        "is a LoRA, not a model; give its .safetensors file with --lora beside the model it was made for";
    const struct {
        const char *name, *what;
    } files[] = {
        {"pytorch_lora_weights.safetensors", lora},
        {"adapter_model.safetensors", lora},
        {"adapter_config.json", lora},
        {"lora.safetensors", "is the folder of a run that made a LoRA; give it with --lora beside the "
                             "model it was made for"},
        {"model/model_index.json", "is a run's folder; the model that it made is the folder model in it"},
        {"config.json", "is one part of a diffusers model; give the folder that it lies in"}};
    static const char *const others[][2] = {{"transformer", "an SD3 or Flux model?"},
                                            {"prior", "a Kandinsky or Stable Cascade model?"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (has(folder, files[i].name) && !has(folder, "unet"))
            return status_refuse("%s: %s", folder, files[i].what);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (has(folder, others[i][0]))
            return status_refuse("%s: has a part %s (%s); Stable Diffusion 1.x, 2.x and XL are supported",
                                 folder, others[i][0], others[i][1]);
    return STATUS_OK;
}

/* SDXL's refiner has the second of its text encoders alone. */
static Status check_encoders(const Source *src, const Model *m)
{
    const bool first = has(src->path, PARTS[PART_TEXT].folder),
               second = has(src->path, PARTS[PART_TEXT_2].folder);
    if (m->family == FAMILY_SDXL && second && !first)
        return status_refuse("%s: is SDXL's refiner, which only finishes what another model has drawn; give "
                             "SDXL's base model",
                             src->path);
    if (m->family != FAMILY_SDXL && second)
        return status_refuse("%s: has a part text_encoder_2, but its UNet is none of SDXL's; not supported",
                             src->path);
    return STATUS_OK;
}

/* The part's configuration from FOLDER/NAME, its text and what it says. */
static Status read_config(PartId id, const char *folder, const char *name, bool needed, char **json,
                          ModelShapes *shapes)
{
    TRY(read_text(folder, name, needed, json));
    if (!*json)
        return STATUS_OK;
    char *origin = path_join(folder, name);
    if (!origin)
        return STATUS_FAILED;
    const Status s = PARTS[id].kind->parse(*json, origin, part_config(id, shapes));
    mem_free(origin);
    return s;
}

static Status read_part(Source *src, Model *m, PartId id, bool needed)
{
    char name[64];
    snprintf(name, sizeof name, "%s/config.json", PARTS[id].folder);
    return read_config(id, src->path, name, needed, &m->config_json[id], &src->shapes);
}

/* What model_index.json says besides the parts' names; text NULL: there is none. */
static Status read_index(const Source *src, const char *text, Model *m)
{
    m->zero_negative = m->family == FAMILY_SDXL;
    if (!m->zero_negative || !text)
        return STATUS_OK;
    JsonConfig c;
    char *origin = path_join(src->path, "model_index.json");
    json_config_open(&c, text, origin ? origin : src->path);
    m->zero_negative = json_config_bool(&c, "force_zeros_for_empty_prompt", true);
    const Status s = json_config_close(&c);
    mem_free(origin);
    return s;
}

static Status read_folder_index(const Source *src, Model *m)
{
    char *text = NULL;
    if (m->family == FAMILY_SDXL) /* nothing that matters stands there for others */
        TRY(read_text(src->path, "model_index.json", false, &text));
    const Status s = read_index(src, text, m);
    mem_free(text);
    return s;
}

static Status read_folder(Source *src, Model *m)
{
    if (src->r->ema)
        return status_refuse(
            "%s: a diffusers folder has one set of weights, and no EMA beside it; leave out --ema "
            "(model.ema)",
            src->path);
    TRY(refuse_other_folders(src->path));
    TRY(read_part(src, m, PART_UNET, true)); /* first: a folder without one is no model */
    m->family = family_of(&src->shapes.unet);
    TRY(check_encoders(src, m));
    for (int i = 0; i < PART_COUNT; i++)
        if (i != PART_UNET && model_has(m, (PartId)i))
            TRY(read_part(src, m, (PartId)i, i != PART_VAE && src->r->parts & 1 << i));
    TRY(read_folder_index(src, m));
    return read_text(src->path, "scheduler/scheduler_config.json", false, &m->scheduler_json);
}

/* The file, or the averages in it. */
static Status open_single(Source *src)
{
    TRY(single_file_open(src->path, &src->single));
    src->single.ema = src->r->ema;
    if (src->r->ema && !single_file_has_ema(&src->single))
        return status_refuse("%s: has no EMA weights (" KEYMAP_EMA
                             "*) beside its own; leave out --ema (model.ema)",
                             src->path);
    return STATUS_OK;
}

static Status read_single(Source *src, Model *m)
{
    TRY(open_single(src));
    src->shapes = src->single.shapes;
    m->family = family_of(&src->shapes.unet);
    m->file = tensorfile_share(src->single.file);
    TRY(read_index(src, single_text(m->file, "model_index.json"), m));
    for (int i = 0; i < PART_COUNT; i++) {
        char path[64];
        if (!model_has(m, (PartId)i) || (i == PART_VAE && !src->shapes.vae.levels))
            continue;
        snprintf(path, sizeof path, "%s/config.json", PARTS[i].folder);
        const char *text = single_text(m->file, path);
        m->config_json[i] =
            text ? mem_strdup(text) : PARTS[i].kind->json(part_config((PartId)i, &src->shapes));
        if (!m->config_json[i])
            return status_memory("out of memory");
    }
    const char *schedule = single_text(m->file, "scheduler/scheduler_config.json");
    m->scheduler_json = schedule
                            ? mem_strdup(schedule)
                            : scheduler_config_json(m->family, src->single.prediction, src->single.zero_snr);
    return m->scheduler_json ? STATUS_OK : status_memory("out of memory");
}

/* Of a file that is diffusers' its config.json, where that lies beside it; else what its tensors say. */
static Status read_vae_config(Source *src, Model *m)
{
    char **json = &m->config_json[PART_VAE];
    if (!src->vae_file.file)
        return read_config(PART_VAE, src->vae, "config.json", true, json, &src->shapes);
    if (!src->vae_file.original) {
        char *folder = path_parent(src->vae);
        const Status s =
            folder ? read_config(PART_VAE, folder, "config.json", false, json, &src->shapes) : STATUS_FAILED;
        mem_free(folder);
        if (s != STATUS_OK || *json)
            return s;
    }
    const float own = src->shapes.vae.scaling_factor;
    src->shapes.vae = src->vae_file.shapes.vae;
    if (m->family == FAMILY_SDXL) /* which no tensor tells */
        src->shapes.vae.scaling_factor = own > 0 ? own : SDXL_SCALING_FACTOR;
    *json = vae_config_json(&src->shapes.vae);
    return *json ? STATUS_OK : status_memory("out of memory");
}

/* The configuration of the VAE that was named takes the place of the model's own. */
static Status read_other_vae(Source *src, Model *m)
{
    const bool had_one = m->config_json[PART_VAE];
    const int own = src->shapes.vae.levels;
    mem_free(m->config_json[PART_VAE]);
    m->config_json[PART_VAE] = NULL;
    TRY(read_vae_config(src, m));
    const int levels = src->shapes.vae.levels;
    if (had_one && levels != own)
        return status_refuse(
            "%s: halves a picture's side %d times, the model's own VAE %d times; take one that fits",
            src->vae, levels - 1, own - 1);
    m->vae_path = mem_strdup(src->vae);
    return m->vae_path ? STATUS_OK : STATUS_FAILED;
}

/* Many files and folders come without a VAE, to be used with one that is shared. */
static Status check_vae(const Source *src, const Model *m)
{
    if (m->config_json[PART_VAE] || !(src->r->parts & MODEL_VAE))
        return STATUS_OK;
    return status_refuse("%s: has no VAE (%s); give one with --vae (model.vae): a file, a folder, or a model "
                         "whose VAE fits this one",
                         src->path, src->is_folder ? "vae/config.json" : KEYMAP_VAE "*");
}

/* The text encoders give what the UNet takes. */
static Status check_text(const Source *src, const Model *m)
{
    const UNetConfig *unet = &src->shapes.unet;
    const ClipConfig *one = &src->shapes.clip, *two = &src->shapes.clip_2;
    const bool both = model_has(m, PART_TEXT_2);
    if (!m->config_json[PART_TEXT] || (both && !m->config_json[PART_TEXT_2]))
        return STATUS_OK;
    const int width = one->hidden + (both ? two->hidden : 0);
    if (unet->cross_attention_dim != width)
        return status_refuse("%s: its UNet expects text of width %d, its text encoder%s make%s %d", src->path,
                             unet->cross_attention_dim, both ? "s" : "", both ? "" : "s", width);
    if (!both)
        return STATUS_OK;
    if (one->positions != two->positions)
        return status_refuse("%s: its text encoders take %d and %d tokens; not supported", src->path,
                             one->positions, two->positions);
    const int numbers = unet_size_numbers(unet, two->projection);
    if (numbers != SIZE_NUMBERS)
        return status_refuse(
            "%s: its UNet takes %d numbers beside the text's vector of %d, not the %d of size "
            "and crop; %s",
            src->path, unet->addition_input - two->projection, two->projection,
            SIZE_NUMBERS * unet->addition_width,
            numbers == REFINER_NUMBERS ? "this is SDXL's refiner, give its base model" : "not supported");
    return STATUS_OK;
}

/* The parts have to fit each other. An inpainting model takes a mask and the masked picture's latents too. */
static Status check_fit(const Source *src, const Model *m)
{
    const UNetConfig *unet = &src->shapes.unet;
    const int latent = src->shapes.vae.latent_channels;
    const bool inpaints = unet->in_channels == 2 * unet->out_channels + 1; /* mask and masked picture, too */
    if (m->config_json[PART_VAE] && unet->out_channels != latent)
        return status_refuse(
            "%s: its UNet makes %d channels, its autoencoder's latents have %d; not supported", src->path,
            unet->out_channels, latent);
    if (unet->in_channels != unet->out_channels && !inpaints)
        return status_refuse("%s: its UNet turns %d channels into %d; not supported", src->path,
                             unet->in_channels, unet->out_channels);
    return check_text(src, m);
}

/* The whole ---------------------------------------------------------------------------------------------- */

Status source_read(Source *src, Model *m)
{
    TRY(src->is_folder ? read_folder(src, m) : read_single(src, m));
    if (src->vae)
        TRY(read_other_vae(src, m));
    TRY(check_vae(src, m));
    return check_fit(src, m);
}

Status source_open(const ModelRequest *r, Source *src)
{
    *src = (Source){.r = r};
    TRY(model_find(r->name, &src->path));
    src->is_folder = file_is_dir(src->path);
    return r->vae ? find_vae(r->vae, src) : STATUS_OK;
}

Status source_of_model(const Model *m, const ModelRequest *r, Source *src)
{
    *src = (Source){.r = r, .is_folder = m->folder};
    TRY(model_find(m->name, &src->path));
    if (m->vae_path)
        TRY(find_vae(m->vae_path, src));
    return src->is_folder ? STATUS_OK : open_single(src);
}

void source_close(Source *src)
{
    single_file_close(&src->single);
    vae_file_close(&src->vae_file);
    mem_free(src->path);
    mem_free(src->vae);
}
