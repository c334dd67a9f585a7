/* One case of an operation's test, in double and on a device (opcase.h). */
#include "opcase.h"

#include "cotangent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define OUT_MAX (1 << 20)

/* Numbers from a small generator, the same in every run. */
double opcase_uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53 * 2 - 1;
}

int64_t optest_elements(const OpCase *k, int input)
{
    int64_t n = 1;
    for (int i = 0; i < k->ndim[input]; i++)
        n *= k->shape[input][i];
    return n;
}

/* One case's reference: inputs, result and cotangent in double ------------------------------------------ */

void *opcase_checked(void *p)
{
    assert_non_null(p);
    return p;
}

static double rounded_to(double x, bool sixteen_bits)
{
    const float f = (float)x;
    return (double)(sixteen_bits ? bf16_to_f32(f32_to_bf16(f)) : f);
}

Reference reference_of(const OpTest *test, bool sixteen_bits)
{
    const OpCase *k = &test->c;
    Reference r = {.test = test, .k = k};
    uint64_t state = 12345;
    const double range = k->range > 0 ? k->range : 1;
    for (int i = 0; i < k->inputs; i++) {
        r.count[i] = optest_elements(k, i);
        r.in[i] = opcase_checked(malloc(sizeof(double) * (size_t)r.count[i]));
        for (int64_t j = 0; j < r.count[i]; j++)
            r.in[i][j] = rounded_to(opcase_uniform(&state) * range, sixteen_bits);
    }
    r.out = opcase_checked(malloc(sizeof(double) * OUT_MAX));
    r.work = opcase_checked(malloc(sizeof(double) * OUT_MAX));
    r.out_count = test->twin(k, (const double *const *)r.in, r.out);
    assert_in_range(r.out_count, 1, OUT_MAX);
    r.cotangent = opcase_checked(malloc(sizeof(double) * (size_t)r.out_count));
    for (int64_t j = 0; j < r.out_count; j++)
        r.cotangent[j] = rounded_to(opcase_uniform(&state), sixteen_bits);
    return r;
}

void reference_free(Reference *r)
{
    for (int i = 0; i < r->k->inputs; i++)
        free(r->in[i]);
    free(r->out);
    free(r->work);
    free(r->cotangent);
}

/* A run of the case on a device ------------------------------------------------------------------------- */

bool opcase_wants_grad(const OpCase *k, int i)
{
    return !k->no_grad[i];
}

static Tensor *activation_of(Ctx *c, const Run *run, int i)
{
    const OpCase *k = run->r->k;
    if (i == run->wrong) { /* as many bytes as floats are enough */
        Tensor *t = ctx_input(c, DTYPE_I8, k->ndim[i], k->shape[i], run->in[i]);
        t->requires_grad = opcase_wants_grad(k, i);
        return t;
    }
    Tensor *f = ctx_input(c, DTYPE_F32, k->ndim[i], k->shape[i], run->in[i]);
    op_begin(c, "input", NULL);
    op_use(c, f);
    Tensor *t = ctx_tensor(c, run->dtype, k->ndim[i], k->shape[i]);
    RUN(c, c->dev->copy(f, t));
    t->requires_grad = opcase_wants_grad(k, i);
    return t;
}

void opcase_step(Ctx *c, void *arg)
{
    Run *run = arg;
    const OpCase *k = run->r->k;
    Tensor *in[OPTEST_MAX] = {0};
    for (int i = 0; i < k->inputs; i++) {
        in[i] = k->weight[i] ? run->weight[i] : activation_of(c, run, i);
        if (k->weight[i] && opcase_wants_grad(k, i))
            RUN(c, c->dev->fill(in[i]->grad, GRAD_BEFORE));
    }
    Tensor *out = run->r->test->run(c, k, in);
    run->out_count = tensor_count(out);
    run->out_type = out->dtype;
    if (run->out_count != run->r->out_count)
        return;
    ctx_read(c, out, run->out);
    if (out->requires_grad)
        ctx_backward(c, scalar_with_cotangent(c, out, run->cotangent), 1);
    for (int i = 0; i < k->inputs; i++) {
        run->has_grad[i] = in[i]->grad != NULL;
        if (opcase_wants_grad(k, i) && in[i]->grad)
            ctx_read(c, in[i]->grad, run->grad[i]);
    }
}

static Tensor *weight_of(const Device *dev, const OpCase *k, int i, const float *values, DType dtype)
{
    const bool trained = opcase_wants_grad(k, i), wrong = dtype == DTYPE_I8;
    Tensor *w =
        opcase_checked(tensor_new_on(dev, trained && !wrong ? DTYPE_F32 : dtype, k->ndim[i], k->shape[i]));
    if (!wrong)
        assert_int_equal(tensor_put(w, values, DTYPE_F32), STATUS_OK);
    w->requires_grad = trained;
    if (trained)
        w->grad = opcase_checked(tensor_new_on(dev, DTYPE_F32, k->ndim[i], k->shape[i]));
    return w;
}

static float *floats_of(const double *x, int64_t n)
{
    float *f = opcase_checked(malloc(sizeof *f * (size_t)n));
    for (int64_t i = 0; i < n; i++)
        f[i] = (float)x[i];
    return f;
}

Run run_of(const Device *dev, const Reference *r, DType dtype)
{
    return run_with_wrong(dev, r, dtype, -1);
}

Run run_with_wrong(const Device *dev, const Reference *r, DType dtype, int input)
{
    Run run = {.r = r, .dtype = dtype, .wrong = input};
    for (int i = 0; i < r->k->inputs; i++) {
        run.in[i] = floats_of(r->in[i], r->count[i]);
        run.grad[i] = opcase_checked(calloc((size_t)r->count[i], sizeof(float)));
        if (r->k->weight[i])
            run.weight[i] = weight_of(dev, r->k, i, run.in[i], i == input ? DTYPE_I8 : dtype);
    }
    run.cotangent = floats_of(r->cotangent, r->out_count);
    run.out = opcase_checked(calloc((size_t)r->out_count, sizeof(float)));
    return run;
}

void run_free(Run *run)
{
    for (int i = 0; i < run->r->k->inputs; i++) {
        free(run->in[i]);
        free(run->grad[i]);
        tensor_free(run->weight[i]);
    }
    free(run->cotangent);
    free(run->out);
}
