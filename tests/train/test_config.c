/* Configurations: what is read, and what is written out again. Breaks if a value would not arrive as it was
 * meant, or if a run's own config.yaml were not the configuration that it ran with. */
#include "configs.h"

#include "kernels/base/mem.h"
#include "train/config/schema.h"
static void every_key_arrives_in_its_field(void **state)
{
    (void)state;
    char expected[200];
    Config *c = accepted(WHOLE);
    assert_string_equal(c->model.base, "builtin:tiny");
    assert_int_equal(c->model.dtype, DTYPE_F32);
    assert_null(c->model.vae);
    assert_int_equal(c->dataset_count, 2);
    snprintf(expected, sizeof expected, "%s/out/cat.h5", folder);
    assert_string_equal(c->datasets[0].path, expected);
    assert_int_equal(c->datasets[0].repeats, 10);
    assert_true(c->datasets[0].caption.dropout == 0.1f);
    assert_string_equal(c->datasets[1].path, "/tmp/dogs");
    assert_true(c->datasets[1].augment.flip);
    assert_int_equal(c->method.kind, METHOD_LORA);
    assert_int_equal(c->method.rank, 8);
    assert_true(c->method.alpha == 4);
    assert_int_equal(c->method.targets, TARGETS_ATTENTION);
    assert_int_equal(c->method.init, LORA_INIT_GAUSSIAN);
    assert_int_equal(c->method.clip_skip, 1);
    assert_int_equal(c->train.steps, 300);
    assert_int_equal(c->train.epochs, 0);
    assert_int_equal(c->train.accumulate, 2);
    assert_int_equal(c->train.checkpointing, SWITCH_ON);
    assert_true(c->train.seed == UINT64_MAX);
    assert_true(c->train.cache_latents && c->train.cache_text);
    assert_true(c->optimizer.lr == 1e-4);
    assert_int_equal(c->optimizer.schedule, SCHEDULE_LINEAR);
    assert_true(c->loss.snr_gamma == 0 && c->loss.noise_offset == 0.05f);
    assert_int_equal(c->validation.every, 7);
    assert_int_equal(c->preview.prompt_count, 4);
    assert_string_equal(c->preview.prompts[1], "no");
    assert_string_equal(c->preview.prompts[2], "a, b");
    assert_string_equal(c->preview.prompts[3], "ü \x7f \t\"q\" \\");
    assert_string_equal(c->preview.negative, "no");
    assert_string_equal(c->preview.sampler, "auto");
    assert_int_equal(c->preview.width, 64);
    assert_int_equal(c->preview.height, 0);
    assert_true(c->output.kohya && c->output.peft);
    assert_int_equal(c->output.dtype, DTYPE_BF16);
    config_free(c);
}

static void defaults_that_depend_on_other_keys(void **state)
{
    (void)state;
    char expected[200];
    Config *c = accepted(BASE);
    snprintf(expected, sizeof expected, "%s/runs/cat", folder);
    assert_string_equal(c->output.dir, expected);
    assert_true(c->method.alpha == 16);
    assert_int_equal(c->train.steps, 1000);
    assert_int_equal(c->preview.every, 0);
    assert_string_equal(c->preview.negative, "");
    config_free(c);
    c = accepted(BASE); /* off where nothing is said, as elsewhere */
    assert_true(c->loss.snr_gamma == 0);
    config_free(c);
    c = accepted(BASE "method: {rank: 4, text_encoder: true}\ntrain: {epochs: 3}\npreview: {prompts: [a]}\n");
    assert_true(c->method.alpha == 4);
    assert_int_equal(c->train.steps, 0);
    assert_int_equal(c->train.epochs, 3);
    assert_false(c->train.cache_text);
    assert_true(c->train.cache_latents);
    assert_true(c->optimizer.text_encoder_lr == c->optimizer.lr);
    assert_int_equal(c->preview.every, 100);
    config_free(c);
    c = accepted(BASE "method: {text_encoder: second}\noptimizer: {text_encoder_2_lr: 1e-5}\n");
    assert_true(config_trains_text(c, 1) && !config_trains_text(c, 0));
    assert_true(c->optimizer.text_encoder_2_lr == 1e-5);
    config_free(c);
    c = accepted(BASE "method: {text_encoder: second}\noptimizer: {lr: 0, text_encoder_2_lr: 1e-5}\n");
    config_free(c);
    c = accepted(BASE "method: {text_encoder: yes}\n");
    assert_true(config_trains_text(c, 0) && config_trains_text(c, 1));
    config_free(c);
    c = accepted(BASE "method: {text_encoder: off}\n");
    assert_false(config_trains_text(c, 0) || config_trains_text(c, 1));
    config_free(c);
    c = accepted(
        "model: {base: builtin:tiny}\ndataset: {path: a, augment: {shift: 0.1}, caption: {shuffle: on}}\n");
    assert_false(c->train.cache_text);
    assert_false(c->train.cache_latents);
    config_free(c);
}

/* Whole weights want another rate than adapters; what is said, of either, stands. */
static void the_rate_where_none_is_given_is_that_of_what_is_trained(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double lr;
    } CASES[] = {{BASE, 1e-4},
                 {BASE "method: {kind: lora}\n", 1e-4},
                 {BASE "method: {kind: full}\n", 5e-6},
                 {BASE "optimizer: {schedule: linear}\nmethod: {kind: full}\n", 5e-6},
                 {BASE "optimizer: {lr: 1e-4}\nmethod: {kind: full}\n", 1e-4}};
    char *yaml, *text;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Config *c = accepted(CASES[i].text);
        assert_true(c->optimizer.lr == CASES[i].lr);
        assert_int_equal(config_write(c, &yaml), STATUS_OK);
        assert_non_null(strstr(yaml, CASES[i].lr == 1e-4 ? "  lr: 0.0001\n" : "  lr: 5.0e-06\n"));
        mem_free(yaml);
        config_free(c);
    }
    assert_int_equal(config_explain("optimizer.lr", &text), STATUS_OK);
    assert_non_null(strstr(text, "1.0e-4; 5.0e-6 with method.kind: full\n"));
    mem_free(text);
    /* keys are filled in in the table's order */
    int count;
    const SchemaKey *keys = schema_keys(&count);
    for (int i = 0; i < count; i++)
        if (keys[i].unless.other)
            assert_in_range(schema_find(keys[i].unless.other), 0, i - 1);
}

#define PRIOR "prior: {path: class, prompt: a dog}\n"

/* Prior preservation is on where its pictures and its prompt are given, and says what it lacks. */
static void prior_preservation_has_its_parts_together(void **state)
{
    (void)state;
    char expected[200];
    Config *c = accepted(BASE);
    assert_false(config_has_prior(c));
    assert_int_equal(config_samples(c), 1);
    config_free(c);
    c = accepted(BASE PRIOR);
    snprintf(expected, sizeof expected, "%s/class", folder);
    assert_true(config_has_prior(c) && c->prior.weight == 1);
    assert_int_equal(config_samples(c), 2);
    assert_string_equal(c->prior.path, expected);
    assert_int_equal(c->prior.pictures, 100);
    config_free(c);
    c = accepted_with(BASE PRIOR, "prior=");
    assert_false(config_has_prior(c));
    config_free(c);
    refused_with(BASE "prior: {path: class}\n", NULL, "3:15: prior.prompt is missing");
    refused_with(BASE "prior: {prompt: a dog}\n", NULL, "3:17: prior.path is missing");
    refused_with(BASE "prior: {weight: 1}\n", NULL, "3:17: prior.path is missing");
    refused_with(BASE "prior: {path: class, prompt: \"\"}\n", NULL, "3:30: prior.prompt is empty");
    refused_with(BASE "prior: {pictures: 5}\n", NULL,
                 "3:19: prior.pictures does nothing without prior preservation");
    c = accepted_with(BASE PRIOR, "prior.weight=0"); /* switched off on purpose */
    assert_false(config_has_prior(c));
    config_free(c);
    refused_with(BASE PRIOR, "prior.weight=-1", "prior.weight wants a number from 0 to 1000");
    refused_with(BASE PRIOR, "prior.pictures=0", "prior.pictures wants a whole number from 1 to 99999");
    refused_with(BASE PRIOR, "model.init=random", "prior.path does not go with model.init: random");
    refused_with(BASE PRIOR, "prior.path=cat.h5", "lie in one another");
    refused_with(BASE PRIOR, "dataset.path=class/cats/", "lie in one another");
    refused_with(BASE PRIOR, "dataset.path=.", "lie in one another");
    refused_with(BASE PRIOR, "output.dir=class/run", "lies in the class pictures' folder");
    refused_with(BASE PRIOR, "prior.class=a dog", "unknown key prior.class");
    config_free(accepted_with(BASE PRIOR, "dataset.path=class-of-95"));
}

static void numbers_are_whole_words_in_any_usual_notation(void **state)
{
    (void)state;
    static const char *const GOOD[] = {"1e-4",   "1.0e-4", "1E-4",   ".0001",
                                       "0.0001", "+1e-4",  "'1e-4'", "1.e-4"};
    static const char *const BAD[] = {"1,000", "1e",     "0x10", "nan", "inf",   ".inf",
                                      "1e-4x", "1_000",  "--1",  "''",  "true",  "1 2",
                                      "[1]",   "{a: 1}", "~",    "-1",  "1e400", "0,1"};
    char text[200];
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        snprintf(text, sizeof text, BASE "optimizer: {lr: %s}\n", GOOD[i]);
        Config *c = accepted(text);
        assert_true(c->optimizer.lr == 1e-4);
        config_free(c);
    }
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        snprintf(text, sizeof text, BASE "optimizer:\n  lr: %s\n", BAD[i]);
        refused_with(text, NULL,
                     strchr(BAD[i], ',') ? "4:7: optimizer.lr wants a number from 0 to 10, not \""
                                         : "4:7: optimizer.lr wants a number from 0 to 10, not ");
        snprintf(text, sizeof text, BASE "train:\n  batch: %s\n", BAD[i]);
        refused_with(text, NULL, "4:10: train.batch wants a whole number from 1 to 4096, not ");
    }
    refused_with(BASE "train: {batch: 1.5}\n", NULL, "3:16: train.batch wants a whole number");
    refused_with(BASE "train: {batch: 1e2}\n", NULL, "train.batch wants a whole number");
    refused_with(BASE "train: {seed: -1}\n", NULL,
                 "train.seed wants a whole number from 0 to 18446744073709551615");
    refused_with(BASE "train: {seed: 18446744073709551616}\n", NULL, "train.seed wants a whole number");
    refused_with(BASE "train: {resolution: 500}\n", NULL,
                 "3:21: train.resolution wants a whole number from 0 to 4096, a "
                 "multiple of 8, not \"500\"");
    refused_with(BASE "validation: {share: 10%}\n", NULL, "a share is written as 0.1");
}

/* Where a third word is possible the same six are taken beside it. */
static void switches_are_six_words_in_any_usual_case(void **state)
{
    (void)state;
    static const char *const YES[] = {"true", "yes", "on", "True", "Yes", "On", "TRUE", "YES", "ON"},
                             *const NO[] = {"false", "no", "off", "False", "No", "Off", "FALSE", "NO", "OFF"};
    char text[200];
    for (int i = 0; i < 9; i++) {
        snprintf(text, sizeof text,
                 BASE "train: {cache_latents: %s, cache_text: %s, checkpointing: %s, pack_weights: %s}\n",
                 YES[i], NO[i], YES[i], NO[i]);
        Config *c = accepted(text);
        assert_true(c->train.cache_latents && !c->train.cache_text);
        assert_int_equal(c->train.checkpointing, SWITCH_ON);
        assert_int_equal(c->train.pack_weights, SWITCH_OFF);
        config_free(c);
    }
    Config *c = accepted(BASE "train: {checkpointing: auto}\n");
    assert_int_equal(c->train.checkpointing, SWITCH_AUTO);
    assert_int_equal(c->train.pack_weights, SWITCH_AUTO);
    config_free(c);
    refused_with(BASE "train: {checkpointing: maybe}\n", NULL,
                 "train.checkpointing wants true, false or auto, not \"maybe\"");
    refused_with(BASE "train: {pack_weights: 1}\n", NULL, "wants true, false or auto, not \"1\"");
    refused_with(BASE "train: {cache_latents: tRue}\n", NULL, "wants true or false, not \"tRue\"");
    refused_with(BASE "train: {cache_latents: 1}\n", NULL,
                 "train.cache_latents wants true or false, not \"1\"");
    refused_with(BASE "train: {cache_latents: maybe}\n", NULL, "wants true or false");
    refused_with(BASE "train: {cache_latents: }\n", NULL, "wants true or false, not nothing");
}

static void lists_are_limited_and_one_value_is_a_list_of_one(void **state)
{
    (void)state;
    Config *c = accepted(BASE "method: {kind: full}\n"); /* whose result has a format of its own */
    assert_false(c->output.kohya || c->output.peft || c->output.single);
    char *written;
    assert_int_equal(config_write(c, &written), STATUS_OK);
    assert_null(strstr(written, "formats"));
    mem_free(written);
    config_free(c);
    c = accepted(BASE "preview: {prompts: a red heart}\noutput: {formats: peft}\n");
    assert_int_equal(c->preview.prompt_count, 1);
    assert_true(c->output.peft && !c->output.kohya);
    config_free(c);
    char text[2000] = BASE "preview: {prompts: [a";
    for (int i = 1; i < CONFIG_MAX_LIST; i++)
        strcat(text, ",a");
    strcat(text, "]}\n");
    config_free(accepted(text));
    strcpy(strchr(text, ']'), ",b]}\n");
    refused_with(text, NULL, "preview.prompts has 65 items; 64 are allowed");
    strcpy(text, "model: {base: builtin:tiny}\ndataset: [{path: a}");
    for (int i = 0; i < CONFIG_MAX_LIST; i++)
        strcat(text, ",{path: a}");
    strcat(text, "]\n");
    refused_with(text, NULL, "2:10: dataset has 65 items; 64 are allowed");
}

static void set_replaces_values_and_its_mistakes_name_it(void **state)
{
    (void)state;
    Config *c = accepted_with(WHOLE, "train.steps=7000");
    assert_int_equal(c->train.steps, 7000);
    config_free(c);
    c = accepted_with(WHOLE, "preview.prompts=[a cat, 'x, y']");
    assert_int_equal(c->preview.prompt_count, 2);
    assert_string_equal(c->preview.prompts[1], "x, y");
    config_free(c);
    c = accepted_with(WHOLE, "preview.negative=a: b, [c] #d"); /* one value: as it stands */
    assert_string_equal(c->preview.negative, "a: b, [c] #d");
    config_free(c);
    c = accepted_with(WHOLE, "preview.negative='it''s'"); /* unless it is in quotes */
    assert_string_equal(c->preview.negative, "it's");
    config_free(c);
    c = accepted_with(WHOLE, "preview.negative=");
    assert_string_equal(c->preview.negative, "");
    config_free(c);
    c = accepted_with(WHOLE, "dataset.1.repeats=3");
    assert_int_equal(c->datasets[0].repeats, 10);
    assert_int_equal(c->datasets[1].repeats, 3);
    config_free(c);
    c = accepted_with(BASE, "dataset.repeats=3");
    assert_int_equal(c->datasets[0].repeats, 3);
    config_free(c);
    c = accepted_with("model: {base: builtin:tiny}\n", "dataset.path=/x.h5");
    assert_string_equal(c->datasets[0].path, "/x.h5");
    config_free(c);
    c = accepted_with("model: {base: builtin:tiny}\n", "dataset.path=/cat//");
    assert_string_equal(c->datasets[0].path, "/cat");
    config_free(c);
    refused_with(WHOLE, "train.steps=1,000", "--set train.steps=1,000: train.steps wants a whole number");
    refused_with(WHOLE, "train.step=5",
                 "--set train.step=5: unknown key train.step; did you mean train.steps?");
    refused_with(WHOLE, "train.epochs=5", "and train.epochs are both given");
    refused_with(WHOLE, "dataset.repeats=5", "--set dataset.repeats=5: the list there has 2 items");
    refused_with(WHOLE, "dataset.2.repeats=5", "--set dataset.2.repeats=5: the list there has 2 items");
    refused_with(WHOLE, "train.steps.x=5", "--set train.steps.x=5: there is nothing named x below a text");
    refused_with(WHOLE, "train.steps", "it is written KEY=VALUE");
    refused_with(WHOLE, "=5", "it is written KEY=VALUE");
    refused_with(WHOLE, "preview.prompts=[a", "--set preview.prompts=[a");
    refused_with(WHOLE, "train..steps=5", "--set train..steps=5: unknown key train.");
    refused_with(WHOLE, "train=5", "--set train=5: train wants keys below it");
    refused_with(WHOLE, "preview.negative=\xff", "not UTF-8");
    refused_with(WHOLE, "train.\xff=1", "not UTF-8");
}

static void paths_start_at_the_configurations_folder(void **state)
{
    (void)state;
    static const struct {
        const char *given, *meant; /* FOLDER stands for the configuration's */
    } PATHS[] = {{"a/b", "FOLDER/a/b"},
                 {"./a", "FOLDER/a"},
                 {"../a", "/tmp/a"},
                 {"../../a", "/a"},
                 {"..", "/tmp"},
                 {"/x/../y", "/x/../y"},
                 {".hidden", "FOLDER/.hidden"},
                 {"../../..", "/"},
                 {".", "FOLDER"},
                 {"..a", "FOLDER/..a"},
                 {"~/a", "/home/me/a"}};
    char text[200], expected[200];
    setenv("HOME", "/home/me", 1);
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        snprintf(text, sizeof text,
                 "model: {base: m, vae: v}\noutput: {dir: /run}\ndataset: {path: \"%s\"}\n", PATHS[i].given);
        Config *c = accepted(text);
        const bool below = strncmp(PATHS[i].meant, "FOLDER", 6) == 0;
        snprintf(expected, sizeof expected, "%s%s", below ? folder : "", PATHS[i].meant + (below ? 6 : 0));
        assert_string_equal(c->datasets[0].path, expected);
        snprintf(expected, sizeof expected, "%s/m", folder);
        assert_string_equal(c->model.base, expected);
        config_free(c);
    }
}

static void what_is_written_reads_back_the_same(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {
        WHOLE,
        BASE,
        BASE "method: {kind: full, text_encoder: on}\ntrain: {epochs: 2, ema: 0.9999}\n",
        BASE "optimizer: {lr: 3.3333333e-7, eps: 1e-16, beta2: 0.98765432}\nloss: {snr_gamma: 1e-3}\n",
        BASE "output: {save_every: 0, dir: \"/tmp/a: b #c\"}\npreview: {prompts: [\" a\", \"x\\ny\", \"{\", "
             "Yes]}\n",
        "model: {base: builtin:tiny}\ndataset: {path: a, augment: {shift: .1}, caption: {shuffle: on, "
        "keep_tokens: 2}}\n",
        BASE "prior: {path: class, prompt: 'no', weight: 0.5, negative: a, seed: 3}\n",
    };
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        char *once, *twice;
        Config *a = accepted(TEXTS[i]);
        assert_int_equal(config_write(a, &once), STATUS_OK);
        Config *b = accepted(once);
        assert_int_equal(config_write(b, &twice), STATUS_OK);
        assert_string_equal(once, twice);
        int count;
        const SchemaKey *keys = schema_keys(&count);
        for (int k = 0; k < count; k++)
            for (int d = 0; d < (schema_of_dataset(&keys[k]) ? a->dataset_count : 1); d++)
                if (schema_number(&keys[k], a, d) != schema_number(&keys[k], b, d))
                    fail_msg("%s differs in %s", keys[k].path, once);
        assert_int_equal(a->preview.prompt_count, b->preview.prompt_count);
        for (int k = 0; k < a->preview.prompt_count; k++)
            assert_string_equal(a->preview.prompts[k], b->preview.prompts[k]);
        assert_string_equal(a->output.dir, b->output.dir);
        assert_string_equal(a->datasets[0].path, b->datasets[0].path);
        assert_int_equal(a->output.peft, b->output.peft);
        config_free(a);
        config_free(b);
        mem_free(once);
        mem_free(twice);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(every_key_arrives_in_its_field),
        CONFIG_TEST(defaults_that_depend_on_other_keys),
        CONFIG_TEST(the_rate_where_none_is_given_is_that_of_what_is_trained),
        CONFIG_TEST(prior_preservation_has_its_parts_together),
        CONFIG_TEST(numbers_are_whole_words_in_any_usual_notation),
        CONFIG_TEST(switches_are_six_words_in_any_usual_case),
        CONFIG_TEST(lists_are_limited_and_one_value_is_a_list_of_one),
        CONFIG_TEST(set_replaces_values_and_its_mistakes_name_it),
        CONFIG_TEST(paths_start_at_the_configurations_folder),
        CONFIG_TEST(what_is_written_reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
