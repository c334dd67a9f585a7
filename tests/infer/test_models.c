/* CLIP, UNet and VAE against diffusers and transformers: outputs, and gradients of every weight. */
#include "reference.h"

#include "tests/far/far.h"

#include <stdlib.h>

static const char *const kinds[] = {"sd1", "sd2"};

typedef struct Case {
    TensorFile *golden;
    Model *model;
    Ctx *ctx;
} Case;

static Case case_open(const char *kind, DType dtype)
{
    Case k = {0};
    char name[512];
    snprintf(name, sizeof name, "models/%s.safetensors", kind);
    k.golden = golden_open(name);
    snprintf(name, sizeof name, TEST_GOLDEN "/models/%s", kind);
    assert_ok(model_load(name, MODEL_ALL, dtype, &k.model));
    k.ctx = ctx_new(test_device(), &(CtxOptions){.dtype = dtype, .threads = 2});
    assert_non_null(k.ctx);
    assert_ok(model_place(k.model, k.ctx->dev));
    return k;
}

static void case_close(Case *k)
{
    ctx_free(k->ctx);
    model_free(k->model);
    tensorfile_close(k->golden);
}

/* A step: computes one of the modules and copies the result, as the reference lays it out, to out. */
typedef struct Step {
    const Case *k;
    int clip_skip;
    float *out;
} Step;

static void clip_step(Ctx *c, void *arg)
{
    Step *s = arg;
    ctx_read(
        c,
        clip_forward(c, s->k->model->clip, s->clip_skip, golden_input(c, golden(s->k->golden, "clip.ids"))),
        s->out);
}

static Tensor *clip_states(Ctx *c, const Case *k)
{
    return cast(c, golden_input(c, golden(k->golden, "clip.out")), c->dtype);
}

static void unet_step(Ctx *c, void *arg)
{
    Step *s = arg;
    Tensor *x = from_nchw(c, golden_input(c, golden(s->k->golden, "unet.x")));
    Tensor *t = golden_input(c, golden(s->k->golden, "unet.t"));
    ctx_read(
        c,
        to_nchw(c, unet_forward(c, s->k->model->unet, x, t, &(Conditioning){.states = clip_states(c, s->k)})),
        s->out);
}

static void encode_step(Ctx *c, void *arg)
{
    Step *s = arg;
    Tensor *x = from_nchw(c, golden_input(c, golden(s->k->golden, "vae.pixels")));
    ctx_read(c, to_nchw(c, vae_encode(c, s->k->model->vae, x)), s->out);
}

static void decode_step(Ctx *c, void *arg)
{
    Step *s = arg;
    Tensor *z = from_nchw(c, golden_input(c, golden(s->k->golden, "vae.z")));
    ctx_read(c, to_nchw(c, vae_decode(c, s->k->model->vae, z)), s->out);
}

static float *compute(const Case *k, StepFn fn, int clip_skip, const char *name)
{
    Step s = {k, clip_skip, NULL};
    return compute_golden(k->ctx, fn, &s, &s.out, golden(k->golden, "%s", name));
}

static void check(const Case *k, StepFn fn, int clip_skip, const char *name)
{
    float *out = compute(k, fn, clip_skip, name);
    assert_close(name, out, golden(k->golden, "%s", name), MODULE_TOLERANCE);
    mem_free(out);
}

static void test_modules_agree_with_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        Case k = case_open(kinds[i], DTYPE_F32);
        check(&k, clip_step, 0, "clip.out");
        check(&k, clip_step, 1, "clip.skip");
        check(&k, unet_step, 0, "unet.out");
        check(&k, encode_step, 0, "vae.moments");
        check(&k, decode_step, 0, "vae.decoded");
        case_close(&k);
    }
}

/* Where products are rounded to TF32, 11 bits of f32's 24, on a GPU. */
#define TF32_TOLERANCE 4e-3

static void check_tf32(const Case *k, StepFn fn, const char *name)
{
    const TensorEntry *e = golden(k->golden, "%s", name);
    float *out = compute(k, fn, 0, name), *want = golden_floats(e);
    assert_close(name, out, e, TF32_TOLERANCE);
    if (!(l2_error(out, want, tensor_entry_count(e)) > 2e-5))
        fail_msg("%s was not computed in TF32", name);
    mem_free(want);
    mem_free(out);
}

static void test_tf32_is_near_the_reference(void **state)
{
    (void)state;
    if (!test_device()->has_tf32)
        skip();
    for (int i = 0; i < 2; i++) {
        Case k = case_open(kinds[i], DTYPE_F32);
        ctx_free(k.ctx);
        k.ctx = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32, .tf32 = true, .threads = 2});
        assert_non_null(k.ctx);
        check_tf32(&k, clip_step, "clip.out");
        check_tf32(&k, unet_step, "unet.out");
        check_tf32(&k, encode_step, "vae.moments");
        check_tf32(&k, decode_step, "vae.decoded");
        case_close(&k);
    }
}

static void test_bf16_is_as_exact_as_the_references(void **state)
{
    (void)state;
    static const struct {
        StepFn fn;
        const char *name, *limit;
    } modules[] = {{clip_step, "clip.out", "clip.bf16"},
                   {unet_step, "unet.out", "unet.bf16"},
                   {decode_step, "vae.decoded", "vae.bf16"}};
    for (int i = 0; i < 2; i++) {
        Case k = case_open(kinds[i], DTYPE_BF16);
        for (size_t m = 0; m < sizeof modules / sizeof *modules; m++) {
            float *out = compute(&k, modules[m].fn, 0, modules[m].name);
            assert_as_exact(modules[m].name, out, golden(k.golden, "%s", modules[m].name),
                            golden(k.golden, "%s", modules[m].limit));
            mem_free(out);
        }
        case_close(&k);
    }
}

/* Gradients ---------------------------------------------------------------------------------------------- */

enum { LATENTS = 4 * 16 * 16 };

typedef struct Training {
    const Case *k;
    float noise[2 * LATENTS], noisy[2 * LATENTS]; /* (2,4,16,16) */
    float t[2], loss;
} Training;

static Training training_new(const Case *k)
{
    Training t = {.k = k, .t = {900, 250}};
    reference_latents(k->model, t.t, 2, LATENTS, t.noise, t.noisy);
    return t;
}

static void full_step(Ctx *c, void *arg)
{
    Training *t = arg;
    const int64_t shape[] = {2, 4, 16, 16};
    Tensor *x = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, t->noisy));
    Tensor *target = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, t->noise));
    Tensor *times = ctx_input(c, DTYPE_F32, 1, (int64_t[]){2}, t->t);
    Tensor *states = clip_forward(c, t->k->model->clip, 0, golden_input(c, golden(t->k->golden, "clip.ids")));
    Tensor *loss =
        mse_loss(c, unet_forward(c, t->k->model->unet, x, times, &(Conditioning){.states = states}), target,
                 NULL, NULL);
    ctx_read(c, loss, &t->loss);
    ctx_backward(c, loss, 1.0f);
}

static const Tensor *gradient_of(const Model *m, const char *name)
{
    const bool unet = !strncmp(name, "unet.", 5);
    return layer_gradient(unet ? unet_layers(m->unet) : clip_layers(m->clip),
                          name + 5); /* "clip." is as long */
}

static void test_gradients_of_all_weights_agree_with_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        Case k = case_open(kinds[i], DTYPE_F32);
        LayerSet *unet = unet_layers(k.model->unet), *clip = clip_layers(k.model->clip);
        Flat flat;
        assert_ok(flat_new(&flat, test_device(), NULL, layerset_room(unet) + layerset_room(clip), false));
        assert_ok(layerset_train(unet, &flat));
        assert_ok(layerset_train(clip, &flat));
        assert_int_equal(flat.used, flat.size);
        Training t = training_new(&k);
        ctx_set_recording(k.ctx, true);
        assert_ok(ctx_run(k.ctx, NULL, full_step, &t));
        assert_close("loss", &t.loss, golden(k.golden, "full.loss"), MODULE_TOLERANCE);
        assert_true(check_gradients(k.golden, k.model, gradient_of) > 100);
        case_close(&k);
        flat_free(&flat);
    }
}

/* Recomputing the segments must give the same gradients to the last bit. */
static void test_checkpointing_changes_no_byte(void **state)
{
    (void)state;
    Case k = case_open("sd1", DTYPE_F32);
    Flat flat;
    assert_ok(flat_new(&flat, test_device(), NULL, layerset_room(unet_layers(k.model->unet)), false));
    assert_ok(layerset_train(unet_layers(k.model->unet), &flat));
    Training t = training_new(&k);
    ctx_set_recording(k.ctx, true);
    const LayerSet *set = unet_layers(k.model->unet);
    void **first = mem_calloc((size_t)set->count, sizeof *first);
    for (int run = 0; run < 2; run++) {
        ctx_set_checkpointing(k.ctx, run == 1);
        assert_ok(k.ctx->dev->clear(flat.gradients->data, tensor_bytes(flat.gradients)));
        Plan *plan = NULL;
        assert_ok(ctx_rehearse(k.ctx, full_step, &t, &plan));
        assert_ok(ctx_run(k.ctx, plan, full_step, &t));
        plan_free(plan);
        for (int i = 0; i < set->count; i++) {
            Tensor *g = set->items[i]->weight->grad;
            void *now = mem_alloc(tensor_bytes(g));
            assert_ok(tensor_get(g, now, DTYPE_F32));
            if (run == 1)
                assert_memory_equal(now, first[i], tensor_bytes(g));
            else {
                first[i] = now;
                now = NULL;
            }
            mem_free(now);
        }
    }
    for (int i = 0; i < set->count; i++)
        mem_free(first[i]);
    mem_free(first);
    case_close(&k);
    flat_free(&flat);
}

static void test_clip_skip_beyond_the_layers_is_an_error(void **state)
{
    (void)state;
    Case k = case_open("sd1", DTYPE_F32);
    float *out = mem_alloc(golden(k.golden, "clip.out")->bytes);
    assert_int_not_equal(ctx_run(k.ctx, NULL, clip_step, &(Step){&k, 3, out}), STATUS_OK);
    assert_non_null(strstr(status_message(), "clip_skip is 3"));
    mem_free(out);
    case_close(&k);
}

static void assert_same_weights(const LayerSet *a, const LayerSet *b)
{
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++) {
        const Tensor *x = a->items[i]->weight, *y = b->items[i]->weight;
        for (int64_t k = 0; x && k < tensor_count(x); k++)
            assert_true(tensor_at(x, k) == tensor_at(y, k));
    }
}

/* A frozen part that training holds in bf16 must not come out of it with bf16's bits in a file of f32. */
static void test_a_model_held_in_16_bits_is_saved_in_full(void **state)
{
    (void)state;
    char folder[] = "/tmp/atelier-models-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    Model *first, *narrow, *saved;
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &first));
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_BF16, &narrow));
    assert_ok(model_save(narrow, folder, DTYPE_F32));
    assert_ok(model_load(folder, MODEL_ALL, DTYPE_F32, &saved));
    assert_same_weights(vae_layers(first->vae), vae_layers(saved->vae));
    assert_same_weights(clip_layers(first->clip), clip_layers(saved->clip));
    assert_same_weights(unet_layers(first->unet), unet_layers(saved->unet));
    model_free(first);
    model_free(narrow);
    model_free(saved);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modules_agree_with_the_reference),
        cmocka_unit_test(test_tf32_is_near_the_reference),
        cmocka_unit_test(test_bf16_is_as_exact_as_the_references),
        cmocka_unit_test(test_gradients_of_all_weights_agree_with_the_reference),
        cmocka_unit_test(test_checkpointing_changes_no_byte),
        cmocka_unit_test(test_clip_skip_beyond_the_layers_is_an_error),
        cmocka_unit_test(test_a_model_held_in_16_bits_is_saved_in_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
