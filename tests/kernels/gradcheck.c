/* The check of one operation (gradcheck.h).
 *
 * A case is run as a step of its own: inputs, the operation, and a scalar whose gradient with respect to the
 * result is a random cotangent; so the reference for every gradient is the finite difference of Σ cotangent ·
 * twin. Inputs of 16-bit runs are rounded to 8 significant bits first, which bf16 and f16 both hold: what is
 * compared is then the arithmetic and the rounding of results, not of inputs. Every instruction set the
 * processor has is run, each with and without a plan, and a plan must not change a byte. */
#include "gradcheck.h"

#include "cotangent.h"
#include "isa_devices.h"
#include "kernels/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OUT_MAX (1 << 20)
#define SAMPLES 16
#define STEP 1e-5         /* of the finite differences: error about STEP², and 1e-16/STEP of rounding */
#define GRAD_BEFORE 0.25f /* what stands in a weight's gradient before: must be added to */

/* Largest error allowed, relative to the largest value, in a result and in a gradient. A bf16 is rounded by
 * 2^-9 of itself, an f16 by 2^-12; gradients may pass through several roundings. */
static const double result_tolerance[] = {[DTYPE_F32] = 2e-5, [DTYPE_BF16] = 6e-3, [DTYPE_F16] = 8e-4};
static const double gradient_tolerance[] = {[DTYPE_F32] = 5e-5, [DTYPE_BF16] = 2e-2, [DTYPE_F16] = 2.5e-3};

/* Numbers from a small generator, the same in every run. */
static double next_uniform(uint64_t *state)
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

typedef struct Reference {
    const OpTest *test;
    const OpCase *k;
    double *in[OPTEST_MAX], *out, *cotangent, *work;
    int64_t count[OPTEST_MAX], out_count;
} Reference;

static void *checked(void *p)
{
    assert_non_null(p);
    return p;
}

static double rounded_to(double x, bool sixteen_bits)
{
    const float f = (float)x;
    return (double)(sixteen_bits ? bf16_to_f32(f32_to_bf16(f)) : f);
}

static Reference reference_of(const OpTest *test, bool sixteen_bits)
{
    const OpCase *k = &test->c;
    Reference r = {.test = test, .k = k};
    uint64_t state = 12345;
    const double range = k->range > 0 ? k->range : 1;
    for (int i = 0; i < k->inputs; i++) {
        r.count[i] = optest_elements(k, i);
        r.in[i] = checked(malloc(sizeof(double) * (size_t)r.count[i]));
        for (int64_t j = 0; j < r.count[i]; j++)
            r.in[i][j] = rounded_to(next_uniform(&state) * range, sixteen_bits);
    }
    r.out = checked(malloc(sizeof(double) * OUT_MAX));
    r.work = checked(malloc(sizeof(double) * OUT_MAX));
    r.out_count = test->twin(k, (const double *const *)r.in, r.out);
    assert_in_range(r.out_count, 1, OUT_MAX);
    r.cotangent = checked(malloc(sizeof(double) * (size_t)r.out_count));
    for (int64_t j = 0; j < r.out_count; j++)
        r.cotangent[j] = rounded_to(next_uniform(&state), sixteen_bits);
    return r;
}

static void reference_free(Reference *r)
{
    for (int i = 0; i < r->k->inputs; i++)
        free(r->in[i]);
    free(r->out);
    free(r->work);
    free(r->cotangent);
}

static double scalar_of(const Reference *r)
{
    double sum = 0;
    const int64_t n = r->test->twin(r->k, (const double *const *)r->in, r->work);
    for (int64_t j = 0; j < n; j++)
        sum += r->work[j] * r->cotangent[j];
    return sum;
}

/* d scalar / d in[i][j] */
static double difference_at(const Reference *r, int i, int64_t j)
{
    double *x = &r->in[i][j];
    const double before = *x;
    *x = before + STEP;
    const double up = scalar_of(r);
    *x = before - STEP;
    const double down = scalar_of(r);
    *x = before;
    return (up - down) / (2 * STEP);
}

/* Along a direction of ±1: Σ_j direction_j d scalar / d in[i][j]. */
static int direction_sign(int64_t j)
{
    return ((uint64_t)j * 0x9E3779B97F4A7C15u) >> 63 ? 1 : -1;
}
static double difference_along(const Reference *r, int i)
{
    double side[2];
    double *before = checked(malloc(sizeof(double) * (size_t)r->count[i]));
    memcpy(before, r->in[i], sizeof(double) * (size_t)r->count[i]);
    for (int s = 0; s < 2; s++) {
        for (int64_t j = 0; j < r->count[i]; j++)
            r->in[i][j] = before[j] + (s ? -STEP : STEP) * direction_sign(j);
        side[s] = scalar_of(r);
    }
    memcpy(r->in[i], before, sizeof(double) * (size_t)r->count[i]);
    free(before);
    return (side[0] - side[1]) / (2 * STEP);
}

/* The gradients that are to be compared: of all elements, or of samples and one direction. */
typedef struct Differences {
    int64_t n;
    int64_t *at;
    double *value, along;
    bool has_along;
} Differences;

static Differences differences_of(const Reference *r, int i)
{
    Differences d = {.n = r->count[i]};
    uint64_t state = 99;
    if (d.n > OPTEST_SAMPLED) {
        d.n = SAMPLES;
        d.has_along = true;
        d.along = difference_along(r, i);
    }
    d.at = checked(malloc(sizeof *d.at * (size_t)d.n));
    d.value = checked(malloc(sizeof *d.value * (size_t)d.n));
    for (int64_t s = 0; s < d.n; s++) {
        /* first and last element always, between them at random */
        d.at[s] = !d.has_along ? s
                  : s == 0     ? 0
                  : s == 1     ? r->count[i] - 1
                               : (int64_t)((next_uniform(&state) + 1) / 2 * (double)r->count[i]);
        d.value[s] = difference_at(r, i, d.at[s]);
    }
    return d;
}

/* A run of the case on a device ------------------------------------------------------------------------- */

typedef struct Run {
    const Reference *r;
    DType dtype;
    Tensor *weight[OPTEST_MAX];
    float *in[OPTEST_MAX], *cotangent;
    int64_t out_count;
    DType out_type;
    float *out, *grad[OPTEST_MAX];
    bool has_grad[OPTEST_MAX];
} Run;

static bool wants_grad(const OpCase *k, int i)
{
    return !k->no_grad[i];
}

static Tensor *activation_of(Ctx *c, const Run *run, int i)
{
    const OpCase *k = run->r->k;
    Tensor *f = ctx_input(c, DTYPE_F32, k->ndim[i], k->shape[i], run->in[i]);
    op_begin(c, "input", NULL);
    op_use(c, f);
    Tensor *t = ctx_tensor(c, run->dtype, k->ndim[i], k->shape[i]);
    RUN(c, c->dev->copy(f, t));
    t->requires_grad = wants_grad(k, i);
    return t;
}

static void step(Ctx *c, void *arg)
{
    Run *run = arg;
    const OpCase *k = run->r->k;
    Tensor *in[OPTEST_MAX] = {0};
    for (int i = 0; i < k->inputs; i++) {
        in[i] = k->weight[i] ? run->weight[i] : activation_of(c, run, i);
        if (k->weight[i] && wants_grad(k, i))
            for (int64_t j = 0; c->live && j < run->r->count[i]; j++)
                ((float *)in[i]->grad->data)[j] = GRAD_BEFORE;
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
        if (wants_grad(k, i) && in[i]->grad)
            ctx_read(c, in[i]->grad, run->grad[i]);
    }
}

static Tensor *weight_of(const OpCase *k, int i, const float *values, DType dtype)
{
    const bool trained = wants_grad(k, i);
    Tensor *w = checked(tensor_new(trained ? DTYPE_F32 : dtype, k->ndim[i], k->shape[i]));
    convert_floats(w->data, w->dtype, values, DTYPE_F32, tensor_count(w));
    w->requires_grad = trained;
    if (trained)
        w->grad = checked(tensor_new(DTYPE_F32, k->ndim[i], k->shape[i]));
    return w;
}

static float *floats_of(const double *x, int64_t n)
{
    float *f = checked(malloc(sizeof *f * (size_t)n));
    for (int64_t i = 0; i < n; i++)
        f[i] = (float)x[i];
    return f;
}

static Run run_of(const Reference *r, DType dtype)
{
    Run run = {.r = r, .dtype = dtype};
    for (int i = 0; i < r->k->inputs; i++) {
        run.in[i] = floats_of(r->in[i], r->count[i]);
        run.grad[i] = checked(calloc((size_t)r->count[i], sizeof(float)));
        if (r->k->weight[i])
            run.weight[i] = weight_of(r->k, i, run.in[i], dtype);
    }
    run.cotangent = floats_of(r->cotangent, r->out_count);
    run.out = checked(calloc((size_t)r->out_count, sizeof(float)));
    return run;
}

static void run_free(Run *run)
{
    for (int i = 0; i < run->r->k->inputs; i++) {
        free(run->in[i]);
        free(run->grad[i]);
        tensor_free(run->weight[i]);
    }
    free(run->cotangent);
    free(run->out);
}

/* Comparison -------------------------------------------------------------------------------------------- */

typedef struct Where {
    const char *op, *isa, *what;
    DType dtype;
} Where;

static void check_number(const Where *w, const char *tensor, int64_t at, double got, double want,
                         double limit)
{
    if (fabs(got - want) <= limit) /* false for NaN */
        return;
    fail_msg("%s, %s, %s, case '%s': %s[%lld] is %.9g, should be %.9g within %.2g", w->op, w->isa,
             dtype_name(w->dtype), w->what, tensor, (long long)at, got, want, limit);
}

static void check_result(const Where *w, const Run *run)
{
    const Reference *r = run->r;
    double largest = 1e-30;
    if (run->out_count != r->out_count)
        fail_msg("%s, case '%s': the result has %lld elements, should have %lld", w->op, w->what,
                 (long long)run->out_count, (long long)r->out_count);
    for (int64_t j = 0; j < r->out_count; j++)
        largest = fmax(largest, fabs(r->out[j]));
    for (int64_t j = 0; j < r->out_count; j++)
        check_number(w, "result", j, (double)run->out[j], r->out[j],
                     result_tolerance[run->out_type] * largest);
}

static void check_gradient(const Where *w, const Run *run, int i, const Differences *d)
{
    char tensor[40];
    const OpCase *k = run->r->k;
    const double before = k->weight[i] ? (double)GRAD_BEFORE : 0;
    double largest = 1e-6, along = 0;
    if (!run->has_grad[i])
        fail_msg("%s, %s, case '%s': no gradient reaches input %d", w->op, w->isa, w->what, i);
    for (int64_t j = 0; j < run->r->count[i]; j++) {
        const double g = (double)run->grad[i][j] - before;
        largest = fmax(largest, fabs(g));
        along += g * direction_sign(j);
    }
    for (int64_t s = 0; s < d->n; s++)
        largest = fmax(largest, fabs(d->value[s]));
    /* a cast makes the result coarser than what the context stores, and the gradient with it */
    const double tolerance = fmax(gradient_tolerance[w->dtype], gradient_tolerance[run->out_type]);
    const double limit = tolerance * largest;
    snprintf(tensor, sizeof tensor, "gradient of input %d ", i);
    for (int64_t s = 0; s < d->n; s++)
        check_number(w, tensor, d->at[s], (double)run->grad[i][d->at[s]] - before, d->value[s], limit);
    /* n roundings of either sign add up to about √n of them */
    if (d->has_along)
        check_number(w, "gradient along a direction ", i, along, d->along,
                     limit * sqrt((double)run->r->count[i]));
}

static void check_bytes(const Where *w, const Run *a, const Run *b)
{
    bool same = memcmp(a->out, b->out, sizeof(float) * (size_t)a->out_count) == 0;
    for (int i = 0; i < a->r->k->inputs; i++)
        same = same && memcmp(a->grad[i], b->grad[i], sizeof(float) * (size_t)a->r->count[i]) == 0;
    if (!same)
        fail_msg("%s, %s, %s, case '%s': a plan changes the result", w->op, w->isa, dtype_name(w->dtype),
                 w->what);
}

/* Runs the case twice, without a plan and with one. */
static void check_on(const Where *w, const Device *dev, const Reference *r, const Differences *d)
{
    Ctx *c = checked(ctx_new(dev, &(CtxOptions){.dtype = w->dtype, .threads = 2}));
    Run plain = run_of(r, w->dtype), planned = run_of(r, w->dtype);
    if (ctx_run(c, NULL, step, &plain) != STATUS_OK)
        fail_msg("%s, %s, case '%s': %s", w->op, w->isa, w->what, status_message());
    check_result(w, &plain);
    for (int i = 0; i < r->k->inputs; i++)
        if (wants_grad(r->k, i))
            check_gradient(w, &plain, i, &d[i]);
    Plan *plan = NULL;
    if (ctx_rehearse(c, step, &planned, &plan) != STATUS_OK || ctx_run(c, plan, step, &planned) != STATUS_OK)
        fail_msg("%s, %s, case '%s', planned: %s", w->op, w->isa, w->what, status_message());
    check_bytes(w, &plain, &planned);
    plan_free(plan);
    run_free(&plain);
    run_free(&planned);
    ctx_free(c);
}

void optest_check(const char *name, const OpTest *tests, int count)
{
    Device table[ISA_DEVICES_MAX];
    const int isas = isa_devices(table);
    for (int t = 0; t < count; t++)
        for (int sixteen_bits = 0; sixteen_bits < 2; sixteen_bits++) {
            Reference r = reference_of(&tests[t], sixteen_bits);
            Differences d[OPTEST_MAX] = {{0}};
            for (int i = 0; i < r.k->inputs; i++)
                if (wants_grad(r.k, i))
                    d[i] = differences_of(&r, i);
            for (int i = 0; i < isas; i++)
                for (DType type = sixteen_bits ? DTYPE_BF16 : DTYPE_F32;
                     type <= (sixteen_bits ? DTYPE_F16 : DTYPE_F32); type++) {
                    const Where w = {.op = name, .isa = table[i].name, .what = r.k->what, .dtype = type};
                    check_on(&w, &table[i], &r, d);
                }
            for (int i = 0; i < r.k->inputs; i++) {
                free(d[i].at);
                free(d[i].value);
            }
            reference_free(&r);
        }
}
