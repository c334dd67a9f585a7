/* Goldens: tensors of a safetensors file in tests/golden, and how far from them a result may be (design,
 * section 7). */
#ifndef ATL_TEST_GOLDEN_H
#define ATL_TEST_GOLDEN_H

#include "infer/files/tensor_file.h"
#include "kernels/base/mem.h"
#include "kernels/ctx.h"
#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODULE_TOLERANCE 1e-4 /* largest error against the reference's largest value */

static inline TensorFile *golden_open(const char *name)
{
    TensorFile *f = NULL;
    char path[1024];
    snprintf(path, sizeof path, TEST_GOLDEN "/%s", name);
    if (tensorfile_open(path, &f) != STATUS_OK)
        fail_msg("%s", status_message());
    return f;
}

static inline const TensorEntry *golden(const TensorFile *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline const TensorEntry *golden(const TensorFile *f, const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const TensorEntry *e = tensorfile_find(f, name);
    if (!e)
        fail_msg("the golden file lacks %s", name);
    return e;
}

/* A copy that is aligned. Caller: mem_free. */
static inline float *golden_floats(const TensorEntry *e)
{
    assert_int_equal(e->type, ELEMENT_F32);
    float *out = mem_alloc(e->bytes);
    assert_non_null(out);
    memcpy(out, e->data, e->bytes);
    return out;
}

/* A step's tensor with the golden's content. */
static inline Tensor *golden_input(Ctx *c, const TensorEntry *e)
{
    DType type;
    assert_true(element_dtype(e->type, &type));
    return ctx_input(c, type, e->ndim, e->shape, e->data);
}

/* Largest error over the reference's largest value; infinite if any value is not finite. */
static inline double largest_error(const float *got, const float *want, int64_t n)
{
    double error = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(got[i]))
            return INFINITY;
        error = fmax(error, fabs((double)got[i] - want[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    return largest > 0 ? error / largest : error;
}

/* L2 norm of the difference over the reference's. */
static inline double l2_error(const float *got, const float *want, int64_t n)
{
    double error = 0, whole = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        whole += (double)want[i] * want[i];
    }
    return sqrt(error / (whole > 0 ? whole : 1));
}

static inline void assert_close(const char *what, const float *got, const TensorEntry *e, double tolerance)
{
    float *want = golden_floats(e);
    const double error = largest_error(got, want, tensor_entry_count(e));
    mem_free(want);
    if (!(error <= tolerance))
        fail_msg("%s: error %.3g of the largest value, allowed is %.3g", what, error, tolerance);
}

static inline void assert_ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
}

/* What a step gives, which writes it to *out, in as many bytes as the golden has: without and with a plan,
 * which must be the same. Caller: mem_free. */
static inline float *compute_golden(Ctx *c, StepFn fn, void *step, float **out, const TensorEntry *e)
{
    float *plain = mem_calloc(1, e->bytes), *planned = mem_calloc(1, e->bytes);
    Plan *plan = NULL;
    *out = plain;
    assert_ok(ctx_run(c, NULL, fn, step));
    *out = planned;
    assert_ok(ctx_rehearse(c, fn, step, &plan));
    assert_ok(ctx_run(c, plan, fn, step));
    assert_memory_equal(plain, planned, e->bytes);
    plan_free(plan);
    mem_free(planned);
    return plain;
}

#endif
