#include "single_model.h"

#include "formats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/files/safetensors.h"
#include "infer/text/tokenizer_write.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LAST_LAYER "cond_stage_model.model.transformer.resblocks.22."

char work[64], single_path[96], folder_path[96], saved_path[96], ckpt_path[96];

int make_work(void **state)
{
    (void)state;
    strcpy(work, "/tmp/atelier-single-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    snprintf(single_path, sizeof single_path, "%s/model.safetensors", work);
    snprintf(folder_path, sizeof folder_path, "%s/folder", work);
    snprintf(ckpt_path, sizeof ckpt_path, "%s/model.ckpt", work);
    snprintf(saved_path, sizeof saved_path, "%s/saved", work);
    return 0;
}

int remove_work(void **state)
{
    (void)state;
    return dir_remove(work);
}

void ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
}

/* Weights ---------------------------------------------------------------------------------------------- */

int64_t row_size(const Row *r)
{
    int64_t n = 1;
    for (int i = 0; i < r->ndim; i++)
        n *= r->shape[i];
    return n;
}

/* Numbers that differ everywhere, of the size that keeps a network's numbers in bounds: norms near 1, biases
 * near 0, weights by the width of what goes in. */
static void draw(Row *r, uint32_t seed)
{
    const int64_t n = row_size(r);
    const bool norm = r->ndim == 1 && strstr(r->key, "norm") && strstr(r->key, "weight");
    double size = 0.1, middle = norm ? 1 : 0;
    if (r->ndim > 1) {
        size = 1.7; /* of a uniform number: its standard deviation is 1/sqrt(3) of it */
        for (int64_t fan = n / r->shape[0]; fan > 1; fan /= 4)
            size /= 2;
    }
    r->values = mem_alloc((size_t)n * sizeof *r->values);
    assert_non_null(r->values);
    uint32_t x = seed * 2654435761u + 1;
    for (int64_t i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5; /* Marsaglia's xorshift */
        r->values[i] = (float)(middle + size * ((double)(int32_t)x / 2147483648.0));
    }
}

int read_rows(const Variant *v, char **text, Row **rows)
{
    char path[512], *save = NULL;
    size_t size;
    int n = 0;
    snprintf(path, sizeof path, TEST_GOLDEN "/single/%s/keys.txt", v->kind);
    ok(file_read(path, 1 << 20, text, &size));
    *rows = mem_calloc(2000, sizeof **rows);
    assert_non_null(*rows);
    for (char *line = strtok_r(*text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        char *inner = NULL;
        Row *r = &(*rows)[n];
        assert_true(n < 2000);
        r->single = strtok_r(line, " ", &inner);
        r->part = strtok_r(NULL, " ", &inner);
        r->key = strtok_r(NULL, " ", &inner);
        for (char *d = strtok_r(NULL, "x", &inner); d; d = strtok_r(NULL, "x", &inner)) {
            r->shape[r->ndim++] = strtoll(d, NULL, 10);
            r->turned |= strstr(d, " turned") != NULL;
        }
        assert_in_range(r->ndim, 1, 4);
        if (v->inpainting && !strcmp(r->part, "unet") && !strcmp(r->key, "conv_in.weight"))
            r->shape[1] = 9;
        draw(r, (uint32_t)n);
    }
    return n;
}

void free_rows(char *text, Row *rows, int n)
{
    for (int i = 0; i < n; i++)
        mem_free(rows[i].values);
    mem_free(rows);
    mem_free(text);
}

/* Files ------------------------------------------------------------------------------------------------ */

struct Items {
    SafeItem items[2400];
    void *values[2400]; /* NULL: the row's */
    int count;
};

Items *items_new(void)
{
    return mem_calloc(1, sizeof(Items));
}

void add_item(Items *l, const char *name, DType dtype, DType written, int ndim, const int64_t *shape,
              const void *values, void *own)
{
    assert_true(l->count < 2400);
    l->values[l->count] = own;
    l->items[l->count++] = (SafeItem){.name = mem_strdup(name),
                                      .tensor = tensor_over((void *)values, dtype, ndim, shape),
                                      .dtype = written,
                                      .ndim = -1};
}

void write_items(Items *l, const char *path)
{
    ok(safetensors_write(path, l->items, l->count, NULL, 0));
    for (int i = 0; i < l->count; i++) {
        mem_free((char *)l->items[i].name);
        tensor_free((Tensor *)l->items[i].tensor);
        mem_free(l->values[i]);
    }
    mem_free(l);
}

/* A (C,C,1,1) of these is a (C,C) to the variant. */
static int dims_of(const Variant *v, const Row *r, const char *key)
{
    const bool square = r->ndim == 4 && r->shape[2] == 1 && r->shape[3] == 1;
    return v->linear && square && (strstr(key, "proj_in") || strstr(key, "proj_out")) ? 2 : r->ndim;
}

static void add_number(Items *l, const char *name, DType dtype, int64_t value)
{
    int64_t *own = mem_calloc(1, sizeof *own);
    if (dtype == DTYPE_I32)
        memcpy(own, &(int32_t){(int32_t)value}, 4);
    else
        *own = value;
    add_item(l, name, dtype, dtype, 0, NULL, own, own);
}

static void add_other_tensors(Items *l, const Variant *v)
{
    static const float wrong[1000] = {7, -7};
    static const int64_t positions[77] = {5};
    if (v->global_step)
        add_number(l, "global_step", DTYPE_I64, v->global_step);
    if (v->v_pred)
        add_item(l, "v_pred", DTYPE_F32, DTYPE_F32, 1, (int64_t[]){0}, wrong, NULL);
    if (v->zero_snr)
        add_item(l, "ztsnr", DTYPE_F32, DTYPE_F32, 1, (int64_t[]){0}, wrong, NULL);
    if (!v->training_state)
        return;
    add_item(l, "betas", DTYPE_F32, DTYPE_F32, 1, (int64_t[]){1000}, wrong, NULL);
    add_item(l, "model_ema.decay", DTYPE_F32, DTYPE_F32, 0, NULL, wrong, NULL);
    add_number(l, "model_ema.num_updates", DTYPE_I32, 9);
    add_item(l, "model_ema.diffusion_modelinput_blocks00weight", DTYPE_F32, DTYPE_F32, 4,
             (int64_t[]){1, 4, 3, 3}, wrong, NULL);
    add_item(l,
             strcmp(v->kind, "sdxl")
                 ? "cond_stage_model.transformer.text_model.embeddings.position_ids"
                 : "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
             DTYPE_I64, DTYPE_I64, 2, (int64_t[]){1, 77}, positions, NULL);
}

/* The row again under the name of the layer after the last, with other numbers. */
static void add_unused_layer(Items *l, const Variant *v, const char *name, const int64_t *shape, int ndim)
{
    char other[256];
    Row r = {.key = "norm.weight", .ndim = ndim};
    memcpy(r.shape, shape, sizeof r.shape);
    draw(&r, 77);
    snprintf(other, sizeof other, "cond_stage_model.model.transformer.resblocks.23.%s",
             name + strlen(LAST_LAYER));
    add_item(l, other, DTYPE_F32, v->dtype, ndim, shape, r.values, r.values);
}

/* What was added last goes under its EMA's name, the key after "model." without its dots; other numbers take
 * its place. */
static void average_item(Items *l, const char *name, DType dtype, int ndim, const int64_t *shape)
{
    char key[256] = "model_ema.";
    size_t n = strlen(key);
    for (const char *c = name + strlen("model."); *c; c++)
        if (*c != '.')
            key[n++] = *c;
    key[n] = 0;
    mem_free((char *)l->items[l->count - 1].name);
    l->items[l->count - 1].name = mem_strdup(key);
    Row r = {.key = "other", .ndim = ndim};
    memcpy(r.shape, shape, (size_t)ndim * sizeof *shape);
    draw(&r, 99);
    add_item(l, name, DTYPE_F32, dtype, ndim, shape, r.values, r.values);
}

/* Rows and columns changed. */
static float *turn(const Row *r, int64_t shape[4])
{
    const int64_t rows = r->shape[0], columns = r->shape[1];
    float *out = mem_alloc((size_t)(rows * columns) * sizeof *out);
    for (int64_t i = 0; i < rows * columns; i++)
        out[i % columns * rows + i / columns] = r->values[i];
    shape[0] = columns;
    shape[1] = rows;
    return out;
}

void write_single(const Variant *v, const Row *rows, int n)
{
    Items *l = items_new();
    for (int i = 0; i < n;) {
        int parts = 1;
        while (i + parts < n && !strcmp(rows[i].single, rows[i + parts].single))
            parts++;
        char name[256];
        const char *skip = v->bare_clip ? strstr(rows[i].single, ".text_model.") : NULL;
        snprintf(name, sizeof name, "%.*s%s", skip ? (int)(skip - rows[i].single) : 0, rows[i].single,
                 skip ? skip + strlen(".text_model") : rows[i].single);
        int64_t shape[4];
        memcpy(shape, rows[i].shape, sizeof shape);
        int ndim = dims_of(v, &rows[i], name);
        const int64_t size = row_size(&rows[i]);
        float *own = NULL;
        if (parts > 1) {
            own = mem_alloc((size_t)(parts * size) * sizeof *own);
            for (int k = 0; k < parts; k++)
                memcpy(own + k * size, rows[i + k].values, (size_t)size * sizeof *own);
            shape[0] *= parts;
        }
        if (rows[i].turned)
            own = turn(&rows[i], shape);
        if (!v->flat_attention && strstr(name, ".attn_1.") && ndim == 2) {
            shape[2] = shape[3] = 1;
            ndim = 4;
        }
        add_item(l, name, DTYPE_F32, v->dtype, ndim, shape, own ? own : rows[i].values, own);
        if (v->ema && !strcmp(rows[i].part, "unet"))
            average_item(l, name, v->dtype, ndim, shape);
        if (v->last_layer && !strncmp(name, LAST_LAYER, strlen(LAST_LAYER)))
            add_unused_layer(l, v, name, shape, ndim);
        i += parts;
    }
    if (v->last_layer)
        add_item(l, "cond_stage_model.model.text_projection", DTYPE_F32, v->dtype, 2, (int64_t[]){64, 64},
                 rows[0].values, NULL);
    add_other_tensors(l, v);
    write_items(l, single_path);
}

static void write_in_folder(const char *part, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", folder_path, part, name);
    ok(file_write_atomic(path, text, strlen(text)));
}

static void write_config(const Variant *v, const char *part)
{
    static const char no[] = "\"use_linear_projection\": false", yes[] = "\"use_linear_projection\": true ";
    char path[512], *text;
    size_t size;
    snprintf(path, sizeof path, TEST_GOLDEN "/single/%s/%s/config.json", v->kind, part);
    ok(file_read(path, 1 << 20, &text, &size));
    if (v->linear && !strcmp(part, "unet")) {
        assert_non_null(strstr(text, no));
        memcpy(strstr(text, no), yes, strlen(yes));
    }
    if (v->inpainting && !strcmp(part, "unet")) {
        char *at = strstr(text, "\"in_channels\": 4");
        assert_non_null(at);
        at[strlen("\"in_channels\": ")] = '9';
    }
    write_in_folder(part, "config.json", text);
    mem_free(text);
}

static void write_scheduler(const Variant *v)
{
    const bool sdxl = !strcmp(v->kind, "sdxl");
    char scheduler[640];
    snprintf(
        scheduler, sizeof scheduler,
        "{\"_class_name\": \"%s\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
        " \"beta_schedule\": \"scaled_linear\", \"num_train_timesteps\": 1000, \"set_alpha_to_one\": false,"
        " \"skip_prk_steps\": true, \"steps_offset\": 1, \"clip_sample\": false,"
        " \"prediction_type\": \"%s\"%s}",
        sdxl          ? "EulerDiscreteScheduler"
        : v->zero_snr ? "DDIMScheduler"
                      : "PNDMScheduler",
        v->prediction == PREDICT_V ? "v_prediction" : "epsilon",
        v->zero_snr ? ", \"timestep_spacing\": \"trailing\", \"rescale_betas_zero_snr\": true"
        : sdxl      ? ", \"timestep_spacing\": \"leading\""
                    : "");
    write_in_folder("scheduler", "scheduler_config.json", scheduler);
}

void write_folder(const Variant *v, const Row *rows, int n)
{
    static const char *const parts[] = {"unet", "vae", "text_encoder", "text_encoder_2"};
    for (int p = 0; p < (strcmp(v->kind, "sdxl") ? 3 : 4); p++) {
        char path[256];
        Items *l = items_new();
        for (int i = 0; i < n; i++)
            if (!strcmp(rows[i].part, parts[p]))
                add_item(l, rows[i].key, DTYPE_F32, v->dtype, dims_of(v, &rows[i], rows[i].key),
                         rows[i].shape, rows[i].values, NULL);
        write_config(v, parts[p]);
        snprintf(path, sizeof path, "%s/%s/%s.safetensors", folder_path, parts[p],
                 p >= 2 ? "model" : "diffusion_pytorch_model");
        write_items(l, path);
    }
    write_scheduler(v);
    if (!strcmp(v->kind, "sd2")) { /* SD2's folders have a tokenizer that pads with "!"; SD1's is CLIP's */
        char path[256];
        snprintf(path, sizeof path, "%s/tokenizer", folder_path);
        ok(clip_tokenizer_write(path, "!"));
    }
}

/* Tensors --------------------------------------------------------------------------------------------------
 */

void write_ckpt_of(const char *single, const char *path)
{
    TensorFile *f;
    ok(tensorfile_open(single, &f));
    const int n = tensorfile_count(f);
    TensorEntry *entries = mem_calloc((size_t)n, sizeof *entries);
    for (int i = 0; i < n; i++)
        entries[i] = *tensorfile_entry(f, i);
    format_test_ckpt.write(path, entries, n, NULL, 0);
    mem_free(entries);
    tensorfile_close(f);
}
