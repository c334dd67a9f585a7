/* The gradient of a 3×3 convolution's weight by Winograd's F(3×3,4×4): 36 products a tile and pair of
 * channels instead of 144, as in winograd.c.
 *
 * For a tile of 4×4 of grad y the gradient of the 3×3 weight is itself a convolution, of the window of 6×6 of
 * x with the tile as the weight. At the same points, with G for four taps and A for three results:
 *
 *     V = Bᵀ x B    Y = G gy Gᵀ    M[p] = Σ over tiles V[p]ᵀ Y[p]: (C,tiles) · (tiles,K)    grad w += Aᵀ M A
 *
 * Tiling. A group of at most GROUP tiles is evaluated whole, all channels of both; a task of one thread is
 * BLOCK channels of C by BLOCK of K: its M (152 KB) stays in the second-level cache, and V of one block of C
 * (590 KB) is used for all of K. What a group gives is added to the gradient, group after group, so the order
 * of every sum is fixed by the shape. */
#include "winograd.h"

#include "winograd_tiles.h"

#include <omp.h>
#include <string.h>

enum {
    GROUP = 128, /* most tiles at a time */
    TAP = 3,     /* results in each direction */
    RUN = BLOCK * TAPS,
};

typedef struct Job {
    Map x;
    const void *gy;
    DType gy_type;
    int64_t OH, OW, K;
    float *grad, *bias;
    int64_t pixels; /* of all of gy */
    int64_t group, groups;
    int threads;
    float *V, *Y, *own;
} Job;

/* Tiles of grad y: Y (K/BLOCK, POINTS, rows_room(tiles), BLOCK) ----------------------------------------- */

/* G g, for four taps */
VEC void tile_points(vf to[SIDE], const vf g[OUT])
{
    const vf even_a = (g[0] + A2 * g[2]) * NA, odd_a = (g[1] + A2 * g[3]) * (A1 * NA);
    const vf even_b = (g[0] + B2 * g[2]) * NB, odd_b = (g[1] + B2 * g[3]) * (B1 * NB);
    to[0] = g[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = g[3];
}

VEC void tile_vector(const void *const pixel[OUT * OUT], DType type, int64_t k, float *y, int64_t stride)
{
    vf half[SIDE][OUT];
    for (int s = 0; s < OUT; s++) {
        vf g[OUT], to[SIDE];
        for (int r = 0; r < OUT; r++)
            g[r] = pixel[r * OUT + s] ? vec_get(pixel[r * OUT + s], type, k) : vec_set(0);
        tile_points(to, g);
        for (int i = 0; i < SIDE; i++)
            half[i][s] = to[i];
    }
    for (int i = 0; i < SIDE; i++) {
        vf to[SIDE];
        tile_points(to, half[i]);
        for (int s = 0; s < SIDE; s++)
            vec_store(y + (i * SIDE + s) * stride, to[s]);
    }
}

/* Tile t, at row `row` of Y. */
VEC void tile_all(const Job *j, DType type, int64_t t, int64_t row, int64_t stride, float *Y)
{
    const TileAt at = tile_at(&j->x, t);
    const void *pixel[OUT * OUT]; /* NULL: beyond the map */
    for (int r = 0; r < OUT; r++)
        for (int s = 0; s < OUT; s++)
            pixel[r * OUT + s] =
                at.row + r < j->OH && at.column + s < j->OW
                    ? at_element(j->gy, type, ((at.b * j->OH + at.row + r) * j->OW + at.column + s) * j->K)
                    : NULL;
    for (int64_t k = 0; k < j->K; k += VL)
        tile_vector(pixel, type, k, Y + k / BLOCK * POINTS * stride + row * BLOCK + k % BLOCK, stride);
}

/* Products ---------------------------------------------------------------------------------------------- */

/* n rows of m (n,2 VL) = v (tiles,n)ᵀ · y (tiles,2 VL); all with rows of BLOCK. */
VEC void rows_sum(int n, int64_t tiles, const float *v, const float *y, float *m)
{
    vf sum[ROWS][2] = {{{0}}};
    for (int64_t t = 0; t < tiles; t++) {
        const vf a = vec_load(y + t * BLOCK), b = vec_load(y + t * BLOCK + VL);
#pragma GCC unroll 16
        for (int r = 0; r < n; r++) {
            const vf x = vec_set(v[t * BLOCK + r]);
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

static void point_sum(int64_t tiles, const float *v, const float *y, float *m)
{
    for (int part = 0; part < BLOCK; part += 2 * VL) {
        int c = 0;
        for (; c + ROWS <= BLOCK; c += ROWS)
            rows_sum(ROWS, tiles, v + c, y + part, m + c * BLOCK + part);
        rows_sum(BLOCK % ROWS, tiles, v + c, y + part, m + c * BLOCK + part);
    }
}

/* Results ----------------------------------------------------------------------------------------------- */

/* Aᵀ m, for three results */
VEC void taps_of(vf to[TAP], const vf m[SIDE])
{
    const vf even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    to[0] = m[0] + even_a + even_b;
    to[1] = A1 * odd_a + B1 * odd_b;
    to[2] = A2 * even_a + B2 * even_b + m[5];
}

/* staged (BLOCK of C, TAPS, BLOCK of K) = Aᵀ M A */
static void stage_taps(const float *M, float *staged)
{
    for (int64_t at = 0; at < BLOCK * BLOCK; at += VL) {
        vf half[TAP][SIDE];
        for (int v = 0; v < SIDE; v++) {
            vf m[SIDE], to[TAP];
            for (int i = 0; i < SIDE; i++)
                m[i] = vec_load(M + (i * SIDE + v) * U_POINT + at);
            taps_of(to, m);
            for (int i = 0; i < TAP; i++)
                half[i][v] = to[i];
        }
        for (int i = 0; i < TAP; i++) {
            vf to[TAP];
            taps_of(to, half[i]);
            for (int v = 0; v < TAP; v++)
                vec_store(staged + (at / BLOCK * TAPS + i * TAP + v) * BLOCK + at % BLOCK, to[v]);
        }
    }
}

/* grad (K,C,3,3), the block from c and k on, += staged. */
static void add_taps(const Job *j, int64_t c, int64_t k, const float *staged)
{
    for (int64_t part = 0; part < BLOCK; part += VL)
        for (int64_t i = 0; i < RUN; i += VL) {
            vf x[VL];
            for (int l = 0; l < VL; l++)
                x[l] = vec_load(staged + (i + l) * BLOCK + part);
            vec_transpose(x);
            for (int l = 0; l < VL; l++) {
                float *to = j->grad + ((k + part + l) * j->x.C + c) * TAPS + i;
                vec_store(to, vec_load(to) + x[l]);
            }
        }
}

/* Channels k … k+VL-1 of the bias's gradient, pixel after pixel. */
static void add_bias(const Job *j, int64_t k)
{
    vf sum = vec_set(0);
    for (int64_t i = 0; i < j->pixels; i++)
        sum += vec_get(j->gy, j->gy_type, i * j->K + k);
    vec_store(j->bias + k, vec_load(j->bias + k) + sum);
}

/* A call ------------------------------------------------------------------------------------------------ */

static Job job_of(const Conv *a)
{
    const Tensor *x = a->x, *y = a->y;
    Job j = {.x = {.data = x->data,
                   .type = x->dtype,
                   .H = x->shape[1],
                   .W = x->shape[2],
                   .C = x->shape[3],
                   .pad_top = a->s.pad_top,
                   .pad_left = a->s.pad_left,
                   .upsample = a->s.upsample},
             .gy = y->data,
             .gy_type = y->dtype,
             .OH = y->shape[1],
             .OW = y->shape[2],
             .K = y->shape[3],
             .pixels = y->shape[0] * y->shape[1] * y->shape[2],
             .grad = a->w->data,
             .bias = a->bias ? a->bias->data : NULL,
             .threads = omp_get_max_threads()};
    map_cut(&j.x, y->shape[0], j.OH, j.OW);
    j.groups = (j.x.tiles + GROUP - 1) / GROUP;
    j.group = (j.x.tiles + j.groups - 1) / j.groups;
    return j;
}

/* One thread's own: M and the taps made of it. */
static size_t own_floats(void)
{
    return (size_t)(POINTS * U_POINT + RUN * BLOCK);
}

size_t ISA(winograd_weight_scratch)(const Conv *a)
{
    const Job j = job_of(a);
    return ((size_t)j.x.C + group_floats(j.x.C, j.group) + group_floats(j.K, j.group) +
            (size_t)j.threads * own_floats()) *
           sizeof(float);
}

static void block_of(const Job *j, int64_t tiles, int64_t c, int64_t k, float *own)
{
    const int64_t stride = rows_room(j->group) * BLOCK;
    const float *V = j->V + c / BLOCK * POINTS * stride, *Y = j->Y + k / BLOCK * POINTS * stride;
    float *M = own, *staged = own + POINTS * U_POINT;
    for (int p = 0; p < POINTS; p++)
        point_sum(tiles, V + p * stride, Y + p * stride, M + p * U_POINT);
    stage_taps(M, staged);
    add_taps(j, c, k, staged);
}

static void group_of(const Job *j, int64_t g)
{
    const int64_t first = g * j->group, left = j->x.tiles - first;
    const int64_t tiles = left < j->group ? left : j->group, blocks = j->K / BLOCK;
    const int64_t stride = rows_room(j->group) * BLOCK;
#pragma omp parallel num_threads(j->threads)
    {
#pragma omp for schedule(dynamic, 4)
        for (int64_t t = 0; t < tiles; t++) {
            WITH_DTYPE(j->x.type, window_all(&j->x, T, first + t, t, stride, j->V));
            WITH_DTYPE(j->gy_type, tile_all(j, T, first + t, t, stride, j->Y));
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < j->x.C / BLOCK * blocks; i++)
            block_of(j, tiles, i / blocks * BLOCK, i % blocks * BLOCK,
                     j->own + (size_t)omp_get_thread_num() * own_floats());
    }
}

void ISA(winograd_weight_run)(const Conv *a, void *scratch)
{
    Job j = job_of(a);
    j.V = scratch;
    j.Y = j.V + group_floats(j.x.C, j.group);
    j.own = j.Y + group_floats(j.K, j.group);
    j.x.zeros = j.own + (size_t)j.threads * own_floats();
    memset(j.x.zeros, 0, (size_t)j.x.C * sizeof *j.x.zeros);
    for (int64_t g = 0; g < j.groups; g++)
        group_of(&j, g);
#pragma omp parallel for num_threads(j.threads)
    for (int64_t k = 0; k < (j.bias ? j.K : 0); k += VL)
        add_bias(&j, k);
}
