/* NaN and infinity go through every operation as the formula has it: no maximum, clamp, mask or conversion
 * loses one, so that a run sees in its loss or its gradients' norm that a number was none.
 *
 * At samples of every input of every case one element is replaced, and the twin says where the result is then
 * NaN or infinite. An operation may make NaN of what the twin has as infinite (Winograd's sums do), and may
 * let it spread over neighbours, but where the twin has none it must have none. And of a NaN or infinity in
 * the gradient of the result, at least one of the inputs' gradients must tell. */
#include "isa_devices.h"
#include "opcase.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PLACES 2 /* of each input: one at random, and the last */
static float float_of(uint32_t bits)
{
    const union {
        uint32_t u;
        float f;
    } v = {.u = bits};
    return v.f;
}

/* As the processor makes it; with all bits set, so that one added to it would run over; infinities. */
static const uint32_t values[] = {0xffc00000u, 0x7fffffffu, 0x7f800000u, 0xff800000u};
#define COSTLY 2000 /* elements of a result */
#define VALUES ((int)(sizeof values / sizeof *values))

/* One element of an input, or of the cotangent, that is none. */
typedef struct Plant {
    int input; /* -1: the cotangent */
    int64_t at;
    float value;
    bool *none; /* of each element of the result: the twin has no number there */
} Plant;

static Plant plant_of(Reference *r, int input, int64_t at, float value)
{
    Plant p = {.input = input, .at = at, .value = value};
    if (input < 0)
        return p;
    p.none = opcase_checked(malloc((size_t)r->out_count * sizeof *p.none));
    const double before = r->in[input][at];
    r->in[input][at] = (double)value;
    r->test->twin(r->k, (const double *const *)r->in, r->work);
    r->in[input][at] = before;
    for (int64_t j = 0; j < r->out_count; j++)
        p.none[j] = !isfinite(r->work[j]);
    return p;
}

/* Each place gets its part of the values; where a twin is costly, one place gets one. Returns how many there
 * are. */
static int plants_of(Reference *r, Plant plants[(OPTEST_MAX + 1) * PLACES * VALUES])
{
    const bool costly = r->out_count > COSTLY;
    uint64_t state = 7;
    int n = 0;
    for (int input = -1; input < r->k->inputs; input++)
        for (int place = 0; place < (costly ? 1 : PLACES); place++) {
            const int64_t count = input < 0 ? r->out_count : r->count[input];
            const int64_t at =
                place ? count - 1 : (int64_t)((opcase_uniform(&state) + 1) / 2 * (double)count);
            for (int v = place; v < (costly ? place + 1 : VALUES); v += PLACES)
                plants[n++] = plant_of(r, input, at, float_of(values[v]));
        }
    return n;
}

/* On a device ------------------------------------------------------------------------------------------- */

static void put(Run *run, const Plant *p)
{
    if (p->input < 0) {
        run->cotangent[p->at] = p->value;
        return;
    }
    run->in[p->input][p->at] = p->value;
    Tensor *w = run->weight[p->input];
    if (w)
        assert_int_equal(tensor_put_part(w, p->at, 1, &p->value, DTYPE_F32), STATUS_OK);
}

static bool all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* Not of cases with an input that is a constant: to which the element may belong. */
static void check_gradients(const char *where, const Run *run, const Plant *p)
{
    const OpCase *k = run->r->k;
    bool any = false, constant = false;
    for (int i = 0; i < k->inputs; i++) {
        constant = constant || (k->no_grad[i] && !k->weight[i]);
        if (!opcase_wants_grad(k, i) || !run->has_grad[i])
            continue;
        any = true;
        if (!all_finite(run->grad[i], run->r->count[i]))
            return;
    }
    if (any && !constant)
        fail_msg("%s: %g in the gradient of the result [%lld] is lost", where, (double)p->value,
                 (long long)p->at);
}

static void check_result(const char *where, const Run *run, const Plant *p)
{
    for (int64_t j = 0; j < run->r->out_count; j++)
        if (p->none[j] && isfinite(run->out[j]))
            fail_msg("%s: of %g at element %lld of input %d nothing is seen: result[%lld] is %g", where,
                     (double)p->value, (long long)p->at, p->input, (long long)j, (double)run->out[j]);
}

static void check_on(const char *name, const Device *dev, DType dtype, const Reference *r,
                     const Plant *plants, int count)
{
    char where[200];
    snprintf(where, sizeof where, "%s, %s, %s, case '%s'", name, dev->name, dtype_name(dtype), r->k->what);
    if (dtype == DTYPE_BF16 && dev->lacks_bf16)
        return;
    Ctx *c = opcase_checked(ctx_new(dev, &(CtxOptions){.dtype = dtype, .threads = 1}));
    for (int i = 0; i < count; i++) {
        Run run = run_of(dev, r, dtype);
        put(&run, &plants[i]);
        if (ctx_run(c, NULL, opcase_step, &run) != STATUS_OK)
            fail_msg("%s: %s", where, status_message());
        if (plants[i].input < 0)
            check_gradients(where, &run, &plants[i]);
        else
            check_result(where, &run, &plants[i]);
        run_free(&run);
    }
    ctx_free(c);
}

void optest_check_not_finite(const char *name, const OpTest *tests, int count)
{
    Device table[ALL_DEVICES_MAX];
    const int isas = all_devices(table);
    for (int t = 0; t < count; t++) {
        Plant plants[(OPTEST_MAX + 1) * PLACES * VALUES];
        Reference r = reference_of(&tests[t], true);
        const int n = plants_of(&r, plants);
        for (int i = 0; i < isas; i++)
            for (DType type = DTYPE_F32; type <= DTYPE_F16; type++)
                check_on(name, &table[i], type, &r, plants, n);
        for (int i = 0; i < n; i++)
            free(plants[i].none);
        reference_free(&r);
    }
}
