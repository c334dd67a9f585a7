/* What a model is told: one text becomes the same numbers on every way there, samples come to their places in
 * a batch, and the UNet takes states of any length. Breaks if a part is read from where another lies. */
#include "golden.h"

#include "infer/models/model.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/base/random.h"
#include "kernels/ops.h"

static Model *model;
static Ctx *ctx;

static int open_model(void **state)
{
    (void)state;
    ctx = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 1});
    return model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &model) != STATUS_OK || !ctx;
}

static int close_model(void **state)
{
    (void)state;
    ctx_free(ctx);
    model_free(model);
    return 0;
}

/* SDXL's numbers. */
static const ConditioningShape XL = {.ids = 154, .tokens = 77, .width = 2048, .pooled = 1280, .extra = 6};
enum { B = 3 };

typedef struct Parts {
    const float *all;
    float *states, *pooled, *extra;
} Parts;

static void parts_step(Ctx *c, void *arg)
{
    Parts *p = arg;
    const Conditioning k = conditioning_input(c, &XL, B, p->all);
    ctx_read(c, k.states, p->states);
    ctx_read(c, k.pooled, p->pooled);
    ctx_read(c, k.extra, p->extra);
}

/* Sample i of the batch has the numbers 1000 i + place, its extra ones -i. */
static void samples_come_to_their_places(void **state)
{
    (void)state;
    const int64_t one = conditioning_text_size(&XL), n = conditioning_size(&XL, B);
    const int64_t T = XL.tokens * XL.width, P = XL.pooled, N = XL.extra;
    assert_int_equal(one, 77 * 2048 + 1280);
    assert_int_equal(n, B * (one + 6));
    float *all = mem_calloc((size_t)n, sizeof *all), *text = mem_calloc((size_t)one, sizeof *text);
    Parts p = {all, mem_calloc((size_t)(B * T), sizeof(float)), mem_calloc((size_t)(B * P), sizeof(float)),
               mem_calloc((size_t)(B * N), sizeof(float))};
    for (int i = B - 1; i >= 0; i--) { /* the order is nobody's business */
        for (int64_t k = 0; k < one; k++)
            text[k] = (float)(1000000 * i + k);
        conditioning_place(&XL, B, i, text, all);
        int64_t count;
        float *extra = all + conditioning_part(&XL, B, i, 2, &count);
        assert_int_equal(count, 6);
        for (int k = 0; k < 6; k++)
            extra[k] = (float)-i;
    }
    assert_ok(ctx_run(ctx, NULL, parts_step, &p));
    for (int i = 0; i < B; i++) {
        for (int64_t k = 0; k < T; k++)
            assert_true(p.states[i * T + k] == (float)(1000000 * i + k));
        for (int64_t k = 0; k < P; k++)
            assert_true(p.pooled[i * P + k] == (float)(1000000 * i + T + k));
        for (int64_t k = 0; k < N; k++)
            assert_true(p.extra[i * N + k] == (float)-i);
    }
    mem_free(all);
    mem_free(text);
    mem_free(p.states);
    mem_free(p.pooled);
    mem_free(p.extra);
}

static const char *const TEXTS[2] = {"a red heart", "a cat face"};

typedef struct Told {
    ConditioningShape shape;
    const int32_t *ids;
    const float *text;
    int clip_skip;
    float *out;
} Told;

static void encode_step(Ctx *c, void *arg)
{
    Told *t = arg;
    const Conditioning k = conditioning_encode(c, model, t->clip_skip, 2, t->ids);
    assert_null(k.pooled);
    conditioning_read(c, &k, t->out);
}

/* In a batch inside of a step, and one by one through the pipeline, as previews and caches have it. */
static void a_text_is_the_same_on_every_way(void **state)
{
    (void)state;
    const ConditioningShape s = conditioning_shape(model);
    const ClipConfig *k = clip_config(model->clip);
    assert_int_equal(s.ids, k->positions);
    assert_int_equal(s.width, k->hidden);
    assert_int_equal(s.pooled + s.extra, 0);
    const int64_t one = conditioning_text_size(&s);
    int32_t *ids = mem_calloc((size_t)(2 * s.ids), sizeof *ids);
    float *together = mem_calloc((size_t)(2 * one), sizeof *together),
          *alone = mem_calloc((size_t)one, sizeof *alone),
          *placed = mem_calloc((size_t)(2 * one), sizeof *placed);
    Pipeline *p;
    assert_ok(pipeline_new(ctx, model, &p));
    for (int i = 0; i < 2; i++)
        assert_ok(conditioning_ids(model, TEXTS[i], ids + i * s.ids));
    assert_ok(ctx_run(ctx, NULL, encode_step, &(Told){.ids = ids, .clip_skip = 1, .out = together}));
    for (int i = 0; i < 2; i++) {
        assert_ok(pipeline_encode_text(p, TEXTS[i], 1, alone));
        conditioning_place(&s, 2, i, alone, placed);
    }
    for (int64_t i = 0; i < 2 * one; i++)
        assert_float_equal(placed[i], together[i], 1e-5);
    assert_memory_not_equal(placed, placed + one, (size_t)one * sizeof *placed);
    pipeline_free(p);
    mem_free(ids);
    mem_free(together);
    mem_free(alone);
    mem_free(placed);
}

#define LATENT 16 /* 4 × 16 × 16 */

static void unet_step(Ctx *c, void *arg)
{
    Told *t = arg;
    float x[4 * LATENT * LATENT];
    const float timestep = 500;
    random_normal((RandomKey){.seed = 1, .purpose = RANDOM_NOISE}, x, 4 * LATENT * LATENT);
    Tensor *latent = ctx_input(c, DTYPE_F32, 4, (int64_t[]){1, 4, LATENT, LATENT}, x);
    const Conditioning k = conditioning_input(c, &t->shape, 1, t->text);
    ctx_read(c,
             to_nchw(c, unet_forward(c, model->unet, from_nchw(c, latent),
                                     ctx_input(c, DTYPE_F32, 1, (int64_t[]){1}, &timestep), &k)),
             t->out);
}

/* Attention over states that stand there twice weighs each half as much: T is 154, and nothing changes. */
static void states_may_be_of_any_length(void **state)
{
    (void)state;
    enum { N = 4 * LATENT * LATENT };
    ConditioningShape s = conditioning_shape(model);
    const int64_t one = conditioning_text_size(&s);
    float *text = mem_calloc((size_t)(2 * one), sizeof *text), once[N], twice[N];
    Pipeline *p;
    assert_ok(pipeline_new(ctx, model, &p));
    assert_ok(pipeline_encode_text(p, TEXTS[0], 0, text));
    memcpy(text + one, text, (size_t)one * sizeof *text);
    assert_ok(ctx_run(ctx, NULL, unet_step, &(Told){.shape = s, .text = text, .out = once}));
    s.tokens *= 2;
    assert_ok(ctx_run(ctx, NULL, unet_step, &(Told){.shape = s, .text = text, .out = twice}));
    for (int i = 0; i < N; i++)
        assert_float_equal(twice[i], once[i], 1e-4);
    text[one] += 1; /* and the second half is looked at */
    assert_ok(ctx_run(ctx, NULL, unet_step, &(Told){.shape = s, .text = text, .out = twice}));
    assert_memory_not_equal(once, twice, sizeof once);
    pipeline_free(p);
    mem_free(text);
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    Model *part;
    int32_t ids[77];
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_TEXT, DTYPE_F32, &part));
    assert_int_equal(conditioning_ids(part, "a cat", ids), STATUS_FAILED);
    assert_non_null(strstr(status_message(), "without its tokenizer"));
    model_free(part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_come_to_their_places),
        cmocka_unit_test(a_text_is_the_same_on_every_way),
        cmocka_unit_test(states_may_be_of_any_length),
        cmocka_unit_test(what_is_missing_is_named),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
