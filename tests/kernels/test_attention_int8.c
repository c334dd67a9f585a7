/* Attention with products of 8 bits. Breaks if it is further from f32's than rounding explains, if many small
 * weights get lost beside a large one, if what 8 bits are too coarse for is rounded all the same, or if NaN
 * gets lost or leaves its head. */
#include "isa_devices.h"

#include "kernels/base/mem.h"
#include "kernels/ctx.h"
#include "kernels/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static unsigned seed = 5;

static double uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return ((double)(seed >> 8) + 0.5) / (1 << 24);
}

/* Normal random numbers times `by`, each channel around a number of its own. */
static Tensor *normal(DType type, const int64_t shape[3], double by)
{
    Tensor *t = tensor_new(type, 3, shape);
    assert_non_null(t);
    for (int64_t i = 0; i < tensor_count(t); i++)
        tensor_set_at(t, i,
                      by * sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()) +
                          sin((double)(i % shape[2])));
    return t;
}

typedef struct Sizes {
    int64_t B, N, M, heads, d;
} Sizes;

typedef struct Case {
    Tensor *q, *k, *v, *wide, *narrow, *lse;
    Attention a;
} Case;

static Case case_new(const Sizes *s, DType type, double by)
{
    const int64_t D = s->heads * s->d, qs[] = {s->B, s->N, D}, ks[] = {s->B, s->M, D},
                  ls[] = {s->B, s->heads, s->N};
    Case c = {.q = normal(type, qs, by),
              .k = normal(type, ks, by),
              .v = normal(type, ks, 1),
              .wide = tensor_new(type, 3, qs),
              .narrow = tensor_new(type, 3, qs),
              .lse = tensor_new(DTYPE_F32, 3, ls)};
    c.a = (Attention){
        .heads = (int)s->heads, .threads = 2, .q = c.q, .k = c.k, .v = c.v, .out = c.wide, .lse = c.lse};
    return c;
}

static void case_free(Case *c)
{
    tensor_free(c->q), tensor_free(c->k), tensor_free(c->v);
    tensor_free(c->wide), tensor_free(c->narrow), tensor_free(c->lse);
}

static void attend(const Device *d, Attention *a, bool narrow, Tensor *out)
{
    size_t bytes;
    a->narrow = narrow, a->out = out;
    assert_int_equal(d->attention_scratch(a, &bytes), STATUS_OK);
    char *scratch = mem_alloc(bytes);
    assert_non_null(scratch);
    for (size_t i = 0; i < bytes; i++)
        scratch[i] = (char)0xff; /* NaN, if it is read */
    assert_int_equal(d->attention(a, scratch), STATUS_OK);
    mem_free(scratch);
}

static double apart(const Tensor *a, const Tensor *b)
{
    double sum = 0, of = 0;
    for (int64_t i = 0; i < tensor_count(b); i++) {
        const double x = tensor_at(a, i), y = tensor_at(b, i);
        sum += (x - y) * (x - y);
        of += y * y;
    }
    return sqrt(sum / of);
}

/* Whether the device rounds these. */
static bool rounds(const Device *d, const Sizes *s)
{
    return s->M >= 128 && s->d <= 256 && !strcmp(d->name, "avx512") && cpu_has_int8(512);
}

static void it_is_close_to_attention_in_f32(void **state)
{
    (void)state;
    static const Sizes sizes[] = {
        {1, 1, 128, 1, 8},   {2, 70, 130, 3, 40},  {1, 33, 257, 2, 5},   {1, 129, 1003, 1, 80},
        {2, 5, 200, 2, 160}, {1, 40, 131, 1, 256}, {1, 40, 131, 1, 257}, {1, 300, 129, 2, 64},
        {1, 35, 700, 1, 1},  {1, 9, 1, 2, 40},     {1, 30, 77, 2, 40},   {1, 64, 4096, 1, 40},
    };
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (DType type = DTYPE_F32; type <= DTYPE_F16; type++) {
                Case c = case_new(&sizes[i], type, 1);
                attend(&table[d], &c.a, false, c.wide);
                attend(&table[d], &c.a, true, c.narrow);
                const double far = apart(c.narrow, c.wide);
                if (rounds(&table[d], &sizes[i]) ? !(far > 1e-4 && far < 0.025) : far != 0)
                    fail_msg("%s: %d keys, heads of %d in %s: %g apart", table[d].name, (int)sizes[i].M,
                             (int)sizes[i].d, dtype_name(type), far);
                case_free(&c);
            }
}

/* One key of each 128 has a weight of 1, and the others have 1/600 each. In whole steps of 1/253 each of
 * these would be none. */
static void many_small_weights_are_not_lost(void **state)
{
    (void)state;
    const Sizes s = {1, 40, 4096, 1, 16};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Case c = case_new(&s, DTYPE_F32, 0);
        for (int64_t i = 0; i < tensor_count(c.q); i++)
            tensor_set_at(c.q, i, i % 16 == 0 ? 4 : 0);
        for (int64_t i = 0; i < tensor_count(c.k); i++) {
            const bool large = i / 16 % 128 == 77;
            tensor_set_at(c.k, i, large && i % 16 == 0 ? log(600) : 0);
            tensor_set_at(c.v, i, large ? -1 : 1);
        }
        attend(&table[d], &c.a, true, c.narrow);
        const double others = 127.0 / 600, want = (others - 1) / (others + 1);
        for (int64_t i = 0; i < tensor_count(c.narrow); i++)
            assert_true(fabs(tensor_at(c.narrow, i) - want) < 0.02);
        case_free(&c);
    }
}

/* Scores of thousands are computed as without 8 bits: by block of queries, which one of them turns. */
static void what_is_too_large_for_8_bits_stays_wide(void **state)
{
    (void)state;
    const Sizes s = {1, 300, 150, 2, 40};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Case c = case_new(&s, DTYPE_F32, 1);
        for (int i = 0; i < 40; i++)
            tensor_set_at(c.q, 5 * 80 + i, 1e4 * tensor_at(c.q, 5 * 80 + i));
        tensor_set_at(c.q, 290 * 80 + 40, 1e6);
        attend(&table[d], &c.a, false, c.wide);
        attend(&table[d], &c.a, true, c.narrow);
        for (int64_t i = 0; i < tensor_count(c.q); i++) {
            const int64_t query = i / 80;
            const bool turned = i / 40 % 2 ? query >= 256 : query < 128;
            if (turned || !rounds(&table[d], &s))
                assert_true(tensor_at(c.narrow, i) == tensor_at(c.wide, i));
        }
        assert_true(isfinite(apart(c.narrow, c.wide)) && apart(c.narrow, c.wide) < 0.02);
        case_free(&c);
    }
}

static void not_finite_stays_in_its_head(void **state)
{
    (void)state;
    const Sizes s = {2, 140, 150, 2, 40};
    const float none[] = {NAN, INFINITY, -INFINITY};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int n = 0; n < 3; n++)
            for (int in = 0; in < 3; in++) {
                Case c = case_new(&s, DTYPE_F32, 1);
                Tensor *t = in == 0 ? c.q : in == 1 ? c.k : c.v;
                tensor_set_at(t, tensor_count(t) - 1, (double)none[n]); /* of the second picture's second */
                attend(&table[d], &c.a, false, c.wide);
                attend(&table[d], &c.a, true, c.narrow);
                bool told = false;
                for (int64_t i = 0; i < tensor_count(c.q); i++) {
                    const bool finite = isfinite(tensor_at(c.narrow, i));
                    assert_int_equal(finite, isfinite(tensor_at(c.wide, i)));
                    assert_true(finite || (i >= tensor_count(c.q) / 2 && i / 40 % 2));
                    told |= !finite;
                }
                assert_true(told || in == 1); /* -infinity as a score is a weight of 0 */
                case_free(&c);
            }
}

/* All keys the same, all values the same, all 0. */
static void what_has_no_range(void **state)
{
    (void)state;
    const Sizes s = {1, 40, 300, 1, 24};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int what = 0; what < 4; what++) {
            Case c = case_new(&s, DTYPE_F32, 1);
            Tensor *all[] = {c.q, c.k, c.v};
            for (int t = 0; t < 3; t++)
                for (int64_t i = 0; (what == t || what == 3) && i < tensor_count(all[t]); i++)
                    tensor_set_at(all[t], i, what == 3 ? 0 : 0.3 + (double)(i % 24) / 24);
            attend(&table[d], &c.a, false, c.wide);
            attend(&table[d], &c.a, true, c.narrow);
            for (int64_t i = 0; i < tensor_count(c.q); i++)
                assert_true(fabs(tensor_at(c.narrow, i) - tensor_at(c.wide, i)) < 0.05);
            case_free(&c);
        }
}

static void any_number_of_threads_makes_the_same(void **state)
{
    (void)state;
    const Sizes s = {2, 300, 200, 3, 40};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Case c = case_new(&s, DTYPE_BF16, 1);
        attend(&table[d], &c.a, true, c.wide);
        for (int threads = 1; threads < 6; threads += 2) {
            c.a.threads = threads;
            attend(&table[d], &c.a, true, c.narrow);
            assert_memory_equal(c.narrow->data, c.wide->data, tensor_bytes(c.wide));
        }
        case_free(&c);
    }
}

typedef struct Step {
    Case *c;
    unsigned flags;
    Tensor *out;
} Step;

static void one_attention(Ctx *c, void *arg)
{
    Step *s = arg;
    s->out = ctx_keep(c, attention(c, s->c->a.heads, s->flags, s->c->q, s->c->k, s->c->v));
}

/* Where a gradient is wanted, nothing is rounded. */
static void training_stays_wide(void **state)
{
    (void)state;
    const Sizes s = {1, 40, 200, 2, 40};
    Case k = case_new(&s, DTYPE_F32, 1);
    Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_non_null(c);
    attend(device_cpu(), &k.a, false, k.wide);
    for (int recording = 0; recording < 2; recording++) {
        Step step = {.c = &k, .flags = ATTENTION_NARROW};
        ctx_set_recording(c, recording);
        assert_int_equal(ctx_run(c, NULL, one_attention, &step), STATUS_OK);
        const bool wide = recording || strncmp(device_cpu_isa(), "avx512", 6) || !cpu_has_int8(512);
        assert_int_equal(apart(step.out, k.wide) == 0, wide);
    }
    ctx_free(c);
    case_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_close_to_attention_in_f32),
        cmocka_unit_test(many_small_weights_are_not_lost),
        cmocka_unit_test(what_is_too_large_for_8_bits_stays_wide),
        cmocka_unit_test(not_finite_stays_in_its_head),
        cmocka_unit_test(what_has_no_range),
        cmocka_unit_test(any_number_of_threads_makes_the_same),
        cmocka_unit_test(training_stays_wide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
