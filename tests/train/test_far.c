/* Whole runs on the device `far` (tests/far/far.h) give the processor's bytes: what is exported, previews,
 * checkpoints with moments and averages, traces, and the log's numbers; resumed too. Breaks if anything
 * between the configuration and the result takes a device's memory for the host's, or reads a result before
 * it is there.
 */
#include "runs.h"

#include <unistd.h>

typedef struct Kind {
    const char *name, *settings[8];
    const char *files[12];
} Kind;

#define CHECKPOINT "checkpoints/step-000004/"
static const Kind kinds[] = {
    {"lora",
     {"method.kind=lora", "output.formats=[kohya, peft]", "train.ema=0.9", "model.dtype=f32"},
     {"lora.safetensors", "samples/step-000004.png", CHECKPOINT "weights.safetensors",
      CHECKPOINT "optimizer.safetensors", CHECKPOINT "ema.safetensors"}},
    {"text",
     {"method.kind=lora", "method.text_encoder=true", "train.cache_text=false", "model.dtype=bf16",
      "train.checkpointing=on"},
     {"lora.safetensors", "samples/step-000004.png", CHECKPOINT "weights.safetensors",
      CHECKPOINT "optimizer.safetensors"}},
    {"half",
     {"method.kind=lora", "model.dtype=f16", "train.accumulate=2", "train.cache_latents=false"},
     {"lora.safetensors", CHECKPOINT "weights.safetensors", CHECKPOINT "optimizer.safetensors"}},
    {"offload",
     {"method.kind=lora", "train.offload=all", "train.checkpointing=on", "model.dtype=bf16",
      "train.cache_text=false", "train.cache_latents=false"},
     {"lora.safetensors", "samples/step-000004.png", CHECKPOINT "weights.safetensors",
      CHECKPOINT "optimizer.safetensors"}},
    {"waiting",
     {"method.kind=full", "method.text_encoder=true", "train.cache_text=false", "train.ema=0.9",
      "train.offload=all", "model.dtype=bf16"},
     {"model/unet/diffusion_pytorch_model.safetensors", "model/text_encoder/model.safetensors",
      "samples/step-000004.png", CHECKPOINT "weights.safetensors", CHECKPOINT "optimizer.safetensors",
      CHECKPOINT "ema.safetensors"}},
    {"full",
     {"method.kind=full", "method.text_encoder=true", "train.cache_text=false", "train.ema=0.9",
      "model.dtype=bf16"},
     {"model/unet/diffusion_pytorch_model.safetensors", "model/text_encoder/model.safetensors",
      "samples/step-000004.png", CHECKPOINT "weights.safetensors", CHECKPOINT "optimizer.safetensors",
      CHECKPOINT "ema.safetensors"}},
    {"xl",
     {"model.base=" SDXL, "method.kind=lora", "method.text_encoder=true", "train.cache_text=false",
      "model.dtype=bf16", "optimizer.text_encoder_lr=1e-4", "optimizer.text_encoder_2_lr=1e-5"},
     {"lora.safetensors", "samples/step-000004.png", CHECKPOINT "weights.safetensors",
      CHECKPOINT "optimizer.safetensors"}},
    {"xl-waiting",
     {"model.base=" SDXL, "method.kind=full", "method.text_encoder=true", "train.cache_text=false",
      "train.offload=all", "model.dtype=bf16"},
     {"model/unet/diffusion_pytorch_model.safetensors", "model/text_encoder/model.safetensors",
      "model/text_encoder_2/model.safetensors", CHECKPOINT "weights.safetensors",
      CHECKPOINT "optimizer.safetensors"}},
    {"xl-offload",
     {"model.base=" SDXL, "method.kind=lora", "train.offload=all", "train.checkpointing=on",
      "model.dtype=bf16"},
     {"lora.safetensors", "samples/step-000004.png", CHECKPOINT "weights.safetensors",
      CHECKPOINT "optimizer.safetensors"}},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static Config *config_of(const Kind *k, const char *name)
{
    const char *const *s = k->settings;
    char *given[8];
    for (int i = 0; i < 8; i++)
        given[i] = s[i] ? (char *)s[i] : "train.seed=7"; /* said once more where there is nothing else */
    return config_for(name, SD1, given[0], given[1], given[2], given[3], given[4], given[5], given[6],
                      given[7], "train.steps=4", "validation.share=0.3", "validation.every=2",
                      "preview.prompts=[a cat]", "preview.steps=2", "preview.every=4", "output.keep=3",
                      (char *)NULL);
}

static void run_on(const Device *dev, const Kind *k, const char *name, const char *resume)
{
    char *trace = mem_printf("%s/%s/trace", work, name);
    Config *config = config_of(k, name);
    if (trainer_run(config,
                    &(TrainOptions){.device = dev, .resume = resume, .trace = trace, .trace_steps = 2}) !=
        STATUS_OK)
        fail_msg("%s on %s: %s", name, dev->name, status_message());
    config_free(config);
    mem_free(trace);
}

static void assert_same_run(const Kind *k, const char *a, const char *b)
{
    for (int i = 0; k->files[i]; i++)
        assert_same_file(a, b, k->files[i]);
    static const char *const keys[] = {"loss", "grad_norm", "update_norm", "change_norm", "lr"};
    for (int i = 0; i < 4; i++)
        for (size_t n = 0; n < sizeof keys / sizeof *keys; n++)
            assert_true(number(a, i, keys[n]) == number(b, i, keys[n]));
    assert_true(number(a, 3, "validation_loss") == number(b, 3, "validation_loss"));
}

static void every_kind_of_run_gives_the_processors_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        char *far = mem_printf("%s-far", kinds[i].name);
        const FarCount before = far_count();
        run_on(device_cpu(), &kinds[i], kinds[i].name, NULL);
        run_on(device_far(), &kinds[i], far, NULL);
        assert_true(far_count().calls - before.calls > 1000);
        /* a step is recorded once: the first, and again only where something else is computed (a preview's
         * own step, one with checks) */
        assert_true(far_count().replays - before.replays > far_count().recordings - before.recordings);
        assert_same_run(&kinds[i], kinds[i].name, far);
        for (int step = 0; step < 3; step++) {
            char file[64];
            snprintf(file, sizeof file, "trace/step-%06d.safetensors", step);
            assert_same_file(kinds[i].name, far, file);
        }
        mem_free(far);
    }
}

/* A run of the processor's, put back to its checkpoint of step 2, goes on on the other device. */
static void a_run_is_gone_on_with_on_another_device(void **state)
{
    (void)state;
    const Kind *k = &kinds[0];
    char *log = mem_printf("%s/%s/log.jsonl", work, k->name);
    char *command = mem_printf(
        "cd %s && cp -r %s again && cd again && rm -rf checkpoints/step-000004 lora* trace", work, k->name);
    assert_int_equal(system(command), 0);
    unfinish("again");
    run_on(device_far(), k, "again", "auto");
    assert_same_run(k, k->name, "again");
    mem_free(command);
    mem_free(log);
}

static void a_plan_is_the_same(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        Config *config = config_of(&kinds[0], "planned");
        const TrainOptions o = {.device = d ? device_far() : device_cpu(), .plan = true};
        if (trainer_run(config, &o) != STATUS_OK)
            fail_msg("%s", status_message());
        config_free(config);
    }
}

static void nothing_is_kept(void **state)
{
    (void)state;
    assert_int_equal(far_memory(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_run_gives_the_processors_bytes),
        cmocka_unit_test(a_run_is_gone_on_with_on_another_device),
        cmocka_unit_test(a_plan_is_the_same),
        cmocka_unit_test(nothing_is_kept),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
