/* A model as a diffusers folder, as diffusers' own save_pretrained lays it out. */
#include "infer/files/tensor_list.h"
#include "infer/text/tokenizer_write.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "model_config.h"
#include "parts.h"
#include "single_file.h"

#include <stdio.h>
#include <string.h>

#define TOKENIZER_FILE_MAX (256u << 20)

static Status write_text(const char *folder, const char *name, const char *text)
{
    char *path = path_join(folder, name);
    const Status s =
        path && text ? file_write_atomic(path, text, strlen(text)) : status_memory("out of memory");
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

static Status write_part(const char *folder, PartId id, const char *json, const LayerSet *set, DType dtype)
{
    char *inside = path_join(folder, PARTS[id].folder),
         *path = inside ? mem_printf("%s/%s.safetensors", inside, PARTS[id].kind->stem) : NULL;
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

static Status copy_files(const char *from, const char *to)
{
    char **names = NULL;
    int count = 0;
    Status s = dir_list(from, &names, &count);
    for (int i = 0; i < count && s == STATUS_OK; i++)
        s = copy_file(from, to, names[i]);
    dir_list_free(names, count);
    return s;
}

/* Those that a single file has in its metadata under this folder's name; *any: whether it has. */
static Status write_texts(const TensorFile *f, const char *name_there, const char *folder, bool *any)
{
    char begin[64];
    const size_t n = (size_t)snprintf(begin, sizeof begin, SINGLE_TEXT "%s/", name_there);
    for (int i = 0; f && i < tensorfile_metadata_count(f); i++) {
        const TensorMeta meta = tensorfile_metadata_entry(f, i);
        const char *name = meta.key + n;
        if (strncmp(meta.key, begin, n) != 0 || strchr(name, '/') || *name == '.')
            continue;
        *any = true;
        TRY(write_text(folder, name, meta.value));
    }
    return STATUS_OK;
}

static Status write_clip_tokenizer(const Model *m, PartId id, const char *folder)
{
    ClipConfig clip;
    TRY(PARTS[id].kind->parse(m->config_json[id], PARTS[id].folder, &clip));
    const bool zero = id == PART_TEXT_2 || clip.pad == 0;
    return clip_tokenizer_write(folder, zero ? "!" : "<|endoftext|>");
}

/* The files of the part's tokenizer that the model came with, or CLIP's own. */
static Status write_tokenizer(const Model *m, PartId id, const char *folder)
{
    const char *name = PARTS[id].tokenizer;
    if (!name)
        return STATUS_OK;
    char *to = path_join(folder, name), *from = m->folder ? path_join(m->folder, name) : NULL;
    Status s = to && (from || !m->folder) ? STATUS_OK : STATUS_FAILED;
    bool any = from && file_is_dir(from);
    if (s == STATUS_OK)
        s = any ? copy_files(from, to) : write_texts(m->file, name, to, &any);
    if (s == STATUS_OK && !any)
        s = write_clip_tokenizer(m, id, to);
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

/* Has the part to be read from where m came? What is random lies in no file. */
static bool is_read_again(const Model *m, PartId id, DType dtype)
{
    const LayerSet *set = part_layers(id, m);
    return !set || (!(m->random && PARTS[id].drawn) && narrowed(set, dtype));
}

/* One part at a time, so that no two that have to be read again are in memory together. */
static Status write_model_part(const Model *m, PartId id, const char *folder, DType dtype)
{
    Model *again = NULL;
    if (is_read_again(m, id, dtype))
        TRY(model_open(
            &(ModelRequest){
                .name = m->name, .vae = m->vae_path, .ema = m->ema, .parts = 1 << id, .dtype = dtype},
            &again));
    if (again)
        TRY(layerset_decode(part_layers(id, again), dtype));
    const Model *const weights = again ? again : m, *const texts = m->config_json[id] ? m : weights;
    Status s = write_part(folder, id, texts->config_json[id], part_layers(id, weights), dtype);
    if (s == STATUS_OK)
        s = write_tokenizer(texts, id, folder);
    model_free(again);
    return s;
}

static Status write_index(const Model *m, const char *folder)
{
    char *index = model_index_json(m);
    const Status s = write_text(folder, "model_index.json", index);
    mem_free(index);
    return s;
}

static Status write_parts(const Model *m, const char *folder, DType dtype)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (model_has(m, (PartId)i))
            TRY(write_model_part(m, (PartId)i, folder, dtype));
    TRY(write_text(folder, "scheduler/scheduler_config.json", m->scheduler_json));
    return write_index(m, folder); /* last: the folder is whole */
}

Status model_save_texts(const Model *m, const char *folder, const DType *dtype)
{
    for (int i = 0; i < PART_COUNT; i++) {
        char name[64];
        if (!model_has(m, (PartId)i))
            continue;
        char *config = dtype ? config_with_dtype(m->config_json[i], *dtype) : mem_strdup(m->config_json[i]);
        snprintf(name, sizeof name, "%s/config.json", PARTS[i].folder);
        const Status s = config ? write_text(folder, name, config) : STATUS_FAILED;
        mem_free(config);
        TRY(s);
        TRY(write_tokenizer(m, (PartId)i, folder));
    }
    return write_text(folder, "scheduler/scheduler_config.json", m->scheduler_json);
}

Status model_save(const Model *m, const char *folder, DType dtype)
{
    return status_in(write_parts(m, folder, dtype), "saving the model");
}

size_t model_save_bytes(const Model *m, DType dtype)
{
    size_t most = 0;
    for (int i = 0; i < PART_COUNT; i++) {
        const LayerSet *set = part_layers((PartId)i, m);
        const size_t bytes =
            set && is_read_again(m, (PartId)i, dtype) ? layerset_elements(set) * dtype_size(dtype) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}
