/* LoRA files as other programs read them. Breaks if keys, shapes, alpha, types, metadata or hashes were other
 * than sd-scripts' and peft's, if a file told anything about when and where it was made, or did not come back
 * whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/adapters/adapters.h"
#include "infer/files/safetensors.h"
#include "infer/models/parts.h"
#include "kernels/adapter.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "train/export/export.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Fixture {
    char folder[64], path[96];
    Config config;
    Model *model;
    Parameters *parameters;
    Export e;
} Fixture;

static void open_fixture_of(Fixture *f, const char *model, Targets targets, TrainedTexts texts, DType dtype)
{
    memset(f, 0, sizeof *f);
    strcpy(f->folder, "/tmp/atelier-export-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/lora.safetensors", f->folder);
    char base[256];
    snprintf(base, sizeof base, TEST_GOLDEN "/models/%s", model);
    f->config.model.base = (char *)model;
    f->config.method.rank = 4;
    f->config.method.alpha = 2;
    f->config.method.targets = targets;
    f->config.method.text_encoder = texts;
    f->config.train.batch = f->config.train.accumulate = 1;
    f->config.output.dtype = dtype;
    assert_int_equal(model_load(base, MODEL_ALL, DTYPE_F32, &f->model), STATUS_OK);
    assert_int_equal(parameters_new(&f->config, device_cpu(), comm_alone(), f->model, &f->parameters),
                     STATUS_OK);
    for (int i = 0; i < f->parameters->count; i++) { /* up too is something else than 0 */
        Tensor *w = f->parameters->items[i].weight;
        for (int64_t k = 0; k < tensor_count(w); k++)
            tensor_set_at(w, k, (double)((k * 7 + i) % 13 - 6) / 8);
    }
    f->e = (Export){
        .config = &f->config, .model = f->model, .parameters = f->parameters, .steps = 1, .epoch_samples = 1};
}

static void open_fixture(Fixture *f, Targets targets, bool text_encoder, DType dtype)
{
    open_fixture_of(f, "sd1", targets, text_encoder ? TEXTS_ALL : TEXTS_FROZEN, dtype);
}

static void close_fixture(Fixture *f)
{
    parameters_free(f->parameters);
    model_free(f->model);
    assert_int_equal(dir_remove(f->folder), STATUS_OK);
}

static TensorFile *open_file(const char *path)
{
    TensorFile *file;
    if (tensorfile_open(path, &file) != STATUS_OK)
        fail_msg("%s", status_message());
    return file;
}

static void kohya_keys_are_those_that_a1111_and_comfyui_know(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, TARGETS_ATTENTION_MLP, true, DTYPE_F16);
    assert_int_equal(export_adapter(&f.e, SPELLED_KOHYA, f.path), STATUS_OK);
    TensorFile *file = open_file(f.path);
    assert_int_equal(tensorfile_count(file), 3 * f.parameters->module_count);
    static const char *const names[] = {
        "lora_unet_mid_block_attentions_0_proj_in",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2",
        "lora_te_text_model_encoder_layers_0_self_attn_out_proj",
        "lora_te_text_model_encoder_layers_0_mlp_fc2",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[160];
        snprintf(key, sizeof key, "%s.alpha", names[i]);
        const TensorEntry *alpha = tensorfile_find(file, key);
        snprintf(key, sizeof key, "%s.lora_down.weight", names[i]);
        const TensorEntry *down = tensorfile_find(file, key);
        snprintf(key, sizeof key, "%s.lora_up.weight", names[i]);
        const TensorEntry *up = tensorfile_find(file, key);
        assert_true(alpha && down && up);
        uint16_t half;
        memcpy(&half, alpha->data, sizeof half);
        assert_int_equal(alpha->ndim, 0);
        assert_true(alpha->type == ELEMENT_F16 && f16_to_f32(half) == 2);
        const int ndim = i == 0 ? 4 : 2; /* proj_in is a 1×1 convolution in SD1.x */
        assert_true(down->ndim == ndim && up->ndim == ndim && down->type == ELEMENT_F16);
        assert_int_equal(down->shape[0], 4);
        assert_int_equal(up->shape[1], 4);
    }
    for (int i = 0; i < tensorfile_count(file); i++) /* A1111 splits a key at its first dot */
        assert_non_null(
            strstr(".alpha.lora_down.weight.lora_up.weight", strchr(tensorfile_entry(file, i)->name, '.')));
    tensorfile_close(file);
    close_fixture(&f);
}

static void metadata_tell_the_network_and_nothing_about_the_moment(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, TARGETS_ATTENTION, false, DTYPE_F32);
    assert_int_equal(export_adapter(&f.e, SPELLED_KOHYA, f.path), STATUS_OK);
    TensorFile *file = open_file(f.path);
    assert_string_equal(tensorfile_metadata(file, "ss_network_module"), "networks.lora");
    assert_string_equal(tensorfile_metadata(file, "ss_network_dim"), "4");
    assert_string_equal(tensorfile_metadata(file, "ss_network_alpha"), "2");
    assert_string_equal(tensorfile_metadata(file, "ss_v2"), "False");
    assert_string_equal(tensorfile_metadata(file, "ss_base_model_version"), "sd_v1");
    assert_string_equal(tensorfile_metadata(file, "ss_sd_model_name"), "sd1");
    assert_null(tensorfile_metadata(file, "ss_training_started_at"));
    for (int i = 0; i < tensorfile_metadata_count(file); i++) {
        const TensorMeta m = tensorfile_metadata_entry(file, i);
        assert_null(strstr(m.value, f.folder));
        assert_null(strstr(m.value, "/"));
    }
    char *bytes, hex[SHA256_HEX_SIZE];
    uint8_t hash[SHA256_SIZE];
    uint64_t header;
    size_t size;
    assert_int_equal(file_read(f.path, 1 << 24, &bytes, &size), STATUS_OK);
    memcpy(&header, bytes, sizeof header);
    sha256(bytes + 8 + header, size - 8 - header, hash);
    assert_string_equal(tensorfile_metadata(file, "sshs_model_hash"), sha256_hex(hash, hex));
    /* of no bytes, as the file ends before the place it looks at */
    assert_string_equal(tensorfile_metadata(file, "sshs_legacy_hash"), "e3b0c442");
    mem_free(bytes);
    tensorfile_close(file);
    close_fixture(&f);
}

/* Written and attached again, an adapter is what it was; f32 so that every bit can be compared. */
static void come_back(AdapterSpelling spelling)
{
    Fixture f;
    open_fixture(&f, TARGETS_ATTENTION_MLP, true, DTYPE_F32);
    assert_int_equal(export_adapter(&f.e, spelling, f.path), STATUS_OK);
    Model *m;
    LoraFile *lora;
    assert_int_equal(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &m), STATUS_OK);
    if (lora_attach(m, f.path, 1, &lora) != STATUS_OK)
        fail_msg("%s", status_message());
    for (int i = 0; i < f.parameters->module_count; i++) {
        const LoraModule *module = &f.parameters->modules[i];
        LayerSet *set = part_layers(module->part, m);
        const Adapter *a = layerset_find(set, module->layer->name)->adapters;
        assert_non_null(a);
        assert_true(a->scale == 0.5f);
        assert_memory_equal(a->tensors[LORA_DOWN]->data, module->adapter.tensors[LORA_DOWN]->data,
                            tensor_bytes(a->tensors[LORA_DOWN]));
        assert_memory_equal(a->tensors[LORA_UP]->data, module->adapter.tensors[LORA_UP]->data,
                            tensor_bytes(a->tensors[LORA_UP]));
    }
    lora_detach(lora);
    model_free(m);
    close_fixture(&f);
}

static void kohya_files_come_back_whole(void **state)
{
    (void)state;
    come_back(SPELLED_KOHYA);
}

static void peft_files_come_back_whole(void **state)
{
    (void)state;
    come_back(SPELLED_PEFT);
}

static void peft_files_carry_their_configuration(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, TARGETS_ATTENTION, true, DTYPE_BF16);
    assert_int_equal(export_adapter(&f.e, SPELLED_PEFT, f.path), STATUS_OK);
    TensorFile *file = open_file(f.path);
    assert_int_equal(tensorfile_count(file), 2 * f.parameters->module_count);
    assert_non_null(tensorfile_find(
        file, "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight"));
    assert_non_null(
        tensorfile_find(file, "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight"));
    assert_string_equal(tensorfile_metadata(file, "format"), "pt");
    json_t *j = json_loads(tensorfile_metadata(file, "lora_adapter_metadata"), 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "unet.r")), 4);
    assert_true(json_number_value(json_object_get(j, "text_encoder.lora_alpha")) == 2);
    assert_true(json_array_size(json_object_get(j, "unet.target_modules")) > 0);
    json_decref(j);
    tensorfile_close(file);
    close_fixture(&f);
}

/* sd-scripts' names and what it says of the model; PEFT's of three parts. */
static void sdxl_files_are_those_of_sd_scripts(void **state)
{
    (void)state;
    static const char *const SAID[][2] = {
        {"ss_v2", "False"},
        {"ss_base_model_version", "sdxl_base_v1-0"},
        {"ss_text_encoder_lr", "[1e-05, 5e-06]"},
        {"modelspec.sai_model_spec", "1.0.1"},
        {"modelspec.architecture", "stable-diffusion-xl-v1-base/lora"},
        {"modelspec.implementation", "https://github.com/Stability-AI/generative-models"},
        {"modelspec.title", "LoRA for sdxl"},
        {"modelspec.resolution", "1024x1024"},
        {"modelspec.prediction_type", "epsilon"},
    };
    static const char *const NAMES[] = {
        "lora_unet_input_blocks_3_1_transformer_blocks_1_attn2_to_k.alpha",
        "lora_unet_middle_block_1_proj_out.lora_up.weight",
        "lora_unet_output_blocks_3_1_transformer_blocks_0_ff_net_0_proj.lora_down.weight",
        "lora_te1_text_model_encoder_layers_2_mlp_fc1.alpha",
        "lora_te2_text_model_encoder_layers_3_self_attn_out_proj.lora_up.weight",
    };
    Fixture f;
    open_fixture_of(&f, "sdxl", TARGETS_ATTENTION_MLP, TEXTS_ALL, DTYPE_F16);
    f.config.train.resolution = (Resolutions){{1024}, 1};
    f.config.optimizer.text_encoder_lr = 1e-5;
    f.config.optimizer.text_encoder_2_lr = 5e-6;
    assert_int_equal(export_adapter(&f.e, SPELLED_KOHYA, f.path), STATUS_OK);
    TensorFile *file = open_file(f.path);
    assert_int_equal(tensorfile_count(file), 3 * f.parameters->module_count);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        assert_non_null(tensorfile_find(file, NAMES[i]));
    for (size_t i = 0; i < sizeof SAID / sizeof *SAID; i++)
        assert_string_equal(tensorfile_metadata(file, SAID[i][0]), SAID[i][1]);
    tensorfile_close(file);
    assert_int_equal(export_adapter(&f.e, SPELLED_PEFT, f.path), STATUS_OK);
    file = open_file(f.path);
    assert_non_null(
        tensorfile_find(file, "text_encoder_2.text_model.encoder.layers.3.mlp.fc2.lora_A.weight"));
    json_t *j = json_loads(tensorfile_metadata(file, "lora_adapter_metadata"), 0, NULL);
    assert_int_equal(json_array_size(json_object_get(j, "text_encoder.target_modules")), 3 * 6);
    assert_int_equal(json_array_size(json_object_get(j, "text_encoder_2.target_modules")), 4 * 6);
    json_decref(j);
    tensorfile_close(file);
    close_fixture(&f);
}

static void down_begins_as_asked_and_up_at_zero(void **state)
{
    (void)state;
    for (int init = LORA_INIT_KAIMING; init <= LORA_INIT_GAUSSIAN; init++) {
        Config config = {
            .method = {.rank = 8, .alpha = 8, .targets = TARGETS_ATTENTION_MLP, .init = (LoraInit)init}};
        Model *m;
        Parameters *p;
        assert_int_equal(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &m), STATUS_OK);
        assert_int_equal(parameters_new(&config, device_cpu(), comm_alone(), m, &p), STATUS_OK);
        double squares = 0, expected = 0;
        for (int i = 0; i < p->module_count; i++) {
            const Adapter *a = &p->modules[i].adapter;
            const int64_t n = tensor_count(a->tensors[LORA_DOWN]), in = n / 8;
            for (int64_t k = 0; k < n; k++) {
                const double x = tensor_at(a->tensors[LORA_DOWN], k);
                squares += x * x;
                if (init == LORA_INIT_KAIMING)
                    assert_true(x * x * (double)in <= 1.000001);
            }
            /* variance of U(±b): b²/3, of N(0, 1/8): 1/64 */
            expected += (double)n * (init == LORA_INIT_KAIMING ? 1 / (3.0 * (double)in) : 1 / 64.0);
            for (int64_t k = 0; k < tensor_count(a->tensors[LORA_UP]); k++)
                assert_true(tensor_at(a->tensors[LORA_UP], k) == 0);
            assert_true(a->scale == 1);
        }
        assert_float_equal(squares / expected, 1, 0.05);
        parameters_free(p);
        for (int i = 0; i < unet_layers(m->unet)->count; i++) /* nothing of it stays on the model */
            assert_null(unet_layers(m->unet)->items[i]->adapters);
        model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kohya_keys_are_those_that_a1111_and_comfyui_know),
        cmocka_unit_test(metadata_tell_the_network_and_nothing_about_the_moment),
        cmocka_unit_test(kohya_files_come_back_whole),
        cmocka_unit_test(peft_files_come_back_whole),
        cmocka_unit_test(peft_files_carry_their_configuration),
        cmocka_unit_test(sdxl_files_are_those_of_sd_scripts),
        cmocka_unit_test(down_begins_as_asked_and_up_at_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
