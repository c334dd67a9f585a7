#include "single_file.h"

#include "infer/files/recognise.h"
#include "single_shapes.h"

#include <stdio.h>
#include <string.h>

const char *single_text(const TensorFile *f, const char *path)
{
    char key[128];
    snprintf(key, sizeof key, SINGLE_TEXT "%s", path);
    return tensorfile_metadata(f, key);
}

static Status read_text(SingleFile *f, PartId id, bool *told)
{
    char path[64];
    snprintf(path, sizeof path, "%s/config.json", PARTS[id].folder);
    const char *text = single_text(f->file, path);
    *told = text != NULL;
    return !text ? STATUS_OK
                 : status_in(PARTS[id].kind->parse(text, path, part_config(id, &f->shapes)), "%s",
                             tensorfile_path(f->file));
}

/* The configurations of the parts that there are as the metadata have them; false: they have not all. */
static Status read_texts(SingleFile *f, bool *told)
{
    TRY(read_text(f, PART_UNET, told)); /* tells what parts there are */
    for (int i = 0; i < PART_COUNT && *told; i++)
        if (i != PART_UNET && part_of_family((PartId)i, family_of(&f->shapes.unet)) &&
            (i != PART_VAE || single_file_has_vae(f)))
            TRY(read_text(f, (PartId)i, told));
    return STATUS_OK;
}

static Status open_file(const char *path, SingleFile *f)
{
    TRY(tensorfile_open(path, &f->file));
    TRY(refuse_other_models(path, f->file));
    single_read_marks(f);
    return STATUS_OK;
}

Status single_file_open(const char *path, SingleFile *out)
{
    *out = (SingleFile){0};
    SingleFile f = {0};
    bool told = false;
    Status s = open_file(path, &f);
    if (s == STATUS_OK)
        s = read_texts(&f, &told);
    if (s == STATUS_OK && !told)
        s = single_read_shapes(&f);
    if (s == STATUS_OK && (f.build == BUILD_SDXL) != (family_of(&f.shapes.unet) == FAMILY_SDXL))
        s = status_refuse("%s: its metadata and its tensors are of different families of models", path);
    if (s != STATUS_OK) {
        tensorfile_close(f.file);
        return s;
    }
    *out = f;
    return STATUS_OK;
}

Status single_file_read_tensors(const char *path, ModelShapes *out)
{
    SingleFile f = {0};
    Status s = open_file(path, &f);
    if (s == STATUS_OK)
        s = single_read_shapes(&f);
    *out = f.shapes;
    single_file_close(&f);
    return s;
}

/* A folder of small files as the metadata have it. */
typedef struct TextFolder {
    const TensorFile *file;
    const char *name;
} TextFolder;

static const char *text_in_folder(void *arg, const char *name)
{
    const TextFolder *folder = arg;
    char path[96];
    snprintf(path, sizeof path, "%s/%s", folder->name, name);
    return single_text(folder->file, path);
}

Status single_tokenizer(const SingleFile *f, const char *folder, Tokenizer **out)
{
    TextFolder texts = {f->file, folder};
    *out = NULL;
    if (!text_in_folder(&texts, "vocab.json") && !text_in_folder(&texts, "tokenizer.json"))
        return STATUS_OK;
    return status_in(tokenizer_open_texts(text_in_folder, &texts, out), "%s", tensorfile_path(f->file));
}

void single_file_close(SingleFile *f)
{
    tensorfile_close(f->file);
    *f = (SingleFile){0};
}

/* Adds e under the names that `key` (without the part's prefix) stands for; an unknown key keeps its name, so
 * that it is named if nobody asks for it. */
static Status add_key(const SingleFile *f, PartId part, const char *key, const TensorEntry *e, Weights *w)
{
    char names[KEYMAP_PARTS][KEYMAP_MAX];
    int count = 1;
    const SingleNames *single = &PARTS[part].single[f->build];
    ModelShapes shapes = f->shapes;
    if (!single->rename || !single->rename(key, part_config(part, &shapes), names, &count))
        return weights_add(w, key, e, 0, 1);
    if (count == 1 && single->turned && !strcmp(names[0], single->turned))
        return weights_add_turned(w, names[0], e);
    for (int k = 0; k < count; k++)
        TRY(weights_add(w, names[k], e, k, count));
    return STATUS_OK;
}

/* The average of a tensor of the UNet: its key without the dots (LitEma in the original code). NULL: none. */
static const TensorEntry *average_of(const SingleFile *f, const TensorEntry *e)
{
    char key[KEYMAP_MAX] = KEYMAP_EMA;
    size_t n = strlen(key);
    for (const char *c = e->name + strlen("model."); *c && n + 1 < sizeof key; c++)
        if (*c != '.')
            key[n++] = *c;
    key[n] = 0;
    return tensorfile_find(f->file, key);
}

bool single_file_has_ema(const SingleFile *f)
{
    const TensorEntry *e = tensorfile_find(f->file, KEYMAP_UNET "input_blocks.0.0.weight");
    return e && average_of(f, e);
}

static Status add_average(const SingleFile *f, const char *key, const TensorEntry *e, Weights *w)
{
    const TensorEntry *average = average_of(f, e);
    if (!average || !tensor_entry_is_shaped(average, e->ndim, e->shape))
        return status_refuse("%s: has no EMA of %s; take the weights without EMA", tensorfile_path(f->file),
                             e->name);
    return add_key(f, PART_UNET, key, average, w);
}

Status single_file_weights(const SingleFile *f, PartId part, DType dtype, Weights **out)
{
    const char *prefix = PARTS[part].single[f->build].prefix;
    const size_t n = strlen(prefix);
    TRY(weights_new(tensorfile_path(f->file), dtype, out));
    Status s = STATUS_OK;
    for (int i = 0; i < tensorfile_count(f->file) && s == STATUS_OK; i++) {
        const TensorEntry *e = tensorfile_entry(f->file, i);
        if (!strncmp(e->name, prefix, n))
            s = f->ema && part == PART_UNET ? add_average(f, e->name + n, e, *out)
                                            : add_key(f, part, e->name + n, e, *out);
    }
    if (s != STATUS_OK) {
        weights_close(*out);
        *out = NULL;
    }
    return s;
}

/* A VAE alone -------------------------------------------------------------------------------------------- */

static Status read_vae_file(VaeFile *f)
{
    static const char *const prefixes[] = {KEYMAP_VAE, "", "vae."};
    const char *wrong = "no names of an autoencoder";
    for (int i = 0; i < 3; i++)
        for (int original = 0; original < 2; original++) {
            if (!single_has_vae(f->file, prefixes[i], original))
                continue;
            f->prefix = prefixes[i];
            f->original = original;
            wrong = single_read_vae(f->file, f->prefix, original, &f->shapes.vae);
            return wrong ? status_refuse("%s: %s: not a VAE of Stable Diffusion", tensorfile_path(f->file),
                                         wrong)
                         : STATUS_OK;
        }
    return status_refuse("%s: %s, not a VAE", tensorfile_path(f->file), file_kind(f->file)->what);
}

Status vae_file_open(const char *path, VaeFile *out)
{
    *out = (VaeFile){0};
    VaeFile f = {0};
    TRY(tensorfile_open(path, &f.file));
    const Status s = read_vae_file(&f);
    if (s == STATUS_OK)
        *out = f;
    else
        vae_file_close(&f);
    return s;
}

void vae_file_close(VaeFile *f)
{
    tensorfile_close(f->file);
    *f = (VaeFile){0};
}

Status vae_file_weights(const VaeFile *f, DType dtype, Weights **out)
{
    const size_t n = strlen(f->prefix);
    TRY(weights_new(tensorfile_path(f->file), dtype, out));
    Status s = STATUS_OK;
    for (int i = 0; i < tensorfile_count(f->file) && s == STATUS_OK; i++) {
        const TensorEntry *e = tensorfile_entry(f->file, i);
        char name[KEYMAP_MAX];
        if (strncmp(e->name, f->prefix, n) != 0)
            continue;
        const bool renamed = f->original && keymap_vae(e->name + n, f->shapes.vae.levels, name);
        s = weights_add(*out, renamed ? name : e->name + n, e, 0, 1);
    }
    if (s != STATUS_OK) {
        weights_close(*out);
        *out = NULL;
    }
    return s;
}
