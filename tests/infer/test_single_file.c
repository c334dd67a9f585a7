/* Single-file models against the diffusers folders that they are: the same weights under both layouts' names
 * give the same bytes, from the prompt to the picture. Which name is which is taken from diffusers' own
 * converters (scripts/reference/single_files.py), so nothing here knows the key map under test. And the other
 * files that people give as models: each is named and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/models/model_config.h"
#include "infer/models/single_file.h"
#include "infer/pipeline/pipeline.h"
#include "infer/text/tokenizer_write.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LAST_LAYER "cond_stage_model.model.transformer.resblocks.22."

typedef struct Variant {
    const char *kind; /* the folder in tests/golden/single */
    DType dtype;
    PredictionType prediction;
    int64_t global_step; /* 0: the file does not say */
    bool told;           /* the user says what it predicts */
    bool v_pred;         /* the mark of v models made by others than SD2's authors */
    bool training_state; /* EMA, betas, position numbers beside the weights, as in files saved by a trainer */
    bool bare_clip;      /* no "text_model." in the text encoder's names */
    bool flat_attention; /* the autoencoder's attention as (C,C), not (C,C,1,1) */
    bool linear;         /* the transformers' proj_in and proj_out as (C,C) in a model of SD1's build */
    bool last_layer;     /* OpenCLIP's 24th layer and projection, which SD2 does not use */
} Variant;

typedef struct Row {
    char *single, *part, *key;
    int ndim;
    int64_t shape[4];
    float *values;
} Row;

static char work[64], single_path[96], folder_path[96], saved_path[96];

static int make_work(void **state)
{
    (void)state;
    strcpy(work, "/tmp/atelier-single-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    snprintf(single_path, sizeof single_path, "%s/model.safetensors", work);
    snprintf(folder_path, sizeof folder_path, "%s/folder", work);
    snprintf(saved_path, sizeof saved_path, "%s/saved", work);
    return 0;
}

static int remove_work(void **state)
{
    (void)state;
    return dir_remove(work);
}

static void ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
}

/* Weights ---------------------------------------------------------------------------------------------- */

static int64_t row_size(const Row *r)
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

static int read_rows(const char *kind, char **text, Row **rows)
{
    char path[512], *save = NULL;
    size_t size;
    int n = 0;
    snprintf(path, sizeof path, TEST_GOLDEN "/single/%s/keys.txt", kind);
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
        for (char *d = strtok_r(NULL, "x", &inner); d; d = strtok_r(NULL, "x", &inner))
            r->shape[r->ndim++] = strtoll(d, NULL, 10);
        assert_in_range(r->ndim, 1, 4);
        draw(r, (uint32_t)n);
    }
    return n;
}

static void free_rows(char *text, Row *rows, int n)
{
    for (int i = 0; i < n; i++)
        mem_free(rows[i].values);
    mem_free(rows);
    mem_free(text);
}

/* Files ------------------------------------------------------------------------------------------------ */

typedef struct Items {
    SafeItem items[2400];
    void *values[2400]; /* NULL: the row's */
    int count;
} Items;

static void add_item(Items *l, const char *name, DType dtype, DType written, int ndim, const int64_t *shape,
                     const void *values, void *own)
{
    assert_true(l->count < 2400);
    l->values[l->count] = own;
    l->items[l->count++] = (SafeItem){.name = mem_strdup(name),
                                      .tensor = tensor_over((void *)values, dtype, ndim, shape),
                                      .dtype = written,
                                      .ndim = -1};
}

static void write_items(Items *l, const char *path)
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
    if (!v->training_state)
        return;
    add_item(l, "betas", DTYPE_F32, DTYPE_F32, 1, (int64_t[]){1000}, wrong, NULL);
    add_item(l, "model_ema.decay", DTYPE_F32, DTYPE_F32, 0, NULL, wrong, NULL);
    add_number(l, "model_ema.num_updates", DTYPE_I32, 9);
    add_item(l, "model_ema.diffusion_modelinput_blocks00weight", DTYPE_F32, DTYPE_F32, 4,
             (int64_t[]){1, 4, 3, 3}, wrong, NULL);
    add_item(l, "cond_stage_model.transformer.text_model.embeddings.position_ids", DTYPE_I64, DTYPE_I64, 2,
             (int64_t[]){1, 77}, positions, NULL);
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

static void write_single(const Variant *v, const Row *rows, int n)
{
    Items *l = mem_calloc(1, sizeof *l);
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
        if (!v->flat_attention && strstr(name, ".attn_1.") && ndim == 2) {
            shape[2] = shape[3] = 1;
            ndim = 4;
        }
        add_item(l, name, DTYPE_F32, v->dtype, ndim, shape, own ? own : rows[i].values, own);
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
    write_in_folder(part, "config.json", text);
    mem_free(text);
}

static void write_folder(const Variant *v, const Row *rows, int n)
{
    static const char *const parts[] = {"unet", "vae", "text_encoder"};
    for (int p = 0; p < 3; p++) {
        char path[256];
        Items *l = mem_calloc(1, sizeof *l);
        for (int i = 0; i < n; i++)
            if (!strcmp(rows[i].part, parts[p]))
                add_item(l, rows[i].key, DTYPE_F32, v->dtype, dims_of(v, &rows[i], rows[i].key),
                         rows[i].shape, rows[i].values, NULL);
        write_config(v, parts[p]);
        snprintf(path, sizeof path, "%s/%s/%s.safetensors", folder_path, parts[p],
                 p == 2 ? "model" : "diffusion_pytorch_model");
        write_items(l, path);
    }
    char scheduler[512];
    snprintf(
        scheduler, sizeof scheduler,
        "{\"_class_name\": \"PNDMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
        " \"beta_schedule\": \"scaled_linear\", \"num_train_timesteps\": 1000, \"set_alpha_to_one\": false,"
        " \"skip_prk_steps\": true, \"steps_offset\": 1, \"clip_sample\": false,"
        " \"prediction_type\": \"%s\"}",
        v->prediction == PREDICT_V ? "v_prediction" : "epsilon");
    write_in_folder("scheduler", "scheduler_config.json", scheduler);
    if (!strcmp(v->kind, "sd2")) { /* SD2's folders have a tokenizer that pads with "!"; SD1's is CLIP's */
        char path[256];
        snprintf(path, sizeof path, "%s/tokenizer", folder_path);
        ok(clip_tokenizer_write(path, "!"));
    }
}

/* Comparing -------------------------------------------------------------------------------------------- */

typedef struct Outcome {
    SampleResult sample;
    float mean[4 * 8 * 8], std[4 * 8 * 8];
    PredictionType prediction;
} Outcome;

static void run_model(Model *m, Outcome *out)
{
    Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32});
    Pipeline *p = NULL;
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    float pixels[64 * 64 * 3];
    assert_non_null(c);
    ok(pipeline_new(c, m, &p));
    r.prompt = "a lighthouse at dusk";
    r.negative = "blurry";
    r.steps = 2;
    r.seed = 3;
    r.size = size_square(64);
    ok(pipeline_sample(p, &r, NULL, NULL, &out->sample));
    for (int i = 0; i < 64 * 64 * 3; i++)
        pixels[i] = (float)(i * 37 % 255) / 127.5f - 1;
    ok(pipeline_encode_picture(p, pixels, size_square(64), out->mean, out->std));
    out->prediction = m->schedule.prediction;
    pipeline_free(p);
    ctx_free(c);
}

static Model *load(const char *path)
{
    Model *m = NULL;
    ok(model_load(path, MODEL_ALL, DTYPE_F32, &m));
    return m;
}

static void refuse_ignored(void *unused, LogLevel level, const char *text)
{
    (void)unused;
    (void)level;
    if (strstr(text, "ignored"))
        fail_msg("%s", text);
}

/* The model, and no word about tensors that nobody asked for. */
static Model *load_in_silence(const char *path)
{
    log_to(refuse_ignored, NULL);
    Model *m = load(path);
    log_to(NULL, NULL);
    return m;
}

static void same_outcome(const Outcome *a, const Outcome *b)
{
    assert_int_equal(a->prediction, b->prediction);
    const float *latents = a->sample.latents->data;
    for (int64_t i = 0; i < tensor_count(a->sample.latents); i++)
        assert_true(latents[i] > -1e3f && latents[i] < 1e3f); /* nor is it NaN */
    assert_int_equal(tensor_bytes(a->sample.latents), 4 * 8 * 8 * sizeof(float));
    assert_memory_equal(a->sample.latents->data, b->sample.latents->data, tensor_bytes(a->sample.latents));
    assert_memory_equal(a->sample.picture.rgb, b->sample.picture.rgb, 3 * 64 * 64);
    assert_memory_equal(a->mean, b->mean, sizeof a->mean);
    assert_memory_equal(a->std, b->std, sizeof a->std);
}

static void compare(const Variant *v, bool save)
{
    char *text;
    Row *rows;
    Outcome folder, single, saved;
    if (file_exists(folder_path))
        ok(dir_remove(folder_path));
    const int n = read_rows(v->kind, &text, &rows);
    write_single(v, rows, n);
    write_folder(v, rows, n);
    free_rows(text, rows, n);
    Model *m = load(folder_path);
    run_model(m, &folder);
    assert_int_equal(folder.prediction, v->prediction);
    model_free(m);
    m = load_in_silence(single_path);
    if (v->told)
        ok(model_set_prediction(m, v->prediction));
    run_model(m, &single);
    assert_int_equal(m->default_size, !strcmp(v->kind, "sd2") && v->prediction == PREDICT_V ? 768 : 512);
    same_outcome(&folder, &single);
    if (save)
        ok(model_save(m, saved_path, v->dtype));
    model_free(m);
    if (save) { /* and back in a folder of our own */
        m = load_in_silence(saved_path);
        run_model(m, &saved);
        same_outcome(&folder, &saved);
        sample_result_free(&saved.sample);
        model_free(m);
    }
    sample_result_free(&folder.sample);
    sample_result_free(&single.sample);
}

static void a_single_sd1_file_is_its_folder(void **state)
{
    (void)state;
    compare(&(Variant){.kind = "sd1", .dtype = DTYPE_F16, .training_state = true}, false);
}

static void sd1_files_saved_by_other_programs(void **state)
{
    (void)state;
    compare(&(Variant){.kind = "sd1",
                       .dtype = DTYPE_F32,
                       .bare_clip = true,
                       .flat_attention = true,
                       .v_pred = true,
                       .prediction = PREDICT_V},
            false);
    compare(&(Variant){.kind = "sd1", .dtype = DTYPE_BF16, .linear = true}, false);
}

static void a_single_sd2_file_is_its_folder(void **state)
{
    (void)state;
    compare(&(Variant){.kind = "sd2", .dtype = DTYPE_F16, .last_layer = true, .prediction = PREDICT_V}, true);
}

/* SD2's base was trained for 875,000 steps, which is how its file is told; and a file that was made out of a
 * folder has no 24th layer. */
static void an_sd2_base_file_predicts_the_noise(void **state)
{
    (void)state;
    compare(&(Variant){.kind = "sd2",
                       .dtype = DTYPE_BF16,
                       .global_step = 875000,
                       .flat_attention = true,
                       .prediction = PREDICT_EPSILON},
            false);
}

/* Most files of SD2's base say nothing, so the user does; a model saved from it says it. */
static void what_a_model_predicts_can_be_said(void **state)
{
    (void)state;
    compare(&(Variant){.kind = "sd2", .dtype = DTYPE_F16, .told = true, .prediction = PREDICT_EPSILON}, true);
}

/* Other files ------------------------------------------------------------------------------------------ */

#define UNET_IN "model.diffusion_model.input_blocks.0.0.weight"

/* Safetensors files that are no model: by one key. */
static void other_safetensors_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *keys[2], *what;
        int channels;
    } FILES[] = {
        {{"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"}, "is a LoRA", 0},
        {{"lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"}, "is a LoRA", 0},
        {{"unet.mid_block.attentions.0.proj_in.lora_A.weight"}, "is a LoRA", 0},
        {{"unet.mid_block.attentions.0.proj_in.lora.down.weight"}, "is a LoRA", 0},
        {{"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"}, "is a LoRA", 0},
        {{"conditioner.embedders.0.transformer.text_model.final_layer_norm.weight", UNET_IN}, "SDXL", 4},
        {{"model.diffusion_model.joint_blocks.0.x_block.attn.proj.bias"}, "Stable Diffusion 3", 0},
        {{"double_blocks.0.img_attn.norm.key_norm.scale"}, "Flux", 0},
        {{"emb_params"}, "textual-inversion", 0},
        {{"control_model.input_blocks.0.0.weight"}, "ControlNet", 0},
        {{"controlnet_cond_embedding.conv_in.weight", "conv_in.weight"}, "ControlNet", 0},
        {{"first_stage_model.encoder.conv_in.weight"}, "an autoencoder (VAE)", 0},
        {{"encoder.conv_in.weight", "decoder.conv_in.weight"}, "an autoencoder (VAE)", 0},
        {{"text_model.embeddings.token_embedding.weight"}, "a text encoder", 0},
        {{"conv_in.weight"}, "one part of a diffusers model", 0},
        {{"something.else"}, "no Stable Diffusion model", 0},
        {{UNET_IN}, "a depth model", 5},
        {{UNET_IN}, "an instruct-pix2pix model", 8},
        {{UNET_IN, "model.diffusion_model.out.2.weight"}, "do not form levels", 4},
    };
    static const float zeros[9 * 9];
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        Items *l = mem_calloc(1, sizeof *l);
        Model *m = NULL;
        for (int k = 0; k < 2 && FILES[i].keys[k]; k++)
            add_item(l, FILES[i].keys[k], DTYPE_F32, DTYPE_F32, 4,
                     (int64_t[]){1, FILES[i].channels ? FILES[i].channels : 1, 3, 3}, zeros, NULL);
        write_items(l, single_path);
        if (model_load(single_path, MODEL_ALL, DTYPE_F32, &m) != STATUS_REFUSED ||
            !strstr(status_message(), FILES[i].what) || !strstr(status_message(), single_path))
            fail_msg("%s: not told to be %s but: %s", FILES[i].keys[0], FILES[i].what, status_message());
        assert_null(m);
    }
}

/* Files of other formats: by their first bytes, whatever their names. */
static void other_formats_are_named(void **state)
{
    (void)state;
#define BYTES(text) text, sizeof text - 1
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } FILES[] = {
        {BYTES("PK\003\004\0\0\0\0archive/data.pkl"), "a zip archive without its directory"},
        {BYTES("\x80\x02}q\0."), "a pickle that torch.save did not write"},
        {BYTES("\x80\x04\x95\x10\0\0\0\0\0\0\0."), "a pickle that torch.save did not write"},
        {BYTES("GGUF\003\0\0\0\0\0\0\0\0\0\0\0"), "GGUF"},
        {BYTES("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "is a picture"},
        {BYTES("\xff\xd8\xff\xe0\0\x10JFIF"), "is a picture"},
        {BYTES("RIFF\x10\0\0\0WEBPVP8 "), "is a picture"},
        {BYTES("GIF89a\1\0\1\0"), "is a picture"},
        {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:"), "git lfs pull"},
        {BYTES("\x89HDF\r\n\x1a\n\0\0\0\0"), "HDF5"},
        {BYTES("<!DOCTYPE html>\n<html>"), "web page"},
        {BYTES("<html><head>"), "web page"},
        {BYTES("model: {base: builtin:tiny}\n"), "safetensors"},
        {BYTES("\x80\x02\0\0\0\0\0\0{\"a\": 1}"), "header"}, /* no pickle: a header of 0x280 bytes */
        {BYTES(""), "empty"},
    };
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        Model *m = NULL;
        ok(file_write_atomic(single_path, FILES[i].bytes, FILES[i].n));
        const Status s = model_load(single_path, MODEL_ALL, DTYPE_F32, &m);
        if (s == STATUS_OK || !strstr(status_message(), FILES[i].what) ||
            !strstr(status_message(), single_path))
            fail_msg("file %zu: not told to be %s but: %s", i, FILES[i].what, status_message());
        assert_null(m);
    }
}

static void incomplete_files_name_what_they_lack(void **state)
{
    (void)state;
    static const struct {
        const char *lacking, *what;
    } FILES[] = {{"vae", "lacks the autoencoder"},
                 {"text_encoder", "lacks the text encoder"},
                 {"model.diffusion_model.middle_block.1.norm.bias", "mid_block.attentions.0.norm.bias"},
                 {"model.diffusion_model.middle_block.1.proj_in.weight", "no attention in the middle"}};
    char *text;
    Row *rows;
    const Variant v = {.kind = "sd1", .dtype = DTYPE_F16};
    const int n = read_rows(v.kind, &text, &rows);
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        Items *l = mem_calloc(1, sizeof *l);
        Model *m = NULL;
        for (int k = 0; k < n; k++)
            if (strcmp(rows[k].part, FILES[i].lacking) != 0 && strcmp(rows[k].single, FILES[i].lacking) != 0)
                add_item(l, rows[k].single, DTYPE_F32, v.dtype, rows[k].ndim, rows[k].shape, rows[k].values,
                         NULL);
        write_items(l, single_path);
        assert_int_not_equal(model_load(single_path, MODEL_ALL, DTYPE_F32, &m), STATUS_OK);
        if (!strstr(status_message(), FILES[i].what))
            fail_msg("without %s: %s", FILES[i].lacking, status_message());
        assert_null(m);
    }
    free_rows(text, rows, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_sd1_file_is_its_folder),
        cmocka_unit_test(sd1_files_saved_by_other_programs),
        cmocka_unit_test(a_single_sd2_file_is_its_folder),
        cmocka_unit_test(an_sd2_base_file_predicts_the_noise),
        cmocka_unit_test(what_a_model_predicts_can_be_said),
        cmocka_unit_test(other_safetensors_are_named),
        cmocka_unit_test(other_formats_are_named),
        cmocka_unit_test(incomplete_files_name_what_they_lack),
    };
    return cmocka_run_group_tests_name("single file", tests, make_work, remove_work);
}
