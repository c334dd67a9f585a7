/* Encoding a dataset once: what is cached is what the VAE makes of the very pictures that the loader gives,
 * it is made only once, and a key stands for everything it depends on. With the built-in model's VAE. */
#include "tests/data/pictures.h"

#include "data/loader/sample.h"
#include "kernels/base/log.h"
#include "kernels/device.h"
#include "train/pictures/caching.h"

#define R 64
#define N (4 * 16 * 16) /* the built-in VAE makes 4 pixels one latent */

static char folder[64], *cache_file;
static Dataset *dataset;
static Model *model;
static Ctx *ctx;
static Pipeline *pipeline;
static Caching *caching;

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    write_png(folder, "a.png", 80, 70, 1);
    write_png(folder, "b.png", 64, 64, 2);
    char *path = path_join(folder, "set.h5");
    cache_file = path_join(folder, "set.cache");
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = path, .caption = "x"}, NULL));
    assert_ok(dataset_open(path, &dataset));
    assert_ok(model_load("builtin:tiny", MODEL_VAE, DTYPE_F32, &model));
    ctx = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 1});
    assert_ok(pipeline_new(ctx, model, &pipeline));
    assert_ok(caching_new(pipeline, DTYPE_F32, 0, CACHING_LATENTS, &caching));
    mem_free(path);
    return 0;
}

/* Both pictures at that size. */
static const Views *views(Size size)
{
    static const int both[] = {0, 1};
    static BucketFit fits[2];
    static Views v;
    for (int i = 0; i < 2; i++)
        fits[i] = bucket_fit_size(dataset_size(dataset, i), size);
    v = (Views){.dataset = dataset, .pictures = both, .fits = fits, .count = 2};
    return &v;
}

static int tear_down(void **state)
{
    (void)state;
    caching_free(caching);
    pipeline_free(pipeline);
    ctx_free(ctx);
    model_free(model);
    dataset_close(dataset);
    mem_free(cache_file);
    return dir_remove(folder) != STATUS_OK;
}

static void latents_of_the_loaders_pictures(void **state)
{
    (void)state;
    Cache *cache;
    const Views *v = views(size_square(R));
    assert_ok(cache_open(cache_file, NULL, &cache));
    assert_ok(caching_fill_latents(caching, comm_alone(), cache, v, true, NULL, NULL));
    const LoaderSource source = {
        .dataset = dataset, .pictures = v->pictures, .fits = v->fits, .count = 2, .repeats = 1, .flip = true};
    Loader *loader;
    assert_ok(loader_new(&(LoaderOptions){.sources = &source,
                                          .source_count = 1,
                                          .batch = 8,
                                          .size = {R, R},
                                          .seed = 3,
                                          .first_step = 1,
                                          .pixels = true},
                         &loader));
    const LoaderSample *samples;
    assert_ok(loader_next(loader, &samples));
    float moments[2 * N], expected[2 * N];
    assert_int_equal(caching_latents_floats(caching, size_square(R)), 2 * N);
    for (int i = 0; i < 8; i++) {
        const LoaderSample *s = &samples[i];
        CacheKey key;
        bool found;
        assert_ok(pipeline_encode_picture(pipeline, s->pixels, size_square(R), expected, expected + N));
        caching_latents_key(caching, dataset, s->picture, &v->fits[s->entry], s->flipped, key);
        assert_ok(cache_read(cache, key, moments, 2 * N, &found));
        assert_true(found && expected[N] > 0);
        assert_memory_equal(moments, expected, sizeof moments);
    }
    loader_free(loader);
    cache_close(cache);
}

static int calls;
static bool stop_at_one(const char *what, int done, int total, void *arg)
{
    assert_string_equal(what, "latents");
    assert_int_equal(total, 2);
    calls++;
    return arg == NULL || done < 1;
}

/* A picture that is there twice under two names. */
static void equal_pictures_are_encoded_once(void **state)
{
    (void)state;
    static const int pictures[] = {0, 1, 0};
    Cache *cache;
    BucketFit fits[3];
    for (int i = 0; i < 3; i++)
        fits[i] = bucket_fit_size(dataset_size(dataset, pictures[i]), (Size){R, R + 16});
    const Views v = {.dataset = dataset, .pictures = pictures, .fits = fits, .count = 3};
    assert_ok(cache_open(cache_file, NULL, &cache));
    calls = 0;
    assert_ok(caching_fill_latents(caching, comm_alone(), cache, &v, false, stop_at_one, NULL));
    assert_int_equal(calls, 3); /* 0, 1 and 2 done, of 2 */
    cache_close(cache);
    calls = 0;
}

static bool is_there(Cache *cache, int i, bool flipped)
{
    CacheKey key;
    const Views *v = views(size_square(R));
    caching_latents_key(caching, dataset, i, &v->fits[i], flipped, key);
    return cache_has(cache, key, 2 * N);
}

/* Stopped after one picture, gone on with, and then nothing is encoded any more: the file does not change. A
 * picture more is all that is encoded then; one that is damaged is made again, and is the same. */
static void entries_are_made_once(void **state)
{
    (void)state;
    char *before, *after;
    Cache *cache;
    size_t n, m;
    float moments[2 * N], again[2 * N];
    const Views *v = views(size_square(R));
    assert_ok(cache_open(cache_file, NULL, &cache));
    assert_int_equal(caching_fill_latents(caching, comm_alone(), cache, v, false, stop_at_one, dataset),
                     STATUS_INTERRUPTED);
    assert_int_equal(calls, 2); /* 0 and 1 done */
    assert_true(is_there(cache, 0, false) && !is_there(cache, 1, false));
    assert_ok(caching_fill_latents(caching, comm_alone(), cache, v, false, stop_at_one, NULL));
    assert_true(is_there(cache, 1, false) && !is_there(cache, 1, true));
    assert_ok(caching_latents(caching, cache, dataset, 1, &v->fits[1], false, moments));
    cache_close(cache);
    assert_ok(file_read(cache_file, 1 << 24, &before, &n));
    assert_ok(cache_open(cache_file, NULL, &cache));
    assert_ok(caching_fill_latents(caching, comm_alone(), cache, v, false, NULL, NULL));
    cache_close(cache);
    assert_ok(file_read(cache_file, 1 << 24, &after, &m));
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    before[n - 9] ^= 1; /* in the last entry's values */
    assert_ok(file_write_atomic(cache_file, before, n));
    assert_ok(cache_open(cache_file, NULL, &cache));
    assert_ok(caching_latents(caching, cache, dataset, 1, &v->fits[1], false, again));
    assert_memory_equal(again, moments, sizeof moments);
    cache_close(cache);
    mem_free(before);
    mem_free(after);
}

static void keys_tell_everything_apart(void **state)
{
    (void)state;
    enum { KEYS = 8 };
    CacheKey k[KEYS];
    Caching *other;
    const BucketFit fit = {{64, 64}, {70, 64}, 3, 0};
    BucketFit tall = fit, wide = fit, moved = fit;
    tall.bucket.height = wide.bucket.width = 128;
    moved.x = 2;
    caching_latents_key(caching, dataset, 0, &fit, false, k[0]);
    caching_latents_key(caching, dataset, 0, &fit, true, k[1]);
    caching_latents_key(caching, dataset, 0, &tall, false, k[2]);
    caching_latents_key(caching, dataset, 0, &wide, false, k[3]);
    caching_latents_key(caching, dataset, 0, &moved, false, k[4]);
    caching_latents_key(caching, dataset, 1, &fit, false, k[5]);
    assert_ok(caching_new(pipeline, DTYPE_BF16, 0, CACHING_LATENTS, &other));
    caching_latents_key(other, dataset, 0, &fit, false, k[6]);
    caching_free(other);
    Tensor *w = vae_layers(model->vae)->items[0]->weight; /* one weight differs by a bit */
    Tensor copy = *w;
    copy.data = mem_alloc(tensor_bytes(w));
    memcpy(copy.data, w->data, tensor_bytes(w));
    ((uint8_t *)copy.data)[5] ^= 1;
    vae_layers(model->vae)->items[0]->weight = &copy;
    assert_ok(caching_new(pipeline, DTYPE_F32, 0, CACHING_LATENTS, &other));
    vae_layers(model->vae)->items[0]->weight = w;
    caching_latents_key(other, dataset, 0, &fit, false, k[7]);
    caching_free(other);
    for (int i = 0; i < KEYS; i++)
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(k[i], k[j], sizeof k[i]);
    assert_ok(caching_new(pipeline, DTYPE_F32, 0, CACHING_LATENTS, &other));
    caching_latents_key(other, dataset, 0, &fit, false, k[1]);
    assert_memory_equal(k[0], k[1], sizeof k[0]);
    caching_free(other);
    mem_free(copy.data);
    assert_int_not_equal(caching_new(pipeline, DTYPE_F32, 0, CACHING_TEXTS, &other),
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
    CacheKey k[4];
    Model *m;
    Pipeline *p;
    Caching *c;
    assert_ok(model_load("builtin:tiny", MODEL_TEXT | MODEL_TOKENIZER, DTYPE_F32, &m));
    assert_ok(pipeline_new(ctx, m, &p));
    Tokenizer *own = m->tokenizer;
    for (int i = 0; i < 4; i++) { /* its own, the two others, its own */
        if (i % 3)
            add_token(tokens[i - 1], &m->tokenizer);
        assert_ok(caching_new(p, DTYPE_F32, 0, CACHING_TEXTS, &c));
        caching_text_key(c, "a sks cat", k[i]);
        assert_true(caching_text_floats(c) % 77 == 0);
        caching_free(c);
        if (i % 3)
            tokenizer_free(m->tokenizer);
        m->tokenizer = own;
    }
    assert_memory_not_equal(k[0], k[1], sizeof k[0]);
    assert_memory_not_equal(k[0], k[2], sizeof k[0]);
    assert_memory_not_equal(k[1], k[2], sizeof k[0]);
    assert_memory_equal(k[0], k[3], sizeof k[0]);
    pipeline_free(p);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(latents_of_the_loaders_pictures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(equal_pictures_are_encoded_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(entries_are_made_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_tell_everything_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tokenizer_has_texts_of_its_own, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
