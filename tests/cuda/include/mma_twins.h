/* Plain twins of the machine's own instructions, in the place of those in kernels/cuda/base/mma.h, which says
 * what each does and who holds what. */
#ifndef STAND_IN_MMA_TWINS_H
#define STAND_IN_MMA_TWINS_H

#include "tests/cuda/machine.h"

#include <type_traits>

template <typename T>
static inline void mma_16x8x8(float d[4], const unsigned a[2], unsigned b, STAND_IN_HERE)
{
    stand_in_mma("mma_16x8x8", 8, std::is_same<T, __nv_bfloat16>::value, StandInProduct{d, a, &b}, file,
                 line);
}
template <typename T>
static inline void mma_16x8x16(float d[4], const unsigned a[4], const unsigned b[2], STAND_IN_HERE)
{
    stand_in_mma("mma_16x8x16", 16, std::is_same<T, __nv_bfloat16>::value, StandInProduct{d, a, b}, file,
                 line);
}

static inline void mma_16x8x8_tf32(float d[4], const unsigned a[4], const unsigned b[2], STAND_IN_HERE)
{
    stand_in_mma_tf32("mma_16x8x8_tf32", StandInProduct{d, a, b}, file, line);
}
static inline unsigned to_tf32(float x)
{
    return stand_in_tf32(x);
}

static inline void mma_16x8x32_bytes(int d[4], const unsigned a[4], const unsigned b[2], STAND_IN_HERE)
{
    stand_in_mma_bytes("mma_16x8x32_bytes", StandInProduct{d, a, b}, file, line);
}

static inline void ldmatrix_x4(unsigned r[4], const void *row, STAND_IN_HERE)
{
    stand_in_ldmatrix("ldmatrix_x4", 4, false, StandInLoad{r, row}, file, line);
}
static inline void ldmatrix_x4_transposed(unsigned r[4], const void *row, STAND_IN_HERE)
{
    stand_in_ldmatrix("ldmatrix_x4_transposed", 4, true, StandInLoad{r, row}, file, line);
}
static inline void ldmatrix_x2(unsigned r[2], const void *row, STAND_IN_HERE)
{
    stand_in_ldmatrix("ldmatrix_x2", 2, false, StandInLoad{r, row}, file, line);
}
static inline void ldmatrix_x2_transposed(unsigned r[2], const void *row, STAND_IN_HERE)
{
    stand_in_ldmatrix("ldmatrix_x2_transposed", 2, true, StandInLoad{r, row}, file, line);
}

static inline void copy_async_16(void *shared, const void *global, bool valid, STAND_IN_HERE)
{
    stand_in_copy_async(shared, global, valid, file, line);
}
static inline void copy_async_commit()
{
    stand_in_copy_commit();
}
template <int N> static inline void copy_async_wait()
{
    stand_in_copy_wait(N);
}

#endif
