/* Operations against PyTorch's numbers, forward and backward, in f32 within 1e-5 of the largest value
 * (tests/golden/ops.safetensors, written by scripts/reference/ops.py). */
#include "infer/files/safetensors.h"
#include "kernels/adapter.h"
#include "tests/far/far.h"
#include "cotangent.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define INPUTS_MAX 5
#define TOLERANCE 1e-5

static TensorFile *golden;

static const TensorEntry *entry_or_null(const char *name, const char *part)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", name, part);
    return tensorfile_find(golden, key);
}

static const TensorEntry *entry(const char *name, const char *part)
{
    const TensorEntry *e = entry_or_null(name, part);
    if (!e)
        fail_msg("ops.safetensors has no %s.%s", name, part);
    return e;
}

/* The entry's values, aligned. Caller: free. */
static void *values_of(const TensorEntry *e)
{
    void *copy = malloc(e->bytes + 1);
    assert_non_null(copy);
    memcpy(copy, e->data, e->bytes);
    return copy;
}

/* Cases ------------------------------------------------------------------------------------------------- */

static const Layer *layer_of(Ctx *c, Tensor *w, Tensor *b)
{
    const Layer l = {.name = "golden", .weight = w, .bias = b};
    return ctx_copy(c, &l, sizeof l);
}

static Tensor *run_linear(Ctx *c, Tensor **in)
{
    return linear(c, layer_of(c, in[1], in[2]), in[0]);
}
static Tensor *run_linear_lora(Ctx *c, Tensor **in)
{
    const Adapter a = {.kind = &adapter_lora, .tensors = {in[3], in[4]}, .scale = 0.75f};
    const Layer l = {
        .name = "golden", .weight = in[1], .bias = in[2], .adapters = (Adapter *)ctx_copy(c, &a, sizeof a)};
    return linear(c, ctx_copy(c, &l, sizeof l), in[0]);
}
static Tensor *run_linear_add(Ctx *c, Tensor **in)
{
    return linear_add(c, layer_of(c, in[1], in[2]), in[0], in[3]);
}
static Tensor *run_linear_geglu(Ctx *c, Tensor **in)
{
    return linear_geglu(c, layer_of(c, in[1], in[2]), in[0]);
}
static Tensor *run_conv2d(Ctx *c, Tensor **in)
{
    return conv2d(c, layer_of(c, in[1], in[2]), CONV_SAME, in[0]);
}
static Tensor *run_conv2d_1x1(Ctx *c, Tensor **in)
{
    return conv2d(c, layer_of(c, in[1], in[2]), CONV_POINTWISE, in[0]);
}
static Tensor *run_conv2d_up(Ctx *c, Tensor **in)
{
    return conv2d(c, layer_of(c, in[1], in[2]), CONV_UP, in[0]);
}
static Tensor *run_conv2d_add(Ctx *c, Tensor **in)
{
    return conv2d_add(c, layer_of(c, in[1], in[2]), CONV_SAME, in[0], in[3], in[4]);
}
static Tensor *run_conv2d_down(Ctx *c, Tensor **in)
{
    return conv2d(c, layer_of(c, in[1], in[2]), CONV_DOWN, in[0]);
}
static Tensor *run_conv2d_down_asymmetric(Ctx *c, Tensor **in)
{
    return conv2d(c, layer_of(c, in[1], in[2]), CONV_DOWN_ASYMMETRIC, in[0]);
}
static Tensor *run_group_norm(Ctx *c, Tensor **in)
{
    return group_norm(c, layer_of(c, in[1], in[2]), 4, 1e-5f, in[0]);
}
static Tensor *run_group_norm_silu(Ctx *c, Tensor **in)
{
    return group_norm_silu(c, layer_of(c, in[1], in[2]), 2, 1e-6f, in[0]);
}
static Tensor *run_layer_norm(Ctx *c, Tensor **in)
{
    return layer_norm(c, layer_of(c, in[1], in[2]), 1e-5f, in[0]);
}
static Tensor *run_silu(Ctx *c, Tensor **in)
{
    return silu(c, in[0]);
}
static Tensor *run_gelu(Ctx *c, Tensor **in)
{
    return gelu(c, in[0]);
}
static Tensor *run_quick_gelu(Ctx *c, Tensor **in)
{
    return quick_gelu(c, in[0]);
}
static Tensor *run_geglu(Ctx *c, Tensor **in)
{
    return geglu(c, in[0]);
}
static Tensor *run_attention(Ctx *c, Tensor **in)
{
    return attention(c, 2, 0, in[0], in[1], in[2]);
}
static Tensor *run_attention_causal(Ctx *c, Tensor **in)
{
    return attention(c, 3, ATTENTION_CAUSAL, in[0], in[1], in[2]);
}
static Tensor *run_embedding(Ctx *c, Tensor **in)
{
    return embedding(c, layer_of(c, in[0], NULL), in[1]);
}
static Tensor *run_take_rows(Ctx *c, Tensor **in)
{
    return take_rows(c, in[0], in[1]);
}
static Tensor *run_concat(Ctx *c, Tensor **in)
{
    return concat(c, in[0], in[1]);
}
static Tensor *run_add(Ctx *c, Tensor **in)
{
    return add(c, in[0], in[1]);
}
static Tensor *run_add_rows(Ctx *c, Tensor **in)
{
    return add_rows(c, layer_of(c, in[1], NULL), in[0]);
}
static Tensor *run_multiply(Ctx *c, Tensor **in)
{
    return multiply(c, in[0], in[1]);
}
static Tensor *run_mse_loss(Ctx *c, Tensor **in)
{
    return mse_loss(c, in[0], in[1], in[2], NULL);
}
typedef struct Case {
    const char *name;
    Tensor *(*run)(Ctx *c, Tensor **in);
    bool weight[INPUTS_MAX]; /* a trained weight, whose gradient is added to f32 storage of its own */
} Case;

#define CASE(name, ...)                                                                                      \
    {                                                                                                        \
#name, run_##name,                                                                                   \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
static const Case cases[] = {
    CASE(linear, false, true, true),
    CASE(linear_lora, false, false, false, true, true),
    CASE(linear_add, false, true, true),
    CASE(linear_geglu, false, true, true),
    CASE(conv2d, false, true, true),
    CASE(conv2d_1x1, false, true, true),
    CASE(conv2d_down, false, true, true),
    CASE(conv2d_down_asymmetric, false, true, true),
    CASE(conv2d_up, false, true, true),
    CASE(conv2d_add, false, true, true),
    CASE(group_norm, false, true, true),
    CASE(group_norm_silu, false, true, true),
    CASE(layer_norm, false, true, true),
    CASE(silu, false),
    CASE(gelu, false),
    CASE(quick_gelu, false),
    CASE(geglu, false),
    CASE(attention, false),
    CASE(attention_causal, false),
    CASE(embedding, true),
    CASE(take_rows, false),
    CASE(concat, false),
    CASE(add, false),
    CASE(add_rows, false, true),
    CASE(multiply, false),
    CASE(mse_loss, false),
};

/* A case's step ----------------------------------------------------------------------------------------- */

typedef struct Step {
    const Case *k;
    int inputs;
    const TensorEntry *in[INPUTS_MAX], *grad[INPUTS_MAX];
    void *values[INPUTS_MAX];
    Tensor *weight[INPUTS_MAX];
    float *out, *cotangent, *got[INPUTS_MAX];
    bool has_grad[INPUTS_MAX];
} Step;

static void step(Ctx *c, void *arg)
{
    Step *s = arg;
    Tensor *in[INPUTS_MAX] = {0};
    for (int i = 0; i < s->inputs; i++) {
        const TensorEntry *e = s->in[i];
        DType type;
        assert_true(element_dtype(e->type, &type));
        in[i] = s->weight[i] ? s->weight[i] : ctx_input(c, type, e->ndim, e->shape, s->values[i]);
        in[i]->requires_grad = s->grad[i] != NULL;
    }
    Tensor *out = s->k->run(c, in);
    ctx_read(c, out, s->out);
    ctx_backward(c, scalar_with_cotangent(c, out, s->cotangent), 1);
    for (int i = 0; i < s->inputs; i++) {
        s->has_grad[i] = in[i]->grad != NULL;
        if (s->grad[i] && in[i]->grad)
            ctx_read(c, in[i]->grad, s->got[i]);
    }
}

static void check(const char *name, const char *part, const float *got, const TensorEntry *e)
{
    float *want = values_of(e);
    const int64_t n = (int64_t)(e->bytes / sizeof *want);
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= TOLERANCE * largest))
            fail_msg("%s.%s[%lld] is %.9g, PyTorch has %.9g (largest %.3g)", name, part, (long long)i,
                     (double)got[i], (double)want[i], largest);
    free(want);
}

static Step step_of(const Case *k)
{
    Step s = {.k = k};
    char part[16];
    for (; s.inputs < INPUTS_MAX; s.inputs++) {
        const int i = s.inputs;
        snprintf(part, sizeof part, "in%d", i);
        s.in[i] = entry_or_null(k->name, part);
        if (!s.in[i])
            break;
        snprintf(part, sizeof part, "grad%d", i);
        s.grad[i] = entry_or_null(k->name, part);
        s.values[i] = values_of(s.in[i]);
        s.got[i] = calloc(1, s.in[i]->bytes);
        /* layers' parameters outlive the step; frozen ones are told by having no gradient */
        if (k->weight[i]) {
            const int ndim = s.in[i]->ndim;
            s.weight[i] = tensor_new_on(test_device(), DTYPE_F32, ndim, s.in[i]->shape);
            assert_int_equal(tensor_put(s.weight[i], s.values[i], DTYPE_F32), STATUS_OK);
            s.weight[i]->grad = tensor_new_on(test_device(), DTYPE_F32, ndim, s.in[i]->shape);
        }
    }
    s.out = calloc(1, entry(k->name, "out")->bytes);
    s.cotangent = values_of(entry(k->name, "cot"));
    return s;
}

static void operation_gives_pytorchs_numbers(void **state)
{
    const Case *k = *state;
    Step s = step_of(k);
    char part[16];
    Ctx *c = ctx_new(test_device(), NULL);
    assert_true(s.inputs > 0);
    if (ctx_run(c, NULL, step, &s) != STATUS_OK)
        fail_msg("%s: %s", k->name, status_message());
    check(k->name, "out", s.out, entry(k->name, "out"));
    for (int i = 0; i < s.inputs; i++) {
        snprintf(part, sizeof part, "grad%d", i);
        if (s.grad[i])
            check(k->name, part, s.got[i], s.grad[i]);
        free(s.values[i]);
        free(s.got[i]);
        tensor_free(s.weight[i]);
    }
    free(s.out);
    free(s.cotangent);
    ctx_free(c);
}

/* Timesteps --------------------------------------------------------------------------------------------- */

typedef struct Timesteps {
    float *t;
    float flipped[5 * 32], shifted[5 * 33];
} Timesteps;

static void timestep_step(Ctx *c, void *arg)
{
    Timesteps *s = arg;
    Tensor *t = ctx_input(c, DTYPE_F32, 1, (const int64_t[]){5}, s->t);
    ctx_read(c, timestep_embedding(c, t, 32, true, 0), s->flipped);
    ctx_read(c, timestep_embedding(c, t, 33, false, 1), s->shifted);
}

static void timestep_embedding_gives_diffusers_numbers(void **state)
{
    Timesteps s = {.t = values_of(entry("timesteps", "t"))};
    Ctx *c = ctx_new(test_device(), NULL);
    (void)state;
    assert_int_equal(ctx_run(c, NULL, timestep_step, &s), STATUS_OK);
    check("timesteps", "flipped", s.flipped, entry("timesteps", "flipped"));
    check("timesteps", "shifted", s.shifted, entry("timesteps", "shifted"));
    free(s.t);
    ctx_free(c);
}

#define COUNT (sizeof cases / sizeof *cases)

int main(void)
{
    struct CMUnitTest tests[COUNT + 1];
    if (tensorfile_open(TEST_GOLDEN "/ops.safetensors", &golden) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    for (size_t i = 0; i < COUNT; i++)
        tests[i] = (struct CMUnitTest){.name = cases[i].name,
                                       .test_func = operation_gives_pytorchs_numbers,
                                       .initial_state = (void *)&cases[i]};
    tests[COUNT] = (struct CMUnitTest)cmocka_unit_test(timestep_embedding_gives_diffusers_numbers);
    const int failed = cmocka_run_group_tests_name("operations against PyTorch", tests, NULL, NULL);
    tensorfile_close(golden);
    return failed;
}
