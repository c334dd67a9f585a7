/* Products of 16-bit rows on tensor cores, as attention needs them (instructions and who holds what: mma.h).
 *
 * Rows of a head, D columns each, lie in shared memory LD elements apart, an odd number of 16-byte units, so
 * that the eight rows of an ldmatrix, transposed or not, lie in eight different groups of four banks. A warp
 * owns TALL times 16 rows as operand A and walks over rows of the other side:
 *
 *     tile_scores    s (16,n) += a (16,D) x^T        x (n,D) rows in shared memory, A in registers
 *     tile_combine   o (16,D) += p (16,n) x          p is made from s in place: what a lane holds of D is
 * what it needs of the next product's A, in pairs of n8 tiles
 *
 * D is 16 k, or 16 k + 8: the last 8 columns of the scores' depth are one m16n8k8 product, and the last 8
 * columns of the result one n8 tile alone. Heads of 40 are not padded. */
#ifndef ATL_CUDA_ATTENTION_TILES_H
#define ATL_CUDA_ATTENTION_TILES_H

#include "kernels/cuda/base/mma.h"
#include "attention.h"

#define TILE_WARPS 4
#define TILE_THREADS (TILE_WARPS * WARP)

template <int D> struct Row {
    static constexpr int units = D / 8, ld = (units | 1) * 8;
};

/* Queues copies of ROWS rows of global memory, stride elements apart, to shared memory; zeros for rows from
 * `rows` on and columns from d on. By all threads of a block: each copies one unit of rows some apart, so
 * that all it has to work out for the next is a sum; up to three threads may have none. */
template <typename T, int D, int ROWS>
__device__ static inline void copy_rows(T *to, const T *from, int64_t stride, int rows, int d)
{
    constexpr int units = Row<D>::units, apart = TILE_THREADS / units, rounds = (ROWS + apart - 1) / apart;
    const int row = (int)threadIdx.x / units, unit = (int)threadIdx.x % units;
    if (row >= apart)
        return;
    to += row * Row<D>::ld + unit * 8;
    from += row * stride + unit * 8;
    const int there = unit * 8 < d ? rows - row : 0;
#pragma unroll
    for (int i = 0; i < rounds; i++, from += apart * stride)
        if (ROWS % apart == 0 || row + i * apart < ROWS)
            copy_async_16(to + i * apart * Row<D>::ld, from, i * apart < there);
}

/* Operand A: 16 rows of D columns. */
template <int D> struct Left {
    unsigned whole[D / 16][4], rest[2];
};

template <typename T, int D> __device__ static inline void load_left(Left<D> &a, const T *rows)
{
    const int lane = threadIdx.x % WARP;
    const T *at = rows + lane % 16 * Row<D>::ld + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        ldmatrix_x4(a.whole[k], at + k * 16);
    if constexpr (D % 16 != 0)
        ldmatrix_x2(a.rest, rows + lane % 16 * Row<D>::ld + D - 8);
}

template <typename T, int D, int TALL, int ROWS>
__device__ static inline void tile_scores(float (&s)[TALL][ROWS / 8][4], const Left<D> (&a)[TALL], const T *x)
{
    const int lane = threadIdx.x % WARP;
    const T *at = x + (lane / 16 * 8 + lane % 8) * Row<D>::ld + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int n = 0; n < ROWS / 16; n++) {
            unsigned b[4];
            ldmatrix_x4(b, at + n * 16 * Row<D>::ld + k * 16);
#pragma unroll
            for (int m = 0; m < TALL; m++) {
                mma_16x8x16<T>(s[m][2 * n], a[m].whole[k], b);
                mma_16x8x16<T>(s[m][2 * n + 1], a[m].whole[k], b + 2);
            }
        }
    if constexpr (D % 16 != 0)
#pragma unroll
        for (int n = 0; n < ROWS / 16; n++) {
            unsigned b[2];
            ldmatrix_x2(b, x + (n * 16 + lane % 16) * Row<D>::ld + D - 8);
#pragma unroll
            for (int m = 0; m < TALL; m++) {
                mma_16x8x8<T>(s[m][2 * n], a[m].rest, b[0]);
                mma_16x8x8<T>(s[m][2 * n + 1], a[m].rest, b[1]);
            }
        }
}

template <typename T, int D, int TALL, int ROWS>
__device__ static inline void tile_combine(float (&o)[TALL][D / 8][4],
                                           const unsigned (&p)[TALL][ROWS / 16][4], const T *x)
{
    const int lane = threadIdx.x % WARP;
    const T *at = x + lane % 16 * Row<D>::ld;
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++) {
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            unsigned b[4];
            ldmatrix_x4_transposed(b, at + k * 16 * Row<D>::ld + j * 16 + lane / 16 * 8);
#pragma unroll
            for (int m = 0; m < TALL; m++) {
                mma_16x8x16<T>(o[m][2 * j], p[m][k], b);
                mma_16x8x16<T>(o[m][2 * j + 1], p[m][k], b + 2);
            }
        }
        if constexpr (D % 16 != 0) {
            unsigned b[2];
            ldmatrix_x2_transposed(b, at + k * 16 * Row<D>::ld + D - 8);
#pragma unroll
            for (int m = 0; m < TALL; m++)
                mma_16x8x16<T>(o[m][D / 8 - 1], p[m][k], b);
        }
    }
}

/* s, rounded, as operand A of the next product. */
template <typename T, int TALL, int ROWS>
__device__ static inline void as_left(unsigned (&p)[TALL][ROWS / 16][4], const float (&s)[TALL][ROWS / 8][4])
{
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int i = 0; i < ROWS / 8; i++) {
            p[m][i / 2][i % 2 * 2] = pack_two<T>(s[m][i][0], s[m][i][1]);
            p[m][i / 2][i % 2 * 2 + 1] = pack_two<T>(s[m][i][2], s[m][i][3]);
        }
}

/* A warp's result times factor, of its `rows` first rows, d columns, to global memory; through `room`, 16
 * TALL rows of shared memory that no other warp uses, so that 16 bytes are written at once. factor[m][0] is
 * of row lane/4 of 16, [1] of the row 8 below. */
template <typename T, int D, int TALL>
__device__ static inline void store_rows(T *to, int64_t stride, int rows, int d,
                                         const float (&o)[TALL][D / 8][4], const float (&factor)[TALL][2],
                                         T *room)
{
    const int lane = threadIdx.x % WARP;
    unsigned *const pairs = (unsigned *)(room + lane / 4 * Row<D>::ld + lane % 4 * 2);
    __syncwarp();
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int below = 0; below < 2; below++)
                pairs[(m * 16 + below * 8) * (Row<D>::ld / 2) + j * 4] = pack_two<T>(
                    o[m][j][2 * below] * factor[m][below], o[m][j][2 * below + 1] * factor[m][below]);
    __syncwarp();
    for (int i = lane; i < TALL * 16 * Row<D>::units; i += WARP) {
        const int row = i / Row<D>::units, unit = i % Row<D>::units;
        if (row < rows && unit * 8 < d)
            *(uint4 *)(to + row * stride + unit * 8) = *(const uint4 *)(room + row * Row<D>::ld + unit * 8);
    }
}

/* The head sizes that there are tiles for; another is computed in the next larger, its missing columns being
 * zeros. 40, 80 and 160 are SD 1's, 64 CLIP's, SD 2's and SDXL's; 16 and 128 are for small and for other
 * models. */
#define WITH_TILES(d, D, ...)                                                                                \
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
            constexpr int D = 128;                                                                           \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            constexpr int D = 160;                                                                           \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)
#endif
