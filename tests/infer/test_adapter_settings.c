/* What PEFT says of an adapter outside of its tensors: adapter_config.json beside the file. Breaks if an
 * adapter of peft's would count more or less than in peft. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/adapters/adapters.h"
#include "infer/files/safetensors.h"
#include "kernels/adapter.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYER "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
#define PEFT "base_model.model." LAYER
#define KOHYA "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"

static char folder[] = "/tmp/atelier-peft-XXXXXX";
static char said[LOG_LONGEST]; /* the last message */

static void keep_message(void *unused, LogLevel level, const char *text)
{
    (void)unused, (void)level;
    snprintf(said, sizeof said, "%s", text);
}

static Model *open_model(void)
{
    Model *m;
    if (model_load(TEST_GOLDEN "/models/sd1", MODEL_UNET, DTYPE_F32, &m) != STATUS_OK)
        fail_msg("%s", status_message());
    return m;
}

static void write_file(const char *name, const char *text)
{
    char *path = path_join(folder, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    mem_free(path);
}

/* Two tensors of rank 4 under these names, as adapter_model.safetensors. */
static void write_pair(const char *down, const char *up, const char *metadata)
{
    char *path = path_join(folder, "adapter_model.safetensors");
    Tensor *t[] = {tensor_new(DTYPE_F32, 2, (int64_t[]){4, 16}),
                   tensor_new(DTYPE_F32, 2, (int64_t[]){16, 4})};
    const SafeItem items[] = {{.name = down, .tensor = t[0], .dtype = DTYPE_F32, .ndim = -1},
                              {.name = up, .tensor = t[1], .dtype = DTYPE_F32, .ndim = -1}};
    const TensorMeta meta = {"lora_adapter_metadata", metadata};
    assert_int_equal(safetensors_write(path, items, 2, &meta, metadata ? 1 : 0), STATUS_OK);
    tensor_free(t[0]);
    tensor_free(t[1]);
    mem_free(path);
}

static void write_peft(const char *config)
{
    write_pair(PEFT ".lora_A.weight", PEFT ".lora_B.weight", NULL);
    write_file("adapter_config.json", config);
}

/* What the folder's adapter counts with; the model stays as it was. */
static float scale_of_folder(Model *m)
{
    LoraFile *f;
    if (lora_attach(m, folder, 1, &f) != STATUS_OK)
        fail_msg("%s", status_message());
    const float scale = layerset_find(unet_layers(m->unet), LAYER)->adapters->scale;
    lora_detach(f);
    return scale;
}

static void rank_and_alpha_are_those_of_the_config_beside(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        double scale;
    } cases[] = {
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 32}", 8},
        {"{\"r\": 4, \"lora_alpha\": 32, \"use_rslora\": true}", 16},
        {"{\"r\": 4, \"lora_alpha\": 32, \"use_rslora\": false, \"use_dora\": false}", 8},
        {"{\"r\": 4}", 2}, /* peft's own alpha is 8 */
        {"{\"r\": 8, \"lora_alpha\": 32, \"rank_pattern\": {\"attn1.to_q\": 4}}", 8},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\"to_k\": 1, \"to_q\": 2, \"attn1.to_q\": 4}}",
         0.5},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\"o_q\": 2}}", 8},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\"^mid_block.*to_q\": 2}}", 0.5},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\"^attn1.to_q\": 2}}", 8},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\"mid_block\": 2}}", 8},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\"attn2\\\\.to_q|attn1\\\\.to_q\": 2}}", 0.5},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\"attn.\\\\.to_.\": 2}}", 0.5},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\".*attn.*blocks.*to_q\": 2}}", 8},
        {"{\"r\": 4, \"lora_alpha\": 32, \"alpha_pattern\": {\".*blocks.*attn.*to_q\": 2}}", 0.5},
    };
    Model *m = open_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_peft(cases[i].config);
        const double scale = (double)scale_of_folder(m);
        if (fabs(scale - cases[i].scale) > 1e-6)
            fail_msg("%s: counts %g, should %g", cases[i].config, scale, cases[i].scale);
    }
    model_free(m);
}

static void what_would_mean_something_else_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"{\"r\": 8, \"lora_alpha\": 32}", "says rank 8 for " LAYER ", its tensors have 4"},
        {"{\"r\": 4, \"use_dora\": true}", "use_dora is said"},
        {"{\"r\": 4, \"init_lora_weights\": \"pissa_niter_16\"}", "pissa_niter_16 changes the model's own"},
        {"{\"r\": 4, \"alpha_pattern\": {\"to_[qk]\": 2}}", "`to_[qk]`: of regular expressions only"},
        {"{\"r\": 4, \"alpha_pattern\": {\"layers\\\\d\": 2}}", "of regular expressions only"},
        {"{\"r\": 4, ", "adapter_config.json is no JSON object"},
        {"[4]", "adapter_config.json is no JSON object"},
        {"{\"r\": 4, \"lora_alpha\": 1e300}", "alpha is not a finite number"},
    };
    Model *m = open_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LoraFile *f;
        write_peft(cases[i].config);
        assert_int_equal(lora_attach(m, folder, 1, &f), STATUS_FAILED);
        assert_null(f);
        if (!strstr(status_message(), cases[i].says))
            fail_msg("%s: `%s` does not say `%s`", cases[i].config, status_message(), cases[i].says);
    }
    model_free(m);
}

static void other_files_take_no_notice_of_it(void **state)
{
    (void)state;
    Model *m = open_model();
    write_peft("{\"r\": 4, \"lora_alpha\": 32}");
    write_pair(KOHYA ".lora_down.weight", KOHYA ".lora_up.weight", NULL);
    assert_true(scale_of_folder(m) == 1);
    write_pair(PEFT ".lora_A.weight", PEFT ".lora_B.weight", "{\"unet.r\": 4, \"unet.lora_alpha\": 2}");
    assert_true(scale_of_folder(m) == 0.5f); /* the file's own metadata wins */
    model_free(m);
}

static void what_is_assumed_is_said(void **state)
{
    (void)state;
    Model *m = open_model();
    log_to(keep_message, NULL);
    said[0] = 0;
    write_peft("{\"r\": 4, \"lora_alpha\": 32}");
    scale_of_folder(m);
    assert_string_equal(said, "");
    char *path = path_join(folder, "adapter_config.json");
    remove(path);
    mem_free(path);
    assert_true(scale_of_folder(m) == 1);
    assert_non_null(strstr(said, "adapter_model.safetensors says no alpha: taken to be the rank"));
    log_to(NULL, NULL);
    model_free(m);
}

static void a_folder_without_an_adapter_is_refused(void **state)
{
    (void)state;
    LoraFile *f;
    Model *m = open_model();
    assert_int_equal(lora_attach(m, TEST_GOLDEN, 1, &f), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "holds neither adapter_model.safetensors nor"));
    model_free(m);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return dir_remove(folder) == STATUS_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rank_and_alpha_are_those_of_the_config_beside),
        cmocka_unit_test(what_would_mean_something_else_is_refused),
        cmocka_unit_test(other_files_take_no_notice_of_it),
        cmocka_unit_test(what_is_assumed_is_said),
        cmocka_unit_test(a_folder_without_an_adapter_is_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
