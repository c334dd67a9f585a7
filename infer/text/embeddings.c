#include "embeddings.h"

#include "infer/files/tensor_file.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DEEPEST 8 /* folders in folders */

static const char *const ENDINGS[] = {".safetensors", ".pt", ".bin"};

static const char *ending_of(const char *path)
{
    const size_t size = strlen(path);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        const size_t n = strlen(ENDINGS[i]);
        if (size > n && !strcasecmp(path + size - n, ENDINGS[i]))
            return path + size - n;
    }
    return NULL;
}

/* A file's tensors --------------------------------------------------------------------------------------- */

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The vectors among the file's tensors; *token: the word that they stand under, or NULL. */
static Status find_vectors(const TensorFile *f, const TensorEntry **out, const char **token)
{
    int floats = 0;
    *out = NULL;
    *token = NULL;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        if (!strcmp(e->name, "emb_params") || begins_with(e->name, "string_to_param.")) {
            *out = e;
            *token = NULL;
            return STATUS_OK;
        }
        if (element_is_float(e->type) && e->ndim <= 2) {
            floats++;
            *out = e;
            *token = e->name;
        }
    }
    if (floats == 1 && tensorfile_count(f) == 1)
        return STATUS_OK;
    return status_refuse(
        "is no textual-inversion embedding: those have one tensor, or one called emb_params or "
        "string_to_param");
}

/* *vectors and *width: its shape. */
static Status read_vectors(const TensorEntry *e, int *vectors, int *width_out, float **values)
{
    char shape[80];
    const int64_t n = e->ndim == 2 ? e->shape[0] : 1, width = e->ndim ? e->shape[e->ndim - 1] : 0;
    if (!element_is_float(e->type) || e->ndim < 1 || e->ndim > 2 || n < 1 || width < 1 || width > 1 << 16)
        return status_refuse("`%s` %s is no embedding: vectors are expected", e->name,
                             tensor_entry_describe(e, shape, sizeof shape));
    if (n > EMBEDDING_MOST)
        return status_refuse("`%s` has %lld vectors; a text encoder takes %d at once", e->name, (long long)n,
                             EMBEDDING_MOST);
    TRY(tensor_entry_check_finite(e, 0, tensor_entry_count(e), DTYPE_F32));
    *vectors = (int)n;
    *width_out = (int)width;
    *values = mem_alloc((size_t)n * (size_t)width * sizeof **values);
    return *values ? tensor_entry_read(e, DTYPE_F32, *values) : STATUS_FAILED;
}

/* SDXL's: as many vectors for each of its text encoders. */
static Status read_two(const TensorEntry *one, const TensorEntry *two, Embedding *out)
{
    int vectors = 0;
    TRY(read_vectors(one, &out->vectors, &out->width, &out->values));
    TRY(read_vectors(two, &vectors, &out->width_2, &out->values_2));
    return vectors == out->vectors
               ? STATUS_OK
               : status_refuse("clip_l has %d vectors, clip_g %d: the embedding is damaged", out->vectors,
                               vectors);
}

static Status read_file(const TensorFile *f, Embedding *out)
{
    const TensorEntry *e, *one = tensorfile_find(f, "clip_l"), *two = tensorfile_find(f, "clip_g");
    const char *token = NULL, *base = path_base(tensorfile_path(f)), *ending = ending_of(base);
    if (one && two)
        TRY(read_two(one, two, out));
    else {
        TRY(find_vectors(f, &e, &token));
        TRY(read_vectors(e, &out->vectors, &out->width, &out->values));
    }
    out->name = ending ? mem_printf("%.*s", (int)(ending - base), base) : mem_strdup(base);
    if (token && *token && out->name && strcmp(token, out->name) != 0) {
        out->token = mem_strdup(token);
        if (!out->token)
            return STATUS_FAILED;
    }
    return out->name ? STATUS_OK : STATUS_FAILED;
}

Status embedding_read(const char *path, Embedding *out)
{
    TensorFile *f;
    *out = (Embedding){0};
    TRY(tensorfile_open(path, &f));
    const Status s = read_file(f, out);
    tensorfile_close(f);
    if (s != STATUS_OK)
        embedding_free(out);
    return status_in(s, "%s", path);
}

void embedding_free(Embedding *e)
{
    mem_free(e->name);
    mem_free(e->token);
    mem_free(e->values);
    mem_free(e->values_2);
    *e = (Embedding){0};
}

/* Sets --------------------------------------------------------------------------------------------------- */

Status embeddings_add(EmbeddingSet *s, const char *path)
{
    Embedding e;
    TRY(embedding_read(path, &e));
    if (!mem_grow(&s->items, s->count, &s->capacity, sizeof *s->items)) {
        embedding_free(&e);
        return STATUS_FAILED;
    }
    s->items[s->count++] = e;
    return STATUS_OK;
}

static Status add_folder(EmbeddingSet *s, const char *folder, int depth);

static Status add_found(EmbeddingSet *s, const char *folder, const char *name, int depth)
{
    char *path = path_join(folder, name);
    Status status = path ? STATUS_OK : STATUS_FAILED;
    if (path && file_is_dir(path)) {
        status = depth < DEEPEST ? add_folder(s, path, depth + 1) : STATUS_OK;
    } else if (path && ending_of(path)) {
        status = embeddings_add(s, path);
        if (status != STATUS_OK && !status_is_memory()) {
            log_warn("%s", status_message());
            status = STATUS_OK;
        }
    }
    mem_free(path);
    return status;
}

static Status add_folder(EmbeddingSet *s, const char *folder, int depth)
{
    char **names;
    int count;
    TRY(dir_list(folder, &names, &count));
    Status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < count; i++)
        status = add_found(s, folder, names[i], depth);
    dir_list_free(names, count);
    return status;
}

Status embeddings_add_folder(EmbeddingSet *s, const char *folder)
{
    if (!file_is_dir(folder))
        return file_missing(folder, "folder");
    return add_folder(s, folder, 0);
}

static const char *family_of(int width)
{
    return width == 768    ? "Stable Diffusion 1.x"
           : width == 1024 ? "Stable Diffusion 2.x"
           : width == 1280 ? "SDXL's second text encoder"
                           : NULL;
}

/* Of one text encoder, for a model with two, or the other way. */
static Status check_encoders(const Embedding *e, int width_2)
{
    if (!e->width_2 == !width_2)
        return STATUS_OK;
    return e->width_2
               ? status_refuse("the embedding `%s` was made for SDXL: it has vectors for two text encoders, "
                               "the model has one",
                               e->name)
               : status_refuse(
                     "the embedding `%s` has vectors for one text encoder, the model has two (SDXL)",
                     e->name);
}

Status embedding_check(const Embedding *e, int width, int width_2)
{
    const char *made = family_of(e->width), *own = family_of(width);
    TRY(check_encoders(e, width_2));
    if (e->width_2 != width_2)
        return status_refuse(
            "the embedding `%s` has vectors of %d numbers for the second text encoder, which "
            "takes %d",
            e->name, e->width_2, width_2);
    if (e->width == width)
        return STATUS_OK;
    return status_refuse(
        "the embedding `%s` has vectors of %d numbers%s%s; the model's text encoder takes %d%s%s", e->name,
        e->width, made ? ", it was made for " : "", made ? made : "", width, own ? ", as " : "",
        own ? own : "");
}

void embeddings_free(EmbeddingSet *s)
{
    for (int i = 0; i < s->count; i++)
        embedding_free(&s->items[i]);
    mem_free(s->items);
    *s = (EmbeddingSet){0};
}
