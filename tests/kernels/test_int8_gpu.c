/* Products and convolutions of 8 bits on the GPU are those of the plain formula (kernels/cuda/conv/int8.cu):
 * what a weight meets is rounded by row or by picture, sums are exact. Breaks if a zero, a step or a scale
 * belongs to another row, if a map's padding is something, if parts of the depth are left out, or if a shape
 * that is not computed so were refused.
 *
 * And convolutions whose weight alone is in 8 bits (conv_bytes.cu): forward the formula of whole numbers
 * times a scale; backward, byte for byte, what the weight gives when it is decoded first. Breaks if a byte
 * meets another channel, tap or scale, or if the layer's own form is not made or not the one that is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "kernels/cuda/cuda.h"
#include "tests/far/far.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const Device *gpu;
static unsigned seed;

static double number(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 23) - 1;
}

static Tensor *filled(DType type, int ndim, const int64_t *shape, double least)
{
    Tensor *t = tensor_new(type, ndim, shape);
    assert_non_null(t);
    for (int64_t i = 0; i < tensor_count(t); i++)
        tensor_set_at(t, i, number() * (1 - least) / 2 + (1 + least) / 2);
    return t;
}

static Tensor *narrow_weight(int ndim, const int64_t *shape)
{
    Tensor *w = tensor_new(DTYPE_I8, ndim, shape);
    assert_non_null(w);
    w->scales = filled(DTYPE_F32, 1, shape, 0.5);
    for (int64_t i = 0; i < tensor_count(w); i++)
        ((int8_t *)w->data)[i] = (int8_t)lrint(number() * 127);
    return w;
}

/* On the GPU; what is there already comes along. */
static Tensor *there(const Tensor *t)
{
    Tensor *g = tensor_new_on(gpu, t->dtype, t->ndim, t->shape);
    assert_non_null(g);
    assert_int_equal(gpu->put(g->data, t->data, tensor_bytes(t)), STATUS_OK);
    if (t->scales)
        g->scales = there(t->scales);
    return g;
}

/* n numbers of x from `first` on, rounded: step and zero. NaN makes a step of NaN. */
typedef struct Rounded {
    float step;
    int zero;
} Rounded;

static Rounded rounding(const Tensor *x, int64_t first, int64_t n)
{
    float least = 0, most = 0, odd = 0;
    for (int64_t i = first; i < first + n; i++) {
        const float v = (float)tensor_at(x, i);
        least = fminf(least, v), most = fmaxf(most, v), odd += v * 0.0f;
    }
    const float s = (most - least) * (1.0f / 255);
    return (Rounded){s > 0 ? s + odd : 1 + odd, s > 0 && odd == 0 ? (int)rintf(-least / s) : 0};
}

static int rounded(Rounded r, double x)
{
    return (int)rintf(fminf(255, fmaxf(0, fmaf((float)x, 1 / r.step, (float)r.zero))));
}

/* A tensor's last bit, and f32's in what was summed; twice: it was stored before, and something added. */
static void same(const char *what, const Tensor *got, const double *want, bool twice)
{
    Tensor *here = tensor_new(got->dtype, got->ndim, got->shape);
    double largest = 0;
    assert_non_null(here);
    assert_int_equal(gpu->get(here->data, got->data, tensor_bytes(here)), STATUS_OK);
    assert_int_equal(gpu->settle(), STATUS_OK);
    for (int64_t i = 0; i < tensor_count(here); i++)
        largest = isfinite(want[i]) ? fmax(largest, fabs(want[i])) : largest;
    const double bit = here->dtype == DTYPE_BF16 ? 1.0 / 256 : here->dtype == DTYPE_F16 ? 1.0 / 2048 : 0;
    for (int64_t i = 0; i < tensor_count(here); i++)
        if (isfinite(want[i]) ? !(fabs(tensor_at(here, i) - want[i]) <=
                                  fabs(want[i]) * bit + largest * (twice ? bit : 2e-6))
                              : isfinite(tensor_at(here, i)))
            fail_msg("%s, %s: [%lld] is %g, should be %g", what, dtype_name(here->dtype), (long long)i,
                     tensor_at(here, i), want[i]);
    assert_true(largest > 0);
    tensor_free(here);
}

static void *scratch_for(size_t bytes)
{
    void *scratch = gpu->memory_new(bytes);
    assert_non_null(scratch);
    return scratch;
}

/* Products ------------------------------------------------------------------------------------------------
 */

typedef struct Sizes {
    int64_t m, n, k;
    bool geglu, low_rank;
} Sizes;

static double gelu_plain(double x)
{
    return x * 0.5 * (1 + erf(x * sqrt(0.5)));
}

/* What is under a GEGLU is rounded to y's type. */
static double stored(DType type, double x)
{
    Tensor *one = tensor_new(type, 1, (int64_t[]){1});
    tensor_set_at(one, 0, x);
    const double y = tensor_at(one, 0);
    tensor_free(one);
    return y;
}

static void check_product(const Sizes *s, DType type, double least, bool odd)
{
    enum { RANK = 8 };
    const int64_t a_shape[] = {s->m, s->k}, w_shape[] = {s->n, s->k}, h_shape[] = {s->m, s->n},
                  y_shape[] = {s->m, s->geglu ? s->n / 2 : s->n}, t_shape[] = {s->m, RANK},
                  up_shape[] = {s->n, RANK};
    Tensor *a = filled(type, 2, a_shape, least), *w = narrow_weight(2, w_shape),
           *bias = filled(DTYPE_F32, 1, &s->n, -1), *residual = filled(type, 2, h_shape, -1),
           *t = filled(type, 2, t_shape, -1), *up = filled(type, 2, up_shape, -1);
    for (int64_t i = 0; i < s->n; i++)
        tensor_set_at(w->scales, i, tensor_at(w->scales, i) / 127 / sqrt((double)s->k));
    if (odd)
        tensor_set_at(a, 5 * s->k + 3, (double)NAN);
    double *h = mem_alloc((size_t)(s->m * s->n) * sizeof *h);
    int *q = mem_alloc((size_t)s->k * sizeof *q);
    for (int64_t i = 0; i < s->m; i++) {
        const Rounded r = rounding(a, i * s->k, s->k);
        for (int64_t c = 0; c < s->k; c++)
            q[c] = isfinite(r.step) ? rounded(r, tensor_at(a, i * s->k + c)) - r.zero : 0;
        for (int64_t j = 0; j < s->n; j++) {
            int sum = 0;
            for (int64_t c = 0; c < s->k; c++)
                sum += q[c] * ((int8_t *)w->data)[j * s->k + c];
            double x = (double)sum * tensor_at(w->scales, j) * (double)r.step + tensor_at(bias, j);
            x += s->geglu ? 0 : tensor_at(residual, i * s->n + j);
            if (s->low_rank) { /* added to what was stored */
                x = stored(type, x);
                for (int c = 0; c < RANK; c++)
                    x += 0.5 * tensor_at(t, i * RANK + c) * tensor_at(up, j * RANK + c);
            }
            h[i * s->n + j] = x;
        }
    }
    for (int64_t i = 0; s->geglu && i < s->m; i++)
        for (int64_t j = 0; j < s->n / 2; j++) /* in place: what is read lies behind what is written */
            h[i * (s->n / 2) + j] =
                stored(type, h[i * s->n + j]) * gelu_plain(stored(type, h[i * s->n + s->n / 2 + j]));
    Tensor *y = tensor_new_on(gpu, type, 2, y_shape);
    Tensor *const all[] = {there(a), there(w), there(bias), there(residual), there(t), there(up), y};
    Product p = {.m = s->m,
                 .n = s->n,
                 .k = s->k,
                 .trans_b = true,
                 .alpha = 1,
                 .a = all[0],
                 .b = all[1],
                 .bias = all[2],
                 .residual = s->geglu ? NULL : all[3],
                 .t = s->low_rank ? all[4] : NULL,
                 .up = s->low_rank ? all[5] : NULL,
                 .scale = 0.5f,
                 .geglu = s->geglu,
                 .narrow = true,
                 .y = y};
    size_t bytes;
    assert_int_equal(gpu->product_scratch(&p, &bytes), STATUS_OK);
    void *scratch = scratch_for(bytes);
    assert_int_equal(gpu->product(&p, scratch), STATUS_OK);
    same("product", y, h, (s->low_rank || s->geglu) && type != DTYPE_F32);
    gpu->memory_free(scratch, bytes);
    Tensor *const here[] = {a, w, bias, residual, t, up};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_free(all[i]);
    for (size_t i = 0; i < sizeof here / sizeof *here; i++)
        tensor_free(here[i]);
    mem_free(q);
    mem_free(h);
}

static void need_products_of_bytes(void)
{
    if (test_card_multiplies_bytes())
        return;
    print_message("NOT TESTED: products of 8 bits; this card multiplies bytes slower than halves\n");
    skip();
}

static void a_product_is_the_formula(void **state)
{
    (void)state;
    static const Sizes sizes[] = {{16, 1312, 1296, false, false},
                                  {40, 1000, 1040, false, true},
                                  {130, 1024, 1040, true, false},
                                  {21, 1056, 1040, true, true}};
    need_products_of_bytes();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type += gpu->lacks_bf16 ? 2 : 1)
            check_product(&sizes[i], type, i % 2 ? -0.3 : -1, !sizes[i].low_rank && !sizes[i].geglu);
}

/* Convolutions --------------------------------------------------------------------------------------------
 */

typedef struct Map {
    int64_t B, H, W, C, K;
    ConvShape s;
} Map;

static double window(const Map *m, const Tensor *x, const Tensor *w, Rounded r, int64_t b, int64_t h,
                     int64_t v, int64_t k)
{
    int64_t sum = 0;
    for (int tap = 0; tap < 9; tap++) {
        const int64_t y = h * m->s.stride - m->s.pad_top + tap / 3,
                      z = v * m->s.stride - m->s.pad_left + tap % 3;
        for (int64_t c = 0; c < m->C && y >= 0 && y < m->H && z >= 0 && z < m->W; c++)
            sum += (rounded(r, tensor_at(x, ((b * m->H + y) * m->W + z) * m->C + c)) - r.zero) *
                   ((int8_t *)w->data)[(k * m->C + c) * 9 + tap];
    }
    return (double)sum * tensor_at(w->scales, k) * (double)r.step;
}

static void check_conv(const Map *m, DType type, double least)
{
    const int64_t H = (m->H + m->s.pad_top + m->s.pad_bottom - 3) / m->s.stride + 1,
                  W = (m->W + m->s.pad_left + m->s.pad_right - 3) / m->s.stride + 1;
    const int64_t x_shape[] = {m->B, m->H, m->W, m->C}, w_shape[] = {m->K, m->C, 3, 3},
                  y_shape[] = {m->B, H, W, m->K}, v_shape[] = {m->B, m->K};
    Tensor *x = filled(type, 4, x_shape, least), *w = narrow_weight(4, w_shape),
           *bias = filled(DTYPE_F32, 1, &m->K, -1), *v = filled(type, 2, v_shape, -1),
           *residual = filled(type, 4, y_shape, -1), *y = tensor_new_on(gpu, type, 4, y_shape);
    for (int64_t i = 0; i < m->K; i++)
        tensor_set_at(w->scales, i, tensor_at(w->scales, i) / 127 / sqrt(9 * (double)m->C));
    double *want = mem_alloc((size_t)tensor_count(residual) * sizeof *want);
    for (int64_t b = 0, i = 0; b < m->B; b++) {
        const Rounded r = rounding(x, b * m->H * m->W * m->C, m->H * m->W * m->C);
        for (int64_t h = 0; h < H; h++)
            for (int64_t z = 0; z < W; z++)
                for (int64_t k = 0; k < m->K; k++, i++)
                    want[i] = window(m, x, w, r, b, h, z, k) + tensor_at(bias, k) +
                              tensor_at(v, b * m->K + k) + tensor_at(residual, i);
    }
    Tensor *const all[] = {there(x), there(w), there(bias), there(v), there(residual), y};
    const Conv a = {.s = m->s,
                    .x = all[0],
                    .w = all[1],
                    .bias = all[2],
                    .per_picture = all[3],
                    .residual = all[4],
                    .narrow = true,
                    .y = y};
    size_t bytes;
    assert_int_equal(gpu->conv2d_scratch(&a, &bytes), STATUS_OK);
    void *scratch = scratch_for(bytes);
    assert_int_equal(gpu->conv2d(&a, scratch), STATUS_OK);
    same("convolution", y, want, false);
    gpu->memory_free(scratch, bytes);
    Tensor *const here[] = {x, w, bias, v, residual};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_free(all[i]);
    for (size_t i = 0; i < sizeof here / sizeof *here; i++)
        tensor_free(here[i]);
    mem_free(want);
}

static void a_convolution_is_the_formula(void **state)
{
    (void)state;
    static const Map maps[] = {{2, 9, 13, 16, 40, {1, 1, 1, 1, 1, false}},
                               {1, 8, 8, 64, 72, {1, 1, 1, 1, 1, false}},
                               {2, 10, 12, 48, 33, {2, 1, 1, 1, 1, false}},
                               {1, 10, 12, 32, 16, {2, 0, 0, 1, 1, false}},
                               {3, 4, 4, 160, 20, {1, 1, 1, 1, 1, false}}};
    need_products_of_bytes();
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type += gpu->lacks_bf16 ? 2 : 1)
            check_conv(&maps[i], type, i % 2 ? -0.3 : -1);
}

/* The weight alone in 8 bits -------------------------------------------------------------------------------
 */

typedef struct Wide {
    const Map *m;
    Tensor *w, *decoded, *x, *g; /* here; the decoded weight in x's type */
    double *y;                   /* the formula's */
} Wide;

static double exact(const Wide *t, int64_t b, int64_t h, int64_t v, int64_t k)
{
    const Map *m = t->m;
    const int64_t side = t->w->shape[2];
    double sum = 0;
    for (int64_t tap = 0; tap < side * side; tap++) {
        int64_t y = h * m->s.stride - m->s.pad_top + tap / side,
                z = v * m->s.stride - m->s.pad_left + tap % side;
        const int times = m->s.upsample ? 2 : 1;
        if (y < 0 || y >= times * m->H || z < 0 || z >= times * m->W)
            continue;
        y /= times, z /= times;
        for (int64_t c = 0; c < m->C; c++)
            sum += tensor_at(t->x, ((b * m->H + y) * m->W + z) * m->C + c) *
                   ((int8_t *)t->w->data)[(k * m->C + c) * side * side + tap];
    }
    return sum * tensor_at(t->w->scales, k);
}

static Wide wide_new(const Map *m, DType type, int64_t side)
{
    const int times = m->s.upsample ? 2 : 1;
    const int64_t H = (times * m->H + m->s.pad_top + m->s.pad_bottom - side) / m->s.stride + 1,
                  W = (times * m->W + m->s.pad_left + m->s.pad_right - side) / m->s.stride + 1;
    const int64_t x[] = {m->B, m->H, m->W, m->C}, w[] = {m->K, m->C, side, side}, y[] = {m->B, H, W, m->K};
    Wide t = {m,
              narrow_weight(4, w),
              tensor_new(type, 4, w),
              filled(type, 4, x, -1),
              filled(type, 4, y, -1),
              mem_alloc((size_t)(m->B * H * W * m->K) * sizeof(double))};
    assert_true(t.decoded && t.y);
    for (int64_t i = 0; i < m->K; i++)
        tensor_set_at(t.w->scales, i, tensor_at(t.w->scales, i) / 127 / sqrt(9 * (double)m->C));
    for (int64_t i = 0; i < tensor_count(t.w); i++)
        tensor_set_at(t.decoded, i,
                      (double)((float)((int8_t *)t.w->data)[i] *
                               (float)tensor_at(t.w->scales, i / (tensor_count(t.w) / m->K))));
    for (int64_t i = 0; i < m->B * H * W * m->K; i++)
        t.y[i] = exact(&t, i / m->K / W / H, i / m->K / W % H, i / m->K % W, i % m->K);
    return t;
}

/* Twice, the second time by the form that the layer has kept. What of scratch memory that saves. */
static size_t run_wide(const Wide *t, bool backward, Layer *l, const Tensor *w, Tensor *to)
{
    Tensor *const source = there(backward ? t->g : t->x);
    Conv a = {.s = t->m->s, .x = backward ? to : source, .w = w, .y = backward ? source : to};
    Status (*const scratch)(const Conv *, size_t *) =
        backward ? gpu->conv2d_backward_data_scratch : gpu->conv2d_scratch;
    size_t bytes, without;
    assert_int_equal(scratch(&a, &without), STATUS_OK);
    a.layer = l;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(scratch(&a, &bytes), STATUS_OK);
        void *room = scratch_for(bytes + 1);
        assert_int_equal((backward ? gpu->conv2d_backward_data : gpu->conv2d)(&a, room), STATUS_OK);
        assert_int_equal(gpu->settle(), STATUS_OK);
        gpu->memory_free(room, bytes + 1);
    }
    tensor_free(source);
    assert_true(bytes <= without);
    return without - bytes;
}

/* Byte for byte, or nearly. */
static void agree(const Tensor *got, const Tensor *want, bool exactly)
{
    Tensor *a = tensor_new(got->dtype, got->ndim, got->shape),
           *b = tensor_new(got->dtype, got->ndim, got->shape);
    double largest = 0, apart = 0;
    assert_true(a && b);
    assert_int_equal(gpu->get(a->data, got->data, tensor_bytes(a)), STATUS_OK);
    assert_int_equal(gpu->get(b->data, want->data, tensor_bytes(b)), STATUS_OK);
    assert_int_equal(gpu->settle(), STATUS_OK);
    for (int64_t i = 0; i < tensor_count(a); i++) {
        largest = fmax(largest, fabs(tensor_at(b, i)));
        apart = fmax(apart, fabs(tensor_at(a, i) - tensor_at(b, i)));
    }
    assert_true(largest > 0 && apart <= largest / 128);
    if (exactly)
        assert_memory_equal(a->data, b->data, tensor_bytes(a));
    tensor_free(a);
    tensor_free(b);
}

/* kept: the layer keeps the form, and its weight stays in the host's memory. inside: no scratch memory is
 * taken for the weight then. */
static void check_wide(const Map *m, DType type, int64_t side, bool kept, bool inside)
{
    Wide t = wide_new(m, type, side);
    Tensor *w = kept ? tensor_over(t.w->data, DTYPE_I8, 4, t.w->shape) : there(t.w),
           *decoded = there(t.decoded);
    Tensor *y = tensor_new_on(gpu, type, 4, t.g->shape), *grad = tensor_new_on(gpu, type, 4, t.x->shape),
           *want = tensor_new_on(gpu, type, 4, t.x->shape);
    const size_t least = kept && inside ? tensor_bytes(w) : 0;
    if (kept)
        w->scales = there(t.w->scales);
    Layer l = {.name = "layer", .weight = w, .packed_only = true};
    assert_true(run_wide(&t, false, kept ? &l : NULL, w, y) >= least);
    same("a weight in 8 bits", y, t.y, !inside && type != DTYPE_F32);
    assert_true(run_wide(&t, true, kept ? &l : NULL, w, grad) >= least);
    run_wide(&t, true, NULL, decoded, want);
    assert_true(!kept || gpu->packed_bytes(&l) >= tensor_bytes(w));
    agree(grad, want, inside);
    if (kept)
        gpu->unpack(&l);
    Tensor *const all[] = {t.w, t.decoded, t.x, t.g, w, decoded, y, grad, want};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_free(all[i]);
    mem_free(t.y);
}

static void a_weight_alone_is_decoded_on_its_way(void **state)
{
    (void)state;
    static const struct {
        Map m;
        int side;
        bool inside;
    } cases[] = {{{2, 9, 13, 32, 64, {1, 1, 1, 1, 1, false}}, 3, true},
                 {{1, 12, 12, 64, 160, {1, 1, 1, 1, 1, false}}, 3, true},
                 {{1, 16, 33, 96, 128, {1, 1, 1, 1, 1, false}}, 3, true},
                 {{2, 10, 12, 128, 32, {2, 1, 1, 1, 1, false}}, 3, true},
                 {{1, 10, 12, 32, 96, {2, 0, 0, 1, 1, false}}, 3, true},
                 {{2, 7, 6, 64, 32, {2, 0, 0, 0, 0, false}}, 1, true},
                 {{3, 3, 3, 256, 32, {1, 1, 1, 1, 1, false}}, 3, true}, /* cut into parts */
                 {{1, 6, 5, 32, 64, {1, 1, 1, 1, 1, true}}, 3, false},
                 {{1, 6, 5, 20, 40, {1, 1, 1, 1, 1, false}}, 3, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type += gpu->lacks_bf16 ? 2 : 1)
            for (int kept = 0; kept < 2; kept++)
                check_wide(&cases[i].m, type, cases[i].side, kept, cases[i].inside && type != DTYPE_F32);
}

/* One product in the ways that product.cu has for it: whole chunks, W in 8 bits, and x that begins between
 * two chunks, with low-rank products of whole and of odd ranks. */
static void check_way(DType type, bool bytes, bool odd, int64_t rank)
{
    enum { M = 150, N = 200, K = 56 };
    const int64_t x_shape[] = {M, K}, w_shape[] = {N, K}, y_shape[] = {M, N}, t_shape[] = {M, rank},
                  up_shape[] = {N, rank};
    Tensor *x = filled(type, 2, x_shape, -1),
           *w = bytes ? narrow_weight(2, w_shape) : filled(type, 2, w_shape, -1),
           *t = filled(type, 2, t_shape, -1), *up = filled(DTYPE_F32, 2, up_shape, -1);
    static double want[M * N];
    for (int64_t i = 0; i < N && bytes; i++)
        tensor_set_at(w->scales, i, tensor_at(w->scales, i) / 127);
    for (int64_t i = 0; i < M * N; i++) {
        want[i] = 0;
        for (int64_t c = 0; c < K; c++)
            want[i] += tensor_at(x, i / N * K + c) *
                       (bytes ? ((int8_t *)w->data)[i % N * K + c] * tensor_at(w->scales, i % N)
                              : tensor_at(w, i % N * K + c));
        for (int64_t c = 0; c < rank; c++)
            want[i] += 0.5 * tensor_at(t, i / N * rank + c) * tensor_at(up, i % N * rank + c);
    }
    Tensor *room = tensor_new_on(gpu, type, 1, (int64_t[]){M * K + 1}),
           *all[] = {there(w), there(t), there(up)};
    Tensor from = *room;
    from.data = (char *)room->data + (odd ? dtype_size(type) : 0);
    from.ndim = 2, from.shape[0] = M, from.shape[1] = K;
    assert_int_equal(gpu->put(from.data, x->data, tensor_bytes(x)), STATUS_OK);
    Tensor *y = tensor_new_on(gpu, type, 2, y_shape);
    const Product p = {.m = M,
                       .n = N,
                       .k = K,
                       .trans_b = true,
                       .alpha = 1,
                       .a = &from,
                       .b = all[0],
                       .t = all[1],
                       .up = all[2],
                       .scale = 0.5f,
                       .y = y};
    size_t scratch;
    assert_int_equal(gpu->product_scratch(&p, &scratch), STATUS_OK);
    void *place = scratch_for(scratch + 1);
    assert_int_equal(gpu->product(&p, place), STATUS_OK);
    same("product", y, want, true);
    gpu->memory_free(place, scratch + 1);
    Tensor *const rest[] = {x, w, t, up, room, all[0], all[1], all[2], y};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        tensor_free(rest[i]);
}

static void a_product_is_the_same_by_every_way(void **state)
{
    (void)state;
    static const int64_t ranks[] = {8, 4, 3, 36};
    for (DType type = gpu->lacks_bf16 ? DTYPE_F16 : DTYPE_BF16; type <= DTYPE_F16; type++)
        for (int way = 0; way < 4; way++)
            for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
                check_way(type, way % 2, way / 2, ranks[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_the_formula),
        cmocka_unit_test(a_convolution_is_the_formula),
        cmocka_unit_test(a_weight_alone_is_decoded_on_its_way),
        cmocka_unit_test(a_product_is_the_same_by_every_way),
    };
    gpu = device_cuda("cuda");
    if (!gpu) { /* built for a GPU, and there is none */
        print_message("%s\n", status_message());
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
