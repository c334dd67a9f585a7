/* NaN and infinity in training. Breaks if the message no longer names step, layer, pass and pictures, if
 * anything is trained on such a step or a checkpoint is lost to it, or if the second look, under checks,
 * would see other numbers than the first. */
#include "runs.h"

#include "infer/files/tensor_list.h"
#include "kernels/op.h"
#include "train/commands/data.h"
#include "train/run/pass.h"

#include <float.h>
#include <unistd.h>

/* The file's tensors again, but that all numbers of one, in f32, are this one. The largest there is is
 * finite, as a file's numbers have to be, and nothing that is computed with it is. */
static void write_with(const char *path, const char *key, float value)
{
    TensorFile *f;
    TensorList list = {0};
    bool found = false;
    assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
    Tensor **all = mem_calloc((size_t)tensorfile_count(f), sizeof *all);
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        const bool broken = strcmp(e->name, key) == 0;
        DType type = DTYPE_F32;
        assert_true(broken || element_dtype(e->type, &type));
        all[i] = tensor_new(type, e->ndim, e->shape);
        assert_int_equal(tensor_entry_read(e, type, all[i]->data), STATUS_OK);
        for (int64_t k = 0; broken && k < tensor_count(all[i]); k++)
            ((float *)all[i]->data)[k] = value;
        found |= broken;
        tensorlist_add(&list, mem_strdup(e->name), all[i], type);
    }
    assert_true(found);
    assert_int_equal(tensorlist_write(&list, path, NULL, 0), STATUS_OK);
    tensorlist_free(&list);
    for (int i = 0; i < tensorfile_count(f); i++)
        tensor_free(all[i]);
    mem_free(all);
    tensorfile_close(f);
}

/* A copy of the model SD1 in work/NAME whose tensor `key` of part/file is broken so. */
static char *broken_model(const char *name, const char *file, const char *key)
{
    char *folder = mem_printf("%s/%s-model", work, name), *command = mem_printf("cp -r %s %s", SD1, folder);
    char *path = mem_printf("%s/%s", folder, file);
    assert_int_equal(system(command), 0);
    write_with(path, key, FLT_MAX);
    mem_free(path);
    mem_free(command);
    return folder;
}

static void assert_says(const char *text)
{
    if (!strstr(status_message(), text))
        fail_msg("\"%s\" is not in: %s", text, status_message());
}

static void fails(Config *config, const char *resume)
{
    assert_int_equal(trainer_run(config, &(TrainOptions){.resume = resume}), STATUS_FAILED);
    config_free(config);
}

static void a_broken_weight_of_the_unet_is_named(void **state)
{
    (void)state;
    char *model = broken_model("unet", "unet/diffusion_pytorch_model.safetensors",
                               "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight");
    for (int on = 0; on < 2; on++) {
        char *name = on ? "unet-on" : "unet-off", *set = on ? "train.checkpointing=on" : "train.batch=2";
        fails(config_for(name, model, set, "train.accumulate=2", (char *)NULL), NULL);
        assert_says("step 1: the ");
        assert_says(" is nan. It began in the");
        assert_says("forward pass, at down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q (linear)");
        assert_says("a smaller optimizer.lr");
        assert_says(".jpg, ");
        assert_says("no checkpoint");
        assert_null(log_line(name, 0));
    }
    mem_free(model);
}

/* Queries, keys and values are 0 of inputs of 1e33, so that the loss is finite; the values' weight's gradient
 * is those inputs times what a weight of 1e15 makes of the loss's, and is not. The layers behind it have
 * moved. */
static void weights_that_have_moved_before_it_was_seen_are_told_and_not_saved(void **state)
{
    (void)state;
#define BLOCK "down_blocks.0.attentions.0.transformer_blocks.0."
    static const struct {
        const char *key;
        float value;
    } set[] = {{BLOCK "norm1.weight", 1e33f},
               {BLOCK "attn1.to_q.weight", 0},
               {BLOCK "attn1.to_k.weight", 0},
               {BLOCK "attn1.to_v.weight", 0},
               {BLOCK "attn1.to_out.0.weight", 1e15f}};
    char *model = mem_printf("%s/moved-model", work), *command = mem_printf("cp -r %s %s", SD1, model);
    char *unet = mem_printf("%s/unet/diffusion_pytorch_model.safetensors", model);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        write_with(unet, set[i].key, set[i].value);
    for (int fused = 0; fused < 2; fused++) {
        char *name = fused ? "moved-fused" : "moved-after";
        fails(config_for(name, model, "method.kind=full", "output.save_every=1",
                         fused ? "train.fused_backward=true" : "train.fused_backward=false", (char *)NULL),
              NULL);
        assert_says("step 1: the gradients' norm is ");
        assert_says("backward pass, at " BLOCK "attn1.to_v (linear)");
        assert_says("no checkpoint");
        assert_says(fused ? "Some weights had been trained on it by then (train.fused_backward)"
                          : "Nothing was trained on it");
        assert_null(log_line(name, 0));
        char *checkpoint = mem_printf("%s/%s/checkpoints/step-000001", work, name);
        assert_false(file_exists(checkpoint));
        mem_free(checkpoint);
    }
    mem_free(unet);
    mem_free(command);
    mem_free(model);
}

static void a_broken_text_encoder_on_the_tape_is_named(void **state)
{
    (void)state;
    char *model =
        broken_model("text", "text_encoder/model.safetensors", "encoder.layers.0.layer_norm1.weight");
    fails(config_for("text", model, "method.text_encoder=true", (char *)NULL), NULL);
    assert_says("forward pass, at text_model.encoder.layers.0.layer_norm1 (layer_norm)");
    mem_free(model);
}

/* What the VAE and the text encoder make for caches or a batch is looked at when it is made. */
static void what_the_encoders_make_is_never_kept(void **state)
{
    (void)state;
    char *model = broken_model("vae", "vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.weight");
    for (int cached = 0; cached < 2; cached++) {
        char *set = cached ? "train.cache_latents=true" : "train.cache_latents=false";
        fails(config_for(cached ? "vae1" : "vae0", model, set, (char *)NULL), NULL);
        assert_says("VAE: conv2d (encoder.conv_in): its result holds ");
        assert_says("model.dtype: bf16 or f32 reach further");
        assert_says(".jpg");
    }
    mem_free(model);
    model = broken_model("clip", "text_encoder/model.safetensors", "encoder.layers.0.layer_norm1.weight");
    fails(config_for("clip", model, (char *)NULL), NULL);
    assert_says("layer_norm (text_model.encoder.layers.0.layer_norm1)");
    assert_says(".jpg");
    mem_free(model);
}

/* Adds an entry under the key that is NaN under a check sum that is right. */
static void add_nan(Cache *c, const CacheKey key, size_t floats)
{
    const CacheLabel label = {.kind = CACHE_TEXT};
    float *values = mem_calloc(floats, sizeof *values);
    values[floats - 1] = NAN;
    assert_int_equal(cache_add(c, key, &label, values, floats), STATUS_OK);
    mem_free(values);
}

/* The cache beside a dataset whose entry of picture or caption number 2 is NaN. */
static void poison_cache(const char *set, bool text)
{
    Model *m;
    Pipeline *p;
    Caching *caching;
    Cache *cache;
    Dataset *d;
    CacheKey key;
    char *path = encoded_path(set);
    Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 1});
    assert_int_equal(model_load(SD1, MODEL_ALL, DTYPE_F32, &m), STATUS_OK);
    assert_int_equal(pipeline_new(c, m, &p), STATUS_OK);
    assert_int_equal(caching_new(p, DTYPE_F32, 0, CACHING_ALL, &caching), STATUS_OK);
    assert_int_equal(dataset_open(set, &d), STATUS_OK);
    assert_int_equal(cache_open(path, NULL, &cache), STATUS_OK);
    const BucketFit fit = bucket_fit_size(dataset_size(d, 2), size_square(32));
    if (text)
        caching_text_key(caching, dataset_caption(d, 2), key);
    else
        caching_latents_key(caching, d, 2, &fit, false, key);
    add_nan(cache, key, text ? caching_text_floats(caching) : caching_latents_floats(caching, fit.bucket));
    cache_close(cache);
    dataset_close(d);
    caching_free(caching);
    pipeline_free(p);
    model_free(m);
    ctx_free(c);
    mem_free(path);
}

/* A cache that holds NaN all the same: the picture, the cache and what to do. */
static void a_cache_that_holds_nan_is_named(void **state)
{
    (void)state;
    char *pictures = mem_printf("%s/pictures", work);
    for (int text = 0; text < 2; text++) {
        char *name = text ? "texts" : "latents";
        char *set = mem_printf("%s/%s.h5", work, name),
             *cache = mem_printf("%s/%s.cache: holds nan", work, name);
        char *path = mem_printf("dataset=[{path: %s}]", set);
        char *argv[] = {"build", pictures, "--out", set, NULL};
        assert_int_equal(command_data_build(4, argv), STATUS_OK);
        poison_cache(set, text);
        fails(config_for(name, SD1, path, (char *)NULL), NULL);
        assert_says(text ? "the text of \"" : ".jpg");
        assert_says(cache);
        assert_says("remove the file");
        mem_free(set);
        mem_free(cache);
        mem_free(path);
    }
    mem_free(pictures);
}

/* Sets the first number of a weight in a checkpoint. */
static void poison_checkpoint(const char *name, int step, const char *key, float value)
{
    leave_out_sums(name, step);
    char *path = mem_printf("%s/%s/checkpoints/step-%06d/weights.safetensors", work, name, step), *bytes;
    size_t size;
    TensorFile *f;
    assert_int_equal(file_read(path, 1 << 24, &bytes, &size), STATUS_OK);
    assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
    const TensorEntry *e = tensorfile_find(f, key);
    assert_non_null(e);
    char *at = memmem(bytes, size, e->data, e->bytes);
    memcpy(at, &value, sizeof value);
    tensorfile_close(f);
    assert_int_equal(file_write_atomic(path, bytes, size), STATUS_OK);
    mem_free(bytes);
    mem_free(path);
}

#define UP "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight"

/* A run in which a number goes wrong at step 5 of 6: steps 1 to 4 stay as they were, saved and logged. */
static void the_last_good_checkpoint_stays(void **state)
{
    (void)state;
    train(config_for("late", SD1, "train.steps=6", "output.keep=3", (char *)NULL), NULL);
    char *whole = mem_printf("%s/late", work), *command = mem_printf("cp -r %s %s/good", whole, work);
    assert_int_equal(system(command), 0);
    mem_free(command);
    char *log = mem_printf("%s/log.jsonl", whole), *last = mem_printf("%s/checkpoints/step-000006", whole);
    assert_int_equal(truncate(log, file_size(log) - 1), 0); /* not finished any more */
    assert_int_equal(dir_remove(last), STATUS_OK);
    poison_checkpoint("late", 4, UP, 3e38f);
    char *fourth = mem_printf("%s/checkpoints/step-000004/weights.safetensors", whole), *before, *after;
    size_t sizes[2];
    assert_int_equal(file_read(fourth, 1 << 24, &before, &sizes[0]), STATUS_OK);
    fails(config_for("late", SD1, "train.steps=6", "output.keep=3", (char *)NULL), "auto");
    assert_says("step 5");
    assert_says("mid_block.attentions.0.transformer_blocks.0.attn1.to_q");
    assert_says("the checkpoint of step 4 stays");
    assert_says("optimizer.lr (now 0.001)");
    assert_false(file_exists(last));
    assert_int_equal(file_read(fourth, 1 << 24, &after, &sizes[1]), STATUS_OK);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(before, after, sizes[0]);
    assert_same_file("late", "good", "checkpoints/step-000002/weights.safetensors");
    assert_true(number("late", 3, "step") == 4);
    assert_null(log_line("late", 4));
    char *all[] = {whole, log, last, fourth, before, after};
    for (int i = 0; i < 6; i++)
        mem_free(all[i]);
}

/* The step under checks, in memory that an earlier step left full of NaN: the same bytes, and no finding. */
static void poison(Ctx *c, void *arg)
{
    const int64_t n = *(int64_t *)arg;
    op_begin(c, "poison", NULL);
    Tensor *t = ctx_tensor(c, DTYPE_F32, 1, &n);
    if (c->live)
        memset(t->data, 0xff, tensor_bytes(t));
}

static void fill_arena_with_nan(Setup *s)
{
    Plan *p;
    int64_t n = (int64_t)s->arena_bytes / 4;
    assert_int_equal(ctx_rehearse(s->c, poison, &n, &p), STATUS_OK);
    assert_int_equal(ctx_run(s->c, p, poison, &n), STATUS_OK);
    plan_free(p);
}

static float *all_gradients(const Parameters *p)
{
    float *all = mem_alloc((size_t)parameters_elements(p) * sizeof *all), *at = all;
    for (int i = 0; i < p->count; i++) {
        memcpy(at, p->items[i].weight->grad->data, tensor_bytes(p->items[i].weight));
        at += tensor_count(p->items[i].weight);
    }
    return all;
}

static void the_second_look_sees_the_same_numbers(void **state)
{
    (void)state;
    static char *const sets[][3] = {
        {"model.dtype=f32", "method.kind=lora", "train.checkpointing=off"},
        {"model.dtype=bf16", "method.kind=lora", "train.checkpointing=on"},
        {"model.dtype=f16", "method.text_encoder=true", "train.checkpointing=off"},
        {"model.dtype=bf16", "method.kind=full", "method.text_encoder=true"},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        Config *config = config_for("look", SD1, sets[i][0], sets[i][1], sets[i][2],
                                    "train.cache_latents=false", (char *)NULL);
        char *folder = mem_printf("%s/look", work);
        Setup *s;
        Batch *b;
        if (setup_new(config, NULL, comm_alone(), folder, true, false, NULL, &s) != STATUS_OK ||
            setup_load(s) != STATUS_OK)
            fail_msg("%s", status_message());
        assert_int_equal(ctx_reserve(s->c, s->arena_bytes), STATUS_OK);
        assert_int_equal(batch_new(config, &s->shape, s->sources, s->pipeline, s->texts, &b), STATUS_OK);
        float *pixels = mem_calloc(3 * 32 * 32, sizeof *pixels);
        const LoaderSample samples[] = {{.picture = 1, .size = {32, 32}, .pixels = pixels},
                                        {.picture = 4, .size = {32, 32}, .pixels = pixels}};
        Pass pass;
        assert_int_equal(pass_new(s, b, NULL, NULL, &pass), STATUS_OK);
        PassNumbers numbers[2];
        float *gradients[2];
        for (int checked = 0; checked < 2; checked++) {
            fill_arena_with_nan(s);
            ctx_set_checks(s->c, checked);
            if (pass_run(&pass, STATUS_OK, 3, samples, &numbers[checked]) != STATUS_OK)
                fail_msg("%s: %s", sets[i][0], status_message());
            ctx_set_checks(s->c, false);
            gradients[checked] = all_gradients(s->parameters);
        }
        assert_true(numbers[0].loss == numbers[1].loss);
        assert_memory_equal(gradients[0], gradients[1],
                            (size_t)parameters_elements(s->parameters) * sizeof(float));
        mem_free(gradients[0]);
        mem_free(gradients[1]);
        mem_free(pixels);
        mem_free(folder);
        pass_free(&pass);
        batch_free(b);
        setup_free(s);
        config_free(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_weight_of_the_unet_is_named),
        cmocka_unit_test(weights_that_have_moved_before_it_was_seen_are_told_and_not_saved),
        cmocka_unit_test(a_broken_text_encoder_on_the_tape_is_named),
        cmocka_unit_test(what_the_encoders_make_is_never_kept),
        cmocka_unit_test(a_cache_that_holds_nan_is_named),
        cmocka_unit_test(the_last_good_checkpoint_stays),
        cmocka_unit_test(the_second_look_sees_the_same_numbers),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
