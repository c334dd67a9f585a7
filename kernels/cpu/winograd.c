/* 3×3 convolutions of stride 1 with a quarter of the multiplications: F(4×4,3×3) of Winograd 1980, as Lavin &
 * Gray 2016 use it.
 *
 * The result is cut into tiles of 4×4 pixels. A tile's window of 6×6 pixels d and each pair of channels'
 * weight g (3×3) are evaluated as polynomials at 36 points; there the convolution is a product, and 4×4
 * pixels are interpolated from the points:
 *
 *     V = Bᵀ d B    U = G g Gᵀ    M[p] = V[p] U[p] for each point p: (tiles,C) · (C,K)    y = Aᵀ M A
 *
 * so 36 products a tile and pair of channels instead of 144. Points in each direction are 0, ±2/3, ±3/2 and
 * ∞: with them, in f32, a result of 640 channels is off by 2.5e-6 of the largest value, where 0, ±1, ±2, ∞
 * give 1.2e-5 and the direct sum 3.6e-7. Arithmetic is f32 whatever the storage.
 *
 * Tiling. A group of at most GROUP tiles is evaluated whole, all channels (V, in the third-level cache: a
 * few MB); then each thread takes BLOCK result channels at a time, for which everything else stays in its
 * second-level cache:
 *
 *     for BLOCK of K                                 a task of one thread
 *         for BLOCK of C
 *             U (36,BLOCK,BLOCK) from the weights as the file has them     149 KB
 *             for p: M[p] (GROUP,BLOCK) += V[p] (GROUP,BLOCK) · U[p]        388 KB
 *         y of all tiles = Aᵀ M A + bias + per_picture + residual
 *
 * The weights' evaluation is done anew for each group: a few percent, and no weight is kept in another form
 * (U is four times as large). Measured on one core (Zen 5) with 320 to 1280 channels, as arithmetic of the
 * direct form per second: 380–430 GFLOP/s with AVX2 (a product of large matrices: 115), 670–770 with AVX-512
 * (280; in bf16 550).
 *
 * The gradient of the input is the same with the weight turned and its channels
 * swapped, both while it is read. A doubled map (upsample) is read as such, and the gradient's pixels are
 * added up by fours as they are written. The order of every sum is fixed by C alone. */
#include "winograd.h"

#include "convert.h"

#include <omp.h>
#include <string.h>

enum {
    SIDE = 6, /* of a tile's window */
    OUT = 4,  /* of a tile */
    POINTS = SIDE * SIDE,
    BLOCK = 32,               /* channels at a time, on both sides */
    GROUP = 84,               /* most tiles at a time */
    ROWS = VL == 16 ? 12 : 6, /* tiles in registers: with two vectors each they fill them */
    TAPS = 9,
    LEAST_TILES = 12,
    LINES = 2,                       /* of a cache, in a row of BLOCK floats */
    U_POINT = BLOCK * BLOCK + BLOCK, /* floats from a point to the next: not a multiple of 4 KB */
};

/* What is known of a call. "In" is what is read (x, or grad y backward), "out" what is written. */
typedef struct Job {
    const void *in, *w, *bias, *per_picture, *residual;
    void *out;
    DType in_type, w_type, out_type, bias_type, per_picture_type;
    int64_t B, H, W, C; /* of in */
    int64_t OH, OW, K;  /* of out, before pixels are added up by fours */
    int64_t pad_top, pad_left;
    bool upsample, turned;           /* read doubled; the weight turned */
    bool pool;                       /* write sums of 2×2 */
    int64_t down, across, tiles;     /* tiles of a picture, and of all */
    int64_t group, groups, together; /* tiles of a group; groups, and how many are evaluated at once */
    int threads;
    float *V, *own, *zeros;
} Job;

/* The points ------------------------------------------------------------------------------------------- */

/* a = 2/3, b = 3/2: a b = 1 keeps the numbers short. */
static const float A1 = 2.0f / 3, A2 = 4.0f / 9, A3 = 8.0f / 27, B1 = 1.5f, B2 = 2.25f, B3 = 3.375f;
static const float SUM = 97.0f / 36;                  /* a² + b² */
static const float NA = -81.0f / 130, NB = 8.0f / 65; /* 1 / (2a²(a²−b²)), 1 / (2b²(b²−a²)) */

/* Bᵀ d, d a row or a column of a window. */
VEC void window_points(vf to[SIDE], const vf d[SIDE])
{
    const vf even_a = d[4] - B2 * d[2], odd_a = A1 * d[3] - B1 * d[1];
    const vf even_b = d[4] - A2 * d[2], odd_b = B1 * d[3] - A1 * d[1];
    to[0] = d[0] + (d[4] - SUM * d[2]);
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = d[1] + (d[5] - SUM * d[3]);
}

/* G g */
VEC void weight_points(vf to[SIDE], const vf g[3])
{
    const vf even_a = (g[0] + A2 * g[2]) * NA, odd_a = g[1] * (A1 * NA);
    const vf even_b = (g[0] + B2 * g[2]) * NB, odd_b = g[1] * (B1 * NB);
    to[0] = g[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = g[2];
}

/* Aᵀ m */
VEC void result_of(vf to[OUT], const vf m[SIDE])
{
    const vf even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    to[0] = m[0] + even_a + even_b;
    to[1] = A1 * odd_a + B1 * odd_b;
    to[2] = A2 * even_a + B2 * even_b;
    to[3] = A3 * odd_a + B3 * odd_b + m[5];
}

/* Windows: V (C/BLOCK, POINTS, tiles, BLOCK) ------------------------------------------------------------ */

static int64_t rows_room(int64_t tiles)
{
    return tiles | 1; /* an odd number of rows, so that a tile's points do not share one set of a cache */
}

static size_t v_floats(const Job *j)
{
    return (size_t)(j->C / BLOCK * POINTS * rows_room(j->group) * BLOCK);
}

typedef struct TileAt {
    int64_t b, row, column; /* picture, and the first pixel of the result */
} TileAt;

static TileAt tile_at(const Job *j, int64_t t)
{
    const int64_t n = j->down * j->across;
    return (TileAt){t / n, t % n / j->across * OUT, t % j->across * OUT};
}

/* The pixels of a tile's window; zeros beside the map. */
static void window_pixels(const Job *j, int64_t t, const void *pixel[POINTS])
{
    const TileAt at = tile_at(j, t);
    const int times = j->upsample ? 2 : 1;
    for (int i = 0; i < SIDE; i++)
        for (int k = 0; k < SIDE; k++) {
            const int64_t h = at.row + i - j->pad_top, w = at.column + k - j->pad_left;
            const bool inside = h >= 0 && h < times * j->H && w >= 0 && w < times * j->W;
            const int64_t element = ((at.b * j->H + h / times) * j->W + w / times) * j->C;
            pixel[i * SIDE + k] = inside ? at_element(j->in, j->in_type, element) : (const char *)j->zeros;
        }
}

VEC void window_vector(const void *const pixel[POINTS], DType type, int64_t c, float *v, int64_t stride)
{
    vf half[SIDE][SIDE];
    for (int k = 0; k < SIDE; k++) {
        vf d[SIDE], to[SIDE];
        for (int i = 0; i < SIDE; i++)
            d[i] = vec_get(pixel[i * SIDE + k], type, c);
        window_points(to, d);
        for (int i = 0; i < SIDE; i++)
            half[i][k] = to[i];
    }
    for (int i = 0; i < SIDE; i++) {
        vf to[SIDE];
        window_points(to, half[i]);
        for (int k = 0; k < SIDE; k++)
            vec_store(v + (i * SIDE + k) * stride, to[k]);
    }
}

/* Tile t's window, at row `row` of V. */
VEC void window_all(const Job *j, DType type, int64_t t, int64_t row, float *V)
{
    const void *pixel[POINTS];
    const int64_t stride = rows_room(j->group) * BLOCK;
    window_pixels(j, t, pixel);
    for (int64_t c = 0; c < j->C; c += VL)
        window_vector(pixel, type, c, V + c / BLOCK * POINTS * stride + row * BLOCK + c % BLOCK, stride);
}

/* Weights: U (POINTS, BLOCK, BLOCK) of the channels in from c on, out from k on -------------------------- */

enum { RUN = BLOCK * TAPS }; /* numbers that follow each other in the file */

/* staged (BLOCK,TAPS,VL): for VL channels that are written, all taps of BLOCK channels that are read. */
VEC void stage_forward(const Job *j, DType type, int64_t c, int64_t k, float *staged)
{
    for (int64_t i = 0; i < RUN; i += VL) {
        vf x[VL];
        for (int l = 0; l < VL; l++)
            x[l] = vec_get(j->w, type, ((k + l) * j->C + c) * TAPS + i);
        vec_transpose(x);
        for (int l = 0; l < VL; l++)
            vec_store(staged + (i + l) * VL, x[l]);
    }
}

/* The same turned: the file has (C,K,3,3), C being what is read here. */
VEC void stage_turned(const Job *j, DType type, int64_t c, int64_t k, float *staged)
{
    for (int64_t r = 0; r < BLOCK; r++) {
        const int64_t from = ((c + r) * j->K + k) * TAPS;
        float wide[TAPS * VL];
        for (int i = 0; i < TAPS; i++)
            vec_store(wide + i * VL, vec_get(j->w, type, from + i * VL));
        for (int i = 0; i < TAPS; i++)
            for (int l = 0; l < VL; l++)
                staged[(r * TAPS + TAPS - 1 - i) * VL + l] = wide[l * TAPS + i];
    }
}

static void weights_of(const Job *j, int64_t c, int64_t k, float *staged, float *U)
{
    for (int64_t part = 0; part < BLOCK; part += VL) {
        if (j->turned)
            WITH_DTYPE(j->w_type, stage_turned(j, T, c, k + part, staged));
        else
            WITH_DTYPE(j->w_type, stage_forward(j, T, c, k + part, staged));
        for (int64_t r = 0; r < BLOCK; r++) {
            vf half[SIDE][3];
            for (int v = 0; v < 3; v++) {
                vf g[3], to[SIDE];
                for (int u = 0; u < 3; u++)
                    g[u] = vec_load(staged + (r * TAPS + u * 3 + v) * VL);
                weight_points(to, g);
                for (int i = 0; i < SIDE; i++)
                    half[i][v] = to[i];
            }
            for (int i = 0; i < SIDE; i++) {
                vf to[SIDE];
                weight_points(to, half[i]);
                for (int v = 0; v < SIDE; v++)
                    vec_store(U + (i * SIDE + v) * U_POINT + r * BLOCK + part, to[v]);
            }
        }
    }
}

/* Products ---------------------------------------------------------------------------------------------- */

/* n rows of m (n,2 VL) += v (n,BLOCK) · u (BLOCK,2 VL); all with rows of BLOCK. */
VEC void rows_product(int n, bool first, const float *v, const float *u, float *m)
{
    vf sum[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        sum[r][0] = first ? vec_set(0) : vec_load(m + r * BLOCK);
        sum[r][1] = first ? vec_set(0) : vec_load(m + r * BLOCK + VL);
    }
    for (int c = 0; c < BLOCK; c++) {
        const vf a = vec_load(u + c * BLOCK), b = vec_load(u + c * BLOCK + VL);
        if (c < LINES * n) /* of v: the rows that the call after the next reads */
            __builtin_prefetch(v + 2 * ROWS * BLOCK + c * (BLOCK / LINES));
#pragma GCC unroll 16
        for (int r = 0; r < n; r++) {
            const vf x = vec_set(v[r * BLOCK + c]);
            sum[r][0] += x * a;
            sum[r][1] += x * b;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        vec_store(m + r * BLOCK, sum[r][0]);
        vec_store(m + r * BLOCK + VL, sum[r][1]);
    }
}

VEC void point_product(bool first, int64_t tiles, const float *v, const float *u, float *m)
{
    for (int part = 0; part < BLOCK; part += 2 * VL) {
        int64_t t = 0;
        for (; t + ROWS <= tiles; t += ROWS)
            rows_product(ROWS, first, v + t * BLOCK, u + part, m + t * BLOCK + part);
        for (; t + 2 <= tiles; t += 2)
            rows_product(2, first, v + t * BLOCK, u + part, m + t * BLOCK + part);
        if (t < tiles)
            rows_product(1, first, v + t * BLOCK, u + part, m + t * BLOCK + part);
    }
}

/* Results ----------------------------------------------------------------------------------------------- */

VEC void put_pixel(const Job *j, DType type, int64_t at, vf x)
{
    if (j->residual)
        x += vec_get(j->residual, type, at);
    vec_put(j->out, type, at, x);
}

/* 4×4 pixels, those within the map, or their sums by fours. */
VEC void put_tile(const Job *j, DType type, TileAt at, int64_t k, vf y[OUT][OUT])
{
    const int step = j->pool ? 2 : 1;
    const int64_t H = j->OH / step, W = j->OW / step;
    for (int r = 0; r < OUT && at.row + r < j->OH; r += step)
        for (int s = 0; s < OUT && at.column + s < j->OW; s += step) {
            const vf x = j->pool ? (y[r][s] + y[r][s + 1]) + (y[r + 1][s] + y[r + 1][s + 1]) : y[r][s];
            put_pixel(j, type, ((at.b * H + (at.row + r) / step) * W + (at.column + s) / step) * j->K + k, x);
        }
}

VEC void result_vector(const Job *j, DType type, TileAt at, int64_t k, const float *m, int64_t stride)
{
    vf half[OUT][SIDE], y[OUT][OUT], bias = vec_set(0);
    if (j->bias)
        bias += vec_get(j->bias, j->bias_type, k);
    if (j->per_picture)
        bias += vec_get(j->per_picture, j->per_picture_type, at.b * j->K + k);
    for (int v = 0; v < SIDE; v++) {
        vf d[SIDE], to[OUT];
        for (int i = 0; i < SIDE; i++)
            d[i] = vec_load(m + (i * SIDE + v) * stride);
        result_of(to, d);
        for (int i = 0; i < OUT; i++)
            half[i][v] = to[i];
    }
    for (int i = 0; i < OUT; i++) {
        result_of(y[i], half[i]);
        for (int v = 0; v < OUT; v++)
            y[i][v] += bias;
    }
    put_tile(j, type, at, k, y);
}

VEC void results(const Job *j, DType type, int64_t first, int64_t tiles, int64_t k, const float *M)
{
    const int64_t stride = rows_room(j->group) * BLOCK;
    for (int64_t t = 0; t < tiles; t++) {
        const TileAt at = tile_at(j, first + t);
        for (int part = 0; part < BLOCK; part += VL)
            result_vector(j, type, at, k + part, M + t * BLOCK + part, stride);
    }
}

/* A call ------------------------------------------------------------------------------------------------ */

static int64_t tiles_of(const Job *j, int64_t g)
{
    const int64_t left = j->tiles - g * j->group;
    return left < j->group ? left : j->group;
}

/* One thread's own: U, M, and what of the weights is staged. */
static size_t own_floats(const Job *j)
{
    return (size_t)(POINTS * U_POINT + POINTS * rows_room(j->group) * BLOCK + RUN * VL);
}

/* BLOCK channels of the results of group g, whose windows are in V. */
static void block_of(const Job *j, int64_t g, int64_t k, const float *V, float *own)
{
    const int64_t tiles = tiles_of(j, g), stride = rows_room(j->group) * BLOCK;
    float *U = own, *M = U + POINTS * U_POINT, *staged = M + POINTS * stride;
    for (int64_t c = 0; c < j->C; c += BLOCK) {
        const float *v = V + c / BLOCK * POINTS * stride;
        weights_of(j, c, k, staged, U);
        for (int p = 0; p < POINTS; p++)
            if (c == 0)
                point_product(true, tiles, v + p * stride, U + p * U_POINT, M + p * stride);
            else
                point_product(false, tiles, v + p * stride, U + p * U_POINT, M + p * stride);
    }
    WITH_DTYPE(j->out_type, results(j, T, g * j->group, tiles, k, M));
}

static Job job_of(const Conv *a, bool backward)
{
    const Tensor *in = backward ? a->y : a->x, *out = backward ? a->x : a->y;
    const int times = a->s.upsample ? 2 : 1;
    Job j = {.in = in->data,
             .out = out->data,
             .w = a->w->data,
             .in_type = in->dtype,
             .out_type = out->dtype,
             .w_type = a->w->dtype,
             .B = in->shape[0],
             .H = in->shape[1],
             .W = in->shape[2],
             .C = in->shape[3],
             .OH = out->shape[1] * (backward ? times : 1),
             .OW = out->shape[2] * (backward ? times : 1),
             .K = out->shape[3],
             .pad_top = backward ? 2 - a->s.pad_top : a->s.pad_top,
             .pad_left = backward ? 2 - a->s.pad_left : a->s.pad_left,
             .upsample = a->s.upsample && !backward,
             .pool = a->s.upsample && backward,
             .turned = backward,
             .threads = omp_get_max_threads()};
    if (!backward && a->bias)
        j.bias = a->bias->data, j.bias_type = a->bias->dtype;
    if (!backward && a->per_picture)
        j.per_picture = a->per_picture->data, j.per_picture_type = a->per_picture->dtype;
    if (!backward && a->residual)
        j.residual = a->residual->data;
    j.down = (j.OH + OUT - 1) / OUT;
    j.across = (j.OW + OUT - 1) / OUT;
    j.tiles = j.B * j.down * j.across;
    j.groups = (j.tiles + GROUP - 1) / GROUP;
    j.group = (j.tiles + j.groups - 1) / j.groups;
    /* so many at once that each thread has several tasks */
    const int64_t blocks = j.K / BLOCK, wanted = (3 * j.threads + blocks - 1) / blocks;
    j.together = wanted < j.groups ? wanted : j.groups;
    return j;
}

bool ISA(winograd_takes)(const Conv *a, bool backward)
{
    const Tensor *w = a->w;
    if (VL < 8 || w->shape[2] != 3 || w->shape[3] != 3 || a->s.stride != 1 || w->shape[0] % BLOCK != 0 ||
        w->shape[1] % BLOCK != 0 || a->s.pad_top > 2 || a->s.pad_left > 2)
        return false;
    if (a->s.upsample && computes_bf16() && a->x->dtype == DTYPE_BF16 && a->y->dtype == DTYPE_BF16)
        return false; /* four phases of direct products in bf16 are faster */
    return job_of(a, backward).tiles >= LEAST_TILES;
}

size_t ISA(winograd_scratch)(const Conv *a, bool backward)
{
    const Job j = job_of(a, backward);
    return ((size_t)j.C + (size_t)j.together * v_floats(&j) + (size_t)j.threads * own_floats(&j)) *
           sizeof(float);
}

/* Groups `from` … `to`-1: their windows, then their results. */
static void groups_of(const Job *j, int64_t from, int64_t to)
{
    const int64_t first = from * j->group, last = to * j->group < j->tiles ? to * j->group : j->tiles;
    const int64_t blocks = j->K / BLOCK;
#pragma omp parallel num_threads(j->threads)
    {
#pragma omp for schedule(dynamic, 4)
        for (int64_t t = first; t < last; t++) {
            float *V = j->V + (size_t)(t / j->group - from) * v_floats(j);
            WITH_DTYPE(j->in_type, window_all(j, T, t, t % j->group, V));
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < (to - from) * blocks; i++)
            block_of(j, from + i / blocks, i % blocks * BLOCK, j->V + (size_t)(i / blocks) * v_floats(j),
                     j->own + (size_t)omp_get_thread_num() * own_floats(j));
    }
}

void ISA(winograd_run)(const Conv *a, bool backward, void *scratch)
{
    Job j = job_of(a, backward);
    j.V = scratch;
    j.own = j.V + (size_t)j.together * v_floats(&j);
    j.zeros = j.own + (size_t)j.threads * own_floats(&j);
    memset(j.zeros, 0, (size_t)j.C * sizeof *j.zeros);
    for (int64_t g = 0; g < j.groups; g += j.together)
        groups_of(&j, g, g + j.together < j.groups ? g + j.together : j.groups);
}
