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
 * ∞: with them, in f32, a result of 640 channels is off by 5e-6 of the largest value, where 0, ±1, ±2, ∞
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
 * (280; in bf16 550). Two pictures of 8×8, whose 8 tiles leave the weights' evaluation half of the time: 250
 * with AVX2, where direct products have 120.
 *
 * The gradient of the input is the same with the weight turned and its channels swapped, both while it is
 * read. A doubled map (upsample) is read as such, and the gradient's pixels are added up by fours as they are
 * written. The order of every sum is fixed by C alone. */
#include "winograd.h"

#include "winograd_tiles.h"

#include <omp.h>
#include <string.h>

enum {
    GROUP = 84, /* most tiles at a time */
    LINES = 2,  /* of a cache, in a row of BLOCK floats */
};

/* What is known of a call. "In" is what is read (x, or grad y backward), "out" what is written. */
typedef struct Job {
    Map in;
    const void *w, *bias, *per_picture, *residual;
    const float *scales; /* w is i8 */
    void *out;
    DType w_type, out_type, bias_type, per_picture_type;
    int64_t OH, OW, K;               /* of out, before pixels are added up by fours */
    bool turned;                     /* the weight */
    bool pool;                       /* write sums of 2×2 */
    int64_t group, groups, together; /* tiles of a group; groups, and how many are evaluated at once */
    int threads;
    float *V, *own;
} Job;

/* Weights: U (POINTS, BLOCK, BLOCK) of the channels in from c on, out from k on -------------------------- */

enum { RUN = BLOCK * TAPS }; /* numbers that follow each other in the file */

/* VL numbers of w from `at` on, which are of row `row` of its first dimension. */
VEC vf weight_vector(const Job *j, DType type, int64_t at, int64_t row)
{
    return type == DTYPE_I8 ? vec_get_i8((const int8_t *)j->w + at, VL) * vec_set(j->scales[row])
                            : vec_get(j->w, type, at);
}

/* staged (BLOCK,TAPS,VL): for VL channels that are written, all taps of BLOCK channels that are read. */
VEC void stage_forward(const Job *j, DType type, int64_t c, int64_t k, float *staged)
{
    for (int64_t i = 0; i < RUN; i += VL) {
        vf x[VL];
        for (int l = 0; l < VL; l++)
            x[l] = weight_vector(j, type, ((k + l) * j->in.C + c) * TAPS + i, k + l);
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
            vec_store(wide + i * VL, weight_vector(j, type, from + i * VL, c + r));
        for (int i = 0; i < TAPS; i++)
            for (int l = 0; l < VL; l++)
                staged[(r * TAPS + TAPS - 1 - i) * VL + l] = wide[l * TAPS + i];
    }
}

static void stage(const Job *j, int64_t c, int64_t k, float *staged)
{
    if (j->w_type == DTYPE_I8 && j->turned)
        stage_turned(j, DTYPE_I8, c, k, staged);
    else if (j->w_type == DTYPE_I8)
        stage_forward(j, DTYPE_I8, c, k, staged);
    else if (j->turned)
        WITH_DTYPE(j->w_type, stage_turned(j, T, c, k, staged));
    else
        WITH_DTYPE(j->w_type, stage_forward(j, T, c, k, staged));
}

static void weights_of(const Job *j, int64_t c, int64_t k, float *staged, float *U)
{
    for (int64_t part = 0; part < BLOCK; part += VL) {
        stage(j, c, k + part, staged);
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

/* The same, for groups that are not full. */
static void rows_few(int64_t n, bool first, const float *v, const float *u, float *m)
{
#define FEW(n_)                                                                                              \
    case n_:                                                                                                 \
        rows_product(n_ < ROWS ? n_ : ROWS, first, v, u, m);                                                 \
        break;
    switch (n) {
        EACH_TO_12(FEW)
    default:
        break;
    }
#undef FEW
}

VEC void point_product(bool first, int64_t tiles, const float *v, const float *u, float *m)
{
    for (int part = 0; part < BLOCK; part += 2 * VL) {
        int64_t t = 0, left = (tiles + ROWS - 1) / ROWS;
        for (int64_t n; t < tiles; t += n, left--) { /* as equal as possible: 8 are 4 and 4 */
            n = (tiles - t + left - 1) / left;
            const float *rows = v + t * BLOCK;
            float *sums = m + t * BLOCK + part;
            if (n == ROWS)
                rows_product(ROWS, first, rows, u + part, sums);
            else
                rows_few(n, first, rows, u + part, sums);
        }
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
        const TileAt at = tile_at(&j->in, first + t);
        for (int part = 0; part < BLOCK; part += VL)
            result_vector(j, type, at, k + part, M + t * BLOCK + part, stride);
    }
}

/* A call ------------------------------------------------------------------------------------------------ */

static int64_t tiles_of(const Job *j, int64_t g)
{
    const int64_t left = j->in.tiles - g * j->group;
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
    for (int64_t c = 0; c < j->in.C; c += BLOCK) {
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
    Job j = {.in = {.data = in->data,
                    .type = in->dtype,
                    .H = in->shape[1],
                    .W = in->shape[2],
                    .C = in->shape[3],
                    .pad_top = backward ? 2 - a->s.pad_top : a->s.pad_top,
                    .pad_left = backward ? 2 - a->s.pad_left : a->s.pad_left,
                    .upsample = a->s.upsample && !backward},
             .out = out->data,
             .w = a->w->data,
             .scales = a->w->scales ? a->w->scales->data : NULL,
             .out_type = out->dtype,
             .w_type = a->w->dtype,
             .OH = out->shape[1] * (backward ? times : 1),
             .OW = out->shape[2] * (backward ? times : 1),
             .K = out->shape[3],
             .pool = a->s.upsample && backward,
             .turned = backward,
             .threads = omp_get_max_threads()};
    if (!backward && a->bias)
        j.bias = a->bias->data, j.bias_type = a->bias->dtype;
    if (!backward && a->per_picture)
        j.per_picture = a->per_picture->data, j.per_picture_type = a->per_picture->dtype;
    if (!backward && a->residual)
        j.residual = a->residual->data;
    map_cut(&j.in, in->shape[0], j.OH, j.OW);
    j.groups = (j.in.tiles + GROUP - 1) / GROUP;
    j.group = (j.in.tiles + j.groups - 1) / j.groups;
    /* so many at once that each thread has several tasks */
    const int64_t blocks = j.K / BLOCK, wanted = (3 * j.threads + blocks - 1) / blocks;
    j.together = wanted < j.groups ? wanted : j.groups;
    return j;
}

bool ISA(winograd_takes)(const Conv *a)
{
    const Tensor *w = a->w;
    const int64_t down = (a->y->shape[1] + OUT - 1) / OUT, across = (a->y->shape[2] + OUT - 1) / OUT;
    if (VL < 8 || w->shape[2] != 3 || w->shape[3] != 3 || a->s.stride != 1 || w->shape[0] % BLOCK != 0 ||
        w->shape[1] % BLOCK != 0 || a->s.pad_top > 2 || a->s.pad_left > 2)
        return false;
    if (a->s.upsample && computes_bf16() && a->x->dtype == DTYPE_BF16 && a->y->dtype == DTYPE_BF16 &&
        !w->scales)
        return false; /* four phases of direct products in bf16 are faster */
    /* of one picture: a batch's bytes are those of each alone */
    return down * across >= LEAST_TILES || w->shape[0] * w->shape[1] <= FEW_WEIGHTS;
}

size_t ISA(winograd_scratch)(const Conv *a, bool backward)
{
    const Job j = job_of(a, backward);
    return ((size_t)j.in.C + (size_t)j.together * group_floats(j.in.C, j.group) +
            (size_t)j.threads * own_floats(&j)) *
           sizeof(float);
}

/* Groups `from` … `to`-1: their windows, then their results. */
static void groups_of(const Job *j, int64_t from, int64_t to)
{
    const int64_t first = from * j->group, last = to * j->group < j->in.tiles ? to * j->group : j->in.tiles;
    const int64_t blocks = j->K / BLOCK;
#pragma omp parallel num_threads(j->threads)
    {
#pragma omp for schedule(dynamic, 4)
        for (int64_t t = first; t < last; t++) {
            float *V = j->V + (size_t)(t / j->group - from) * group_floats(j->in.C, j->group);
            WITH_DTYPE(j->in.type, window_all(&j->in, T, t, t % j->group, rows_room(j->group) * BLOCK, V));
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < (to - from) * blocks; i++)
            block_of(j, from + i / blocks, i % blocks * BLOCK,
                     j->V + (size_t)(i / blocks) * group_floats(j->in.C, j->group),
                     j->own + (size_t)omp_get_thread_num() * own_floats(j));
    }
}

void ISA(winograd_run)(const Conv *a, bool backward, void *scratch)
{
    Job j = job_of(a, backward);
    j.V = scratch;
    j.own = j.V + (size_t)j.together * group_floats(j.in.C, j.group);
    j.in.zeros = j.own + (size_t)j.threads * own_floats(&j);
    memset(j.in.zeros, 0, (size_t)j.in.C * sizeof *j.in.zeros);
    for (int64_t g = 0; g < j.groups; g += j.together)
        groups_of(&j, g, g + j.together < j.groups ? g + j.together : j.groups);
}
