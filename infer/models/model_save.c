/* A model as a diffusers folder, as diffusers' own save_pretrained lays it out. */
#include "infer/files/tensor_list.h"
#include "infer/text/tokenizer_write.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "model_config.h"

#include <stdio.h>
#include <string.h>

#define TOKENIZER_FILE_MAX (256u << 20)

static Status write_text(const char *folder, const char *name, const char *text)
{
    char *path = path_join(folder, name);
    const Status s =
        path && text ? file_write_atomic(path, text, strlen(text)) : status_fail("out of memory");
    mem_free(path);
    return s;
}

/* The layers' tensors, weight before bias. */
static Status write_weights(const char *path, const LayerSet *set, DType dtype)
{
    static const TensorMeta meta[] = {{"format", "pt"}};
    TensorList l = {0};
    for (int i = 0; i < set->count; i++) {
        const Layer *layer = set->items[i];
        tensorlist_add(&l, mem_printf("%s.weight", layer->name), layer->weight, dtype);
        if (layer->bias)
            tensorlist_add(&l, mem_printf("%s.bias", layer->name), layer->bias, dtype);
    }
    const Status s = tensorlist_write(&l, path, meta, 1);
    tensorlist_free(&l);
    return s;
}

static Status write_part(const char *folder, const char *part, const char *json, const char *weights,
                         const LayerSet *set, DType dtype)
{
    char *inside = path_join(folder, part), *path = inside ? path_join(inside, weights) : NULL;
    char *config = config_with_dtype(json, dtype);
    Status s = path && config ? write_text(inside, "config.json", config) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = write_weights(path, set, dtype);
    mem_free(config);
    mem_free(path);
    mem_free(inside);
    return s;
}

static Status copy_file(const char *from, const char *to, const char *name)
{
    char *source = path_join(from, name), *target = path_join(to, name), *data = NULL;
    size_t size = 0;
    Status s = source && target ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && !file_is_dir(source)) {
        s = file_read(source, TOKENIZER_FILE_MAX, &data, &size);
        if (s == STATUS_OK)
            s = file_write_atomic(target, data, size);
    }
    mem_free(data);
    mem_free(source);
    mem_free(target);
    return s;
}

/* The files that the model came with, or CLIP's own. */
static Status write_tokenizer(const Model *m, const char *folder)
{
    char *to = path_join(folder, "tokenizer"), *from = m->folder ? path_join(m->folder, "tokenizer") : NULL;
    Status s = to && (from || !m->folder) ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && from && file_is_dir(from)) {
        char **names = NULL;
        int count = 0;
        s = dir_list(from, &names, &count);
        for (int i = 0; i < count && s == STATUS_OK; i++)
            s = copy_file(from, to, names[i]);
        dir_list_free(names, count);
    } else if (s == STATUS_OK) {
        ClipConfig clip;
        s = clip_config_parse(m->config_json[CONFIG_TEXT], "text_encoder", &clip);
        if (s == STATUS_OK)
            s = clip_tokenizer_write(to, clip.pad == 0 ? "!" : "<|endoftext|>");
    }
    mem_free(to);
    mem_free(from);
    return s;
}

/* Frozen weights that are held in fewer bits than their file may have, and not in what is to be written: to
 * write them would lose bits that nobody asked to lose. */
static bool narrowed(const LayerSet *set, DType dtype)
{
    for (int i = 0; i < set->count; i++) {
        const Tensor *weight = set->items[i]->weight;
        if (weight && weight->dtype != DTYPE_F32 && weight->dtype != dtype)
            return true;
    }
    return false;
}

/* ModelPart bits of what has to be read from where m came. */
static int parts_to_read(const Model *m, DType dtype)
{
    int parts = (m->unet ? 0 : MODEL_UNET) | (m->vae ? 0 : MODEL_VAE) | (m->clip ? 0 : MODEL_TEXT);
    if (m->vae && narrowed(vae_layers(m->vae), dtype))
        parts |= MODEL_VAE;
    if (m->random) /* there is no file that holds these */
        return parts;
    if (m->unet && narrowed(unet_layers(m->unet), dtype))
        parts |= MODEL_UNET;
    if (m->clip && narrowed(clip_layers(m->clip), dtype))
        parts |= MODEL_TEXT;
    return parts;
}

static const LayerSet *layers_of(const Model *m, int part)
{
    return part == MODEL_UNET  ? unet_layers(m->unet)
           : part == MODEL_VAE ? vae_layers(m->vae)
                               : clip_layers(m->clip);
}

/* In the order in which they are written. */
static const struct {
    int part, config;
    const char *folder, *file;
} PARTS[] = {{MODEL_UNET, CONFIG_UNET, "unet", "diffusion_pytorch_model.safetensors"},
             {MODEL_VAE, CONFIG_VAE, "vae", "diffusion_pytorch_model.safetensors"},
             {MODEL_TEXT, CONFIG_TEXT, "text_encoder", "model.safetensors"}};
#define PART_COUNT (sizeof PARTS / sizeof *PARTS)

/* One part at a time, so that no two that have to be read again are in memory together. */
static Status write_model_part(const Model *m, size_t k, bool read, const char *folder, DType dtype)
{
    Model *again = NULL;
    if (read)
        TRY(model_load(m->name, PARTS[k].part, dtype, &again));
    const Model *const weights = again ? again : m, *const texts =
                                                        m->config_json[PARTS[k].config] ? m : weights;
    Status s = write_part(folder, PARTS[k].folder, texts->config_json[PARTS[k].config], PARTS[k].file,
                          layers_of(weights, PARTS[k].part), dtype);
    if (s == STATUS_OK && PARTS[k].part == MODEL_TEXT)
        s = write_tokenizer(texts, folder);
    model_free(again);
    return s;
}

static Status write_parts(const Model *m, const char *folder, DType dtype)
{
    const int read = parts_to_read(m, dtype);
    for (size_t k = 0; k < PART_COUNT; k++)
        TRY(write_model_part(m, k, read & PARTS[k].part, folder, dtype));
    TRY(write_text(folder, "scheduler/scheduler_config.json", m->config_json[CONFIG_SCHEDULER]));
    char *index = model_index_json(m->config_json[CONFIG_SCHEDULER]);
    const Status s = write_text(folder, "model_index.json", index); /* last: the folder is whole */
    mem_free(index);
    return s;
}

Status model_save(const Model *m, const char *folder, DType dtype)
{
    return status_in(write_parts(m, folder, dtype), "saving the model");
}

size_t model_save_bytes(const Model *m, DType dtype)
{
    const int read = parts_to_read(m, dtype);
    size_t most = 0;
    for (size_t k = 0; k < PART_COUNT; k++) {
        size_t bytes = 0;
        if (read & PARTS[k].part)
            bytes = layerset_elements(layers_of(m, PARTS[k].part)) * dtype_size(dtype);
        most = bytes > most ? bytes : most;
    }
    return most;
}
