/* Attention of bf16. Breaks if a weight is further from its exponential than its 16 bits explain, if results
 * or gradients are further from f64's than rounding does, if scores that no whole number holds, NaN or
 * infinity go wrong, or if how queries are cut into tasks shows. */
#include "isa_devices.h"

#include "kernels/base/mem.h"

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

static Tensor *normal(int64_t B, int64_t tokens, int64_t D)
{
    Tensor *t = tensor_new(DTYPE_BF16, 3, (const int64_t[]){B, tokens, D});
    assert_non_null(t);
    for (int64_t i = 0; i < tensor_count(t); i++)
        tensor_set_at(t, i, sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
    return t;
}

typedef struct Case {
    Tensor *q, *k, *v, *out, *lse;
    Attention a;
} Case;

static Case case_new(int64_t B, int64_t N, int64_t M, int64_t heads, int64_t d)
{
    Case c = {.q = normal(B, N, heads * d),
              .k = normal(B, M, heads * d),
              .v = normal(B, M, heads * d),
              .out = normal(B, N, heads * d),
              .lse = tensor_new(DTYPE_F32, 3, (const int64_t[]){B, heads, N})};
    assert_non_null(c.lse);
    c.a = (Attention){
        .heads = (int)heads, .threads = 2, .q = c.q, .k = c.k, .v = c.v, .out = c.out, .lse = c.lse};
    return c;
}

static void case_free(Case *c)
{
    tensor_free(c->q), tensor_free(c->k), tensor_free(c->v), tensor_free(c->out), tensor_free(c->lse);
}

static void attend(const Device *d, const Attention *a)
{
    size_t bytes;
    assert_int_equal(d->attention_scratch(a, &bytes), STATUS_OK);
    char *scratch = mem_alloc(bytes);
    assert_non_null(scratch);
    for (size_t i = 0; i < bytes; i++)
        scratch[i] = (char)0xff; /* NaN, if it is read */
    assert_int_equal(d->attention(a, scratch), STATUS_OK);
    mem_free(scratch);
}

/* Two keys, with scores of 0 and -q/√2 and values of 0 and 1, for all q of bf16 between 2^-9 and 2^7: the
 * result is p / (1 + p). */
static void each_weight_is_close_to_its_exponential(void **state)
{
    (void)state;
    enum { EACH = 128, FROM = -9, TO = 7, N = (TO - FROM) * EACH };
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Case c = case_new(1, N, 2, 1, 2);
        for (int64_t i = 0; i < 2 * N; i++)
            tensor_set_at(c.q, i,
                          i % 2 ? 0 : ldexp(1 + (double)(i / 2 % EACH) / EACH, (int)(i / 2 / EACH) + FROM));
        for (int64_t i = 0; i < 4; i++) {
            tensor_set_at(c.k, i, i == 2 ? -1 : 0);
            tensor_set_at(c.v, i, i / 2);
        }
        attend(&table[d], &c.a);
        for (int64_t i = 0; i < 2 * N; i++) {
            const double p = exp(-tensor_at(c.q, i / 2 * 2) / sqrt(2)), want = p / (1 + p),
                         is = tensor_at(c.out, i);
            if (!(fabs(is - want) <
                  0.011 * want + 1.2e-38)) /* 0.7 % of the weight's, 0.4 % of the result's */
                fail_msg("%s: %g instead of %g", table[d].name, is, want);
        }
        case_free(&c);
    }
}

/* Root of the mean square of the distance from attention in f64, of all heads of query n, and of length. */
static void add_distance(const Case *c, int64_t n, double *apart, double *length, double *lse_apart)
{
    const int64_t D = c->q->shape[2], M = c->k->shape[1], heads = c->a.heads, d = D / heads;
    double *p = mem_alloc((size_t)M * sizeof *p);
    assert_non_null(p);
    for (int64_t h = 0; h < heads; h++) {
        double most = -INFINITY, sum = 0;
        for (int64_t j = 0; j < M; j++) {
            p[j] = 0;
            for (int64_t i = h * d; i < (h + 1) * d; i++)
                p[j] += tensor_at(c->q, n * D + i) * tensor_at(c->k, j * D + i) / sqrt((double)d);
            most = fmax(most, p[j]);
        }
        for (int64_t j = 0; j < M; j++)
            sum += p[j] = exp(p[j] - most);
        *lse_apart = fmax(*lse_apart, fabs(most + log(sum) - tensor_at(c->lse, h * c->q->shape[1] + n)));
        for (int64_t i = h * d; i < (h + 1) * d; i++) {
            double want = 0;
            for (int64_t j = 0; j < M; j++)
                want += p[j] / sum * tensor_at(c->v, j * D + i);
            *apart += (tensor_at(c->out, n * D + i) - want) * (tensor_at(c->out, n * D + i) - want);
            *length += want * want;
        }
    }
    mem_free(p);
}

static void it_is_close_to_attention_in_f64(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {
        {40, 4096, 2, 40}, {530, 1024, 1, 80}, {33, 256, 2, 160},
        {300, 77, 2, 40},  {5, 1, 2, 8},       {130, 131, 2, 24},
    };
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            Case c = case_new(1, sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][3]);
            double apart = 0, length = 0, lse = 0;
            attend(&table[d], &c.a);
            for (int64_t n = 0; n < sizes[s][0]; n += 1 + sizes[s][0] / 33)
                add_distance(&c, n, &apart, &length, &lse);
            if (!(sqrt(apart / length) < 0.003) || !(lse < 0.004)) /* the result's rounding is 0.0017 of it */
                fail_msg("%s: %d keys, heads of %d: %g apart, lse %g", table[d].name, (int)sizes[s][1],
                         (int)sizes[s][3], sqrt(apart / length), lse);
            case_free(&c);
        }
}

static double distance(const Tensor *a, const Tensor *b)
{
    double apart = 0, length = 0;
    for (int64_t i = 0; i < tensor_count(a); i++) {
        apart += (tensor_at(a, i) - tensor_at(b, i)) * (tensor_at(a, i) - tensor_at(b, i));
        length += tensor_at(b, i) * tensor_at(b, i);
    }
    return sqrt(apart / length);
}

/* Gradients of q, k and v are those that arithmetic in f32 makes of the same forward, which both are given:
 * keys enough for the way that makes all at once, and few, for the other; odd numbers of both. */
static void gradients_are_close_to_those_in_f32(void **state)
{
    (void)state;
    static const int64_t keys[] = {1031, 77};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int s = 0; s < 2; s++) {
            enum { N = 205, HEADS = 2, D = 40 };
            Case c = case_new(1, N, keys[s], HEADS, D);
            Tensor *g = normal(1, N, HEADS * D), *got[2][3];
            attend(&table[0], &c.a);
            for (int way = 0; way < 2; way++) { /* the device's, and the baseline's, which is f32 */
                const Device *device = way ? &table[0] : &table[d];
                Attention a = c.a;
                size_t bytes;
                a.grad_out = g;
                a.grad_q = got[way][0] = normal(1, N, HEADS * D);
                a.grad_k = got[way][1] = normal(1, keys[s], HEADS * D);
                a.grad_v = got[way][2] = normal(1, keys[s], HEADS * D);
                assert_int_equal(device->attention_backward_scratch(&a, &bytes), STATUS_OK);
                void *scratch = mem_alloc(bytes);
                assert_non_null(scratch);
                assert_int_equal(device->attention_backward(&a, scratch), STATUS_OK);
                mem_free(scratch);
            }
            for (int i = 0; i < 3; i++) {
                const double far = distance(got[0][i], got[1][i]);
                if (!(far < 0.005))
                    fail_msg("%s: %d keys: gradient %d is %g apart", table[d].name, (int)keys[s], i, far);
                tensor_free(got[0][i]), tensor_free(got[1][i]);
            }
            tensor_free(g);
            case_free(&c);
        }
}

/* Every second query is 1e3 to 1e15 long, and all keys point away from the first channel, where
 * these queries are large: scores of either sign, and all of a weight is one key's. Their neighbours in a
 * vector are what they are without them. */
static void scores_may_be_any_number(void **state)
{
    (void)state;
    enum { N = 40, M = 200, D = 8 };
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Case c = case_new(1, N, M, 1, D);
        double usual[N * D];
        /* in f32 a score's own rounding is to be small */
        const int powers = !strcmp(table[d].name, "avx512") && cpu_has_bf16() ? 13 : 3;
        for (int j = 0; j < M; j++)
            tensor_set_at(c.k, j * D, -3 - (double)(j * 37 % 50) / 16); /* exact in bf16 */
        for (int j = 0; j < M; j++)
            tensor_set_at(c.k, j * D, j == 150 ? -2 : j == 3 ? -8 : tensor_at(c.k, j * D));
        attend(&table[d], &c.a);
        for (int i = 0; i < N * D; i++)
            usual[i] = tensor_at(c.out, i);
        for (int n = 1; n < N; n += 2)
            for (int i = 0; i < D; i++)
                tensor_set_at(c.q, n * D + i, i ? 0 : (n % 4 == 1 ? 1 : -1) * pow(10, 3 + n % powers));
        attend(&table[d], &c.a);
        for (int i = 0; i < N * D; i++) {
            const int n = i / D, nearest = n % 4 == 1 ? 150 : 3;
            const double want = n % 2 ? tensor_at(c.v, nearest * D + i % D) : usual[i];
            if (!(fabs(tensor_at(c.out, i) - want) <= 0.01 * fmax(fabs(want), 0.3)))
                fail_msg("%s: query %d: %g instead of %g", table[d].name, n, tensor_at(c.out, i), want);
        }
        case_free(&c);
    }
}

static void not_finite_stays_where_it_is(void **state)
{
    (void)state;
    enum { N = 300, M = 150, D = 80 };
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int what = 0; what < 6; what++) {
            Case c = case_new(1, N, M, 2, D / 2);
            Tensor *t = what / 2 == 0 ? c.q : what / 2 == 1 ? c.k : c.v;
            tensor_set_at(t, 100 * D + 50, what % 2 ? INFINITY : NAN); /* of the second head */
            attend(&table[d], &c.a);
            for (int i = 0; i < N * D; i++) {
                const bool finite = isfinite(tensor_at(c.out, i)), second = i % D >= D / 2;
                if (what == 3) /* k · infinity is a weight of 0 where q is negative, and no number else */
                    assert_true(finite || second);
                else if (finite == (second && (what / 2 == 0 ? i / D == 100 : what / 2 == 1 || i % D == 50)))
                    fail_msg("%s: %d: element %d is %g", table[d].name, what, i, tensor_at(c.out, i));
            }
            case_free(&c);
        }
}

static void any_number_of_threads_makes_the_same(void **state)
{
    (void)state;
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int causal = 0; causal < 2; causal++) {
            Case c = case_new(2, 1100, 1100, 2, 8);
            c.a.threads = 1, c.a.causal = causal;
            attend(&table[d], &c.a);
            Tensor *first = tensor_new(DTYPE_BF16, 3, c.out->shape);
            assert_non_null(first);
            memcpy(first->data, c.out->data, tensor_bytes(first));
            for (int threads = 2; threads < 6; threads++) {
                c.a.threads = threads;
                attend(&table[d], &c.a);
                assert_memory_equal(first->data, c.out->data, tensor_bytes(first));
            }
            tensor_free(first);
            case_free(&c);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_weight_is_close_to_its_exponential),
        cmocka_unit_test(it_is_close_to_attention_in_f64),
        cmocka_unit_test(gradients_are_close_to_those_in_f32),
        cmocka_unit_test(scores_may_be_any_number),
        cmocka_unit_test(not_finite_stays_where_it_is),
        cmocka_unit_test(any_number_of_threads_makes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
