/* Encoding a dataset once: what is cached is what the VAE makes of the very pictures that the loader gives,
 * it is made only once, and a key stands for everything it depends on. With the built-in model's VAE. */
#include "tests/data/pictures.h"

#include "data/loader/sample.h"
#include "kernels/base/log.h"
#include "kernels/device.h"
#include "train/pictures/caching.h"

#define R 64
#define N (4 * 16 * 16) /* the built-in VAE makes 4 pixels one latent */

static char folder[64], *cache_path;
static Dataset *dataset;
static Model *model;
static Ctx *ctx;
static Pipeline *pipeline;

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    write_png(folder, "a.png", 80, 70, 1);
    write_png(folder, "b.png", 64, 64, 2);
    char *path = path_join(folder, "set.h5");
    cache_path = path_join(folder, "run.cache.h5");
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = path, .caption = "x"}, NULL));
    assert_ok(dataset_open(path, &dataset));
    assert_ok(model_load("builtin:tiny", MODEL_VAE, DTYPE_F32, &model));
    ctx = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 1});
    assert_ok(pipeline_new(ctx, model, &pipeline));
    mem_free(path);
    return 0;
}

/* Both pictures at that size. */
static const Views *views(Size size)
{
    static BucketFit fits[2];
    static Views v;
    for (int i = 0; i < 2; i++)
        fits[i] = bucket_fit_size(dataset_size(dataset, i), size);
    v = (Views){.dataset = dataset, .fits = fits, .count = 2};
    return &v;
}

static int tear_down(void **state)
{
    (void)state;
    pipeline_free(pipeline);
    ctx_free(ctx);
    model_free(model);
    dataset_close(dataset);
    mem_free(cache_path);
    return dir_remove(folder) != STATUS_OK;
}

static void latents_of_the_loaders_pictures(void **state)
{
    (void)state;
    CacheKind kind;
    DatasetCache *cache;
    assert_ok(caching_latents_kind(model, DTYPE_F32, views(size_square(R)), &kind));
    assert_ok(cache_open_for(dataset, cache_path, &kind, dataset_count(dataset), &cache));
    assert_ok(caching_latents(pipeline, comm_alone(), views(size_square(R)), true, cache, NULL, NULL));
    static const int all[] = {0, 1};
    const LoaderSource source = {.dataset = dataset, .pictures = all, .count = 2, .repeats = 1, .flip = true};
    Loader *loader;
    assert_ok(loader_new(&(LoaderOptions){.sources = &source,
                                          .source_count = 1,
                                          .size = {R, R},
                                          .batch = 8,
                                          .seed = 3,
                                          .first_step = 1,
                                          .pixels = true},
                         &loader));
    const LoaderSample *samples;
    assert_ok(loader_next(loader, &samples));
    float mean[N], std[N], expected_mean[N], expected_std[N];
    for (int i = 0; i < 8; i++) {
        const LoaderSample *s = &samples[i];
        assert_ok(pipeline_encode_picture(pipeline, s->pixels, size_square(R), expected_mean, expected_std));
        assert_ok(caching_read_latents(cache, views(size_square(R)), s->picture, s->flipped, mean, std));
        assert_memory_equal(mean, expected_mean, sizeof mean);
        assert_memory_equal(std, expected_std, sizeof std);
        assert_true(std[0] > 0);
    }
    loader_free(loader);
    assert_ok(cache_close(cache));
}

static int calls;
static bool stop_at_one(const char *what, int done, int total, void *arg)
{
    assert_string_equal(what, "latents");
    assert_int_equal(total, 2);
    calls++;
    return arg == NULL || done < 1;
}

/* Stopped after one picture, gone on with, and then nothing is encoded any more: the file does not change. */
static void entries_are_made_once(void **state)
{
    (void)state;
    CacheKind kind;
    char *before, *after;
    DatasetCache *cache;
    size_t n, m;
    float mean[N], std[N];
    assert_ok(caching_latents_kind(model, DTYPE_F32, views(size_square(R)), &kind));
    assert_ok(cache_open_for(dataset, cache_path, &kind, dataset_count(dataset), &cache));
    assert_int_equal(
        caching_latents(pipeline, comm_alone(), views(size_square(R)), false, cache, stop_at_one, dataset),
        STATUS_INTERRUPTED);
    assert_int_equal(calls, 2); /* 0 and 1 done */
    assert_ok(caching_read_latents(cache, views(size_square(R)), 0, false, mean, std));
    assert_int_not_equal(caching_read_latents(cache, views(size_square(R)), 1, false, mean, std), STATUS_OK);
    assert_message("the cached latents of b.png are missing");
    assert_ok(
        caching_latents(pipeline, comm_alone(), views(size_square(R)), false, cache, stop_at_one, NULL));
    assert_ok(caching_read_latents(cache, views(size_square(R)), 1, false, mean, std));
    assert_int_not_equal(caching_read_latents(cache, views(size_square(R)), 1, true, mean, std), STATUS_OK);
    assert_ok(cache_close(cache));
    assert_ok(file_read(cache_path, 1 << 24, &before, &n));
    assert_ok(cache_open_for(dataset, cache_path, &kind, dataset_count(dataset), &cache));
    assert_ok(caching_latents(pipeline, comm_alone(), views(size_square(R)), false, cache, NULL, NULL));
    assert_ok(cache_close(cache));
    assert_ok(file_read(cache_path, 1 << 24, &after, &m));
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    mem_free(before);
    mem_free(after);
}

static void keys_tell_everything_apart(void **state)
{
    (void)state;
    CacheKind k[5];
    assert_ok(caching_latents_kind(model, DTYPE_F32, views(size_square(64)), &k[0]));
    assert_ok(caching_latents_kind(model, DTYPE_BF16, views(size_square(64)), &k[1]));
    assert_ok(caching_latents_kind(model, DTYPE_F32, views((Size){128, 64}), &k[2]));
    assert_ok(caching_latents_kind(model, DTYPE_F32, views((Size){64, 128}), &k[4]));
    assert_int_equal(k[2].arrays[0].dims[0], 4); /* (C,h,w) */
    assert_int_equal(k[2].arrays[0].dims[1], 16);
    assert_int_equal(k[2].arrays[0].dims[2], 32);
    Model *again;
    assert_ok(model_load("builtin:tiny", MODEL_VAE, DTYPE_F32, &again));
    assert_ok(caching_latents_kind(again, DTYPE_F32, views(size_square(64)), &k[3]));
    assert_string_equal(k[0].key, k[3].key);
    Tensor *w = vae_layers(again->vae)->items[0]->weight; /* one weight differs by a bit */
    Tensor copy = *w;
    copy.data = mem_alloc(tensor_bytes(w));
    memcpy(copy.data, w->data, tensor_bytes(w));
    ((uint8_t *)copy.data)[5] ^= 1;
    vae_layers(again->vae)->items[0]->weight = &copy;
    assert_ok(caching_latents_kind(again, DTYPE_F32, views(size_square(64)), &k[3]));
    vae_layers(again->vae)->items[0]->weight = w;
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(k[i].key, k[j].key);
    mem_free(copy.data);
    model_free(again);
    assert_int_not_equal(caching_text_kind(model, DTYPE_F32, 0, &k[0]),
                         STATUS_OK); /* no text encoder was loaded */
}

/* The built-in tokenizer, with one more token. */
static void add_token(const char *token, Tokenizer **out)
{
    char *command = mem_printf("cp -r '%s/../../data/builtin/tiny/tokenizer' '%s/'", TEST_GOLDEN, folder);
    char *tokenizer = path_join(folder, "tokenizer"), *config = path_join(tokenizer, "tokenizer_config.json");
    char *text;
    size_t size;
    assert_int_equal(system(command), 0);
    assert_ok(file_read(config, 1 << 20, &text, &size));
    assert_int_equal(text[0], '{');
    char *longer =
        mem_printf("{\"added_tokens_decoder\": {\"5000\": {\"content\": \"%s\"}}, %s", token, text + 1);
    write_text(tokenizer, "tokenizer_config.json", longer);
    assert_ok(tokenizer_open(tokenizer, out));
    mem_free(command);
    mem_free(tokenizer);
    mem_free(config);
    mem_free(text);
    mem_free(longer);
}

/* One text encoder, two tokenizers: "sks" is a word of several tokens to one of them and one token to the
 * other. */
static void a_tokenizer_has_texts_of_its_own(void **state)
{
    (void)state;
    static const char *const tokens[] = {"sks", "<sks>"};
    CacheKind k[3];
    Model *m;
    assert_ok(model_load("builtin:tiny", MODEL_TEXT | MODEL_TOKENIZER, DTYPE_F32, &m));
    assert_ok(caching_text_kind(m, DTYPE_F32, 0, &k[0]));
    Tokenizer *own = m->tokenizer;
    for (int i = 0; i < 2; i++) {
        add_token(tokens[i], &m->tokenizer);
        assert_ok(caching_text_kind(m, DTYPE_F32, 0, &k[1 + i]));
        tokenizer_free(m->tokenizer);
    }
    m->tokenizer = own;
    assert_string_not_equal(k[0].key, k[1].key);
    assert_string_not_equal(k[0].key, k[2].key);
    assert_string_not_equal(k[1].key, k[2].key);
    assert_ok(caching_text_kind(m, DTYPE_F32, 0, &k[1]));
    assert_string_equal(k[0].key, k[1].key);
    assert_int_equal(k[0].arrays[0].rank, 2); /* (T,D) */
    assert_int_equal(k[0].arrays[0].dims[0], 77);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(latents_of_the_loaders_pictures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(entries_are_made_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_tell_everything_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tokenizer_has_texts_of_its_own, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
