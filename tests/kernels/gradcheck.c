/* The check of one operation (gradcheck.h).
 *
 * A case is run as a step of its own (opcase.h), so the reference for every gradient is the finite difference
 * of Σ cotangent · twin. What is compared is the arithmetic and the rounding of results, not of inputs. Every
 * instruction set the processor has is run, each with and without a plan, and a plan must not change a byte.
 */
#include "isa_devices.h"
#include "opcase.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SAMPLES 16
#define STEP 1e-5 /* of the finite differences: error about STEP², and 1e-16/STEP of rounding */

/* Largest error allowed, relative to the largest value, in a result and in a gradient. A bf16 is rounded by
 * 2^-9 of itself, an f16 by 2^-12; gradients may pass through several roundings. */
static const double result_tolerance[] = {[DTYPE_F32] = 2e-5, [DTYPE_BF16] = 6e-3, [DTYPE_F16] = 8e-4};
static const double gradient_tolerance[] = {[DTYPE_F32] = 5e-5, [DTYPE_BF16] = 2e-2, [DTYPE_F16] = 2.5e-3};
/* TF32 rounds each operand by 2^-12 of itself, as f16 does. */
#define TF32_RESULT 8e-4
#define TF32_GRADIENT 2.5e-3

/* Finite differences ------------------------------------------------------------------------------------ */

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
    double *before = opcase_checked(malloc(sizeof(double) * (size_t)r->count[i]));
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
    d.at = opcase_checked(malloc(sizeof *d.at * (size_t)d.n));
    d.value = opcase_checked(malloc(sizeof *d.value * (size_t)d.n));
    for (int64_t s = 0; s < d.n; s++) {
        /* first and last element always, between them at random */
        d.at[s] = !d.has_along ? s
                  : s == 0     ? 0
                  : s == 1     ? r->count[i] - 1
                               : (int64_t)((opcase_uniform(&state) + 1) / 2 * (double)r->count[i]);
        d.value[s] = difference_at(r, i, d.at[s]);
    }
    return d;
}

/* Comparison -------------------------------------------------------------------------------------------- */

typedef struct Where {
    const char *op, *isa, *what;
    DType dtype;
    bool tf32;
} Where;

static const char *arithmetic(const Where *w)
{
    return w->tf32 ? "tf32" : dtype_name(w->dtype);
}

static void check_number(const Where *w, const char *tensor, int64_t at, double got, double want,
                         double limit)
{
    if (fabs(got - want) <= limit) /* false for NaN */
        return;
    fail_msg("%s, %s, %s, case '%s': %s[%lld] is %.9g, should be %.9g within %.2g", w->op, w->isa,
             arithmetic(w), w->what, tensor, (long long)at, got, want, limit);
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
                     (w->tf32 ? TF32_RESULT : result_tolerance[run->out_type]) * largest);
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
    const double tolerance =
        w->tf32 ? TF32_GRADIENT : fmax(gradient_tolerance[w->dtype], gradient_tolerance[run->out_type]);
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
        fail_msg("%s, %s, %s, case '%s': a plan, or the device, changes the result", w->op, w->isa,
                 arithmetic(w), w->what);
}

/* Runs the case twice, without a plan and with one. Whether it multiplies anything. */
static bool check_on(const Where *w, const Device *dev, const Reference *r, const Differences *d)
{
    Ctx *c = opcase_checked(ctx_new(dev, &(CtxOptions){.dtype = w->dtype, .tf32 = w->tf32, .threads = 2}));
    Run plain = run_of(dev, r, w->dtype), planned = run_of(dev, r, w->dtype);
    if (ctx_run(c, NULL, opcase_step, &plain) != STATUS_OK)
        fail_msg("%s, %s, case '%s': %s", w->op, w->isa, w->what, status_message());
    check_result(w, &plain);
    for (int i = 0; i < r->k->inputs; i++)
        if (opcase_wants_grad(r->k, i))
            check_gradient(w, &plain, i, &d[i]);
    Plan *plan = NULL;
    if (ctx_rehearse(c, opcase_step, &planned, &plan) != STATUS_OK ||
        ctx_run(c, plan, opcase_step, &planned) != STATUS_OK)
        fail_msg("%s, %s, case '%s', planned: %s", w->op, w->isa, w->what, status_message());
    check_bytes(w, &plain, &planned);
    const bool multiplies = plan_flop(plan) > 0;
    plan_free(plan);
    run_free(&plain);
    run_free(&planned);
    ctx_free(c);
    return multiplies;
}

/* Where and when it is computed changes no byte; which says nothing of a GPU. */
static void check_far(const char *name, const Reference *r, DType dtype)
{
    if (test_device_is("cuda"))
        return;
    const Where w = {.op = name, .isa = "far", .what = r->k->what, .dtype = dtype};
    const Device *const devices[] = {device_cpu(), device_far()};
    Run run[2];
    for (int d = 0; d < 2; d++) {
        Ctx *c = opcase_checked(ctx_new(devices[d], &(CtxOptions){.dtype = dtype, .threads = 2}));
        run[d] = run_of(devices[d], r, dtype);
        if (ctx_run(c, NULL, opcase_step, &run[d]) != STATUS_OK)
            fail_msg("%s, %s, case '%s': %s", name, devices[d]->name, w.what, status_message());
        ctx_free(c);
    }
    check_bytes(&w, &run[0], &run[1]);
    run_free(&run[0]);
    run_free(&run[1]);
}

void optest_check(const char *name, const OpTest *tests, int count)
{
    Device table[ALL_DEVICES_MAX];
    const int isas = all_devices(table);
    for (int t = 0; t < count; t++)
        for (int sixteen_bits = 0; sixteen_bits < 2; sixteen_bits++) {
            Reference r = reference_of(&tests[t], sixteen_bits);
            Differences d[OPTEST_MAX] = {{0}};
            for (int i = 0; i < r.k->inputs; i++)
                if (opcase_wants_grad(r.k, i))
                    d[i] = differences_of(&r, i);
            for (int i = 0; i < isas; i++)
                for (DType type = sixteen_bits ? DTYPE_BF16 : DTYPE_F32;
                     type <= (sixteen_bits ? DTYPE_F16 : DTYPE_F32); type++) {
                    if (type == DTYPE_BF16 && table[i].lacks_bf16)
                        continue;
                    Where w = {.op = name, .isa = table[i].name, .what = r.k->what, .dtype = type};
                    const bool multiplies = check_on(&w, &table[i], &r, d);
                    if (multiplies && (w.tf32 = type == DTYPE_F32 && table[i].has_tf32))
                        check_on(&w, &table[i], &r, d);
                }
            for (DType type = sixteen_bits ? DTYPE_BF16 : DTYPE_F32;
                 type <= (sixteen_bits ? DTYPE_F16 : DTYPE_F32); type++)
                check_far(name, &r, type);
            for (int i = 0; i < r.k->inputs; i++) {
                free(d[i].at);
                free(d[i].value);
            }
            reference_free(&r);
        }
}
