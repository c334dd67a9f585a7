/* Where a part's weights lie in a diffusers folder: one file, shards with an index, or a variant of them.
 *
 * For STEM "diffusion_pytorch_model" or "model" a file is called STEM.safetensors, or
 * STEM.VARIANT.safetensors where several sets of weights lie side by side; shards are named by an index whose
 * own name differs between versions of diffusers. Of old models the same exists as PyTorch's .bin, which
 * transformers calls pytorch_model.bin. What has no variant goes first, as in diffusers. */
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "weights.h"

#include <stdio.h>
#include <string.h>

#define INDEX_MAX (64u << 20) /* bytes of an index.json */

static Status add_file(Weights *w, const char *path)
{
    TensorFile *f = NULL;
    TRY(tensorfile_open(path, &f));
    Status s = STATUS_OK;
    for (int i = 0; i < tensorfile_count(f) && s == STATUS_OK; i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        s = weights_add(w, e->name, e, 0, 1);
    }
    tensorfile_close(f);
    return s;
}

Status weights_open_file(const char *path, DType dtype, Weights **out)
{
    TRY(weights_new(path, dtype, out));
    const Status s = add_file(*out, path);
    if (s != STATUS_OK) {
        weights_close(*out);
        *out = NULL;
    }
    return s;
}

/* Adds the tensors that the index places in one of its files. */
static Status add_shard(Weights *w, const char *folder, const char *name, const json_t *map)
{
    if (strchr(name, '/'))
        return status_fail("weight_map names %s: a file in another folder", name);
    char *path = path_join(folder, name);
    if (!path)
        return STATUS_FAILED;
    TensorFile *f = NULL;
    Status s = tensorfile_open(path, &f);
    mem_free(path);
    const char *key;
    json_t *file;
    json_object_foreach((json_t *)map, key, file)
    {
        if (s != STATUS_OK || strcmp(json_string_value(file), name) != 0)
            continue;
        const TensorEntry *e = tensorfile_find(f, key);
        s = e ? weights_add(w, key, e, 0, 1) : status_fail("tensor %s is not in %s", key, name);
    }
    tensorfile_close(f);
    return s;
}

static Status add_shards(Weights *w, const char *folder, const json_t *index)
{
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map))
        return status_fail("has no weight_map");
    const char *key;
    json_t *file;
    json_object_foreach((json_t *)map, key, file) if (!json_is_string(file)) return status_fail(
        "weight_map: %s is not a file's name", key);
    json_t *seen = json_object(); /* file names as keys */
    Status s = seen ? STATUS_OK : status_memory("out of memory");
    json_object_foreach((json_t *)map, key, file)
    {
        const char *name = json_string_value(file);
        if (s == STATUS_OK && !json_object_get(seen, name)) {
            s = json_object_set_new(seen, name, json_true()) == 0 ? add_shard(w, folder, name, map)
                                                                  : status_memory("out of memory");
        }
    }
    json_decref(seen);
    return s;
}

static Status add_index(Weights *w, const char *folder, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    TRY(file_read(path, INDEX_MAX, &text, &size));
    json_error_t error;
    json_t *index = json_read(text, size, JSON_REJECT_DUPLICATES, &error);
    const Status s =
        index ? add_shards(w, folder, index)
              : status_fail("not valid JSON: %s at line %d, column %d", error.text, error.line, error.column);
    json_decref(index);
    mem_free(text);
    return status_in(s, "%s", path);
}

/* Names ------------------------------------------------------------------------------------------------ */

#define FORMS 4

/* The names that a file or an index of this variant ("": none) may have. */
static void names_of(const char *stem, const char *ending, const char *variant, char names[FORMS][128])
{
    const char *dot = *variant ? "." : "";
    snprintf(names[0], sizeof names[0], "%s%s%s.%s", stem, dot, variant, ending);
    snprintf(names[1], sizeof names[1], "%s.%s.index%s%s.json", stem, ending, dot, variant);
    snprintf(names[2], sizeof names[2], "%s.%s%s%s.index.json", stem, ending, dot, variant);
    snprintf(names[3], sizeof names[3], "%s%s%s.%s.index.json", stem, dot, variant, ending);
}

/* The first that is there, in *path (mem_free); NULL: none. */
static Status find_form(const char *folder, const char *stem, const char *ending, const char *variant,
                        char **path)
{
    char names[FORMS][128];
    names_of(stem, ending, variant, names);
    for (int i = 0; i < FORMS; i++) {
        *path = path_join(folder, names[i]);
        if (!*path)
            return STATUS_FAILED;
        if (file_exists(*path))
            return STATUS_OK;
        mem_free(*path);
        *path = NULL;
    }
    return STATUS_OK;
}

static Status find_file(const char *folder, const char *stem, char **path)
{
    static const char *const variants[] = {"", "fp16", "bf16", "fp32", "non_ema"};
    const char *old = !strcmp(stem, "model") ? "pytorch_model" : stem;
    *path = NULL;
    for (size_t i = 0; i < sizeof variants / sizeof *variants && !*path; i++) {
        TRY(find_form(folder, stem, "safetensors", variants[i], path));
        if (!*path)
            TRY(find_form(folder, old, "bin", variants[i], path));
    }
    return STATUS_OK;
}

/* Names what there is instead. */
static Status nothing_found(const char *folder, const char *stem)
{
    static const char *const others[] = {".msgpack", ".h5", ".onnx", ".gguf", ".safetensors", ".bin"};
    char **names = NULL;
    int count = 0;
    const char *other = NULL;
    TRY(dir_list(folder, &names, &count));
    for (int i = 0; i < count && !other; i++)
        for (size_t k = 0; k < sizeof others / sizeof *others && !other; k++) {
            const size_t n = strlen(names[i]), end = strlen(others[k]);
            if (n > end && !strcmp(names[i] + n - end, others[k]))
                other = names[i];
        }
    const Status s = other ? status_refuse("%s: has no %s.safetensors and no .bin, only %s; take the model's "
                                           ".safetensors files",
                                           folder, stem, other)
                           : status_refuse("%s: has no %s.safetensors", folder, stem);
    dir_list_free(names, count);
    return s;
}

bool weights_in_folder(const char *folder, const char *stem)
{
    char *path;
    const bool found = find_file(folder, stem, &path) != STATUS_OK || path;
    mem_free(path);
    return found;
}

Status weights_open_folder(const char *folder, const char *stem, DType dtype, Weights **out)
{
    char *path;
    TRY(weights_new(folder, dtype, out));
    Status s = find_file(folder, stem, &path);
    if (s == STATUS_OK)
        s = !path                                  ? nothing_found(folder, stem)
            : !strcmp(strrchr(path, '.'), ".json") ? add_index(*out, folder, path)
                                                   : add_file(*out, path);
    mem_free(path);
    if (s != STATUS_OK) {
        weights_close(*out);
        *out = NULL;
    }
    return s;
}
