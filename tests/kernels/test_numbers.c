/* What finite differences do not show, on every instruction set: numbers at the ends of their range, NaN,
 * means that are large against the deviation, the way from NCHW and back, views of a batch, and messages of
 * shapes that do not fit. */
#include "isa_devices.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 35 /* two vectors and a tail of every width */

static Tensor *tensor_of(DType type, int ndim, const int64_t *shape)
{
    Tensor *t = tensor_new(type, ndim, shape);
    assert_non_null(t);
    return t;
}

typedef Status (*Activation)(const Tensor *x, Tensor *y);

/* y = f(x) with x at every place of a vector in turn. */
static double value_at(Activation f, DType type, double x, int64_t place)
{
    Tensor *in = tensor_of(type, 1, (const int64_t[]){N}), *out = tensor_of(type, 1, (const int64_t[]){N});
    tensor_set_at(in, place, x);
    assert_int_equal(f(in, out), STATUS_OK);
    const double y = tensor_at(out, place);
    tensor_free(in);
    tensor_free(out);
    return y;
}

static void activations_hold_at_the_ends(void **state)
{
    Device table[ISA_DEVICES_MAX];
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        const Activation f[] = {table[d].silu, table[d].gelu, table[d].quick_gelu};
        for (int i = 0; i < 3; i++)
            for (int64_t place = 0; place < N; place++) {
                assert_true(value_at(f[i], DTYPE_F32, 3e38, place) == (double)3e38f);
                assert_true(fabs(value_at(f[i], DTYPE_F32, -1e4, place)) < 1e-30);
                assert_true(value_at(f[i], DTYPE_F32, 0, place) == 0);
                assert_true(value_at(f[i], DTYPE_F32, INFINITY, place) == INFINITY);
            }
    }
}

static void not_a_number_is_never_lost(void **state)
{
    Device table[ISA_DEVICES_MAX];
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        const Activation f[] = {table[d].silu, table[d].gelu, table[d].quick_gelu, table[d].copy};
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type++)
            for (int i = 0; i < 4; i++)
                for (int64_t place = 0; place < N; place++)
                    assert_true(isnan(value_at(f[i], type, NAN, place)));
    }
}

/* Rounded as tensor.h rounds one element: to nearest even, small f16 to subnormals, large ones to infinity.
 */
static void copies_round_like_single_elements(void **state)
{
    static const float x[N] = {1.00390625f,    1.01171875f,   65504, 65519.9f, 65520,  3e38f, 6e-8f, 2.9e-8f,
                               3.1e-8f,        -1e-5f,        0,     -0.0f,    1e-40f, 0.1f,  -2.5f, 1e6f,
                               1.00048828125f, 1.00146484375f};
    Device table[ISA_DEVICES_MAX];
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type++) {
            Tensor *in = tensor_of(DTYPE_F32, 1, (const int64_t[]){N}),
                   *out = tensor_of(type, 1, (const int64_t[]){N});
            Tensor *want = tensor_of(type, 1, (const int64_t[]){N}),
                   *back = tensor_of(DTYPE_F32, 1, (const int64_t[]){N});
            memcpy(in->data, x, sizeof x);
            convert_floats(want->data, type, x, DTYPE_F32, N);
            assert_int_equal(table[d].copy(in, out), STATUS_OK);
            assert_memory_equal(out->data, want->data, tensor_bytes(want));
            assert_int_equal(table[d].copy(out, back), STATUS_OK);
            for (int64_t i = 0; i < N; i++)
                assert_true(tensor_at(back, i) == tensor_at(want, i));
            tensor_free(in);
            tensor_free(out);
            tensor_free(want);
            tensor_free(back);
        }
}

/* Many at once are rounded like one: each upper half of a float, with lower halves around the middle between
 * two bf16 and between two f16. */
static void many_round_like_one(void **state)
{
    (void)state;
    static const uint32_t lower[] = {0,      1,      0x7fff, 0x8000, 0x8001, 0xffff, 0x1000,
                                     0x0fff, 0x1001, 0x2000, 0x3000, 0x5000, 0x9000, 0xf000};
    enum { EACH = sizeof lower / sizeof *lower };
    float *x = mem_alloc(sizeof *x * (EACH << 16));
    uint16_t *got = mem_alloc(sizeof *got * (EACH << 16));
    assert_true(x && got);
    for (uint32_t i = 0; i < EACH << 16; i++) {
        const uint32_t bits = (i / EACH) << 16 | lower[i % EACH];
        memcpy(&x[i], &bits, sizeof bits);
    }
    for (DType type = DTYPE_BF16; type <= DTYPE_F16; type++) {
        convert_floats(got, type, x, DTYPE_F32, EACH << 16);
        for (uint32_t i = 0; i < EACH << 16; i++)
            if (type == DTYPE_BF16) /* a NaN of f16 may keep other bits */
                assert_int_equal(got[i], f32_to_bf16(x[i]));
            else
                assert_true(isnan(x[i]) ? isnan(f16_to_f32(got[i])) : got[i] == f32_to_f16(x[i]));
    }
    mem_free(x);
    mem_free(got);
}

/* A mean a thousand times the deviation: Σx² - (Σx)² would lose the variance. */
static void group_norm_survives_a_large_mean(void **state)
{
    enum { P = 900, C = 24, GROUPS = 2 };
    const int64_t shape[] = {1, P, C}, kept[] = {1, GROUPS}, channels = C;
    Device table[ISA_DEVICES_MAX];
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Tensor *x = tensor_of(DTYPE_F32, 3, shape), *y = tensor_of(DTYPE_F32, 3, shape);
        Tensor *w = tensor_of(DTYPE_F32, 1, &channels), *b = tensor_of(DTYPE_F32, 1, &channels);
        Tensor *mean = tensor_of(DTYPE_F32, 2, kept), *rstd = tensor_of(DTYPE_F32, 2, kept);
        for (int64_t i = 0; i < P * C; i++)
            tensor_set_at(x, i, 1024 + (i * 7919 % 2048 - 1023.5) / 1024); /* exact in f32 */
        for (int64_t c = 0; c < C; c++)
            tensor_set_at(w, c, 1);
        const Norm n = {
            .groups = GROUPS, .eps = 1e-5f, .x = x, .w = w, .b = b, .y = y, .mean = mean, .rstd = rstd};
        size_t bytes;
        assert_int_equal(table[d].group_norm_scratch(&n, &bytes), STATUS_OK);
        void *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
        assert_int_equal(table[d].group_norm(&n, scratch), STATUS_OK);
        for (int g = 0; g < GROUPS; g++) {
            double sum = 0, spread = 0;
            for (int64_t p = 0; p < P; p++)
                for (int64_t c = g * C / GROUPS; c < (g + 1) * C / GROUPS; c++)
                    sum += tensor_at(x, p * C + c);
            const double m = sum / (P * C / GROUPS);
            for (int64_t p = 0; p < P; p++)
                for (int64_t c = g * C / GROUPS; c < (g + 1) * C / GROUPS; c++)
                    spread += pow(tensor_at(x, p * C + c) - m, 2);
            assert_float_equal(tensor_at(rstd, g), (1 / sqrt(spread / (P * C / GROUPS) + 1e-5)), 1e-5);
        }
        free(scratch);
        tensor_free(x);
        tensor_free(y);
        tensor_free(w);
        tensor_free(b);
        tensor_free(mean);
        tensor_free(rstd);
    }
}

/* Maps -------------------------------------------------------------------------------------------------- */

typedef struct Maps {
    int64_t B, C, H, W;
    float *x, *rows, *back, *second;
} Maps;

static void map_step(Ctx *c, void *arg)
{
    Maps *m = arg;
    const int64_t shape[] = {m->B, m->C, m->H, m->W};
    Tensor *rows = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, m->x));
    ctx_read(c, rows, m->rows);
    ctx_read(c, to_nchw(c, rows), m->back);
    Tensor *second = slice_batch(c, rows, 1, m->B - 1);
    ctx_read(c, add(c, second, second), m->second);
}

static void check_maps(Ctx *c, Maps m)
{
    const int64_t P = m.H * m.W, n = m.B * m.C * P;
    m.x = calloc((size_t)n, sizeof(float));
    m.rows = calloc((size_t)n, sizeof(float));
    m.back = calloc((size_t)n, sizeof(float));
    m.second = calloc((size_t)n, sizeof(float));
    for (int64_t i = 0; i < n; i++)
        m.x[i] = (float)(i % 256); /* exact in every type */
    Plan *plan;
    assert_int_equal(ctx_rehearse(c, map_step, &m, &plan), STATUS_OK);
    assert_int_equal(ctx_run(c, plan, map_step, &m), STATUS_OK);
    plan_free(plan);
    assert_memory_equal(m.back, m.x, sizeof(float) * (size_t)n);
    for (int64_t b = 0; b < m.B; b++)
        for (int64_t p = 0; p < P; p++)
            for (int64_t ch = 0; ch < m.C; ch++)
                assert_true(m.rows[(b * P + p) * m.C + ch] == m.x[(b * m.C + ch) * P + p]);
    for (int64_t i = 0; i < (m.B - 1) * m.C * P; i++)
        assert_true(m.second[i] == 2 * m.rows[m.C * P + i]);
    free(m.x);
    free(m.rows);
    free(m.back);
    free(m.second);
}

static void maps_turn_to_nhwc_and_back(void **state)
{
    Device table[ISA_DEVICES_MAX];
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type++) {
            Ctx *c = ctx_new(&table[d], &(CtxOptions){.dtype = type, .threads = 2});
            check_maps(c, (Maps){.B = 2, .C = 3, .H = 1, .W = 1});
            check_maps(c, (Maps){.B = 3, .C = 17, .H = 5, .W = 7});
            check_maps(c, (Maps){.B = 2, .C = 4, .H = 71, .W = 67});
            ctx_free(c);
        }
}

/* Shapes that do not fit -------------------------------------------------------------------------------- */

typedef Tensor *(*WrongFn)(Ctx *c, Tensor *x);

static Tensor *wrong_add(Ctx *c, Tensor *x)
{
    return add(c, x, reshape(c, x, 2, (const int64_t[]){4, 3}));
}
static Tensor *wrong_reshape(Ctx *c, Tensor *x)
{
    return reshape(c, x, 2, (const int64_t[]){5, 5});
}
static Tensor *wrong_geglu(Ctx *c, Tensor *x)
{
    return geglu(c, reshape(c, x, 2, (const int64_t[]){4, 3}));
}
static Tensor *wrong_map(Ctx *c, Tensor *x)
{
    return from_nchw(c, x);
}
static Tensor *wrong_batch(Ctx *c, Tensor *x)
{
    return slice_batch(c, x, 1, 2);
}
static Tensor *wrong_loss(Ctx *c, Tensor *x)
{
    return mse_loss(c, x, reshape(c, x, 2, (const int64_t[]){4, 3}), NULL, NULL);
}
static Tensor *wrong_id(Ctx *c, Tensor *x)
{
    const Layer l = {.name = "token_embedding", .weight = x};
    return embedding(c, ctx_copy(c, &l, sizeof l),
                     ctx_input(c, DTYPE_I32, 1, (const int64_t[]){2}, (int32_t[]){0, 2}));
}
static Tensor *wrong_row(Ctx *c, Tensor *x)
{
    return take_rows(c, reshape(c, x, 3, (const int64_t[]){2, 3, 2}),
                     ctx_input(c, DTYPE_I32, 1, (const int64_t[]){2}, (int32_t[]){2, 3}));
}
static Tensor *wrong_rows(Ctx *c, Tensor *x)
{
    return take_rows(c, x, ctx_input(c, DTYPE_I32, 1, (const int64_t[]){2}, (int32_t[]){0, 0}));
}

typedef struct Wrong {
    WrongFn fn;
    const char *message; /* a part of it */
} Wrong;

static void wrong_step(Ctx *c, void *arg)
{
    static const float x[12] = {0};
    const Wrong *w = arg;
    Tensor *t = ctx_input(c, DTYPE_F32, 2, (const int64_t[]){2, 6}, x);
    t->requires_grad = true;
    Tensor *y = w->fn(c, t);
    ctx_read(c, silu(c, y), (float[64]){0}); /* no-ops after the failure */
}

static void shapes_that_do_not_fit_are_named(void **state)
{
    static const Wrong wrong[] = {
        {wrong_add, "add: (2,6) f32 and (4,3) f32"},
        {wrong_reshape, "reshape: (2,6) f32 and (5,5) f32"},
        {wrong_geglu, "geglu: the last dimension, 3,"},
        {wrong_map, "from_nchw: (2,6) f32 is no map"},
        {wrong_batch, "slice_batch: 1 to 2 of 2"},
        {wrong_loss, "mse_loss: prediction (2,6) f32 and target (4,3) f32"},
        {wrong_id, "embedding (token_embedding): token 1 is number 2, the table has 2 entries"},
        {wrong_row, "take_rows: row 1 is number 3, there are 3"},
        {wrong_rows, "take_rows: needs (B,T,D) and (B) numbers in i32, not (2,6) f32 and (2) i32"},
    };
    Ctx *c = ctx_new(device_cpu(), NULL);
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_not_equal(ctx_run(c, NULL, wrong_step, (void *)&wrong[i]), STATUS_OK);
        if (!strstr(status_message(), wrong[i].message))
            fail_msg("'%s' should say '%s'", status_message(), wrong[i].message);
    }
    ctx_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_hold_at_the_ends),      cmocka_unit_test(not_a_number_is_never_lost),
        cmocka_unit_test(copies_round_like_single_elements), cmocka_unit_test(many_round_like_one),
        cmocka_unit_test(group_norm_survives_a_large_mean),  cmocka_unit_test(maps_turn_to_nhwc_and_back),
        cmocka_unit_test(shapes_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
