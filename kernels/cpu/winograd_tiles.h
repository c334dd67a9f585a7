/* What Winograd's ways share (winograd.c, winograd_weight.c): the points, and windows of 6×6 pixels, one for
 * each tile of 4×4, evaluated at them. */
#ifndef ATL_CPU_WINOGRAD_TILES_H
#define ATL_CPU_WINOGRAD_TILES_H

#include "convert.h"

enum {
    SIDE = 6, /* of a tile's window */
    OUT = 4,  /* of a tile */
    POINTS = SIDE * SIDE,
    TAPS = 9,
    BLOCK = 32,                      /* channels at a time, on both sides */
    ROWS = VL == 16 ? 12 : 6,        /* of a product, in registers: with two vectors each they fill them */
    U_POINT = BLOCK * BLOCK + BLOCK, /* floats of a block from a point to the next: not a multiple of 4 KB */
    /* A picture with fewer is direct products', for which each weight costs less than being evaluated; but
     * where few weights are, they are evaluated in the cache. */
    LEAST_TILES = VL == 8 ? 2 : 12,
    FEW_WEIGHTS = VL == 8 ? 1 << 18 : 0, /* pairs of channels */
};

/* A map that is read in windows: (B,H,W,C), or with upsample (B,2H,2W,C). */
typedef struct Map {
    const void *data;
    DType type;
    int64_t H, W, C;
    int64_t pad_top, pad_left;
    bool upsample;
    int64_t down, across, tiles; /* tiles of a picture of the result, and of all pictures */
    float *zeros;                /* C of them: what lies beside the map */
} Map;

static inline void map_cut(Map *m, int64_t B, int64_t OH, int64_t OW)
{
    m->down = (OH + OUT - 1) / OUT;
    m->across = (OW + OUT - 1) / OUT;
    m->tiles = B * m->down * m->across;
}

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

/* Windows: V (C/BLOCK, POINTS, rows_room(tiles), BLOCK)
 * ------------------------------------------------------------ */

static inline int64_t rows_room(int64_t tiles)
{
    return tiles | 1; /* an odd number of rows, so that a tile's points do not share one set of a cache */
}

/* Of a group of tiles, C channels. */
static inline size_t group_floats(int64_t C, int64_t tiles)
{
    return (size_t)(C / BLOCK * POINTS * rows_room(tiles) * BLOCK);
}

typedef struct TileAt {
    int64_t b, row, column; /* picture, and the first pixel of the result */
} TileAt;

static inline TileAt tile_at(const Map *m, int64_t t)
{
    const int64_t n = m->down * m->across;
    return (TileAt){t / n, t % n / m->across * OUT, t % m->across * OUT};
}

/* The pixels of a tile's window; zeros beside the map. */
static inline void window_pixels(const Map *m, int64_t t, const void *pixel[POINTS])
{
    const TileAt at = tile_at(m, t);
    const int times = m->upsample ? 2 : 1;
    for (int i = 0; i < SIDE; i++)
        for (int k = 0; k < SIDE; k++) {
            const int64_t h = at.row + i - m->pad_top, w = at.column + k - m->pad_left;
            const bool inside = h >= 0 && h < times * m->H && w >= 0 && w < times * m->W;
            const int64_t element = ((at.b * m->H + h / times) * m->W + w / times) * m->C;
            pixel[i * SIDE + k] = inside ? at_element(m->data, m->type, element) : (const char *)m->zeros;
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

/* Tile t's window, at row `row` of V; stride: floats from a point to the next. */
VEC void window_all(const Map *m, DType type, int64_t t, int64_t row, int64_t stride, float *V)
{
    const void *pixel[POINTS];
    window_pixels(m, t, pixel);
    for (int64_t c = 0; c < m->C; c += VL)
        window_vector(pixel, type, c, V + c / BLOCK * POINTS * stride + row * BLOCK + c % BLOCK, stride);
}

#endif
