/* Group norms on a part of a map that go by the whole map's statistics: what is measured is what double
 * precision says, and a part of the whole's result comes out, bit for bit; on every device. */
#include "kernels/ops.h"
#include "tests/far/far.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EPS 1e-6f
#define MOST (48 * 40 * 64)

/* A map (1,H,W,C), and a piece of it, whose sides are multiples of the step's own measure: `scale`
 * positions. */
typedef struct Args {
    int H, W, C, groups, scale;
    int top, left, rows, columns; /* in that measure */
    DType dtype;
    bool silu;
    float x[MOST], w[64], b[64];
    float whole[MOST], own[MOST], given[MOST], part[MOST], halves[MOST], corrected[MOST];
    float correction[2 * 64], moments[2 * 64], of_piece[2 * 64];
} Args;

static Tensor *norm(Ctx *c, const Args *a, const Layer *l, Tensor *x)
{
    return (a->silu ? group_norm_silu : group_norm)(c, l, a->groups, EPS, x);
}

/* The norm under these statistics, whose measured ones are made here where they are asked for. */
static Tensor *norm_by(Ctx *c, const Args *a, const Layer *l, Tensor *x, GroupStatistics s, Tensor **measured)
{
    s.height = a->H / a->scale;
    s.width = a->W / a->scale;
    if (measured)
        *measured = s.measured = ctx_zeros(c, DTYPE_F32, 2, (int64_t[]){2, a->groups});
    ctx_set_statistics(c, &s);
    Tensor *y = norm(c, a, l, x);
    ctx_set_statistics(c, NULL);
    assert_int_equal(s.next, ctx_status(c) == STATUS_OK);
    return y;
}

static void step(Ctx *c, void *arg)
{
    Args *a = arg;
    const int64_t C = a->C;
    const int k = a->scale;
    Tensor *x = cast(c, ctx_input(c, DTYPE_F32, 4, (int64_t[]){1, a->H, a->W, C}, a->x), a->dtype);
    Tensor *all, *of_piece;
    const Layer l = {.name = "norm",
                     .weight = ctx_keep(c, ctx_input(c, DTYPE_F32, 1, &C, a->w)),
                     .bias = ctx_keep(c, ctx_input(c, DTYPE_F32, 1, &C, a->b))};
    ctx_read(c, norm(c, a, &l, x), a->whole);
    ctx_read(c, norm_by(c, a, &l, x, (GroupStatistics){0}, &all), a->own);
    ctx_keep(c, all);
    ctx_read(c, all, a->moments);
    const GroupStatistics piece = {
        .given = all, .top = a->top, .left = a->left, .rows = a->rows, .columns = a->columns};
    ctx_read(c, norm_by(c, a, &l, x, piece, &of_piece), a->given);
    ctx_read(c, of_piece, a->of_piece);
    Tensor *part = crop(c, x, k * a->top, k * a->left, k * a->rows, k * a->columns);
    ctx_read(c, norm_by(c, a, &l, part, (GroupStatistics){.given = all}, NULL), a->part);
    /* the map's halves as two pictures, which are one map to the norm */
    Tensor *halves = reshape(c, x, 4, (int64_t[]){2, a->H / 2, a->W, C});
    ctx_read(c, norm_by(c, a, &l, halves, (GroupStatistics){0}, NULL), a->halves);
    Tensor *correction = ctx_input(c, DTYPE_F32, 2, (int64_t[]){2, a->groups}, a->correction);
    ctx_read(c, norm_by(c, a, &l, x, (GroupStatistics){.correction = correction}, NULL), a->corrected);
}

static void check_part(const Args *a)
{
    const int k = a->scale;
    const size_t row = (size_t)(k * a->columns * a->C) * sizeof(float);
    for (int y = 0; y < k * a->rows; y++)
        if (memcmp(a->part + (size_t)y * row / sizeof(float),
                   a->whole +
                       ((size_t)(k * a->top + y) * (size_t)a->W + (size_t)(k * a->left)) * (size_t)a->C,
                   row))
            fail_msg("row %d of the part is not the whole's", y);
}

/* x as the device stores it. */
static double stored(const Args *a, int y, int x, int c)
{
    const float v = a->x[(y * a->W + x) * a->C + c];
    uint32_t bits;
    if (a->dtype == DTYPE_F32)
        return (double)v;
    memcpy(&bits, &v, sizeof bits);
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u; /* bf16 */
    float rounded;
    memcpy(&rounded, &bits, sizeof rounded);
    return (double)rounded;
}

/* Means, then 1/deviations, of rows from y0 up to y1 and columns from x0 up to x1. */
static void check_moments(const Args *a, int y0, int y1, int x0, int x1, const float *moments)
{
    const int each = a->C / a->groups;
    const double n = (double)((y1 - y0) * (x1 - x0) * each);
    for (int g = 0; g < a->groups; g++) {
        double mean = 0, spread = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int y = y0; y < y1; y++)
                for (int x = x0; x < x1; x++)
                    for (int c = g * each; c < (g + 1) * each; c++)
                        if (pass == 0)
                            mean += stored(a, y, x, c) / n;
                        else
                            spread += pow(stored(a, y, x, c) - mean, 2) / n;
        assert_true(fabs((double)moments[g] - mean) < 1e-5 * (1 + fabs(mean)));
        const double rstd = 1 / sqrt(spread + (double)EPS);
        assert_true(fabs((double)moments[a->groups + g] - rstd) < 1e-4 * rstd);
    }
}

/* By other means and 1/deviations than x's own. */
static void check_corrected(const Args *a)
{
    const int each = a->C / a->groups;
    for (int i = 0; i < a->H * a->W * a->C && !a->silu && a->dtype == DTYPE_F32; i++) {
        const int c = i % a->C, g = c / each;
        const double w = (double)a->w[c], b = (double)a->b[c], rstd = (double)a->moments[a->groups + g];
        const double want = ((double)a->whole[i] - b - (double)a->correction[g] * rstd * w) *
                                (double)a->correction[a->groups + g] +
                            b;
        if (fabs((double)a->corrected[i] - want) > 1e-4 * (1 + fabs(want)))
            fail_msg("number %d is %g, not %g", i, (double)a->corrected[i], want);
    }
}

static Args *args_of(Args shape)
{
    Args *a = calloc(1, sizeof *a);
    assert_non_null(a);
    *a = shape;
    for (int i = 0; i < a->H * a->W * a->C; i++)
        a->x[i] = sinf(0.7f * (float)i) * (1 + (float)(i % 13) * 0.1f) + 0.02f * (float)(i / a->C % a->W);
    for (int g = 0; g < a->groups; g++) {
        a->correction[g] = 0.5f - 0.1f * (float)(g % 3);
        a->correction[a->groups + g] = 2 + 0.25f * (float)(g % 4);
    }
    for (int c = 0; c < a->C; c++) {
        a->w[c] = 1 + 0.1f * (float)(c % 5);
        a->b[c] = 0.2f * (float)(c % 3) - 0.1f;
    }
    return a;
}

static void a_part_is_normalised_as_the_whole(void **state)
{
    (void)state;
    static const Args SHAPES[] = {
        {.H = 6, .W = 10, .C = 12, .groups = 3, .scale = 1, .top = 1, .left = 2, .rows = 4, .columns = 5},
        {.H = 6, .W = 10, .C = 12, .groups = 12, .scale = 2, .rows = 2, .columns = 5}, /* rows alone: a view
                                                                                        */
        {.H = 48, .W = 40, .C = 64, .groups = 32, .scale = 8, .top = 1, .left = 1, .rows = 4, .columns = 3},
        {.H = 48, .W = 40, .C = 45, .groups = 5, .scale = 4, .top = 3, .left = 2, .rows = 9, .columns = 7}};
    for (int i = 0; i < 4 * (int)(sizeof SHAPES / sizeof *SHAPES); i++) {
        Args *a = args_of(SHAPES[i / 4]);
        a->dtype = i % 2 ? DTYPE_BF16 : DTYPE_F32;
        a->silu = i % 4 / 2;
        Ctx *c = ctx_new(test_device(), &(CtxOptions){.dtype = a->dtype});
        Plan *plan;
        assert_int_equal(ctx_rehearse(c, step, a, &plan), STATUS_OK);
        assert_int_equal(ctx_run(c, plan, step, a), STATUS_OK);
        const int k = a->scale, top = k * a->top, left = k * a->left;
        const size_t bytes = (size_t)(a->H * a->W * a->C) * sizeof(float);
        check_part(a);
        assert_memory_equal(a->own, a->whole, bytes);
        assert_memory_equal(a->given, a->whole, bytes);
        assert_memory_equal(a->halves, a->whole, bytes);
        check_moments(a, 0, a->H, 0, a->W, a->moments);
        check_moments(a, top, top + k * a->rows, left, left + k * a->columns, a->of_piece);
        check_corrected(a);
        plan_free(plan);
        ctx_free(c);
        free(a);
    }
}

/* Two norms where there are statistics of one, or of other groups. */
static void two_norms(Ctx *c, void *arg)
{
    const Args *a = arg;
    const int64_t C = a->C;
    const Layer l = {.name = "norm",
                     .weight = ctx_keep(c, ctx_input(c, DTYPE_F32, 1, &C, a->w)),
                     .bias = ctx_keep(c, ctx_input(c, DTYPE_F32, 1, &C, a->b))};
    Tensor *x = ctx_input(c, DTYPE_F32, 4, (int64_t[]){1, a->H, a->W, C}, a->x);
    GroupStatistics s = {.given = ctx_zeros(c, DTYPE_F32, 2, (int64_t[]){a->rows, 3})};
    ctx_set_statistics(c, &s);
    x = norm(c, a, &l, norm(c, a, &l, x));
    ctx_set_statistics(c, NULL);
    ctx_keep(c, x);
}

static void statistics_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const int GROUPS[] = {3, 3, 4}, ROWS[] = {4, 2, 4};
    for (int i = 0; i < 3; i++) {
        Args *a = args_of((Args){.H = 2, .W = 2, .C = 12, .groups = GROUPS[i], .rows = ROWS[i]});
        Ctx *c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
        const Status s = ctx_run(c, NULL, two_norms, a);
        assert_int_equal(s == STATUS_OK, i == 0);
        if (i > 0)
            assert_non_null(strstr(status_message(), "there are no statistics of"));
        ctx_free(c);
        free(a);
    }
}

static void crop_outside(Ctx *c, void *arg)
{
    const int *left = arg;
    ctx_keep(c, crop(c, ctx_zeros(c, DTYPE_F32, 4, (int64_t[]){1, 4, 4, 2}), 1, *left, 2, 3));
}

static void a_piece_outside_is_refused(void **state)
{
    (void)state;
    Ctx *c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
    for (int left = 0; left < 4; left++)
        assert_int_equal(ctx_run(c, NULL, crop_outside, &left) == STATUS_OK, left < 2);
    ctx_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_is_normalised_as_the_whole),
        cmocka_unit_test(statistics_that_do_not_fit_are_refused),
        cmocka_unit_test(a_piece_outside_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
