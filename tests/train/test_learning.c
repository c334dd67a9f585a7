/* Proof that a run learns. Breaks if a run whose weights stand still would go on or end as a success, if one
 * that learns slowly were stopped, if weights that overflowed were saved, or if log.jsonl lost what tells. */
#include "runs.h"

#include "infer/files/safetensors.h"
#include "train/run/pass.h"
#include "train/step/learning.h"

#define MID "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"

static void assert_says(const char *text)
{
    if (!strstr(status_message(), text))
        fail_msg("\"%s\" is not in: %s", text, status_message());
}

static void fails(Config *config)
{
    assert_int_equal(trainer_run(config, &(TrainOptions){0}), STATUS_FAILED);
    config_free(config);
}

static bool exists(const char *name, const char *file)
{
    char *path = mem_printf("%s/%s/%s", work, name, file);
    const bool there = file_exists(path);
    mem_free(path);
    return there;
}

static void the_log_tells_how_far_the_weights_have_come(void **state)
{
    (void)state;
    train(config_for("log", SD1, "method.text_encoder=true", "loss.snr_gamma=1", (char *)NULL), NULL);
    for (int i = 0; i < 6; i++) {
        json_t *line = log_line("log", i);
        const json_t *bands = json_object_get(line, "loss_bands");
        assert_int_equal(json_array_size(bands), PASS_BANDS);
        double sum = 0;
        int count = 0;
        for (size_t k = 0; k < PASS_BANDS; k++)
            if (json_is_number(json_array_get(bands, k))) {
                sum += json_number_value(json_array_get(bands, k));
                count++;
            }
        assert_in_range(count, 1, 2); /* of a batch of 2 */
        if (count == 2)               /* a sample each, weighted as in the loss, which is their mean */
            assert_float_equal(sum / 2, json_number_value(json_object_get(line, "loss")), 1e-5);
        json_decref(line);
        assert_true(number("log", i, "updates") == i + 1);
        assert_true(number("log", i, "skipped") == 0);
        assert_true(number("log", i, "update_norm") > 0);
        assert_true(number("log", i, "update_norm_text_encoder") > 0);
        assert_true(number("log", i, "memory_bytes") > 1e6);
        assert_true(number("log", i, "allocated_bytes") > 1e5);
    }
    const double unet = number("log", 0, "update_norm"), text = number("log", 0, "update_norm_text_encoder");
    assert_float_equal(number("log", 0, "change_norm") / sqrt(unet * unet + text * text), 1, 1e-4);
    assert_true(number("log", 5, "change_norm") > number("log", 0, "change_norm"));
}

/* The first step's loss under two weights of the class pictures: its parts are the same. */
static void the_loss_of_class_pictures_is_told_apart(void **state)
{
    (void)state;
    static const char *const weights[] = {"prior.weight=0.5", "prior.weight=2"};
    double loss[2], subject[2], prior[2];
    for (int i = 0; i < 2; i++) {
        char *path = mem_printf("prior.path=%s/class", work);
        train(config_for(weights[i], SD1, weights[i], path, "prior.prompt=a dog", "prior.pictures=2",
                         "prior.steps=1", "loss.snr_gamma=5", "train.batch=1", "train.accumulate=2",
                         "train.steps=2", (char *)NULL),
              NULL);
        mem_free(path);
        loss[i] = number(weights[i], 0, "loss");
        subject[i] = number(weights[i], 0, "loss_subject");
        prior[i] = number(weights[i], 0, "loss_prior");
        assert_true(subject[i] > 0 && prior[i] > 0);
    }
    assert_float_equal(loss[0] / (subject[0] + 0.5 * prior[0]), 1, 1e-5);
    assert_float_equal(loss[1] / (subject[1] + 2 * prior[1]), 1, 1e-5);
    assert_float_equal(subject[0] / subject[1], 1, 1e-6);
    assert_float_equal(prior[0] / prior[1], 1, 1e-6);
    json_t *line = log_line("log", 0); /* a run without class pictures */
    assert_null(json_object_get(line, "loss_prior"));
    json_decref(line);
}

static void weights_that_stand_still_end_the_run(void **state)
{
    (void)state;
    fails(config_for("still", SD1, "optimizer.lr=0", "train.steps=40", "output.save_every=10", (char *)NULL));
    assert_says("step 20");
    assert_says("learning rate is 0");
    assert_true(number("still", 18, "skipped") == 19);
    assert_true(number("still", 18, "updates") == 0);
    fails(config_for("short", SD1, "optimizer.lr=0", "train.steps=2", (char *)NULL));
    assert_says("no update has changed");
    assert_false(exists("short", "lora.safetensors"));
    /* too small for f32: weights of 0.1 do not move by 1e-12 of it */
    fails(config_for("small", SD1, "method.kind=full", "optimizer.lr=1e-30", "train.steps=2", (char *)NULL));
    assert_says("too small");
}

static void stands_still_again(const char *step)
{
    Config *config =
        config_for("still-on", SD1, "optimizer.lr=0", "train.steps=60", "output.save_every=10", (char *)NULL);
    assert_int_equal(trainer_run(config, &(TrainOptions){.resume = "auto"}), STATUS_FAILED);
    config_free(config);
    assert_says(step);
}

/* A run gone on with ends where one in a piece does; from a checkpoint of before, without the count, later.
 */
static void a_standstill_is_counted_across_a_stop(void **state)
{
    (void)state;
    stands_still_again("step 20: the last 20 updates");
    assert_true(exists("still-on", "checkpoints/step-000010/state.json"));
    stands_still_again("step 20: the last 20 updates");
    leave_out_sums("still-on", 10);
    char *path = mem_printf("%s/still-on/checkpoints/step-000010/state.json", work);
    json_t *before = json_load_file(path, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(before, "standstill")), 10);
    json_object_del(before, "standstill");
    json_object_del(before, "standstill_text_encoder");
    assert_int_equal(json_dump_file(before, path, 0), 0);
    json_decref(before);
    mem_free(path);
    stands_still_again("step 30: the last 20 updates");
}

static void slow_learning_is_no_standstill(void **state)
{
    (void)state;
    train(config_for("slow", SD1, "optimizer.lr=1e-6", "optimizer.warmup=21", "train.steps=22",
                     "train.batch=1", "train.accumulate=2", (char *)NULL),
          NULL);
    assert_true(number("slow", 21, "change_norm") > 0);
    train(config_for("slow-full", SD1, "method.kind=full", "optimizer.lr=1e-6", "optimizer.warmup=21",
                     "train.steps=22", "train.batch=1", (char *)NULL),
          NULL);
    assert_true(number("slow-full", 21, "change_norm") > 0);
}

/* A rate of 0 for the UNet trains the text encoder alone; one of 0 for both is refused before anything is
 * done. */
static void the_text_encoder_alone_is_trained(void **state)
{
    (void)state;
    Config *config;
    train(config_for("alone", SD1, "method.text_encoder=true", "optimizer.lr=0",
                     "optimizer.text_encoder_lr=1e-3", "train.steps=24", "train.batch=1", (char *)NULL),
          NULL);
    assert_true(number("alone", 23, "update_norm") == 0);
    assert_true(number("alone", 23, "update_norm_text_encoder") > 0);
    char *path = mem_printf("%s/run.yaml", work);
    const char *sets[] = {"method.text_encoder=true", "optimizer.lr=0"};
    assert_int_equal(config_read(path, sets, 2, &config), STATUS_REFUSED);
    assert_says("optimizer.lr is 0, and so is optimizer.text_encoder_lr");
    mem_free(path);
}

static void the_reason_is_told(void **state)
{
    (void)state;
    const Config config = {.method.text_encoder = true, .optimizer.lr = 1e-3};
    const UpdateNumbers none = {0}, unet = {.norm = 1, .moved.unet = 1e-12},
                        huge = {.norm = 1, .moved.unet = INFINITY, .broken = "a.weight"};
    Standstill still = {0};
    for (int i = 1; i < LEARNING_PATIENCE; i++)
        assert_int_equal(learning_check(&config, i, &none, 1e-3, &still), STATUS_OK);
    assert_int_equal(learning_check_end(&config, &still, 0, 0, 1e-3), STATUS_FAILED);
    assert_int_equal(learning_check_end(&config, &still, 1e-9, 0, 1e-3), STATUS_OK);
    assert_int_equal(learning_check(&config, 20, &none, 1e-3, &still), STATUS_FAILED);
    assert_says("all gradients are 0");
    assert_int_equal(learning_check(&config, 21, &unet, 1e-3, &still), STATUS_FAILED);
    assert_says("the text encoder's trained weights");
    assert_int_equal(still.unet, 0);
    assert_int_equal(learning_check(&config, 22, &huge, 1e-3, &still), STATUS_FAILED);
    assert_says("a.weight");
}

/* Weight decay times the learning rate far above 1: the weights grow a hundredfold a step. */
static void weights_that_overflow_are_not_saved(void **state)
{
    (void)state;
    fails(config_for("burst", SD1, "optimizer.lr=10", "optimizer.weight_decay=10", "train.steps=60",
                     "output.save_every=1", "output.keep=100", (char *)NULL));
    assert_says("step ");
    int steps = 0;
    for (json_t *line; (line = log_line("burst", steps)); steps++)
        json_decref(line);
    assert_in_range(steps, 2, 59);
    char *last = mem_printf("%s/burst/checkpoints/step-%06d/weights.safetensors", work, steps);
    TensorFile *f;
    if (tensorfile_open(last, &f) != STATUS_OK)
        fail_msg("%s", status_message());
    const TensorEntry *e = tensorfile_find(f, MID ".lora_down.weight");
    for (size_t k = 0; k < e->bytes / sizeof(float); k++)
        assert_true(isfinite((double)((const float *)e->data)[k]));
    tensorfile_close(f);
    mem_free(last);
    last = mem_printf("checkpoints/step-%06d", steps + 1);
    assert_false(exists("burst", last));
    mem_free(last);
}

/* Previews, validation and checkpoints included. The first run's tables that stay for good are made by then.
 */
static void memory_does_not_grow(void **state)
{
    (void)state;
    size_t in_use[2];
    for (int i = 0; i < 2; i++) {
        train(config_for(i ? "grow" : "first", SD1, i ? "train.steps=120" : "train.steps=20", "train.batch=1",
                         "train.cache_latents=false", "train.ema=0.9", "validation.share=0.2",
                         "validation.every=10", "preview.every=20", "preview.steps=1",
                         "preview.prompts=[a cat]", "output.save_every=10", (char *)NULL),
              NULL);
        in_use[i] = mem_in_use();
    }
    assert_in_range(in_use[1], 0, in_use[0] + 256); /* the configuration's texts differ by some bytes */
    assert_true(number("grow", 119, "allocated_bytes") <= number("grow", 19, "allocated_bytes") + 4096);
    assert_true(number("grow", 119, "memory_bytes") < number("grow", 19, "memory_bytes") + 2e6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_tells_how_far_the_weights_have_come),
        cmocka_unit_test(the_loss_of_class_pictures_is_told_apart),
        cmocka_unit_test(weights_that_stand_still_end_the_run),
        cmocka_unit_test(a_standstill_is_counted_across_a_stop),
        cmocka_unit_test(slow_learning_is_no_standstill),
        cmocka_unit_test(the_text_encoder_alone_is_trained),
        cmocka_unit_test(the_reason_is_told),
        cmocka_unit_test(weights_that_overflow_are_not_saved),
        cmocka_unit_test(memory_does_not_grow),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
