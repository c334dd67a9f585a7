/* Configurations: what is read, what is refused and where the message points, what is written out again.
 * Breaks if a mistake would go unnoticed, if its message would not say where it is, or if a run's own
 * config.yaml were not the configuration that it ran with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/samplers/sampler.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/config/config.h"
#include "train/config/schema.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/atelier-config-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/cat.yaml", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return dir_remove(folder);
}

static Status read_bytes(const char *text, size_t size, const char *const *sets, int count, Config **out)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    fclose(f);
    return config_read(path, sets, count, out);
}

/* The configuration in text with one --set (or NULL). */
static Config *accepted_with(const char *text, const char *set)
{
    Config *c;
    if (read_bytes(text, strlen(text), &set, set != NULL, &c) != STATUS_OK)
        fail_msg("%s", status_message());
    return c;
}

static Config *accepted(const char *text)
{
    return accepted_with(text, NULL);
}

static void refused_with(const char *text, const char *set, const char *message)
{
    Config *c = NULL;
    char where[200];
    if (read_bytes(text, strlen(text), &set, set != NULL, &c) == STATUS_OK)
        fail_msg("accepted: %s %s", text, set ? set : "");
    assert_null(c);
    if (message[0] >= '0' && message[0] <= '9')
        snprintf(where, sizeof where, "%s:%s", path, message); /* LINE:COLUMN: … */
    else
        snprintf(where, sizeof where, "%s", message);
    if (!strstr(status_message(), where))
        fail_msg("\"%s\" is not in \"%s\"", where, status_message());
}

#define BASE "model: {base: builtin:tiny}\ndataset: {path: cat.h5}\n"
#define WHOLE                                                                                                \
    "model: {base: builtin:tiny, dtype: f32}\n"                                                              \
    "dataset:\n"                                                                                             \
    "  - {path: out/cat.h5, repeats: 10, caption: {dropout: 0.1, shuffle: false}}\n"                         \
    "  - path: ../dogs\n"                                                                                    \
    "    augment: {flip: yes}\n"                                                                             \
    "method: {kind: lora, rank: 8, alpha: 4, targets: attention, text_encoder: false, init: gaussian, "      \
    "clip_skip: 1}\n"                                                                                        \
    "train: {steps: 300, batch: 4, resolution: 512, accumulate: 2, checkpointing: on, seed: "                \
    "18446744073709551615}\n"                                                                                \
    "optimizer: {kind: adamw, lr: 1.0e-4, weight_decay: 0.02, schedule: linear, warmup: 50}\n"               \
    "loss: {snr_gamma: 0, noise_offset: .05}\n"                                                              \
    "validation: {share: 0.1, every: 7}\n"                                                                   \
    "preview: {every: 100, prompts: [a photo of sks cat, no, 'a, b', \"ü \\u007f \\t\\\"q\\\" \\\\\"], "    \
    "negative: no,\n"                                                                                        \
    "  steps: 20, cfg: 7.0, seed: 1, width: 64}\n"                                                           \
    "output: {dir: runs/cat, save_every: 250, keep: 2, formats: [kohya, peft], dtype: bf16}\n"

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
    assert_string_equal(c->preview.sampler, "ddim");
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

/* What is wrong, and what the message has to say about it. */
static const struct {
    const char *text, *message;
} BAD[] = {
    {"", "1:1: there is nothing in it"},
    {"- a\n", "1:1: a configuration is made of keys"},
    {"just text\n", "1:1: a configuration is made of keys"},
    {"dataset: {path: a}\n", "model.base is missing; it wants a path"},
    {"dataset: {path: a}\nmodel:\n  dtype: f32\n", "3:3: model.base is missing"},
    {"model: {base: builtin:tiny}\n", "dataset is missing"},
    {"model: {base: builtin:tiny}\ndataset: []\n", "dataset is missing"},
    {"model: {base: builtin:tiny}\ndataset:\n  - {path: a}\n  - {repeats: 2}\n",
     "4:5: dataset.path is missing"},
    {"model: {base: builtin:tiny}\ndataset: cat.h5\n", "2:10: dataset wants keys below it: path"},
    {"model: {base: builtin:tiny}\ndataset: [a.h5]\n", "2:11: dataset wants keys below it"},
    {"model: {base: builtin:tiny}\ndataset: [[{path: a}]]\n", "2:11: a list in the list of datasets"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, caption: yes}\n",
     "2:29: dataset.caption wants keys below it"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, captions: {dropout: 1}}\n",
     "2:20: unknown key dataset.captions; did you mean dataset.caption?"},
    {"model: builtin:tiny\ndataset: {path: a}\n", "1:8: model wants keys below it, not a value"},
    {"model: {base: }\ndataset: {path: a}\n", "1:15: model.base wants a path, not nothing"},
    {"model: {base: \"\"}\ndataset: {path: a}\n", "1:15: model.base wants a path"},
    {"model: {base: [a]}\ndataset: {path: a}\n", "1:15: model.base wants a path, not a list"},
    {BASE "train:\n  stpes: 1\n", "4:3: unknown key train.stpes; did you mean train.steps?"},
    {BASE "trian: {steps: 1}\n", "3:1: unknown key trian; did you mean train?"},
    {BASE "train: {lr: 1}\n", "3:9: unknown key train.lr; did you mean optimizer.lr?"},
    {BASE "rank: 4\n", "3:1: unknown key rank; did you mean method.rank?"},
    {BASE "train.steps: 4\n", "3:1: unknown key train.steps; keys are nested"},
    {BASE "loss: {zzzzzzz: 4}\n",
     "3:8: unknown key loss.zzzzzzz; the keys of loss are: snr_gamma, debiased, noise_offset"},
    {BASE "zzzzzzzzz: 4\n", "3:1: unknown key zzzzzzzzz; the keys there are: model, dataset, method"},
    {BASE "train: {steps: 1}\ntrain: {batch: 1}\n", "4:1: the key train is given twice (first in line 3)"},
    {BASE "train: {batch: 4097}\n", "3:16: train.batch wants a whole number from 1 to 4096, not \"4097\""},
    {BASE "validation: {share: 0.91}\n", "3:21: validation.share wants a number from 0 to 0.9, not \"0.91\""},
    {BASE "optimizer: {beta1: 1}\n", "3:20: optimizer.beta1 wants a number from 0 to 0.999999, not \"1\""},
    {BASE "optimizer: {eps: 0}\n", "3:18: optimizer.eps wants a number from 1e-16 to 1, not \"0\""},
    {BASE "train: {batch: 0}\n", "3:16: train.batch wants a whole number from 1 to 4096, not \"0\""},
    {BASE "method: {kind: loar}\n",
     "3:16: method.kind wants one of lora, full, not \"loar\"; did you mean lora?"},
    {BASE "method: {kind: dreambooth}\n", "method.kind wants one of lora, full, not \"dreambooth\""},
    {BASE "output: {formats: [kohya, a1111]}\n",
     "3:27: output.formats wants a list of: kohya, peft, not \"a1111\""},
    {BASE "output: {formats: []}\n", "3:19: output.formats wants a list of: kohya, peft"},
    {BASE "preview: {prompts: [a photo: of a cat]}\n",
     "3:21: preview.prompts wants a list of texts, and this is a key"},
    {BASE "preview: {prompts: {a: b}}\n", "3:20: preview.prompts wants a list of texts"},
    {BASE "preview: {prompts: [a, ]}\npreview: 1", "the key preview is given twice"},
    {BASE "preview: {negative: }\n",
     "3:21: preview.negative wants a text, not nothing (an empty text is written \"\")"},
    {BASE "preview: {prompts: [a], sampler: dim}\n",
     "preview.sampler wants one of ddim, euler, euler_a, dpmpp_2m, not \"dim\"; did you mean"},
    {BASE "train:\n\tsteps: 1\n", "4:1: a tab in the indentation"},
    {BASE "train: {steps: 0}\n", "3:16: train.steps and train.epochs are both 0"},
    {BASE "train: {steps: 20}\noptimizer: {warmup: 20}\n",
     "4:21: optimizer.warmup is 20, and the run has only 20"},
    /* keys that do nothing */
    {BASE "method: {kind: full, rank: 4}\n", "3:28: method.rank does nothing with method.kind: full"},
    {BASE "method: {kind: full, targets: attention}\n", "3:31: method.targets does nothing"},
    {BASE "method: {kind: full, alpha: 1}\n", "method.alpha does nothing"},
    {BASE "method: {kind: full, init: kaiming}\n", "method.init does nothing"},
    {BASE "method: {kind: full}\noutput: {formats: [peft]}\n", "4:19: output.formats does nothing"},
    {BASE "train: {steps: 10, epochs: 2}\n", "train.steps and train.epochs are both given"},
    {BASE "train: {cache_text: true}\nmethod: {text_encoder: true}\n",
     "3:21: train.cache_text does not go with"},
    {BASE "optimizer: {text_encoder_lr: 1e-5}\n", "3:30: optimizer.text_encoder_lr does nothing without"},
    {BASE "validation: {every: 5}\n", "3:21: validation.every does nothing without validation.share"},
    {BASE "preview: {every: 0, steps: 9}\n", "3:28: preview.steps does nothing without preview.prompts"},
    {BASE "preview: {cfg: 3}\n", "3:16: preview.cfg does nothing without preview.prompts"},
    {BASE "preview: {every: 9}\n", "3:18: preview.every does nothing without preview.prompts"},
    {"model: {base: builtin:tiny}\ndataset:\n  - {path: a}\n  - {path: b, caption: {keep_tokens: 1}}\n",
     "4:38: dataset.caption.keep_tokens does nothing without caption.shuffle: true"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, augment: {scale: 0.1}}\ntrain: {cache_latents: true}\n",
     "2:37: dataset.augment.scale does not go with train.cache_latents: true"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, augment: {random_crop: on}}\ntrain: {cache_latents: "
     "true}\n",
     "2:43: dataset.augment.random_crop does not go with"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, caption: {shuffle: on}}\ntrain: {cache_text: true}\n",
     "2:39: dataset.caption.shuffle does not go with train.cache_text: true"},
};

/* A section that is switched off on purpose may keep the rest of its keys. */
static void a_switched_off_section_may_stay(void **state)
{
    (void)state;
    static const char *const OFF[] = {
        BASE "preview: {every: 0, prompts: [a], cfg: 3}\n",
        BASE "validation: {share: 0, every: 5}\n",
        BASE "output: {save_every: 0, keep: 2}\n",
    };
    for (size_t i = 0; i < sizeof OFF / sizeof *OFF; i++) {
        Config *c = accepted(OFF[i]);
        char *written = NULL;
        assert_int_equal(config_write(c, &written), STATUS_OK);
        config_free(accepted(written));
        mem_free(written);
        config_free(c);
    }
}

static void mistakes_are_named_with_their_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        refused_with(BAD[i].text, NULL, BAD[i].message);
    Config *c = accepted(BASE "train: \nmethod: {kind: full, text_encoder: true}\npreview:\n  # every: 5\n");
    config_free(c); /* a section with nothing below it is no mistake */
    c = accepted(BASE "train: {steps: 0, epochs: 2, cache_text: off}\nmethod: {text_encoder: on}\n");
    config_free(c); /* nor is saying no to what would be a contradiction */
}

static void lists_are_limited_and_one_value_is_a_list_of_one(void **state)
{
    (void)state;
    Config *c = accepted(BASE "preview: {prompts: a red heart}\noutput: {formats: peft}\n");
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

/* No crash, and a message with the file's name whatever is wrong; sanitizers see the rest. */
static void a_damaged_file_is_an_error_or_read(const char *text, size_t size)
{
    Config *c = NULL;
    const Status s = read_bytes(text, size, NULL, 0, &c);
    if (s != STATUS_OK && !strstr(status_message(), path))
        fail_msg("no file in \"%s\"", status_message());
    config_free(c);
}

static void damaged_files_never_crash(void **state)
{
    (void)state;
    const char *whole = WHOLE;
    const size_t size = strlen(whole);
    static const unsigned char FLIPS[] = {0x01, 0x04, 0x10, 0x80};
    char *text = malloc(size + 1);
    for (size_t at = 0; at < size; at++) {
        a_damaged_file_is_an_error_or_read(whole, at);
        for (size_t i = 0; i < sizeof FLIPS; i++) {
            memcpy(text, whole, size);
            text[at] = (char)(text[at] ^ FLIPS[i]);
            a_damaged_file_is_an_error_or_read(text, size);
        }
        memcpy(text, whole, at);
        text[at] = "{[:,-&*!'\"#\n\t"[at % 13];
        memcpy(text + at + 1, whole + at, size - at);
        a_damaged_file_is_an_error_or_read(text, size + 1);
    }
    free(text);
}

static int refuse_after(size_t bytes, void *left)
{
    (void)bytes;
    return (*(int *)left)-- <= 0;
}

static void running_out_of_memory_is_an_error_like_others(void **state)
{
    (void)state;
    config_free(accepted(WHOLE)); /* writes the file */
    const char *const sets[] = {"preview.prompts=[a, b]", "output.dir=x"};
    Status s = STATUS_FAILED;
    for (int n = 0; s != STATUS_OK; n++) {
        Config *c = NULL;
        int left = n;
        mem_set_hook(refuse_after, &left);
        s = config_read(path, sets, 2, &c);
        char *text = NULL;
        if (s == STATUS_OK)
            s = config_write(c, &text);
        mem_set_hook(NULL, NULL);
        mem_free(text);
        config_free(c);
        assert_true(n < 2000);
    }
}

static void the_reference_page_is_up_to_date(void **state)
{
    (void)state;
    char *page, *file;
    size_t size;
    assert_int_equal(config_reference(&page), STATUS_OK);
    assert_int_equal(file_read(ATELIER_SOURCE_DIR "/docs/configuration.md", 1 << 20, &file, &size),
                     STATUS_OK);
    if (strcmp(page, file) != 0)
        fail_msg(
            "docs/configuration.md is not the schema's; atelier config reference > docs/configuration.md");
    mem_free(page);
    mem_free(file);
}

static void every_key_is_explained_and_in_the_editors_schema(void **state)
{
    (void)state;
    int count;
    char *text;
    const SchemaKey *keys = schema_keys(&count);
    assert_int_equal(config_json_schema(&text), STATUS_OK);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    mem_free(text);
    for (int i = 0; i < count; i++) {
        assert_int_equal(config_explain(keys[i].path, &text), STATUS_OK);
        assert_non_null(strstr(text, keys[i].path));
        mem_free(text);
        char copy[100], *rest = copy;
        strcpy(copy, keys[i].path);
        const json_t *at = root;
        for (char *part; (part = strsep(&rest, ".")) != NULL;) {
            at = json_object_get(json_object_get(at, "properties"), part);
            if (strcmp(part, "dataset") == 0)
                at = json_array_get(json_object_get(at, "anyOf"), 1);
        }
        if (!json_object_get(at, "description"))
            fail_msg("%s is not in the schema for editors", keys[i].path);
    }
    json_decref(root);
    assert_int_equal(config_explain("train.stps", &text), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "did you mean train.steps?"));
    assert_int_equal(config_explain(NULL, &text), STATUS_OK);
    mem_free(text);
}

static void rules_name_keys_that_there_are(void **state)
{
    (void)state;
    int count;
    const SchemaRule *rules = schema_rules(&count);
    for (int i = 0; i < count; i++) {
        assert_true(schema_find(rules[i].other) >= 0);
        assert_true(strchr(rules[i].key, '*') || schema_find(rules[i].key) >= 0);
    }
}

static void samplers_are_those_of_the_sampler(void **state)
{
    (void)state;
    int keys;
    const char *const paths[] = {"preview.sampler", "prior.sampler"};
    for (int i = 0; i < 2; i++)
        assert_string_equal(schema_keys(&keys)[schema_find(paths[i])].choices, SAMPLER_WORDS);
}

static void the_files_in_configs_are_right(void **state)
{
    (void)state;
    char **names, file[300];
    int count, seen = 0;
    assert_int_equal(dir_list(ATELIER_SOURCE_DIR "/configs", &names, &count), STATUS_OK);
    for (int i = 0; i < count; i++) {
        Config *c;
        const char *dot = strrchr(names[i], '.');
        if (!dot || strcmp(dot, ".yaml") != 0)
            continue;
        snprintf(file, sizeof file, "%s/configs/%s", ATELIER_SOURCE_DIR, names[i]);
        if (config_read(file, NULL, 0, &c) != STATUS_OK)
            fail_msg("%s", status_message());
        config_free(c);
        seen++;
    }
    dir_list_free(names, count);
    assert_true(seen >= 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_key_arrives_in_its_field),
        TEST(defaults_that_depend_on_other_keys),
        TEST(the_rate_where_none_is_given_is_that_of_what_is_trained),
        TEST(prior_preservation_has_its_parts_together),
        TEST(numbers_are_whole_words_in_any_usual_notation),
        TEST(switches_are_six_words_in_any_usual_case),
        TEST(a_switched_off_section_may_stay),
        TEST(mistakes_are_named_with_their_place),
        TEST(lists_are_limited_and_one_value_is_a_list_of_one),
        TEST(set_replaces_values_and_its_mistakes_name_it),
        TEST(paths_start_at_the_configurations_folder),
        TEST(what_is_written_reads_back_the_same),
        TEST(damaged_files_never_crash),
        TEST(running_out_of_memory_is_an_error_like_others),
        cmocka_unit_test(the_reference_page_is_up_to_date),
        cmocka_unit_test(every_key_is_explained_and_in_the_editors_schema),
        cmocka_unit_test(rules_name_keys_that_there_are),
        cmocka_unit_test(samplers_are_those_of_the_sampler),
        cmocka_unit_test(the_files_in_configs_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
