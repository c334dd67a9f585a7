#include "texts.h"

#include "infer/models/model_config.h"
#include "infer/models/single_file.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX ((size_t)64 << 20) /* bytes of a tokenizer's file */

typedef Status TakeText(void *arg, const char *path, const char *text);

/* Tokenizer ---------------------------------------------------------------------------------------------- */

static Status same_tokenizer(const Tokenizer *a, const Tokenizer *b, bool *same)
{
    const Tokenizer *const both[] = {a, b};
    uint8_t hash[2][SHA256_SIZE];
    for (int i = 0; i < 2; i++) {
        Sha256 s;
        sha256_init(&s);
        TRY(tokenizer_hash(both[i], &s));
        sha256_final(&s, hash[i]);
    }
    *same = tokenizer_vocab_size(a) == tokenizer_vocab_size(b) && !memcmp(hash[0], hash[1], SHA256_SIZE);
    return STATUS_OK;
}

/* Is it what a file without one is given: CLIP's, which SD2 pads with "!"? */
static Status is_clip_s(const Tokenizer *t, bool *yes)
{
    *yes = false;
    for (int pad = 0; pad < 2 && !*yes; pad++) {
        Tokenizer *clip;
        TRY(tokenizer_builtin(&clip));
        Status s = pad ? tokenizer_set_pad(clip, "!", 0) : STATUS_OK;
        if (s == STATUS_OK)
            s = same_tokenizer(t, clip, yes);
        tokenizer_free(clip);
        TRY(s);
    }
    return STATUS_OK;
}

static Status take_file(const char *folder, const char *inside, const char *name, TakeText *take, void *arg)
{
    char *path = path_join(folder, name), *inner = mem_printf("%s/%s", inside, name), *text = NULL;
    size_t size;
    Status s = path && inner ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && !file_is_dir(path))
        s = file_read(path, TEXT_MAX, &text, &size);
    if (s == STATUS_OK && text && strlen(text) == size)
        s = take(arg, inner, text);
    mem_free(text);
    mem_free(inner);
    mem_free(path);
    return s;
}

/* inside: the tokenizer's folder in a model's. */
static Status each_of_tokenizer(const Model *m, const char *inside, TakeText *take, void *arg)
{
    char **names = NULL, *folder = m->folder ? path_join(m->folder, inside) : NULL, begin[64];
    const size_t n = (size_t)snprintf(begin, sizeof begin, SINGLE_TEXT "%s/", inside);
    int count = 0;
    Status s = STATUS_OK;
    for (int i = 0; m->file && i < tensorfile_metadata_count(m->file) && s == STATUS_OK; i++) {
        const TensorMeta meta = tensorfile_metadata_entry(m->file, i);
        if (!strncmp(meta.key, begin, n))
            s = take(arg, meta.key + strlen(SINGLE_TEXT), meta.value);
    }
    if (folder && file_is_dir(folder))
        s = dir_list(folder, &names, &count);
    for (int i = 0; i < count && s == STATUS_OK; i++)
        s = take_file(folder, inside, names[i], take, arg);
    dir_list_free(names, count);
    mem_free(folder);
    return s;
}

static Status take_index(const Model *m, TakeText *take, void *arg)
{
    char *index = model_index_json(m);
    const Status s = index ? take(arg, "model_index.json", index) : STATUS_FAILED;
    mem_free(index);
    return s;
}

Status texts_each(const Model *m, TakeText *take, void *arg)
{
    const Tokenizer *const tokenizers[] = {m->tokenizer, m->tokenizer_2};
    static const PartId encoders[] = {PART_TEXT, PART_TEXT_2};
    for (int i = 0; i < PART_COUNT; i++) {
        char path[64];
        if (!model_has(m, (PartId)i))
            continue;
        snprintf(path, sizeof path, "%s/config.json", PARTS[i].folder);
        TRY(take(arg, path, m->config_json[i]));
    }
    TRY(take(arg, "scheduler/scheduler_config.json", m->scheduler_json));
    if (m->family == FAMILY_SDXL && !m->zero_negative)
        TRY(take_index(m, take, arg));
    for (int i = 0; i < 2; i++) {
        bool usual = true;
        if (tokenizers[i])
            TRY(is_clip_s(tokenizers[i], &usual));
        if (!usual)
            TRY(each_of_tokenizer(m, PARTS[encoders[i]].tokenizer, take, arg));
    }
    return STATUS_OK;
}

/* What tensors do not tell --------------------------------------------------------------------------------
 */

static bool same_ints(const int *a, const int *b, int n)
{
    return !memcmp(a, b, (size_t)n * sizeof *a);
}

static const char *other_text(const ClipConfig *c, const ClipConfig *d)
{
    return c->heads != d->heads                                 ? "the text encoder's number of heads"
           : c->layers != d->layers                             ? "the text encoder's number of layers"
           : c->quick_gelu != d->quick_gelu || c->eps != d->eps ? "the text encoder's hidden_act"
                                                                : NULL;
}

/* The first thing that others take to be otherwise; NULL: none. Of sizes that shapes tell there is none. */
static const char *other_than_told(const ModelShapes *real, const ModelShapes *told)
{
    const UNetConfig *u = &real->unet, *v = &told->unet;
    const VaeConfig *x = &real->vae, *y = &told->vae;
    return !same_ints(u->heads, v->heads, u->levels) ? "the UNet's number of heads"
           : u->norm_groups != v->norm_groups        ? "the UNet's norm_num_groups"
           : u->norm_eps != v->norm_eps              ? "the UNet's norm_eps"
           : u->addition_width != v->addition_width  ? "the UNet's addition_time_embed_dim"
           : u->flip_sin_to_cos != v->flip_sin_to_cos || u->freq_shift != v->freq_shift
               ? "the UNet's embedding of timesteps"
           : x->norm_groups != y->norm_groups ? "the VAE's norm_num_groups"
           : x->scaling_factor != y->scaling_factor || x->shift_factor != y->shift_factor
               ? "the VAE's scaling_factor"
           : real->clip_2.hidden && other_text(&real->clip_2, &told->clip_2)
               ? other_text(&real->clip_2, &told->clip_2)
               : other_text(&real->clip, &told->clip);
}

Status texts_needed(const char *path, const ModelShapes *shapes, bool *alone)
{
    ModelShapes told;
    const char *other = "its sizes";
    if (single_file_read_tensors(path, &told) == STATUS_OK)
        other = other_than_told(shapes, &told);
    *alone = other != NULL;
    if (other)
        log_warn(
            "%s: tensors do not tell %s, so other programs take it for that of Stable Diffusion and draw "
            "something else; this program finds it in the file's metadata",
            path, other);
    return STATUS_OK;
}
