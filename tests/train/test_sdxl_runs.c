/* Whole runs of the tiny SDXL model. Breaks if a picture's six numbers were not sd-scripts' where its latents
 * are (mirrored, in its own bucket, cached or not), if a text encoder that is not asked for learned, or if
 * class pictures, whole weights or a configuration's words for two encoders did not work. */
#include "runs.h"

#include "data/pictures/buckets.h"
#include "data/pictures/picture.h"
#include "infer/files/tensor_file.h"
#include "infer/models/model.h"
#include "infer/models/size_numbers.h"

static const Size PICTURES[] = {{90, 60}, {41, 81}, {64, 64}};
#define PICTURE_COUNT (int)(sizeof PICTURES / sizeof *PICTURES)

static int make_pictures(void **state)
{
    if (open_work(state) != 0)
        return -1;
    char *folder = path_join(work, "odd");
    assert_int_equal(dir_make(folder), STATUS_OK);
    for (int i = 0; i < PICTURE_COUNT; i++) {
        Picture p;
        char *path = mem_printf("%s/%d.png", folder, i), *caption = mem_printf("%s/%d.txt", folder, i);
        assert_int_equal(picture_new(PICTURES[i], &p), STATUS_OK);
        for (int64_t k = 0; k < 3 * size_area(p.size); k++)
            p.rgb[k] = (uint8_t)(k * (i + 3));
        assert_int_equal(picture_write_png(path, &p, NULL, 0), STATUS_OK);
        assert_int_equal(file_write_atomic(caption, "a cat", 5), STATUS_OK);
        picture_free(&p);
        mem_free(path);
        mem_free(caption);
    }
    mem_free(folder);
    return 0;
}

static TensorFile *trace_of(const char *name, int step)
{
    char *path = mem_printf("%s/%s-trace/step-%06d.safetensors", work, name, step);
    TensorFile *f;
    if (tensorfile_open(path, &f) != STATUS_OK)
        fail_msg("%s", status_message());
    mem_free(path);
    return f;
}

static void run_traced(const char *name, Config *config, int steps)
{
    char *trace = mem_printf("%s/%s-trace", work, name);
    if (trainer_run(config, &(TrainOptions){.device = test_device(), .trace = trace, .trace_steps = steps}) !=
        STATUS_OK)
        fail_msg("%s", status_message());
    config_free(config);
    mem_free(trace);
}

/* Which picture was told so, in its bucket of 32² with steps of 8: its number, and PICTURE_COUNT more where
 * it is mirrored. */
static int told_of(const Buckets *b, const float told[SIZE_NUMBERS])
{
    for (int i = 0; i < 2 * PICTURE_COUNT; i++) {
        const Size picture = PICTURES[i % PICTURE_COUNT];
        BucketFit fit;
        float numbers[SIZE_NUMBERS];
        assert_int_equal(buckets_fit(b, picture, &fit), STATUS_OK);
        const BucketCorner corner = bucket_corner(picture, fit.bucket, i >= PICTURE_COUNT);
        size_numbers_write(&(SizeNumbers){picture, corner.top, corner.left, fit.bucket}, numbers);
        if (memcmp(numbers, told, sizeof numbers) == 0)
            return i;
    }
    return -1;
}

/* Of every step the picture that was told; the tall one's left differs where it is mirrored. */
static void check_numbers(const char *name, int steps, bool seen[2 * PICTURE_COUNT])
{
    Buckets *b;
    const BucketRule rule = {{32, 32}, 16, 64, 8, true};
    assert_int_equal(buckets_new(&rule, &b), STATUS_OK);
    for (int step = 1; step <= steps; step++) {
        TensorFile *f = trace_of(name, step);
        const TensorEntry *sizes = tensorfile_find(f, "sizes"), *latents = tensorfile_find(f, "latents");
        assert_non_null(tensorfile_find(f, "pooled"));
        float told[SIZE_NUMBERS];
        memcpy(told, sizes->data, sizeof told);
        const int picture = told_of(b, told);
        assert_in_range(picture, 0, 2 * PICTURE_COUNT - 1);
        assert_int_equal((int)told[4], 2 * latents->shape[2]); /* this VAE halves sides once */
        assert_int_equal((int)told[5], 2 * latents->shape[3]);
        seen[picture] = true;
        tensorfile_close(f);
    }
    buckets_free(b);
}

static void each_picture_is_told_as_sd_scripts_tells_it(void **state)
{
    (void)state;
    enum { STEPS = 24 };
    bool seen[2 * PICTURE_COUNT] = {0};
    char *odd = mem_printf("dataset.path=%s/odd", work);
    for (int cached = 0; cached < 2; cached++) {
        const char *name = cached ? "told-cached" : "told";
        run_traced(name,
                   config_for(name, SDXL, odd, "dataset.augment.flip=true", "train.batch=1", "train.steps=24",
                              cached ? "train.cache_latents=true" : "train.cache_latents=false",
                              cached ? "method.text_encoder=false" : "method.text_encoder=true",
                              "output.save_every=0", (char *)NULL),
                   STEPS);
        check_numbers(name, STEPS, seen);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    assert_true(seen[PICTURE_COUNT + 1]); /* the tall one, mirrored: another left */
    mem_free(odd);
}

static void only_the_encoder_that_is_named_learns(void **state)
{
    (void)state;
    static const struct {
        const char *setting;
        bool first, second;
    } CASES[] = {{"method.text_encoder=first", true, false},
                 {"method.text_encoder=second", false, true},
                 {"method.text_encoder=true", true, true}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char *name = mem_printf("named-%d", (int)i), *path = mem_printf("%s/%s/lora.safetensors", work, name);
        TensorFile *f;
        bool first = false, second = false;
        train(config_for(name, SDXL, CASES[i].setting, "train.steps=2", "output.save_every=0", (char *)NULL),
              NULL);
        assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
        for (int k = 0; k < tensorfile_count(f); k++) {
            const char *key = tensorfile_entry(f, k)->name;
            first |= strncmp(key, "lora_te1_", 9) == 0;
            second |= strncmp(key, "lora_te2_", 9) == 0;
        }
        assert_true(first == CASES[i].first && second == CASES[i].second);
        assert_true(isfinite(number(name, 0, "update_norm_text_encoder")) == CASES[i].first);
        assert_true(isfinite(number(name, 0, "update_norm_text_encoder_2")) == CASES[i].second);
        tensorfile_close(f);
        mem_free(path);
        mem_free(name);
    }
}

/* Longer than a run waits for weights that do not move: those of no rate are not meant to. */
static void the_second_encoder_alone_learns(void **state)
{
    (void)state;
    train(config_for("alone", SDXL, "method.text_encoder=true", "optimizer.lr=0",
                     "optimizer.text_encoder_2_lr=1e-3", "train.steps=24", "train.batch=1",
                     "output.save_every=0", (char *)NULL),
          NULL);
    assert_true(number("alone", 23, "update_norm") == 0);
    assert_true(number("alone", 23, "update_norm_text_encoder") == 0);
    assert_true(number("alone", 23, "update_norm_text_encoder_2") > 0);
}

static void refused(Config *config, const char *says)
{
    assert_int_equal(trainer_run(config, &(TrainOptions){.device = test_device()}), STATUS_REFUSED);
    if (!strstr(status_message(), says))
        fail_msg("`%s` does not say `%s`", status_message(), says);
    config_free(config);
}

static void words_for_a_second_encoder_want_one(void **state)
{
    (void)state;
    refused(config_for("one", SD1, "method.text_encoder=second", (char *)NULL),
            "has one text encoder; write true");
    refused(
        config_for("one", SD1, "method.text_encoder=true", "optimizer.text_encoder_2_lr=1e-4", (char *)NULL),
        "has one text encoder, which learns by optimizer.text_encoder_lr");
    train(config_for("one", SD1, "method.text_encoder=first", "train.steps=1", (char *)NULL), NULL);
    assert_true(number("one", 0, "update_norm_text_encoder") > 0);
}

/* DreamBooth: all weights of the UNet and both encoders but what no text goes through, class pictures drawn
 * by the model itself; the model that comes out draws the class pictures of a second run. */
static void whole_weights_with_class_pictures(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool second, learns;
    } LAYERS[] = {
        {"text_model.encoder.layers.1.mlp.fc1", false, true},
        {"text_model.encoder.layers.2.mlp.fc1", false, false}, /* the last: SDXL takes the states before it */
        {"text_model.final_layer_norm", false, false},
        {"text_model.encoder.layers.3.mlp.fc1", true, true},
        {"text_model.final_layer_norm", true, true},
        {"text_projection", true, true},
    };
    char *class = mem_printf("prior.path=%s/class", work), *own = mem_printf("%s/whole/model", work);
    char *other = mem_printf("prior.path=%s/other", work);
    train(config_for("whole", SDXL, "method.kind=full", "method.text_encoder=true", "train.steps=2", class,
                     "prior.prompt=a cat", "prior.pictures=2", "prior.steps=2", (char *)NULL),
          NULL);
    assert_true(number("whole", 0, "loss_prior") > 0);
    train(config_for("again", own, "method.kind=full", "train.steps=1", other, "prior.prompt=a cat",
                     "prior.pictures=1", "prior.steps=1", (char *)NULL),
          NULL);
    Model *before, *after;
    assert_int_equal(model_load(SDXL, MODEL_TEXT, DTYPE_F32, &before), STATUS_OK);
    assert_int_equal(model_load(own, MODEL_TEXT, DTYPE_F32, &after), STATUS_OK);
    for (size_t i = 0; i < sizeof LAYERS / sizeof *LAYERS; i++) {
        Clip *const encoders[] = {LAYERS[i].second ? before->clip_2 : before->clip,
                                  LAYERS[i].second ? after->clip_2 : after->clip};
        const Tensor *a = layerset_find(clip_layers(encoders[0]), LAYERS[i].name)->weight,
                     *b = layerset_find(clip_layers(encoders[1]), LAYERS[i].name)->weight;
        if ((memcmp(a->data, b->data, tensor_bytes(a)) != 0) != LAYERS[i].learns)
            fail_msg("%s", LAYERS[i].name);
    }
    model_free(before);
    model_free(after);
    mem_free(class);
    mem_free(other);
    mem_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_picture_is_told_as_sd_scripts_tells_it),
        cmocka_unit_test(only_the_encoder_that_is_named_learns),
        cmocka_unit_test(the_second_encoder_alone_learns),
        cmocka_unit_test(words_for_a_second_encoder_want_one),
        cmocka_unit_test(whole_weights_with_class_pictures),
    };
    return cmocka_run_group_tests(tests, make_pictures, remove_work);
}
