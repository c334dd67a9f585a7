/* Products of rows on tensor cores, as attention needs them (instructions and who holds what: mma.h): of
 * 16-bit rows, and of f32 rows in TF32.
 *
 * Rows of a head, D columns each, lie in shared memory LD elements apart, an odd number of 16-byte units, so
 * that the eight rows of an ldmatrix, transposed or not, lie in eight different groups of four banks. A warp
 * owns TALL times 16 rows as operand A and walks over rows of the other side:
 *
 *     tile_scores    s (16,n) += a (16,D) x^T        x (n,D) rows in shared memory, A in registers
 *     tile_combine   o (16,D) += p (16,n) x          p is made from s in place: what a lane holds of D is
 * what it needs of the next product's A, in pairs of n8 tiles, or of f32 in one
 *
 * D is 16 k, or 16 k + 8: the last 8 columns of the scores' depth are one m16n8k8 product, and the last 8
 * columns of the result one n8 tile alone. Heads of 40 are not padded.
 *
 * A product of f32 is 8 deep, and no ldmatrix turns f32. A lane holds columns 2t and 2t+1 of p and as operand
 * A needs columns t and t+4; which of the depth is called which does not matter as long as both sides agree,
 * so rows 2t and 2t+1 of x are taken for t and t+4, word by word: 8 columns of four rows that lie 2 LD apart
 * are 32 different banks. */
#ifndef ATL_CUDA_ATTENTION_TILES_H
#define ATL_CUDA_ATTENTION_TILES_H

#include "kernels/cuda/base/mma.h"
#include "attention.h"

#define TILE_WARPS 4
#define TILE_THREADS (TILE_WARPS * WARP)

/* unit: elements in 16 bytes; depth: of a product; widest: columns of a head that there is a tile for. */
template <typename T> struct Element {
    static constexpr int unit = 16 / sizeof(T), depth = 32 / sizeof(T);
    static constexpr int widest = sizeof(T) == 4 ? TILES_WIDEST_F32 : TILES_WIDEST;
};

template <typename T, int D> struct Row {
    static constexpr int units = D / Element<T>::unit, ld = (units | 1) * Element<T>::unit;
};

/* Queues copies of ROWS rows of global memory, stride elements apart, to shared memory; zeros for rows from
 * `rows` on and columns from d on. By all threads of a block: each copies one unit of rows some apart, so
 * that all it has to work out for the next is a sum; up to three threads may have none. */
template <typename T, int D, int ROWS>
__device__ static inline void copy_rows(T *to, const T *from, int64_t stride, int rows, int d)
{
    constexpr int units = Row<T, D>::units, ld = Row<T, D>::ld, wide = Element<T>::unit;
    constexpr int apart = TILE_THREADS / units, rounds = (ROWS + apart - 1) / apart;
    const int row = (int)threadIdx.x / units, unit = (int)threadIdx.x % units;
    if (row >= apart)
        return;
    to += row * ld + unit * wide;
    from += row * stride + unit * wide;
    const int there = unit * wide < d ? rows - row : 0;
#pragma unroll
    for (int i = 0; i < rounds; i++, from += apart * stride)
        if (ROWS % apart == 0 || row + i * apart < ROWS)
            copy_async_16(to + i * apart * ld, from, i * apart < there);
}

/* Operand A: 16 rows of D columns. */
template <typename T, int D> struct Left {
    unsigned whole[D / Element<T>::depth][4], rest[2];
};

template <typename T, int D> __device__ static inline void load_left(Left<T, D> &a, const T *rows)
{
    constexpr int LD = Row<T, D>::ld, UNIT = Element<T>::unit, DEPTH = Element<T>::depth;
    const int lane = threadIdx.x % WARP;
    const T *at = rows + lane % 16 * LD + lane / 16 * UNIT;
#pragma unroll
    for (int k = 0; k < D / DEPTH; k++) {
        ldmatrix_x4(a.whole[k], at + k * DEPTH);
        to_operand<T>(a.whole[k]);
    }
    if constexpr (D % DEPTH != 0)
        ldmatrix_x2(a.rest, rows + lane % 16 * LD + D - 8);
}

template <typename T, int D, int TALL, int ROWS>
__device__ static inline void tile_scores(float (&s)[TALL][ROWS / 8][4], const Left<T, D> (&a)[TALL],
                                          const T *x)
{
    constexpr int LD = Row<T, D>::ld, UNIT = Element<T>::unit, DEPTH = Element<T>::depth;
    const int lane = threadIdx.x % WARP;
    const T *at = x + (lane / 16 * 8 + lane % 8) * LD + lane / 8 % 2 * UNIT;
#pragma unroll
    for (int k = 0; k < D / DEPTH; k++)
#pragma unroll
        for (int n = 0; n < ROWS / 16; n++) {
            unsigned b[4];
            ldmatrix_x4(b, at + n * 16 * LD + k * DEPTH);
            to_operand<T>(b);
#pragma unroll
            for (int m = 0; m < TALL; m++) {
                mma_32_bytes<T>(s[m][2 * n], a[m].whole[k], b);
                mma_32_bytes<T>(s[m][2 * n + 1], a[m].whole[k], b + 2);
            }
        }
    if constexpr (D % DEPTH != 0)
#pragma unroll
        for (int n = 0; n < ROWS / 16; n++) {
            unsigned b[2];
            ldmatrix_x2(b, x + (n * 16 + lane % 16) * LD + D - 8);
#pragma unroll
            for (int m = 0; m < TALL; m++) {
                mma_16x8x8<T>(s[m][2 * n], a[m].rest, b[0]);
                mma_16x8x8<T>(s[m][2 * n + 1], a[m].rest, b[1]);
            }
        }
}

/* Weights that ROWS rows are combined with, as operand A. */
template <typename T, int TALL, int ROWS> struct Weights {
    unsigned at[TALL][ROWS / Element<T>::depth][4];
};

template <typename T, int D, int TALL, int ROWS>
__device__ static inline void tile_combine(float (&o)[TALL][D / 8][4], const Weights<T, TALL, ROWS> &p,
                                           const T *x)
{
    constexpr int LD = Row<T, D>::ld;
    const int lane = threadIdx.x % WARP;
    if constexpr (sizeof(T) == 4) {
        const T *at = x + lane % 4 * 2 * LD + lane / 4;
#pragma unroll
        for (int k = 0; k < ROWS / 8; k++)
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                const T *two = at + k * 8 * LD + j * 8;
                const unsigned b[2] = {to_tf32(two[0]), to_tf32(two[LD])};
#pragma unroll
                for (int m = 0; m < TALL; m++)
                    mma_16x8x8_tf32(o[m][j], p.at[m][k], b);
            }
    } else {
        const T *at = x + lane % 16 * LD;
#pragma unroll
        for (int k = 0; k < ROWS / 16; k++) {
#pragma unroll
            for (int j = 0; j < D / 16; j++) {
                unsigned b[4];
                ldmatrix_x4_transposed(b, at + k * 16 * LD + j * 16 + lane / 16 * 8);
#pragma unroll
                for (int m = 0; m < TALL; m++) {
                    mma_16x8x16<T>(o[m][2 * j], p.at[m][k], b);
                    mma_16x8x16<T>(o[m][2 * j + 1], p.at[m][k], b + 2);
                }
            }
            if constexpr (D % 16 != 0) {
                unsigned b[2];
                ldmatrix_x2_transposed(b, at + k * 16 * LD + D - 8);
#pragma unroll
                for (int m = 0; m < TALL; m++)
                    mma_16x8x16<T>(o[m][D / 8 - 1], p.at[m][k], b);
            }
        }
    }
}

/* s, rounded, as operand A of the next product. */
template <typename T, int TALL, int ROWS>
__device__ static inline void as_left(Weights<T, TALL, ROWS> &p, const float (&s)[TALL][ROWS / 8][4])
{
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int i = 0; i < ROWS / 8; i++) {
            if constexpr (sizeof(T) == 4) {
#pragma unroll
                for (int e = 0; e < 4; e++)
                    p.at[m][i][e] = to_tf32(s[m][i][e % 2 * 2 + e / 2]);
            } else {
                p.at[m][i / 2][i % 2 * 2] = pack_two<T>(s[m][i][0], s[m][i][1]);
                p.at[m][i / 2][i % 2 * 2 + 1] = pack_two<T>(s[m][i][2], s[m][i][3]);
            }
        }
}

/* Two neighbours into shared memory. */
template <typename T> __device__ static inline void put_pair(T *to, float low, float high)
{
    if constexpr (sizeof(T) == 4)
        *(float2 *)to = make_float2(low, high);
    else
        *(unsigned *)to = pack_two<T>(low, high);
}

/* A warp's result times factor, of its `rows` first rows, d columns, to global memory; through `room`, 16
 * TALL rows of shared memory that no other warp uses, so that 16 bytes are written at once. factor[m][0] is
 * of row lane/4 of 16, [1] of the row 8 below. */
template <typename T, int D, int TALL>
__device__ static inline void store_rows(T *to, int64_t stride, int rows, int d,
                                         const float (&o)[TALL][D / 8][4], const float (&factor)[TALL][2],
                                         T *room)
{
    constexpr int LD = Row<T, D>::ld, UNITS = Row<T, D>::units, UNIT = Element<T>::unit;
    const int lane = threadIdx.x % WARP;
    T *const pairs = room + lane / 4 * LD + lane % 4 * 2;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int below = 0; below < 2; below++)
                put_pair<T>(pairs + (m * 16 + below * 8) * LD + j * 8, o[m][j][2 * below] * factor[m][below],
                            o[m][j][2 * below + 1] * factor[m][below]);
    __syncwarp();
    for (int i = lane; i < TALL * 16 * UNITS; i += WARP) {
        const int row = i / UNITS, unit = i % UNITS * UNIT;
        if (row < rows && unit < d)
            *(uint4 *)(to + row * stride + unit) = *(const uint4 *)(room + row * LD + unit);
    }
}

/* The head sizes that there are tiles for; another is computed in the next larger, its missing columns being
 * zeros. 40, 80 and 160 are SD 1's, 64 CLIP's, SD 2's and SDXL's; 16 and 128 are for small and for other
 * models. Those of T alone. */
#define WITH_TILES(T, d, D, ...)                                                                             \
    do {                                                                                                     \
        if ((d) <= 16) {                                                                                     \
            constexpr int D = 16;                                                                            \
            __VA_ARGS__;                                                                                     \
        } else if ((d) <= 40) {                                                                              \
            constexpr int D = 40;                                                                            \
            __VA_ARGS__;                                                                                     \
        } else if ((d) <= 64) {                                                                              \
            constexpr int D = 64;                                                                            \
            __VA_ARGS__;                                                                                     \
        } else if ((d) <= 80) {                                                                              \
            constexpr int D = 80;                                                                            \
            __VA_ARGS__;                                                                                     \
        } else if ((d) <= 128) {                                                                             \
            constexpr int D = Element<T>::widest < 128 ? Element<T>::widest : 128;                           \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            constexpr int D = Element<T>::widest;                                                            \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)
#endif
