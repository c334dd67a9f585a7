/* The whole way from prompt to picture, against diffusers' latents for random tiny models of SD1-like and
 * SD2-like shape (scripts/reference/models.py), and what the pipeline promises about batches, plans and
 * interruptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/pipeline/pipeline.h"
#include "infer/pipeline/stages.h"
#include "infer/samplers/sampler.h"
#include "kernels/adapter.h"
#include "kernels/base/mem.h"
#include "tests/far/far.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Fixture {
    Model *m;
    Ctx *c;
    Pipeline *p;
} Fixture;

static void open_model(Fixture *f, const char *kind, DType dtype)
{
    char path[512];
    snprintf(path, sizeof path, "%s/models/%s", TEST_GOLDEN, kind);
    if (model_load(path, MODEL_ALL, dtype, &f->m) != STATUS_OK)
        fail_msg("%s", status_message());
    f->c = ctx_new(test_device(), &(CtxOptions){.dtype = dtype});
    assert_non_null(f->c);
    assert_int_equal(pipeline_new(f->c, f->m, &f->p), STATUS_OK);
}

/* The layer's weight and bias times a factor. */
static void scale_layer(Layer *l, DType dtype, float factor)
{
    Tensor **const tensors[] = {&l->weight, &l->bias};
    for (int i = 0; i < 2; i++) {
        const int64_t n = tensor_count(*tensors[i]);
        float *x = malloc(sizeof(float) * (size_t)n);
        assert_non_null(x);
        assert_int_equal(tensor_get(*tensors[i], x, DTYPE_F32), STATUS_OK);
        for (int64_t k = 0; k < n; k++)
            x[k] *= factor;
        Tensor *scaled = tensor_new(dtype, (*tensors[i])->ndim, (*tensors[i])->shape);
        assert_non_null(scaled);
        assert_int_equal(tensor_put(scaled, x, DTYPE_F32), STATUS_OK);
        tensor_free(*tensors[i]);
        *tensors[i] = scaled;
        free(x);
    }
}

static void close_model(Fixture *f)
{
    pipeline_free(f->p);
    ctx_free(f->c);
    model_free(f->m);
}

/* Largest difference relative to the largest value. */
static double difference(const float *a, const float *b, size_t n)
{
    double largest = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)b[i]));
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        assert_true(isfinite(a[i]));
    }
    return worst / largest;
}

static void sample(Fixture *f, const SampleRequest *r, SampleResult *out)
{
    if (pipeline_sample(f->p, r, NULL, NULL, out) != STATUS_OK)
        fail_msg("%s", status_message());
}

static SampleRequest golden_request(const TensorFile *golden, int i, const char *sampler)
{
    SampleRequest r = sample_request_default();
    char key[32];
    snprintf(key, sizeof key, "prompt.%d", i);
    r.prompt = tensorfile_metadata(golden, key);
    snprintf(key, sizeof key, "negative.%d", i);
    r.negative = tensorfile_metadata(golden, key);
    snprintf(key, sizeof key, "seed.%d", i);
    r.seed = strtoull(tensorfile_metadata(golden, key), NULL, 10);
    r.sampler = sampler;
    return r;
}

static void compare_one(Fixture *f, const TensorFile *golden, const char *key, const SampleRequest *r)
{
    const TensorEntry *e = tensorfile_find(golden, key);
    assert_non_null(e);
    SampleResult result;
    sample(f, r, &result);
    const size_t n = (size_t)tensor_count(result.latents);
    float *expected = mem_alloc(n * sizeof *expected);
    assert_int_equal(e->bytes, n * sizeof *expected);
    memcpy(expected, e->data, e->bytes);
    const double d = difference(result.latents->data, expected, n);
    print_message("%s: %.2g\n", key, d);
    if (!(d <= 1e-3))
        fail_msg("%s: latents differ by %g of the largest", key, d);
    mem_free(expected);
    sample_result_free(&result);
}

static void compare_latents(const char *kind)
{
    TensorFile *golden;
    Fixture f;
    char key[64];
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/latents.safetensors", &golden), STATUS_OK);
    open_model(&f, kind, DTYPE_F32);
    int count;
    const SamplerKind *samplers = sampler_kinds(&count);
    for (int s = 0; s < count; s++)
        for (int i = 0; i < 2 && test_sampler(samplers[s].name); i++) {
            snprintf(key, sizeof key, "%s.%s.%d", kind, samplers[s].name, i);
            const SampleRequest r = golden_request(golden, i, samplers[s].name);
            compare_one(&f, golden, key, &r);
        }
    snprintf(key, sizeof key, "%s.skip", kind);
    SampleRequest r = golden_request(golden, 0, "euler");
    r.clip_skip = 1; /* of the prompt alone */
    compare_one(&f, golden, key, &r);
    close_model(&f);
    tensorfile_close(golden);
}

static void latents_of_an_sd1_like_model_are_diffusers(void **state)
{
    (void)state;
    compare_latents("sd1");
}

static void latents_of_an_sd2_like_model_are_diffusers(void **state)
{
    (void)state;
    compare_latents("sd2");
}

static SampleRequest short_request(void)
{
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.prompt = "a red heart";
    r.steps = 2;
    r.seed = 5;
    return r;
}

static void the_same_request_gives_the_same_bytes(void **state)
{
    (void)state;
    Fixture f;
    SampleResult a, b, c;
    SampleRequest r = short_request(), other = r;
    other.prompt = "a cat";
    other.size.width = 64;
    open_model(&f, "sd1", DTYPE_F32);
    sample(&f, &r, &a);
    sample(&f, &other, &c); /* another size and prompt between: plans and kept texts must not mix */
    sample(&f, &r, &b);
    assert_int_equal(a.picture.size.width, f.m->default_size);
    assert_int_equal(c.picture.size.width, 64);
    assert_memory_equal(a.latents->data, b.latents->data, tensor_bytes(a.latents));
    assert_memory_equal(a.picture.rgb, b.picture.rgb, 3 * (size_t)size_area(a.picture.size));
    sample_result_free(&a);
    sample_result_free(&b);
    sample_result_free(&c);
    close_model(&f);
}

static void prompt_negative_guidance_and_clip_skip_count(void **state)
{
    (void)state;
    Fixture f;
    SampleResult base, result;
    SampleRequest r[5];
    for (int i = 0; i < 5; i++)
        r[i] = short_request();
    r[1].prompt = "a cat";
    r[2].negative = "a cat";
    r[3].guidance = 1;
    r[4].clip_skip = 1;
    open_model(&f, "sd1", DTYPE_F32);
    sample(&f, &r[0], &base);
    for (int i = 1; i < 5; i++) {
        sample(&f, &r[i], &result);
        assert_memory_not_equal(base.latents->data, result.latents->data, tensor_bytes(base.latents));
        sample_result_free(&result);
    }
    sample_result_free(&base);
    close_model(&f);
}

static void sixteen_bits_stay_near_f32(void **state)
{
    (void)state;
    static const DType TYPES[] = {DTYPE_BF16, DTYPE_F16};
    Fixture f;
    SampleResult base, result;
    const SampleRequest r = short_request();
    open_model(&f, "sd1", DTYPE_F32);
    sample(&f, &r, &base);
    close_model(&f);
    for (int i = 0; i < 2; i++) {
        open_model(&f, "sd1", TYPES[i]);
        sample(&f, &r, &result);
        assert_true(difference(result.latents->data, base.latents->data, (size_t)tensor_count(base.latents)) <
                    0.1);
        sample_result_free(&result);
        close_model(&f);
    }
    sample_result_free(&base);
}

static void plan_tells_the_arena_without_computing(void **state)
{
    (void)state;
    Fixture f;
    size_t small, large, alone;
    SampleRequest r = short_request();
    open_model(&f, "sd1", DTYPE_F32);
    assert_int_equal(pipeline_plan(f.p, &r, &small), STATUS_OK);
    r.guidance = 1;
    assert_int_equal(pipeline_plan(f.p, &r, &alone), STATUS_OK);
    r.size = size_square(128);
    assert_int_equal(pipeline_plan(f.p, &r, &large), STATUS_OK);
    assert_true(small > 0 && alone <= small && small < large);
    close_model(&f);
}

static void plan_many_sizes(Fixture *f)
{
    size_t bytes;
    SampleRequest r = short_request();
    for (int i = 0; i < 120; i++) {
        r.size = (Size){32 + 4 * (i % 12), 32 + 4 * (i / 12)};
        assert_int_equal(pipeline_plan(f->p, &r, &bytes), STATUS_OK);
    }
}

/* Plans of sizes that do not come again do not pile up. The first pipeline leaves behind what oneDNN is asked
 * once for each new product. */
static void many_sizes_take_no_more_and_more_memory(void **state)
{
    (void)state;
    Fixture f;
    open_model(&f, "sd1", DTYPE_F32);
    plan_many_sizes(&f);
    pipeline_free(f.p);
    const size_t before = mem_in_use();
    assert_int_equal(pipeline_new(f.c, f.m, &f.p), STATUS_OK);
    plan_many_sizes(&f);
    assert_in_range(mem_in_use(), before + STAGES_PLAN_BYTES / 2, before + STAGES_PLAN_BYTES + 65536);
    close_model(&f);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    Fixture f;
    SampleResult result;
    SampleRequest r = short_request();
    open_model(&f, "sd1", DTYPE_F32);
    r.size.width = 33;
    assert_int_equal(pipeline_sample(f.p, &r, NULL, NULL, &result), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "the nearest are 32 and 34"));
    r = short_request();
    r.size.height = 1;
    assert_int_equal(pipeline_sample(f.p, &r, NULL, NULL, &result), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "the smallest is 2"));
    r = short_request();
    r.sampler = "edler";
    assert_int_equal(pipeline_sample(f.p, &r, NULL, NULL, &result), STATUS_REFUSED);
    r = short_request();
    r.clip_skip = 3;
    assert_int_equal(pipeline_sample(f.p, &r, NULL, NULL, &result), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "0 to 2"));
    r = short_request();
    r.prompt = "\xff";
    assert_int_equal(pipeline_sample(f.p, &r, NULL, NULL, &result), STATUS_REFUSED);
    assert_null(result.latents);
    close_model(&f);
}

static bool stop_after_one(int step, int steps, const SampleView *view, void *arg)
{
    (void)steps;
    assert_non_null(view->latents);
    *(int *)arg = step;
    return false;
}

static void progress_can_stop_the_sampling(void **state)
{
    (void)state;
    Fixture f;
    SampleResult result;
    int seen = 0;
    const SampleRequest r = short_request();
    open_model(&f, "sd1", DTYPE_F32);
    assert_int_equal(pipeline_sample(f.p, &r, stop_after_one, &seen, &result), STATUS_INTERRUPTED);
    assert_int_equal(seen, 1);
    assert_null(result.latents);
    assert_null(result.picture.rgb);
    close_model(&f);
}

typedef struct Traced {
    int steps;
    float last[4];
} Traced;

static Status trace(const SampleStep *s, void *arg)
{
    Traced *t = arg;
    assert_int_equal(s->step, ++t->steps);
    assert_int_equal(s->batch, 2);
    const size_t n = (size_t)(s->channels * size_area(s->size));
    for (size_t k = 0; k < n; k += 37)
        assert_true(s->guided[k] == s->prediction[k] + 7.5f * (s->prediction[n + k] - s->prediction[k]));
    memcpy(t->last, s->result, sizeof t->last);
    return STATUS_OK;
}

static void trace_sees_every_step(void **state)
{
    (void)state;
    Fixture f;
    SampleResult result;
    Traced t = {0};
    const SampleRequest r = short_request();
    open_model(&f, "sd1", DTYPE_F32);
    pipeline_trace(f.p, trace, &t);
    sample(&f, &r, &result);
    assert_int_equal(t.steps, 2);
    assert_memory_equal(t.last, result.latents->data, sizeof t.last);
    sample_result_free(&result);
    close_model(&f);
}

static void pictures_are_encoded_as_the_vae_of_diffusers_does(void **state)
{
    (void)state;
    TensorFile *golden;
    Fixture f;
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/models/sd1.safetensors", &golden), STATUS_OK);
    const TensorEntry *pixels = tensorfile_find(golden, "vae.pixels"),
                      *moments = tensorfile_find(golden, "vae.moments");
    assert_non_null(pixels);
    assert_non_null(moments);
    const Size size = {(int)pixels->shape[3], (int)pixels->shape[2]};
    const size_t plane = (size_t)size_area(size), n = moments->bytes / sizeof(float) / 2;
    float *nchw = mem_alloc(pixels->bytes), *nhwc = mem_alloc(pixels->bytes),
          *expected = mem_alloc(moments->bytes);
    float *mean = mem_alloc(n * sizeof(float)), *std = mem_alloc(n * sizeof(float));
    memcpy(nchw, pixels->data, pixels->bytes);
    memcpy(expected, moments->data, moments->bytes);
    for (size_t i = 0; i < plane; i++)
        for (size_t k = 0; k < 3; k++)
            nhwc[3 * i + k] = nchw[k * plane + i];
    for (size_t i = 0; i < n; i++)
        expected[n + i] = expf(expected[n + i] / 2);
    open_model(&f, "sd1", DTYPE_F32);
    assert_int_equal(pipeline_encode_picture(f.p, nhwc, size, mean, std), STATUS_OK);
    assert_true(difference(mean, expected, n) < 1e-4);
    assert_true(difference(std, expected + n, n) < 1e-4);
    assert_int_equal(pipeline_encode_picture(f.p, nhwc, (Size){size.width, size.height - 1}, mean, std),
                     STATUS_REFUSED);
    close_model(&f);
    mem_free(nchw);
    mem_free(nhwc);
    mem_free(expected);
    mem_free(mean);
    mem_free(std);
    tensorfile_close(golden);
}

/* A VAE whose first convolution reaches past what f16 can hold. */
static void a_vae_that_overflows_f16_is_computed_in_f32(void **state)
{
    (void)state;
    enum { SIDE = 32, OUT = 4 * 16 * 16 };
    static float pixels[3 * SIDE * SIDE], mean[2][OUT], std[2][OUT];
    for (int i = 0; i < 3 * SIDE * SIDE; i++)
        pixels[i] = sinf((float)i);
    for (int i = 0; i < 2; i++) {
        const DType dtype = i ? DTYPE_F16 : DTYPE_F32;
        Fixture f;
        assert_int_equal(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, dtype, &f.m), STATUS_OK);
        scale_layer(layerset_find(vae_layers(f.m->vae), "encoder.conv_in"), dtype, 1e5f);
        f.c = ctx_new(test_device(), &(CtxOptions){.dtype = dtype});
        assert_non_null(f.c);
        assert_int_equal(pipeline_new(f.c, f.m, &f.p), STATUS_OK);
        for (int again = 0; again < 2; again++) /* which is known the second time */
            if (pipeline_encode_picture(f.p, pixels, (Size){SIDE, SIDE}, mean[i], std[i]) != STATUS_OK)
                fail_msg("%s", status_message());
        assert_int_equal(f.c->dtype, dtype);
        close_model(&f);
    }
    assert_true(difference(mean[1], mean[0], OUT) < 2e-2);
    assert_true(difference(std[1], std[0], OUT) < 2e-2);
}

static void kept_texts_are_forgotten_when_the_encoder_changes(void **state)
{
    (void)state;
    Fixture f;
    open_model(&f, "sd1", DTYPE_F32);
    const size_t n = 77 * (size_t)clip_config(f.m->clip)->hidden;
    float *first = mem_alloc(n * sizeof *first), *second = mem_alloc(n * sizeof *second);
    assert_int_equal(pipeline_encode_text(f.p, "a cat", 0, first), STATUS_OK);
    assert_int_equal(pipeline_encode_text(f.p, "a cat", 0, second), STATUS_OK);
    assert_memory_equal(first, second, n * sizeof *first);
    Layer *l = layerset_find(clip_layers(f.m->clip), "text_model.encoder.layers.0.mlp.fc1");
    assert_non_null(l);
    Adapter adapter = {.kind = &adapter_lora, .scale = 1};
    adapter.tensors[LORA_DOWN] = tensor_new(DTYPE_F32, 2, (int64_t[]){2, l->weight->shape[1]});
    adapter.tensors[LORA_UP] = tensor_new(DTYPE_F32, 2, (int64_t[]){l->weight->shape[0], 2});
    for (int64_t i = 0; i < tensor_count(adapter.tensors[LORA_DOWN]); i++)
        tensor_set_at(adapter.tensors[LORA_DOWN], i, 0.1);
    for (int64_t i = 0; i < tensor_count(adapter.tensors[LORA_UP]); i++)
        tensor_set_at(adapter.tensors[LORA_UP], i, i % 3 - 1);
    assert_int_equal(tensor_place(adapter.tensors[LORA_DOWN], test_device()), STATUS_OK);
    assert_int_equal(tensor_place(adapter.tensors[LORA_UP], test_device()), STATUS_OK);
    layer_attach(l, &adapter);
    assert_int_equal(pipeline_encode_text(f.p, "a cat", 0, second), STATUS_OK);
    assert_memory_not_equal(first, second, n * sizeof *first);
    layer_detach(l, &adapter);
    /* another adapter, which came to lie where the first one did */
    assert_int_equal(tensor_put_part(adapter.tensors[LORA_UP], 0, 1, &(float){2}, DTYPE_F32), STATUS_OK);
    layer_attach(l, &adapter);
    assert_int_equal(pipeline_encode_text(f.p, "a cat", 0, first), STATUS_OK);
    assert_memory_not_equal(first, second, n * sizeof *first);
    adapter.tensors[LORA_UP]->requires_grad =
        true; /* trained: its numbers may change without anybody telling */
    assert_int_equal(tensor_put_part(adapter.tensors[LORA_UP], 0, 1, &(float){3}, DTYPE_F32), STATUS_OK);
    assert_int_equal(pipeline_encode_text(f.p, "a cat", 0, second), STATUS_OK);
    assert_memory_not_equal(first, second, n * sizeof *first);
    layer_detach(l, &adapter);
    assert_null(l->adapters);
    tensor_free(adapter.tensors[LORA_DOWN]);
    tensor_free(adapter.tensors[LORA_UP]);
    mem_free(first);
    mem_free(second);
    close_model(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_of_an_sd1_like_model_are_diffusers),
        cmocka_unit_test(latents_of_an_sd2_like_model_are_diffusers),
        cmocka_unit_test(the_same_request_gives_the_same_bytes),
        cmocka_unit_test(prompt_negative_guidance_and_clip_skip_count),
        cmocka_unit_test(sixteen_bits_stay_near_f32),
        cmocka_unit_test(plan_tells_the_arena_without_computing),
        cmocka_unit_test(many_sizes_take_no_more_and_more_memory),
        cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(progress_can_stop_the_sampling),
        cmocka_unit_test(trace_sees_every_step),
        cmocka_unit_test(pictures_are_encoded_as_the_vae_of_diffusers_does),
        cmocka_unit_test(a_vae_that_overflows_f16_is_computed_in_f32),
        cmocka_unit_test(kept_texts_are_forgotten_when_the_encoder_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
