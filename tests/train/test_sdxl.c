/* Training SDXL against PyTorch, diffusers and peft (scripts/reference/sdxl_lora.py): the gradient of every
 * adapter of the UNet and both text encoders, and the adapters after one and ten steps with a rate for each
 * part; and a step over a model with LyCORIS's adapters on it (scripts/reference/sdxl_adapters.py). Breaks if
 * a part's gradient went another way than there, or learned at another's rate. */
#include "tests/infer/golden.h"

#include "infer/adapters/adapters.h"
#include "kernels/base/random.h"
#include "kernels/comm/comm.h"
#include "train/step/optimizer.h"
#include "train/step/parameters.h"
#include "train/step/step.h"

enum { BATCH = 2, SIDE = 16, LATENT = 4 * SIDE * SIDE, STEPS = 10 };

typedef struct Fixture {
    TensorFile *golden, *golden_2; /* the second: of LyCORIS's adapters */
    Config config;
    Model *model;
    Parameters *p;
    Ctx *c;
    Step step;
    float noisy[BATCH * LATENT], noise[BATCH * LATENT], timesteps[BATCH], per_sample[BATCH];
} Fixture;

static const float ONES[BATCH] = {1, 1};

static void draw(uint64_t seed, float *out, int64_t n, float factor)
{
    TorchRandom g;
    torch_seed(&g, seed);
    torch_randn(&g, out, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        out[i] *= factor;
}

/* Numbers of a golden that may lie unaligned. Caller: mem_free. */
static void *copy_of(const TensorEntry *e)
{
    void *copy = mem_alloc(e->bytes);
    assert_non_null(copy);
    memcpy(copy, e->data, e->bytes);
    return copy;
}

static Tensor *parameter(const Parameters *p, const char *module, const char *half)
{
    char key[256];
    snprintf(key, sizeof key, "%s.lora_%s.weight", module, half);
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->items[i].name, key) == 0)
            return p->items[i].weight;
    return NULL;
}

/* Calls what for each tensor of the golden's modules that is trained, with where its numbers began. Returns
 * how many there were. */
typedef void (*Visit)(const Fixture *f, Tensor *w, const char *module, const char *half, uint64_t seed,
                      float factor, void *arg);
static int each_tensor(const Fixture *f, Visit what, void *arg)
{
    char *names = mem_strdup(tensorfile_metadata(f->golden, "names"));
    int count = 0;
    uint64_t i = 0;
    for (char *module = strtok(names, "\n"); module; module = strtok(NULL, "\n"), i++)
        for (int half = 0; half < 2; half++) {
            Tensor *w = parameter(f->p, module, half ? "up" : "down");
            if (w)
                what(f, w, module, half ? "up" : "down", 2 * i + (uint64_t)half, half ? 1.0f / 50 : 1.0f / 4,
                     arg);
            count += w != NULL;
        }
    mem_free(names);
    return count;
}

static void begin(const Fixture *f, Tensor *w, const char *module, const char *half, uint64_t seed,
                  float factor, void *arg)
{
    (void)f, (void)module, (void)half, (void)arg;
    draw(seed, w->data, tensor_count(w), factor);
}

static void open_fixture(Fixture *f, TrainedTexts texts, bool checkpointing)
{
    memset(f, 0, sizeof *f);
    f->golden = golden_open("sdxl_lora.safetensors");
    f->config.method.rank = 2;
    f->config.method.alpha = 4;
    f->config.method.targets = TARGETS_ATTENTION_MLP;
    f->config.method.text_encoder = texts;
    f->config.optimizer.lr = 1e-3;
    f->config.optimizer.text_encoder_lr = 5e-4;
    f->config.optimizer.text_encoder_2_lr = 2e-4;
    f->config.optimizer.settings =
        (OptimizerSettings){.weight_decay = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    assert_ok(model_load(TEST_GOLDEN "/models/sdxl", MODEL_ALL, DTYPE_F32, &f->model));
    assert_ok(parameters_new(&f->config, device_cpu(), comm_alone(), f->model, &f->p));
    f->c = ctx_new(device_cpu(), &(CtxOptions){.threads = 2});
    assert_int_equal(each_tensor(f, begin, NULL), f->p->count);
    f->step.shape = (StepShape){.model = f->model,
                                .batch = BATCH,
                                .channels = 4,
                                .size = {SIDE, SIDE},
                                .text = conditioning_shape(f->model),
                                .text_on_tape = true,
                                .backward = true,
                                .checkpointing = checkpointing};
    assert_int_equal(f->step.shape.text.extra, 6);
    f->step.data = (StepData){.noisy = f->noisy,
                              .target = f->noise,
                              .timesteps = f->timesteps,
                              .weights = ONES,
                              .text = copy_of(golden(f->golden, "sizes")),
                              .ids = copy_of(golden(f->golden, "ids")),
                              .grad_scale = 1,
                              .per_sample = f->per_sample};
}

static void close_fixture(Fixture *f)
{
    mem_free((void *)f->step.data.text);
    mem_free((void *)f->step.data.ids);
    parameters_free(f->p);
    model_free(f->model);
    ctx_free(f->c);
    tensorfile_close(f->golden);
}

/* Gradients of the step with this noise at these timesteps; its loss. */
static float gradients(Fixture *f, uint64_t noise_seed, const int32_t t[BATCH])
{
    float x0[BATCH * LATENT];
    draw(7, x0, BATCH * LATENT, 1);
    draw(noise_seed, f->noise, BATCH * LATENT, 1);
    for (int i = 0; i < BATCH * LATENT; i++) {
        const float a = (float)f->model->schedule.alphas_cumprod[t[i / LATENT]];
        f->noisy[i] = sqrtf(a) * x0[i] + sqrtf(1 - a) * f->noise[i];
    }
    for (int i = 0; i < BATCH; i++)
        f->timesteps[i] = (float)t[i];
    assert_ok(parameters_zero_gradients(f->p));
    assert_ok(ctx_run(f->c, NULL, train_step, &f->step));
    return f->step.data.loss;
}

static void compare_gradient(const Fixture *f, Tensor *w, const char *module, const char *half, uint64_t seed,
                             float factor, void *arg)
{
    (void)seed, (void)factor, (void)arg;
    assert_close(module, w->grad->data, golden(f->golden, "grad.%s.%s", module, half), MODULE_TOLERANCE);
}

static void gradients_agree(TrainedTexts texts, bool checkpointing, int part_groups)
{
    static Fixture f;
    open_fixture(&f, texts, checkpointing);
    assert_int_equal(f.p->groups, part_groups);
    const float loss = gradients(&f, 8, (const int32_t[]){900, 250});
    assert_close("loss", &loss, golden(f.golden, "loss"), 1e-5);
    assert_int_equal(each_tensor(&f, compare_gradient, NULL), f.p->count);
    close_fixture(&f);
}

static void gradients_of_every_adapter_of_all_three_parts(void **state)
{
    (void)state;
    gradients_agree(TEXTS_ALL, false, 1 << GROUP_UNET | 1 << GROUP_TEXT | 1 << GROUP_TEXT_2);
    gradients_agree(TEXTS_ALL, true, 1 << GROUP_UNET | 1 << GROUP_TEXT | 1 << GROUP_TEXT_2);
}

/* The gradient's length, and how far it goes along randn(N). */
static void compare_summary(const Fixture *f, Tensor *w, const char *module, const char *half, uint64_t seed,
                            float factor, void *arg)
{
    (void)half, (void)factor;
    const int64_t n = tensor_count(w);
    const float *g = w->grad->data;
    float *along = mem_alloc((size_t)n * sizeof *along);
    float *all = golden_floats(golden(f->golden_2, "%s.grads", (const char *)arg)), *want = all + 2 * seed;
    double square = 0, dot = 0;
    draw(seed, along, n, 1);
    for (int64_t i = 0; i < n; i++) {
        square += (double)g[i] * (double)g[i];
        dot += (double)g[i] * (double)along[i];
    }
    const double length = (double)want[0], allowed = 1e-4 * fmax(length, 1e-4);
    if (!(fabs(sqrt(square) - length) <= allowed && fabs(dot - (double)want[1]) <= 10 * allowed))
        fail_msg("%s: %s.%s: %g, %g, not %g, %g", (const char *)arg, module, half, sqrt(square), dot, length,
                 (double)want[1]);
    mem_free(along);
    mem_free(all);
}

/* Over a model that another's adapters are on: what is trained learns with them in its way. */
static void a_step_over_every_kind_of_adapter(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"loha", "lokr", "locon-dora", "loha-dora", "lokr-dora"};
    static Fixture f;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        char path[512];
        LoraFile *lora;
        open_fixture(&f, TEXTS_ALL, i % 2);
        f.golden_2 = golden_open("sdxl_adapters/results.safetensors");
        snprintf(path, sizeof path, TEST_GOLDEN "/sdxl_adapters/%s.safetensors", KINDS[i]);
        assert_ok(lora_attach(f.model, path, 1, &lora));
        const float loss = gradients(&f, 8, (const int32_t[]){900, 250});
        assert_close("loss", &loss, golden(f.golden_2, "%s.loss", KINDS[i]), 1e-5);
        assert_int_equal(each_tensor(&f, compare_summary, (void *)KINDS[i]), f.p->count);
        lora_detach(lora);
        tensorfile_close(f.golden_2);
        close_fixture(&f);
    }
}

/* Error and change of one tensor, squared, added up. */
typedef struct Sums {
    int step;
    double error, change;
} Sums;

static void add_change(const Fixture *f, Tensor *w, const char *module, const char *half, uint64_t seed,
                       float factor, void *arg)
{
    Sums *s = arg;
    const int64_t n = tensor_count(w);
    float *want = golden_floats(golden(f->golden, "%d.%s.%s", s->step, module, half)),
          *first = mem_alloc((size_t)n * sizeof *first);
    draw(seed, first, n, factor);
    for (int64_t i = 0; i < n; i++) {
        s->error += pow((double)((const float *)w->data)[i] - (double)want[i], 2);
        s->change += pow((double)want[i] - (double)first[i], 2);
    }
    mem_free(want);
    mem_free(first);
}

static double change_error(const Fixture *f, int step)
{
    Sums s = {.step = step};
    each_tensor(f, add_change, &s);
    return sqrt(s.error / s.change);
}

static void ten_steps_with_a_rate_for_each_part(void **state)
{
    (void)state;
    static Fixture f;
    float losses[STEPS];
    open_fixture(&f, TEXTS_ALL, false);
    int32_t *t = copy_of(golden(f.golden, "t"));
    for (int k = 0; k < STEPS; k++) {
        UpdateNumbers said;
        losses[k] = gradients(&f, 1000 + (uint64_t)k, t + BATCH * k);
        assert_ok(optimizer_step(&f.config, f.p, k + 1, STEPS, 1, NULL, &said));
        assert_true(said.moved.unet > 0 && said.moved.text > 0 && said.moved.text_2 > 0);
        if (k == 0)
            assert_true(change_error(&f, 1) < 1e-3);
    }
    assert_close("losses", losses, golden(f.golden, "losses"), 1e-4);
    assert_true(change_error(&f, STEPS) < 2e-3);
    mem_free(t);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_every_adapter_of_all_three_parts),
        cmocka_unit_test(a_step_over_every_kind_of_adapter),
        cmocka_unit_test(ten_steps_with_a_rate_for_each_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
