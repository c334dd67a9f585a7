/* Configurations that are wrong, damaged, or read with too little memory. Breaks if a mistake would go
 * unnoticed, or if its message would not say where it is. */
#include "configs.h"

#include "kernels/base/mem.h"
#include "train/config/other_names.h"
#include "train/config/schema.h"
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
    {BASE "optimizer: {lr: 1e-400}\n",
     "not \"1e-400\"; it is beyond the numbers that can be held, about 1e-38 to 1e38"},
    {BASE "loss: {noise_offset: 1e-50}\n", "not \"1e-50\"; it is beyond the numbers that can be held"},
    {BASE "optimizer: {lr: 1e400}\n", "not \"1e400\"; it is beyond the numbers that can be held"},
    {BASE "train: {device: cuda0}\n",
     "3:17: train.device wants one of auto, cpu, cuda, cuda:N, cuda:GPU-UUID, not \"cuda0\""},
    {BASE "train: {batch: 0}\n", "3:16: train.batch wants a whole number from 1 to 4096, not \"0\""},
    {BASE "method: {kind: loar}\n",
     "3:16: method.kind wants one of lora, full, not \"loar\"; did you mean lora?"},
    {BASE "method: {kind: dreambooth}\n", "method.kind wants one of lora, full, not \"dreambooth\""},
    {BASE "output: {formats: [kohya, a1111]}\n",
     "3:27: output.formats wants a list of: kohya, peft, single, not \"a1111\""},
    {BASE "output: {formats: []}\n", "3:19: output.formats wants a list of: kohya, peft, single"},
    {BASE "preview: {prompts: [a photo: of a cat]}\n",
     "3:21: preview.prompts wants a list of texts, and this is a key"},
    {BASE "preview: {prompts: {a: b}}\n", "3:20: preview.prompts wants a list of texts"},
    {BASE "preview: {prompts: [a, ]}\npreview: 1", "the key preview is given twice"},
    {BASE "preview: {negative: }\n",
     "3:21: preview.negative wants a text, not nothing (an empty text is written \"\")"},
    {BASE "preview: {prompts: [a], sampler: dim}\n",
     "preview.sampler wants one of auto, ddim, pndm, euler, euler_a, heun, dpm2, dpm2_a, dpmpp_2m, "
     "dpmpp_2m_sde, dpmpp_sde, unipc, lcm, not \"dim\"; did you mean"},
    {BASE "train:\n\tsteps: 1\n", "4:1: a tab in the indentation"},
    {BASE "train: {steps: 0}\n", "3:16: train.steps and train.epochs are both 0"},
    {BASE "preview: {prompts: [a, b], seed: 18446744073709551615}\n",
     "preview.seed: 2 pictures from 18446744073709551615 on would go past the largest seed"},
    /* keys that do nothing */
    {"model: {base: a, tf32: true}\ndataset: {path: a}\n", "1:24: model.tf32 does nothing in 16 bits"},
    {"model: {base: a, dtype: f16, tf32: true}\ndataset: {path: a}\n", "model.tf32 does nothing in 16 bits"},
    {BASE "method: {kind: full, rank: 4}\n", "3:28: method.rank does nothing with method.kind: full"},
    {BASE "method: {kind: full, targets: attention}\n", "3:31: method.targets does nothing"},
    {BASE "method: {kind: full, alpha: 1}\n", "method.alpha does nothing"},
    {BASE "method: {kind: full, init: kaiming}\n", "method.init does nothing"},
    {BASE "method: {kind: full}\noutput: {formats: [peft]}\n",
     "4:19: output.formats: kohya and peft are formats of a LoRA"},
    {BASE "method: {kind: full}\noutput: {formats: [kohya]}\n",
     "4:19: output.formats: kohya and peft are formats of a LoRA"},
    {BASE "output: {formats: [single]}\n", "3:19: output.formats: single is a whole model"},
    {BASE "train: {steps: 10, epochs: 2}\n", "train.steps and train.epochs are both given"},
    {BASE "train: {cache_text: true}\nmethod: {text_encoder: true}\n",
     "3:21: train.cache_text does not go with"},
    {BASE "optimizer: {text_encoder_lr: 1e-5}\n", "3:30: optimizer.text_encoder_lr does nothing without"},
    {BASE "optimizer: {text_encoder_2_lr: 1e-5}\n", "optimizer.text_encoder_2_lr does nothing without"},
    {BASE "method: {text_encoder: first}\noptimizer: {text_encoder_2_lr: 1e-5}\n",
     "optimizer.text_encoder_2_lr does nothing with method.text_encoder: first"},
    {BASE "method: {text_encoder: third}\n", "one of false, true, first, second"},
    {BASE "train: {cache_text: true}\nmethod: {text_encoder: first}\n", "train.cache_text does not go with"},
    {BASE "validation: {every: 5}\n", "3:21: validation.every does nothing without validation.share"},
    {BASE "preview: {every: 0, steps: 9}\n", "3:28: preview.steps does nothing without preview.prompts"},
    {BASE "preview: {cfg: 3}\n", "3:16: preview.cfg does nothing without preview.prompts"},
    {BASE "preview: {every: 9}\n", "3:18: preview.every does nothing without preview.prompts"},
    {"model: {base: builtin:tiny}\ndataset:\n  - {path: a}\n  - {path: b, caption: {keep_tokens: 1}}\n",
     "4:38: dataset.caption.keep_tokens does nothing without caption.shuffle: true"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, augment: {scale: 0.1}}\ntrain: {cache_latents: true}\n",
     "2:37: dataset.augment.scale does not go with train.cache_latents: true"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, crop: random}\ntrain: {cache_latents: true}\n",
     "2:26: dataset.crop: random does not go with"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, buckets: off, bucket_step: 32}\n",
     "2:47: dataset.bucket_step does nothing with buckets: off"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, resolution: [64, 64]}\n",
     "2:37: dataset.resolution has 64 twice"},
    {"model: {base: builtin:tiny}\ndataset: {path: a, resolution: [64, 33]}\n",
     "2:37: dataset.resolution wants a whole number from 16 to 4096, a multiple of 8, "
     "not \"33\""},
    {BASE "method: {kind: full}\ntrain: {accumulate: 2, fused_backward: true}\n",
     "4:40: train.fused_backward does not go with train.accumulate"},
    {"model: {base: builtin:tiny, dtype: f16}\ndataset: {path: a}\nmethod: {kind: full}\n"
     "train: {fused_backward: on}\n",
     "4:25: train.fused_backward does not go with model.dtype: f16"},
    {BASE "train: {fused_backward: on}\n", "3:25: train.fused_backward does nothing with method.kind: lora"},
    {BASE "train: {fused_backward_pass: on}\n", "here it is train.fused_backward"},
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

/* What is said of other programs' words names a key that there is. */
static void other_programs_words_lead_to_keys(void **state)
{
    (void)state;
    int count, keys = 0;
    const OptionElsewhere *list = other_names_options(&count);
    for (int i = 0; i < count; i++) {
        char key[64];
        const char *set = strstr(list[i].answer, "--set ");
        if (!set)
            continue;
        snprintf(key, sizeof key, "%.*s", (int)strcspn(set + 6, "="), set + 6);
        if (schema_find(key) < 0)
            fail_msg("%s: there is no %s", list[i].names, key);
        keys++;
    }
    assert_true(keys > 40);
    assert_string_equal(other_name_answer("network_alpha"), "here it is method.alpha");
    assert_string_equal(other_name_answer("allow_tf32"), "here it is model.tf32 (with model.dtype: f32)");
    assert_null(other_name_answer("network_alphas"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(a_switched_off_section_may_stay),
        CONFIG_TEST(mistakes_are_named_with_their_place),
        CONFIG_TEST(other_programs_words_lead_to_keys),
        CONFIG_TEST(damaged_files_never_crash),
        CONFIG_TEST(running_out_of_memory_is_an_error_like_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
