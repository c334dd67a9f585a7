/* A LoRA on the UNet against peft: the gradient of every A and B, and the adapter after one and after ten
 * steps of AdamW from the same numbers (design, section 7). */
#include "golden.h"

#include "infer/models/model.h"
#include "kernels/adapter.h"
#include "kernels/base/random.h"

enum { RANK = 4, ALPHA = 8, MAX_MODULES = 128, STEPS = 10, LATENTS = 2 * 4 * 16 * 16 };

typedef struct Lora {
    TensorFile *golden;
    Model *model;
    Ctx *ctx;
    char *names; /* one a line, cut into strings */
    const char *name[MAX_MODULES];
    Adapter adapters[MAX_MODULES];
    int count;
    float noisy[LATENTS], noise[LATENTS], t[2];
    float loss;
} Lora;

static void draw(uint64_t seed, float *out, int64_t n, float factor)
{
    TorchRandom g;
    torch_seed(&g, seed);
    torch_randn(&g, out, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        out[i] *= factor;
}

static Tensor *trained(const TensorEntry *like, uint64_t seed, float factor)
{
    Tensor *w = tensor_new(DTYPE_F32, like->ndim, like->shape);
    assert_non_null(w);
    w->requires_grad = true;
    w->grad = tensor_new(DTYPE_F32, like->ndim, like->shape);
    assert_non_null(w->grad);
    draw(seed, w->data, tensor_count(w), factor);
    return w;
}

static void lora_open(Lora *l, const char *kind)
{
    char path[512];
    snprintf(path, sizeof path, "models/%s.safetensors", kind);
    l->golden = golden_open(path);
    snprintf(path, sizeof path, TEST_GOLDEN "/models/%s", kind);
    assert_ok(model_load(path, MODEL_UNET, DTYPE_F32, &l->model));
    l->ctx = ctx_new(device_cpu(), &(CtxOptions){.threads = 2});
    l->names = mem_strdup(tensorfile_metadata(l->golden, "lora.names"));
    for (char *line = strtok(l->names, "\n"); line; line = strtok(NULL, "\n")) {
        const int i = l->count++;
        assert_true(i < MAX_MODULES);
        Adapter *a = &l->adapters[i];
        l->name[i] = line;
        a->tensors[LORA_DOWN] = trained(golden(l->golden, "lora.grad.%s.A", line), 2 * (uint64_t)i, 1.0f / 4);
        a->tensors[LORA_UP] =
            trained(golden(l->golden, "lora.grad.%s.B", line), 2 * (uint64_t)i + 1, 1.0f / 50);
        a->kind = &adapter_lora;
        a->scale = (float)ALPHA / RANK;
        Layer *layer = layerset_find(unet_layers(l->model->unet), line);
        if (!layer)
            fail_msg("no layer %s", line);
        layer->adapters = a;
    }
    assert_true(l->count > 20);
}

static void lora_close(Lora *l)
{
    for (int i = 0; i < l->count; i++) {
        layerset_find(unet_layers(l->model->unet), l->name[i])->adapters = NULL;
        tensor_free(l->adapters[i].tensors[LORA_DOWN]);
        tensor_free(l->adapters[i].tensors[LORA_UP]);
    }
    ctx_free(l->ctx);
    model_free(l->model);
    tensorfile_close(l->golden);
    mem_free(l->names);
}

/* noisy = √ᾱ x0 + √(1−ᾱ) noise, x0 = randn(7) */
static void set_batch(Lora *l, uint64_t noise_seed, const int32_t t[2])
{
    float x0[LATENTS];
    draw(7, x0, LATENTS, 1);
    draw(noise_seed, l->noise, LATENTS, 1);
    for (int i = 0; i < LATENTS; i++) {
        const float a = (float)l->model->schedule.alphas_cumprod[t[i / (LATENTS / 2)]];
        l->noisy[i] = sqrtf(a) * x0[i] + sqrtf(1 - a) * l->noise[i];
    }
    l->t[0] = (float)t[0];
    l->t[1] = (float)t[1];
    for (int i = 0; i < l->count; i++) {
        memset(l->adapters[i].tensors[LORA_DOWN]->grad->data, 0,
               tensor_bytes(l->adapters[i].tensors[LORA_DOWN]));
        memset(l->adapters[i].tensors[LORA_UP]->grad->data, 0, tensor_bytes(l->adapters[i].tensors[LORA_UP]));
    }
}

static void train_step(Ctx *c, void *arg)
{
    Lora *l = arg;
    const int64_t shape[] = {2, 4, 16, 16}, two[] = {2};
    Tensor *x = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, l->noisy));
    Tensor *target = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, l->noise));
    Tensor *t = ctx_input(c, DTYPE_F32, 1, two, l->t);
    Tensor *text = golden_input(c, golden(l->golden, "clip.out"));
    Tensor *loss = mse_loss(c, unet_forward(c, l->model->unet, x, t, &(Conditioning){.states = text}), target,
                            NULL, NULL);
    ctx_read(c, loss, &l->loss);
    ctx_backward(c, loss, 1);
}

static void gradients_agree(const char *kind, bool checkpointing)
{
    Lora l = {0};
    lora_open(&l, kind);
    set_batch(&l, 8, (const int32_t[]){900, 250});
    ctx_set_checkpointing(l.ctx, checkpointing);
    Plan *plan;
    assert_ok(ctx_rehearse(l.ctx, train_step, &l, &plan));
    assert_ok(ctx_run(l.ctx, plan, train_step, &l));
    plan_free(plan);
    assert_close("loss", &l.loss, golden(l.golden, "lora.loss"), 1e-5);
    for (int i = 0; i < l.count; i++) {
        const Adapter *a = &l.adapters[i];
        assert_close(l.name[i], a->tensors[LORA_DOWN]->grad->data,
                     golden(l.golden, "lora.grad.%s.A", l.name[i]), MODULE_TOLERANCE);
        assert_close(l.name[i], a->tensors[LORA_UP]->grad->data,
                     golden(l.golden, "lora.grad.%s.B", l.name[i]), MODULE_TOLERANCE);
    }
    lora_close(&l);
}

static void test_sd1_gradients_of_every_adapter(void **state)
{
    (void)state;
    gradients_agree("sd1", false);
}

static void test_sd2_gradients_of_every_adapter_with_checkpointing(void **state)
{
    (void)state;
    gradients_agree("sd2", true);
}

typedef struct Moments {
    Tensor *m, *v;
} Moments;

static void update(const Lora *l, Update *u, Tensor *w, Moments *s)
{
    const Segment whole = {0, tensor_count(w), 0};
    if (!s->m) {
        s->m = tensor_new(DTYPE_F32, w->ndim, w->shape);
        s->v = tensor_new(DTYPE_F32, w->ndim, w->shape);
    }
    u->segments = &whole;
    u->count = 1;
    assert_ok(l->ctx->dev->update(u, w, w->grad, s->m, s->v, NULL, &(StepNumbers){0}, NULL));
}

/* Σ (got − want)² and Σ (want − first)² of one tensor, first = randn(seed) factor. */
static void add_change(const Tensor *w, const TensorEntry *e, uint64_t seed, float factor, double sums[2])
{
    const int64_t n = tensor_count(w);
    float *want = golden_floats(e), *first = mem_alloc((size_t)n * sizeof *first);
    draw(seed, first, n, factor);
    for (int64_t i = 0; i < n; i++) {
        const double error = (double)((const float *)w->data)[i] - want[i],
                     change = (double)want[i] - first[i];
        sums[0] += error * error;
        sums[1] += change * change;
    }
    mem_free(want);
    mem_free(first);
}

static double change_error(const Lora *l, int step)
{
    double sums[2] = {0};
    for (int i = 0; i < l->count; i++) {
        const Adapter *a = &l->adapters[i];
        const uint64_t seed = 2 * (uint64_t)i;
        add_change(a->tensors[LORA_DOWN], golden(l->golden, "steps.%d.%s.A", step, l->name[i]), seed,
                   1.0f / 4, sums);
        add_change(a->tensors[LORA_UP], golden(l->golden, "steps.%d.%s.B", step, l->name[i]), seed + 1,
                   1.0f / 50, sums);
    }
    return sqrt(sums[0] / sums[1]);
}

static void test_ten_steps_of_adamw(void **state)
{
    (void)state;
    Lora l = {0};
    lora_open(&l, "sd1");
    Moments moments[MAX_MODULES][2] = {0};
    int32_t t[STEPS * 2];
    float losses[STEPS];
    memcpy(t, golden(l.golden, "steps.t")->data, sizeof t);
    for (int k = 0; k < STEPS; k++) {
        set_batch(&l, 1000 + (uint64_t)k, t + 2 * k);
        assert_ok(ctx_run(l.ctx, NULL, train_step, &l));
        losses[k] = l.loss;
        Update u = {.kind = UPDATE_ADAMW,
                    .rates = {1e-3},
                    .beta1 = 0.9,
                    .beta2 = 0.999,
                    .eps = 1e-8,
                    .weight_decay = 0.01,
                    .step = k + 1,
                    .unscale = 1};
        for (int i = 0; i < l.count; i++) {
            update(&l, &u, l.adapters[i].tensors[LORA_DOWN], &moments[i][0]);
            update(&l, &u, l.adapters[i].tensors[LORA_UP], &moments[i][1]);
        }
        if (k == 0)
            assert_true(change_error(&l, 1) < 1e-3);
    }
    assert_close("losses", losses, golden(l.golden, "steps.loss"), 1e-4);
    assert_true(change_error(&l, STEPS) < 2e-3);
    for (int i = 0; i < l.count; i++)
        for (int j = 0; j < 2; j++) {
            tensor_free(moments[i][j].m);
            tensor_free(moments[i][j].v);
        }
    lora_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sd1_gradients_of_every_adapter),
        cmocka_unit_test(test_sd2_gradients_of_every_adapter_with_checkpointing),
        cmocka_unit_test(test_ten_steps_of_adamw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
