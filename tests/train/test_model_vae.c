/* model.vae: the result of a whole-model run holds the VAE that the run encoded and drew with. */
#include "runs.h"

#include "infer/models/parts.h"

#define OTHER TEST_GOLDEN "/models/sd2"
#define CONFIG "/vae/config.json"

static char *text_of(const char *path)
{
    char *text;
    size_t size;
    if (file_read(path, 1 << 20, &text, &size) != STATUS_OK)
        fail_msg("%s", status_message());
    return text;
}

static Model *vae_of(const char *model)
{
    Model *m;
    if (model_load(model, MODEL_VAE, DTYPE_F32, &m) != STATUS_OK)
        fail_msg("%s", status_message());
    return m;
}

/* dtype: what the run holds the VAE in. */
static void check_result(const char *name, const char *dtype)
{
    char path[160], config[200];
    train(config_for(name, SD1, "method.kind=full", "train.steps=1", "model.vae=" OTHER, dtype, (char *)NULL),
          NULL);
    snprintf(path, sizeof path, "%s/%s/model", work, name);
    snprintf(config, sizeof config, "%s" CONFIG, path);
    char *said = text_of(config), *wanted = text_of(OTHER CONFIG);
    assert_string_equal(said, wanted);
    Model *result = vae_of(path), *other = vae_of(OTHER), *base = vae_of(SD1);
    const LayerSet *a = part_layers(PART_VAE, result), *b = part_layers(PART_VAE, other);
    bool differs = false;
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++) {
        const Tensor *t = b->items[i]->weight, *of_base = part_layers(PART_VAE, base)->items[i]->weight;
        assert_memory_equal(a->items[i]->weight->data, t->data, tensor_bytes(t));
        differs = differs || memcmp(t->data, of_base->data, tensor_bytes(t)) != 0;
    }
    assert_true(differs);
    model_free(result);
    model_free(other);
    model_free(base);
    mem_free(said);
    mem_free(wanted);
}

static void a_whole_models_result_has_the_vae_that_was_used(void **state)
{
    (void)state;
    check_result("wide", "model.dtype=f32");
    check_result("narrow", "model.dtype=bf16"); /* is read again for the result, in full */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_whole_models_result_has_the_vae_that_was_used)};
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
