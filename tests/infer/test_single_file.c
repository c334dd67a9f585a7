/* Single-file models against the diffusers folders that they are: the same weights under both layouts' names
 * give the same bytes, from the prompt to the picture. The names come from
 * formats/single_model.h. And the other
 * files that people give as models: each is named and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/models/model_config.h"
#include "infer/models/parts.h"
#include "infer/models/single_file.h"
#include "infer/pipeline/pipeline.h"
#include "infer/text/tokenizer_write.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "tests/infer/formats/single_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    const int n = read_rows(v, &text, &rows);
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
    assert_int_equal(m->default_size, !strcmp(v->kind, "sdxl")                                ? 1024
                                      : !strcmp(v->kind, "sd2") && v->prediction == PREDICT_V ? 768
                                                                                              : 512);
    same_outcome(&folder, &single);
    sample_result_free(&single.sample);
    write_ckpt_of(single_path, ckpt_path);
    Model *pickled = load_in_silence(ckpt_path);
    if (v->told)
        ok(model_set_prediction(pickled, v->prediction));
    run_model(pickled, &single);
    same_outcome(&folder, &single);
    model_free(pickled);
    if (save && file_exists(saved_path))
        ok(dir_remove(saved_path));
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

static void a_single_sdxl_file_is_its_folder(void **state)
{
    (void)state;
    compare(&(Variant){.kind = "sdxl", .dtype = DTYPE_F16, .training_state = true}, true);
    compare(&(Variant){.kind = "sdxl", .dtype = DTYPE_BF16, .bare_clip = true, .flat_attention = true},
            false);
}

/* As many models for drawings are: by the noise schedule as well as by what is predicted. */
static void marks_tell_a_file_s_schedule(void **state)
{
    (void)state;
    compare(&(Variant){.kind = "sdxl", .dtype = DTYPE_F16, .v_pred = true, .prediction = PREDICT_V}, false);
    compare(
        &(Variant){
            .kind = "sdxl", .dtype = DTYPE_F16, .v_pred = true, .zero_snr = true, .prediction = PREDICT_V},
        true);
    compare(&(Variant){.kind = "sd2", .dtype = DTYPE_F16, .zero_snr = true, .prediction = PREDICT_V}, true);
    compare(
        &(Variant){
            .kind = "sd1", .dtype = DTYPE_F16, .v_pred = true, .zero_snr = true, .prediction = PREDICT_V},
        true);
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
/* Numbers of all layers, of two models of one kind. */
static void same_weights(const Model *a, const Model *b)
{
    for (int p = 0; p < PART_COUNT; p++) {
        if (!part_of_family((PartId)p, FAMILY_SD1))
            continue;
        const LayerSet *x = part_layers((PartId)p, a), *y = part_layers((PartId)p, b);
        assert_int_equal(x->count, y->count);
        for (int i = 0; i < x->count; i++) {
            const Layer *l = x->items[i], *k = y->items[i];
            assert_string_equal(l->name, k->name);
            assert_int_equal(tensor_count(l->weight), tensor_count(k->weight));
            assert_memory_equal(l->weight->data, k->weight->data, tensor_bytes(l->weight));
            assert_int_equal(l->bias != NULL, k->bias != NULL);
            if (l->bias)
                assert_memory_equal(l->bias->data, k->bias->data, tensor_bytes(l->bias));
        }
    }
}

static void write_all(const Variant *v)
{
    char *text;
    Row *rows;
    if (file_exists(folder_path))
        ok(dir_remove(folder_path));
    const int n = read_rows(v, &text, &rows);
    write_single(v, rows, n);
    write_folder(v, rows, n);
    write_ckpt_of(single_path, ckpt_path);
    free_rows(text, rows, n);
}

static void inpainting_models_load_from_every_layout(void **state)
{
    (void)state;
    static const Variant KINDS[] = {{.kind = "sd1", .dtype = DTYPE_F16, .inpainting = true},
                                    {.kind = "sd2", .dtype = DTYPE_F16, .inpainting = true}};
    for (int i = 0; i < 2; i++) {
        write_all(&KINDS[i]);
        Model *folder = load(folder_path), *single = load_in_silence(single_path), *ckpt = load(ckpt_path);
        assert_true(folder->inpainting && single->inpainting && ckpt->inpainting);
        assert_int_equal(single->schedule.prediction, PREDICT_EPSILON);
        assert_int_equal(single->default_size, 512);
        same_weights(folder, single);
        same_weights(folder, ckpt);
        model_free(folder);
        model_free(single);
        model_free(ckpt);
    }
}

static Model *load_ema(const char *path)
{
    Model *m = NULL;
    ok(model_open(&(ModelRequest){.name = path, .parts = MODEL_ALL, .dtype = DTYPE_F32, .ema = true}, &m));
    return m;
}

static void averages_are_taken_where_they_are_asked_for(void **state)
{
    (void)state;
    write_all(&(Variant){.kind = "sd1", .dtype = DTYPE_F16, .ema = true});
    Model *folder = load(folder_path), *own = load_in_silence(single_path), *single = load_ema(single_path),
          *ckpt = load_ema(ckpt_path), *none = NULL;
    same_weights(folder, single);
    same_weights(folder, ckpt);
    assert_memory_not_equal(unet_layers(own->unet)->items[0]->weight->data,
                            unet_layers(folder->unet)->items[0]->weight->data, 64);
    model_free(folder);
    model_free(own);
    model_free(single);
    model_free(ckpt);
    ModelRequest r = {.name = folder_path, .parts = MODEL_ALL, .dtype = DTYPE_F32, .ema = true};
    assert_int_equal(model_open(&r, &none), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "no EMA"));
    write_all(&(Variant){.kind = "sd1", .dtype = DTYPE_F16});
    r.name = single_path;
    assert_int_equal(model_open(&r, &none), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "has no EMA weights (model_ema.*)"));
}

/* A VAE in a file of its own: diffusers' with its config.json beside it and without, the original code's
 * alone, with its prefix, and within a whole model; as .safetensors and as .ckpt. */
static void check_vae_in_a_file(const char *kind)
{
    const Variant v = {.kind = kind, .dtype = DTYPE_F16};
    char *text, path[160], bare[160], alone[160];
    Row *rows;
    write_all(&v);
    const int n = read_rows(&v, &text, &rows);
    Items *prefixed = items_new(), *plain = items_new(), *own = items_new();
    for (int i = 0; i < n; i++)
        if (!strcmp(rows[i].part, "vae")) {
            const Row *r = &rows[i];
            add_item(prefixed, r->single, DTYPE_F32, DTYPE_F16, r->ndim, r->shape, r->values, NULL);
            add_item(plain, strchr(r->single, '.') + 1, DTYPE_F32, DTYPE_F16, r->ndim, r->shape, r->values,
                     NULL);
            add_item(own, r->key, DTYPE_F32, DTYPE_F16, r->ndim, r->shape, r->values, NULL);
        }
    snprintf(path, sizeof path, "%s/prefixed.safetensors", work);
    snprintf(bare, sizeof bare, "%s/bare.safetensors", work);
    snprintf(alone, sizeof alone, "%s/alone.safetensors", work);
    write_items(prefixed, path);
    write_items(plain, bare);
    write_items(own, alone);
    free_rows(text, rows, n);
    char pickled[160], beside[160];
    snprintf(pickled, sizeof pickled, "%s/vae.pt", work);
    snprintf(beside, sizeof beside, "%s/vae/diffusion_pytorch_model.safetensors", folder_path);
    write_ckpt_of(bare, pickled);
    Model *folder = load(folder_path);
    const char *const files[] = {path, bare, alone, pickled, beside, single_path, ckpt_path, folder_path};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        Model *m = NULL;
        ok(model_open(
            &(ModelRequest){.name = folder_path, .vae = files[i], .parts = MODEL_ALL, .dtype = DTYPE_F32},
            &m));
        same_weights(folder, m);
        assert_float_equal(vae_config(m->vae)->scaling_factor, vae_config(folder->vae)->scaling_factor, 0);
        Weights *w = NULL;
        ok(model_weights(m, PART_VAE, &w));
        assert_true(weights_total(w).numbers > 0);
        weights_close(w);
        model_free(m);
    }
    model_free(folder);
    Model *m = NULL;
    const char *lora = TEST_GOLDEN "/lora/kohya.safetensors";
    assert_int_equal(
        model_open(&(ModelRequest){.name = folder_path, .vae = lora, .parts = MODEL_ALL, .dtype = DTYPE_F32},
                   &m),
        STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "is a LoRA, not a VAE"));
}

static void a_vae_in_a_file_is_the_folder_s(void **state)
{
    (void)state;
    check_vae_in_a_file("sd1");
    check_vae_in_a_file("sdxl"); /* whose scaling factor is another */
}

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
        {{"conditioner.embedders.0.model.ln_final.weight", UNET_IN}, "SDXL's refiner", 4},
        {{"edm_mean", UNET_IN}, "Playground", 4},
        {{"model.diffusion_model.scaled_fp8", UNET_IN}, "scaled fp8", 4},
        {{"edm_vpred.sigma_max", UNET_IN}, "CosXL", 4},
        {{"model.diffusion_model.joint_blocks.0.x_block.attn.proj.bias"}, "Stable Diffusion 3", 0},
        {{"double_blocks.0.img_attn.norm.key_norm.scale"}, "Flux", 0},
        {{"emb_params"}, "textual-inversion", 0},
        {{"control_model.input_blocks.0.0.weight"}, "ControlNet", 0},
        {{"controlnet_cond_embedding.conv_in.weight", "conv_in.weight"}, "ControlNet", 0},
        {{"first_stage_model.encoder.conv_in.weight"}, "an autoencoder (VAE)", 0},
        {{"encoder.conv_in.weight", "decoder.conv_in.weight"}, "an autoencoder (VAE)", 0},
        {{"text_model.embeddings.token_embedding.weight"}, "a text encoder", 0},
        {{"conv_in.weight"}, "one part of a diffusers model", 0},
        {{UNET_IN, "noise_augmentor.data_mean"}, "a Stable Diffusion 2 unCLIP model", 4},
        {{"something.else"}, "no Stable Diffusion model", 0},
        {{UNET_IN}, "a depth model", 5},
        {{UNET_IN}, "an instruct-pix2pix model", 8},
        {{UNET_IN, "model.diffusion_model.out.2.weight"}, "do not form levels", 4},
    };
    static const float zeros[9 * 9];
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        Items *l = items_new();
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
        const char *lacking, *what, *kind;
    } FILES[] = {
        {"vae", "has no VAE (first_stage_model.*); give one with --vae (model.vae)", "sd1"},
        {"text_encoder", "lacks the text encoder", "sd1"},
        {"model.diffusion_model.middle_block.1.norm.bias", "mid_block.attentions.0.norm.bias", "sd1"},
        {"model.diffusion_model.middle_block.1.proj_in.weight", "no attention in the middle", "sd1"},
        {"text_encoder", "lacks the text encoder (conditioner.*)", "sdxl"},
        {"text_encoder_2", "lacks the second text encoder (conditioner.embedders.1.model.*)", "sdxl"},
        {"model.diffusion_model.label_emb.0.0.weight", "is not six numbers of size", "sdxl"},
        {"model.diffusion_model.label_emb.0.2.bias", "add_embedding.linear_2.bias", "sdxl"}};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char *text;
        Row *rows;
        const Variant v = {.kind = FILES[i].kind, .dtype = DTYPE_F16};
        const int n = read_rows(&v, &text, &rows);
        Row *left = mem_calloc((size_t)n, sizeof *left);
        Model *m = NULL;
        int count = 0;
        for (int k = 0; k < n; k++)
            if (strcmp(rows[k].part, FILES[i].lacking) != 0 && strcmp(rows[k].single, FILES[i].lacking) != 0)
                left[count++] = rows[k];
        write_single(&v, left, count);
        assert_int_not_equal(model_load(single_path, MODEL_ALL, DTYPE_F32, &m), STATUS_OK);
        if (!strstr(status_message(), FILES[i].what))
            fail_msg("without %s: %s", FILES[i].lacking, status_message());
        assert_null(m);
        mem_free(left);
        free_rows(text, rows, n);
    }
}

/* Some of SD2's have what takes a picture's embedding and nothing else that tells. */
static void an_unclip_model_is_named_by_its_unet(void **state)
{
    (void)state;
    static const char *const keys[] = {UNET_IN, "model.diffusion_model.label_emb.0.0.weight",
                                       "cond_stage_model.model.token_embedding.weight"};
    static const float zeros[4 * 9];
    Items *l = items_new();
    Model *m = NULL;
    for (int k = 0; k < 3; k++)
        add_item(l, keys[k], DTYPE_F32, DTYPE_F32, 4, (int64_t[]){1, 4, 3, 3}, zeros, NULL);
    write_items(l, single_path);
    assert_int_equal(model_load(single_path, MODEL_ALL, DTYPE_F32, &m), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "unCLIP"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_sd1_file_is_its_folder),
        cmocka_unit_test(sd1_files_saved_by_other_programs),
        cmocka_unit_test(a_single_sd2_file_is_its_folder),
        cmocka_unit_test(an_sd2_base_file_predicts_the_noise),
        cmocka_unit_test(a_single_sdxl_file_is_its_folder),
        cmocka_unit_test(marks_tell_a_file_s_schedule),
        cmocka_unit_test(what_a_model_predicts_can_be_said),
        cmocka_unit_test(inpainting_models_load_from_every_layout),
        cmocka_unit_test(averages_are_taken_where_they_are_asked_for),
        cmocka_unit_test(a_vae_in_a_file_is_the_folder_s),
        cmocka_unit_test(other_safetensors_are_named),
        cmocka_unit_test(an_unclip_model_is_named_by_its_unet),
        cmocka_unit_test(other_formats_are_named),
        cmocka_unit_test(incomplete_files_name_what_they_lack),
    };
    return cmocka_run_group_tests_name("single file", tests, make_work, remove_work);
}
