/* `atelier lora info` and how facts are printed. Breaks if a LoRA's rank, modules or damage would be told
 * wrongly, or if what a file carries could steer the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/files/safetensors.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "train/commands/commands.h"
#include "train/commands/facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], path[512], captured[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/atelier-info-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/lora.safetensors", folder);
    snprintf(captured, sizeof captured, "%s/out", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return dir_remove(folder);
}

/* Runs fn with standard output going to a file; returns what it wrote (mem_free). */
static char *capture(int (*fn)(void *), void *arg, int *status)
{
    char *text;
    size_t n;
    fflush(stdout);
    const int saved = dup(STDOUT_FILENO);
    assert_non_null(freopen(captured, "w", stdout));
    *status = fn(arg);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_int_equal(file_read(captured, 1 << 20, &text, &n), STATUS_OK);
    return text;
}

static int run_info(void *json)
{
    char name[] = "lora", sub[] = "info", flag[] = "--json";
    char *argv[] = {name, sub, path, flag};
    return command_lora(json ? 4 : 3, argv);
}

static json_t *info_json(int wanted_status)
{
    int status, yes = 1;
    char *text = capture(run_info, &yes, &status);
    assert_int_equal(status, wanted_status);
    json_t *o = text[0] ? json_loads(text, 0, NULL) : NULL;
    mem_free(text);
    return o;
}

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

#define UNET "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
#define TEXT "lora_te_text_model_encoder_layers_0_mlp_fc1"

/* Two modules of rank 4 and 2, stored as f16, alpha 8 and 1. hash NULL: the right one. */
static void write_kohya(const char *hash)
{
    float numbers[64], alphas[2] = {8, 1};
    for (int i = 0; i < 64; i++)
        numbers[i] = (float)i / 64;
    const int64_t down[2] = {4, 8}, up[2] = {8, 4}, text_down[2] = {2, 8}, text_up[2] = {8, 2}, one[1] = {1};
    Tensor *t[6] = {
        tensor_over(&alphas[1], DTYPE_F32, 1, one),  tensor_over(numbers, DTYPE_F32, 2, text_down),
        tensor_over(numbers, DTYPE_F32, 2, text_up), tensor_over(&alphas[0], DTYPE_F32, 1, one),
        tensor_over(numbers, DTYPE_F32, 2, down),    tensor_over(numbers, DTYPE_F32, 2, up)};
    static const char *const NAMES[6] = {TEXT ".alpha", TEXT ".lora_down.weight", TEXT ".lora_up.weight",
                                         UNET ".alpha", UNET ".lora_down.weight", UNET ".lora_up.weight"};
    SafeItem items[6];
    for (int i = 0; i < 6; i++)
        items[i] = (SafeItem){.name = NAMES[i], .tensor = t[i], .dtype = DTYPE_F16, .ndim = i % 3 ? -1 : 0};
    TensorMeta meta[2] = {{"ss_network_dim", "4"}, {"sshs_model_hash", hash}};
    assert_int_equal(safetensors_write(path, items, 6, meta, hash ? 2 : 1), STATUS_OK);
    for (int i = 0; i < 6; i++)
        tensor_free(t[i]);
}

static void a_kohya_file_is_told_in_numbers(void **state)
{
    (void)state;
    write_kohya(NULL);
    json_t *o = info_json(STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(o, "kind")), "lora");
    assert_string_equal(json_string_value(json_object_get(o, "format")), "kohya");
    assert_int_equal(number(o, "unet_modules"), 1);
    assert_int_equal(number(o, "text_encoder_modules"), 1);
    assert_int_equal(number(o, "parameters"), 64 + 32);
    assert_int_equal(number(o, "bytes"), 2 * (64 + 32 + 2));
    const json_t *rank = json_object_get(o, "rank"), *alpha = json_object_get(o, "alpha");
    assert_int_equal(json_integer_value(json_array_get(rank, 0)), 2);
    assert_int_equal(json_integer_value(json_array_get(rank, 1)), 4);
    assert_true(json_real_value(json_array_get(alpha, 1)) == 8);
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "dtypes"), 0)), "f16");
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "metadata"), "ss_network_dim")),
                        "4");
    assert_true(json_is_null(json_object_get(json_object_get(o, "hash"), "matches")));
    json_decref(o);
}

/* Of each the kind, the rank, alpha (of PEFT's from the file beside), modules and convolutions. */
static void every_kind_and_peft_folders_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *file, *kind, *format;
        int rank, alpha, modules, convolutions;
    } CASES[] = {
        {"peft-loha", "loha", "peft", 2, 6, 8, 0},
        {"locon.safetensors", "lora", "kohya", 3, 2, 8, 3},
        {"loha.safetensors", "loha", "kohya", 2, 3, 8, 0}, /* its tensors are matrices */
        {"lokr.safetensors", "lokr", "kohya", 1, 0, 8, 1}, /* alpha differs */
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char *ours = mem_strdup(path);
        snprintf(path, sizeof path, TEST_GOLDEN "/adapters/%s", CASES[i].file);
        json_t *o = info_json(STATUS_OK);
        snprintf(path, sizeof path, "%s", ours);
        mem_free(ours);
        assert_string_equal(json_string_value(json_object_get(o, "kind")), CASES[i].kind);
        assert_string_equal(json_string_value(json_object_get(o, "format")), CASES[i].format);
        assert_int_equal(number(o, "rank"), CASES[i].rank);
        assert_true(json_number_value(json_object_get(o, "alpha")) == CASES[i].alpha); /* of a range 0 */
        assert_int_equal(number(o, "unet_modules"), CASES[i].modules);
        assert_int_equal(number(o, "convolutions"), CASES[i].convolutions);
        json_decref(o);
    }
}

static void a_changed_file_is_told_by_its_hash(void **state)
{
    (void)state;
    char hex[SHA256_HEX_SIZE], *bytes;
    size_t n;
    uint64_t header;
    uint8_t hash[SHA256_SIZE];
    write_kohya(NULL);
    assert_int_equal(file_read(path, 1 << 20, &bytes, &n), STATUS_OK);
    memcpy(&header, bytes, sizeof header);
    sha256(bytes + 8 + header, n - 8 - (size_t)header, hash);
    mem_free(bytes);
    write_kohya(sha256_hex(hash, hex));
    json_t *o = info_json(STATUS_OK);
    assert_true(json_is_true(json_object_get(json_object_get(o, "hash"), "matches")));
    json_decref(o);
    assert_int_equal(file_read(path, 1 << 20, &bytes, &n), STATUS_OK);
    bytes[n - 3] ^= 1;
    assert_int_equal(file_write_atomic(path, bytes, n), STATUS_OK);
    mem_free(bytes);
    o = info_json(STATUS_FAILED);
    assert_true(json_is_false(json_object_get(json_object_get(o, "hash"), "matches")));
    json_decref(o);
}

static void a_file_without_low_rank_pairs_is_no_lora(void **state)
{
    (void)state;
    float numbers[4] = {0};
    Tensor *t = tensor_over(numbers, DTYPE_F32, 1, (int64_t[]){4});
    SafeItem item = {.name = "conv_in.weight", .tensor = t, .dtype = DTYPE_F32, .ndim = -1};
    assert_int_equal(safetensors_write(path, &item, 1, NULL, 0), STATUS_OK);
    assert_null(info_json(STATUS_REFUSED));
    item.name = "lora_unet_down_blocks_0.oft_blocks";
    assert_int_equal(safetensors_write(path, &item, 1, NULL, 0), STATUS_OK);
    assert_null(info_json(STATUS_REFUSED));
    tensor_free(t);
}

static int run_model_info(void *name)
{
    char command[] = "model", sub[] = "info", flag[] = "--json";
    char *argv[] = {command, sub, name, flag};
    return command_model(4, argv);
}

static void a_models_parts_add_up(void **state)
{
    (void)state;
    static char *const FOLDERS[] = {TEST_GOLDEN "/models/sd1", TEST_GOLDEN "/models/sd2"};
    static const char *const PREDICTIONS[] = {"epsilon", "v_prediction"};
    for (int i = 0; i < 2; i++) {
        int status;
        char *text = capture(run_model_info, FOLDERS[i], &status);
        assert_int_equal(status, STATUS_OK);
        json_t *o = json_loads(text, 0, NULL);
        assert_string_equal(json_string_value(json_object_get(o, "prediction_type")), PREDICTIONS[i]);
        const json_int_t unet = number(json_object_get(o, "unet"), "parameters");
        const json_int_t vae = number(json_object_get(o, "vae"), "parameters");
        const json_int_t clip = number(json_object_get(o, "text_encoder"), "parameters");
        assert_true(unet > 1000 && vae > 1000 && clip > 1000);
        assert_int_equal(number(o, "parameters"), unet + vae + clip);
        assert_true(json_is_null(json_object_get(json_object_get(o, "unet"), "weights_missing")));
        json_decref(o);
        mem_free(text);
    }
}

/* Of a single file: a model of one level, as far as its shapes are looked at. */
static void a_single_files_shapes_are_read_off_its_tensors(void **state)
{
    (void)state;
#define UNET_KEY(name) "model.diffusion_model." name
#define VAE_KEY(name) "first_stage_model." name
#define CLIP_KEY(name) "cond_stage_model.transformer.text_model." name
    static const struct {
        const char *name;
        int ndim;
        int64_t shape[4];
    } TENSORS[] = {
        {UNET_KEY("input_blocks.0.0.weight"), 4, {32, 4, 3, 3}},
        {UNET_KEY("input_blocks.1.0.in_layers.0.weight"), 1, {32}},
        {UNET_KEY("input_blocks.1.0.in_layers.2.weight"), 4, {32, 32, 3, 3}},
        {UNET_KEY("middle_block.1.proj_in.weight"), 4, {32, 32, 1, 1}},
        {UNET_KEY("middle_block.1.transformer_blocks.0.norm1.weight"), 1, {32}},
        {UNET_KEY("middle_block.1.transformer_blocks.0.attn2.to_k.weight"), 2, {32, 64}},
        {UNET_KEY("out.2.weight"), 4, {4, 32, 3, 3}},
        {VAE_KEY("encoder.conv_in.weight"), 4, {32, 3, 3, 3}},
        {VAE_KEY("encoder.down.0.block.0.conv1.weight"), 4, {32, 32, 3, 3}},
        {VAE_KEY("decoder.conv_in.weight"), 4, {32, 4, 3, 3}},
        {CLIP_KEY("embeddings.token_embedding.weight"), 2, {10, 64}},
        {CLIP_KEY("embeddings.position_embedding.weight"), 2, {7, 64}},
        {CLIP_KEY("encoder.layers.0.layer_norm1.weight"), 1, {64}},
        {CLIP_KEY("encoder.layers.0.mlp.fc1.weight"), 2, {96, 64}},
    };
    enum { COUNT = sizeof TENSORS / sizeof *TENSORS };
    static float numbers[32 * 32 * 9];
    SafeItem items[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = (SafeItem){.name = TENSORS[i].name,
                              .tensor = tensor_over(numbers, DTYPE_F32, TENSORS[i].ndim, TENSORS[i].shape),
                              .dtype = DTYPE_F16,
                              .ndim = -1};
    assert_int_equal(safetensors_write(path, items, COUNT, NULL, 0), STATUS_OK);
    for (int i = 0; i < COUNT; i++)
        tensor_free((Tensor *)items[i].tensor);
    int status;
    char *text = capture(run_model_info, path, &status);
    assert_int_equal(status, STATUS_OK);
    json_t *o = json_loads(text, 0, NULL), *unet = json_object_get(o, "unet"),
           *clip = json_object_get(o, "text_encoder");
    assert_string_equal(json_string_value(json_object_get(o, "layout")), "single file");
    assert_string_equal(json_string_value(json_object_get(o, "prediction_type")), "epsilon");
    assert_int_equal(number(o, "default_size"), 64);
    assert_int_equal(number(unet, "parameters"), 1152 + 32 + 9216 + 1024 + 32 + 2048 + 1152);
    assert_int_equal(number(unet, "layers_per_block"), 1);
    assert_int_equal(number(unet, "text_width"), 64);
    assert_int_equal(number(clip, "parameters"), 640 + 448 + 64 + 6144);
    assert_int_equal(number(clip, "layers"), 1);
    assert_int_equal(number(clip, "vocabulary"), 10);
    assert_int_equal(number(json_object_get(o, "vae"), "latent_channels"), 4);
    json_decref(o);
    mem_free(text);
}

static int print_facts(void *facts)
{
    return (int)facts_print(facts, false);
}

static void facts_are_lines_and_cannot_steer_the_terminal(void **state)
{
    (void)state;
    int status;
    char *text = capture(print_facts,
                         json_pack("{s:i,s:i,s:s,s:b,s:n,s:[s,s],s:{s:s}}", "some_number", 1234567,
                                   "peak_bytes", 2500000, "name", "a\033[31mb\nc", "fine", 1, "absent",
                                   "words", "x", "y", "metadata", "ss_v2", "no"),
                         &status);
    assert_int_equal(status, STATUS_OK);
    assert_string_equal(
        text, "some number  1,234,567\npeak         2.5 MB\nname         a [31mb c\nfine         yes\n"
              "words        x y\nmetadata\n  ss_v2  no\n");
    mem_free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_kohya_file_is_told_in_numbers),
        TEST(every_kind_and_peft_folders_are_told),
        TEST(a_changed_file_is_told_by_its_hash),
        TEST(a_file_without_low_rank_pairs_is_no_lora),
        TEST(a_models_parts_add_up),
        TEST(a_single_files_shapes_are_read_off_its_tensors),
        TEST(facts_are_lines_and_cannot_steer_the_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
