/* The same configuration and seed give the same bytes: with any number of loader threads, with caches and
 * without, in one go and resumed, for a LoRA, one with the text encoder, and whole weights with EMA, and
 * SDXL's. Breaks
 * if anything that a step depends on is drawn or summed in the order in which it happens to be ready. */
#include "runs.h"

#include <unistd.h>

typedef struct Kind {
    const char *name, *method, *text, *ema, *files[6];
    const char *model, *more; /* NULL: no more settings */
} Kind;

static char *more(const Kind *k)
{
    return k->more ? (char *)k->more : "train.seed=42";
}

static const Kind kinds[] = {
    {"lora",
     "method.kind=lora",
     "method.text_encoder=false",
     "train.ema=0",
     {"lora.safetensors", "checkpoints/step-000004/weights.safetensors",
      "checkpoints/step-000004/optimizer.safetensors"},
     SD1,
     NULL},
    {"text",
     "method.kind=lora",
     "method.text_encoder=true",
     "train.ema=0",
     {"lora.safetensors", "checkpoints/step-000004/weights.safetensors",
      "checkpoints/step-000004/optimizer.safetensors"},
     SD1,
     NULL},
    {"full",
     "method.kind=full",
     "method.text_encoder=true",
     "train.ema=0.9",
     {"model/unet/diffusion_pytorch_model.safetensors", "model/text_encoder/model.safetensors",
      "checkpoints/step-000004/weights.safetensors", "checkpoints/step-000004/optimizer.safetensors",
      "checkpoints/step-000004/ema.safetensors"},
     SD1,
     NULL},
    {"fused",
     "method.kind=full",
     "method.text_encoder=true",
     "train.ema=0.9",
     {"model/unet/diffusion_pytorch_model.safetensors", "model/text_encoder/model.safetensors",
      "checkpoints/step-000004/weights.safetensors", "checkpoints/step-000004/optimizer.safetensors",
      "checkpoints/step-000004/ema.safetensors"},
     SD1,
     "train.fused_backward=true"},
    {"xl",
     "method.kind=lora",
     "method.text_encoder=false",
     "train.ema=0",
     {"lora.safetensors", "checkpoints/step-000004/weights.safetensors",
      "checkpoints/step-000004/optimizer.safetensors"},
     SDXL,
     NULL},
    {"xl-texts",
     "method.kind=lora",
     "method.text_encoder=true",
     "train.ema=0",
     {"lora.safetensors", "checkpoints/step-000004/weights.safetensors",
      "checkpoints/step-000004/optimizer.safetensors"},
     SDXL,
     NULL},
};

static void run_kind(const Kind *k, const char *name, char *threads, char *latents, char *text)
{
    /* a whole dataset's captions are the same whether they are cached or not; the text encoder's own are not
     */
    char *cache = strstr(k->text, "true") ? "train.cache_text=false" : text;
    train(config_for(name, k->model, k->method, k->text, k->ema, threads, latents, cache, more(k),
                     "train.steps=4", "dataset.augment.flip=true", "output.keep=3", (char *)NULL),
          NULL);
}

static void assert_same(const Kind *k, const char *a, const char *b)
{
    for (int i = 0; k->files[i]; i++)
        assert_same_file(a, b, k->files[i]);
    for (int i = 0; i < 4; i++) {
        assert_true(number(a, i, "loss") == number(b, i, "loss"));
        assert_true(number(a, i, "grad_norm") == number(b, i, "grad_norm"));
    }
}

static void threads_and_caches_change_no_byte(void **state)
{
    (void)state;
    static char *const ways[][3] = {
        {"train.loader_threads=0", "train.cache_latents=false", "train.cache_text=true"},
        {"train.loader_threads=1", "train.cache_latents=false", "train.cache_text=false"},
        {"train.loader_threads=3", "train.cache_latents=false", "train.cache_text=true"},
        {"train.loader_threads=0", "train.cache_latents=true", "train.cache_text=false"},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        run_kind(&kinds[k], kinds[k].name, "train.loader_threads=0", "train.cache_latents=true",
                 "train.cache_text=true");
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            char name[32];
            snprintf(name, sizeof name, "%s%d", kinds[k].name, (int)w);
            run_kind(&kinds[k], name, ways[w][0], ways[w][1], ways[w][2]);
            assert_same(&kinds[k], kinds[k].name, name);
        }
    }
}

/* What is computed twice comes out as what was kept: whole blocks, and SDXL's transformers block by block. */
static void checkpointing_changes_no_byte(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char *name[] = {mem_printf("%s-kept", kinds[k].name), mem_printf("%s-twice", kinds[k].name)};
        for (int i = 0; i < 2; i++)
            train(
                config_for(name[i], kinds[k].model, kinds[k].method, kinds[k].text, kinds[k].ema,
                           strstr(kinds[k].text, "true") ? "train.cache_text=false" : "train.cache_text=true",
                           i ? "train.checkpointing=on" : "train.checkpointing=off", more(&kinds[k]),
                           "train.steps=4", "output.keep=3", (char *)NULL),
                NULL);
        for (int i = 0; kinds[k].files[i]; i++)
            if (strncmp(kinds[k].files[i], "lora.", 5) != 0) /* which says how it was trained */
                assert_same_file(name[0], name[1], kinds[k].files[i]);
        mem_free(name[0]);
        mem_free(name[1]);
    }
}

/* A whole run's folder put back to its checkpoint of step 2, as if killed after it, and gone on with. */
static void a_resumed_run_ends_in_the_same_bytes(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char *name = mem_printf("%s-again", kinds[k].name);
        char *threads = "train.loader_threads=3", *latents = "train.cache_latents=true";
        run_kind(&kinds[k], name, threads, latents, "train.cache_text=true");
        char *log = mem_printf("%s/%s/log.jsonl", work, name);
        assert_int_equal(truncate(log, file_size(log) - 1), 0);
        char *command =
            mem_printf("cd %s/%s && rm -rf checkpoints/step-000004 lora.safetensors model", work, name);
        assert_int_equal(system(command), 0);
        char *cache = strstr(kinds[k].text, "true") ? "train.cache_text=false" : "train.cache_text=true";
        train(config_for(name, kinds[k].model, kinds[k].method, kinds[k].text, kinds[k].ema, threads, latents,
                         cache, more(&kinds[k]), "train.steps=4", "dataset.augment.flip=true",
                         "output.keep=3", (char *)NULL),
              "auto");
        assert_same(&kinds[k], kinds[k].name, name);
        mem_free(command);
        mem_free(log);
        mem_free(name);
    }
}

/* Previews and validation pack trained weights once for all their calls: what one has packed must not be
 * there in the next, after the weights have moved, nor come into the gradients. */
static void previews_and_validation_show_the_weights_of_their_step(void **state)
{
    (void)state;
#define LOOK(n)                                                                                              \
    "method.kind=full", "train.steps=4", "optimizer.lr=0.01", "train.ema=0.5", "validation.share=0.3",       \
        "validation.every=" n, "preview.prompts=[a cat]", "preview.steps=2", "preview.every=" n,             \
        (char *)NULL
    train(config_for("often", SD1, LOOK("1")), NULL);
    train(config_for("seldom", SD1, LOOK("4")), NULL);
    assert_same_file("often", "seldom", "samples/step-000004.png");
    assert_same_file("often", "seldom", "checkpoints/step-000004/weights.safetensors");
    assert_true(number("often", 3, "validation_loss") == number("seldom", 3, "validation_loss"));
    assert_true(number("often", 3, "validation_loss") != number("often", 2, "validation_loss"));
#undef LOOK
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_caches_change_no_byte),
        cmocka_unit_test(checkpointing_changes_no_byte),
        cmocka_unit_test(a_resumed_run_ends_in_the_same_bytes),
        cmocka_unit_test(previews_and_validation_show_the_weights_of_their_step),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
