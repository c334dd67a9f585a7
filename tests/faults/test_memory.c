/* Memory that runs out, at every place where Atelier asks for some. Breaks if that is anything
 * but a message and an orderly end (under AddressSanitizer: without a leak), or if a training step comes to
 * ask for memory again after the first one, so that it could run out in hour three.
 *
 * Places are tried with growing distances, from the first few dozen on, in which a run's folder is looked at;
 * ATELIER_EVERY=1 tries each of them, which takes minutes. With a pattern as its
 * argument the program runs the tests of that name. */
#include "tests/train/runs.h"

#include "infer/convert/convert.h"
#include "infer/sample/sample.h"
#include "train/commands/data.h"

#include <unistd.h>

#define DENSE 100

static _Atomic long left; /* loader threads ask too */

static int refuse_at(size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    return --left == 0;
}

static long next(long at)
{
    return getenv("ATELIER_EVERY") || at < DENSE ? at + 1 : at + 1 + at / 16;
}

/* Fails at each place in turn until the work no longer comes there. look: at what is there then; or NULL. */
static void fail_everywhere(Status (*work_on)(void *arg), void *arg, const char *name, void (*look)(Status s))
{
    int failures = 0;
    for (long at = 1;; at = next(at)) {
        left = at;
        mem_set_hook(refuse_at, NULL);
        const Status s = work_on(arg);
        mem_set_hook(NULL, NULL);
        if (look)
            look(s);
        char *folder = mem_printf("%s/%s", work, name);
        if (file_is_dir(folder))
            dir_remove(folder);
        mem_free(folder);
        if (left > 0)
            break;
        failures += s != STATUS_OK;
        if (s == STATUS_INTERRUPTED || (s != STATUS_OK && !*status_message()))
            fail_msg("%s, allocation %ld: status %d, \"%s\"", name, at, (int)s, status_message());
    }
    print_message("%s: %d places\n", name, failures);
    assert_true(failures > 50);
}

static Status run(void *arg)
{
    return trainer_run(arg, &(TrainOptions){.resume = "auto"});
}

static Status run_traced(void *arg)
{
    char *folder = mem_printf("%s/lora", work); /* inside the run's folder */
    const Status s =
        folder ? trainer_run(arg, &(TrainOptions){.resume = "auto", .trace = folder}) : STATUS_FAILED;
    mem_free(folder);
    return s;
}

static void a_lora(void **state)
{
    (void)state;
    Config *config =
        config_for("lora", SD1, "train.steps=2", "method.rank=2", "validation.share=0.2", "train.ema=0.9",
                   "preview.prompts=[a cat]", "preview.every=2", "preview.steps=1",
                   "output.formats=[kohya, peft]", "output.save_every=1", "output.keep=1", (char *)NULL);
    fail_everywhere(run_traced, config, "lora", NULL);
    config_free(config);
}

static void a_whole_model(void **state)
{
    (void)state;
    Config *config =
        config_for("full", SD1, "train.steps=1", "method.kind=full", "method.text_encoder=true",
                   "train.ema=0.9", "train.cache_latents=false", "train.loader_threads=1", (char *)NULL);
    fail_everywhere(run, config, "full", NULL);
    config_free(config);
}

/* Both text encoders trained, what they give kept for the held-out pictures, and previews with two prompts.
 */
static void an_sdxl_lora(void **state)
{
    (void)state;
    Config *config =
        config_for("sdxl", SDXL, "train.steps=1", "method.rank=2", "method.text_encoder=true",
                   "validation.share=0.2", "preview.prompts=[a cat]", "preview.prompts_2=[a dog]",
                   "preview.every=1", "preview.steps=1", "output.formats=[kohya, peft]", (char *)NULL);
    fail_everywhere(run, config, "sdxl", NULL);
    config_free(config);
}

/* work/gone-on is work/begun, which has the checkpoint of step 2 of 3; it was about to be replaced. */
static Status go_on(void *arg)
{
    char command[256];
    snprintf(command, sizeof command, "cp -r %s/begun %s/gone-on", work, work);
    return system(command) == 0 ? run(arg) : STATUS_FAILED;
}

static bool has(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/gone-on/%s", work, name);
    return file_exists(path);
}

static void nothing_is_lost_or_done_again(Status s)
{
    if (!has("checkpoints/step-000002/state.json") &&
        !has("checkpoints/.step-000002.replaced-77/state.json") && !has("checkpoints/step-000003/state.json"))
        fail_msg("the checkpoint is lost: %s", status_message());
    for (int i = 0; i < 2; i++) {
        json_t *then = log_line("begun", i), *now = log_line("gone-on", i);
        if (!now || !json_equal(then, now)) /* the seconds too */
            fail_msg("what was done is lost, or was done again: %s", status_message());
        json_decref(then);
        json_decref(now);
    }
    if (s == STATUS_OK)
        assert_same_file("whole", "gone-on", "lora.safetensors");
}

static void a_run_gone_on_with(void **state)
{
    (void)state;
    char command[512];
    train(config_for("whole", SD1, "train.steps=3", "output.save_every=1", (char *)NULL), NULL);
    train(config_for("begun", SD1, "train.steps=3", "output.save_every=1", (char *)NULL), NULL);
    snprintf(
        command, sizeof command,
        "cd %s/begun && rm -r checkpoints/step-00000[13] lora.safetensors && head -n 2 log.jsonl > log && "
        "mv log log.jsonl && mv checkpoints/step-000002 checkpoints/.step-000002.replaced-77",
        work);
    assert_int_equal(system(command), 0);
    Config *config =
        config_for("gone-on", SD1, "train.steps=3", "output.save_every=1", "output.keep=1", (char *)NULL);
    fail_everywhere(go_on, config, "gone-on", nothing_is_lost_or_done_again);
    config_free(config);
}

static Status build(void *arg)
{
    (void)arg;
    char pictures[96], set[96];
    snprintf(pictures, sizeof pictures, "%s/pictures", work);
    snprintf(set, sizeof set, "%s/build/set.h5", work);
    char *argv[] = {"build", pictures,       "--out", set,       "--cache", "latents,text", "--model",
                    SD1,     "--resolution", "32",    "--dtype", "f32",     "--json",       NULL};
    return (Status)command_data_build(sizeof argv / sizeof *argv - 1, argv);
}

static Status sample(void *arg)
{
    char out[96], latents[128];
    snprintf(out, sizeof out, "%s/sample", work);
    snprintf(latents, sizeof latents, "%s/latents.safetensors", out);
    dir_make(out);
    char *argv[] = {"sample", "--model",        arg,     "--prompt",  "a cat", "--steps",
                    "1",      "--seed",         "1,2",   "--threads", "1",     "--out",
                    out,      "--save-latents", latents, "--json",    NULL};
    return (Status)command_sample(sizeof argv / sizeof *argv - 1, argv, NULL);
}

static void a_dataset(void **state)
{
    (void)state;
    fail_everywhere(build, NULL, "build", NULL);
}

static void pictures(void **state)
{
    (void)state;
    fail_everywhere(sample, SD1, "sample", NULL);
}

/* A folder becomes a single file in 8 bits, from which pictures are drawn. */
static Status convert(void *arg)
{
    char out[96];
    snprintf(out, sizeof out, "%s/convert", work);
    dir_make(out);
    snprintf(out, sizeof out, "%s/convert/sdxl.safetensors", work);
    return model_convert(&(ConvertRequest){.from = arg, .to = out, .quantise = true}, &(ConvertResult){0});
}

static void sdxl_pictures_and_files(void **state)
{
    (void)state;
    char single[96];
    ConvertResult result;
    snprintf(single, sizeof single, "%s/sdxl.safetensors", work);
    assert_int_equal(model_convert(&(ConvertRequest){.from = SDXL, .to = single}, &result), STATUS_OK);
    fail_everywhere(sample, single, "sample", NULL);
    fail_everywhere(convert, SDXL, "convert", NULL);
}

/* After the first `after` lines of the log, until the last but one, nothing is given. */
static char *log_path;
static long after, steps_of_run;
static _Atomic long given;
static _Atomic size_t asked;

static long log_lines(void)
{
    FILE *f = fopen(log_path, "r");
    long n = 0;
    for (int c; f && (c = getc(f)) != EOF;)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

static int refuse_between(size_t bytes, void *arg)
{
    const long n = ++given < 100 ? 0 : log_lines();
    if (n < after || n >= steps_of_run - 1)
        return 0;
    asked += bytes;
    return *(const size_t *)arg == 0;
}

/* Steps need no memory that was not taken before or in the first ones: with none to be had any more a run
 * goes on to its last step. (Its log lines are made by the JSON library, with memory of its own.) */
static void steps_need_none_after_the_first(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        long after;
        size_t bytes; /* a step may ask for: a caption taken apart, a latent on its way */
    } kinds[] = {{"method.rank=4", 1, 0},
                 {"method.kind=full", 1, 0},
                 {"train.cache_text=false", 5, 0},           /* every caption was encoded once */
                 {"train.cache_latents=false", 5, 64 << 10}, /* every picture was decoded once */
                 {"method.text_encoder=true", 1, 16 << 10},
                 {"dataset.caption.shuffle=true", 1, 64 << 10}};
    steps_of_run = 12;
    log_path = mem_printf("%s/enough/log.jsonl", work);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        Config *config =
            config_for("enough", SD1, "train.steps=12", "output.save_every=0", kinds[i].more, (char *)NULL);
        after = kinds[i].after;
        given = 0;
        asked = 0;
        mem_set_hook(refuse_between, (void *)&kinds[i].bytes);
        const Status s = trainer_run(config, &(TrainOptions){0});
        mem_set_hook(NULL, NULL);
        if (s != STATUS_OK)
            fail_msg("%s: after %ld steps: %s", kinds[i].more, after, status_message());
        if (kinds[i].bytes && asked > kinds[i].bytes * (size_t)(steps_of_run - 1 - after))
            fail_msg("%s: %zu bytes in %ld steps", kinds[i].more, asked, steps_of_run - 1 - after);
        print_message("%s: %zu bytes\n", kinds[i].more, asked);
        char *folder = mem_printf("%s/enough", work);
        dir_remove(folder);
        mem_free(folder);
        config_free(config);
    }
    mem_free(log_path);
}

static int open_memory(void **state)
{
    if (open_work(state) != 0 || !freopen("/dev/null", "w", stdout))
        return -1;
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_need_none_after_the_first),
        cmocka_unit_test(a_lora),
        cmocka_unit_test(a_whole_model),
        cmocka_unit_test(an_sdxl_lora),
        cmocka_unit_test(a_run_gone_on_with),
        cmocka_unit_test(a_dataset),
        cmocka_unit_test(pictures),
        cmocka_unit_test(sdxl_pictures_and_files),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, open_memory, remove_work);
}
