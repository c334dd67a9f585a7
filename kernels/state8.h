/* An optimizer's state in 8 bits (Dettmers et al. 2022, as bitsandbytes has it): blocks of 256 numbers, each
 * a code of 8 bits for a value of a fixed map, times the block's largest magnitude. A tensor of fewer than
 * 4096 numbers stays f32.
 *
 * A state is a tensor of u8. Each tensor of the list has a part of it, one after the other: its codes and
 * then its blocks' magnitudes, f32; or its f32. */
#ifndef ATL_STATE8_H
#define ATL_STATE8_H

#include <math.h>
#include <stdint.h>

#define STATE8_SMALL 4096
#define STATE8_BLOCK 256
#define STATE8_CODES 256
#define STATE8_ALIGN 256 /* bytes: where parts, and magnitudes in them, begin */

#ifdef __CUDACC__
#define STATE8_ANYWHERE __host__ __device__
#else
#define STATE8_ANYWHERE
#endif

STATE8_ANYWHERE static inline int64_t state8_aligned(int64_t bytes)
{
    return (bytes + STATE8_ALIGN - 1) / STATE8_ALIGN * STATE8_ALIGN;
}

/* Bytes of a tensor's part. */
STATE8_ANYWHERE static inline int64_t state8_room(int64_t count)
{
    const int64_t blocks = (count + STATE8_BLOCK - 1) / STATE8_BLOCK;
    return count < STATE8_SMALL ? state8_aligned(count * 4)
                                : state8_aligned(count) + state8_aligned(blocks * 4);
}

/* The values of the codes, ascending: seven decades up to 1, each with twice as many values as the one below,
 * in the middle of equal parts of 0.1 … 1; 0 and 1; and with a sign, half as many of either. */
static inline void state8_map(int with_sign, float map[STATE8_CODES])
{
    float *up = map + (with_sign ? 128 : 1);
    double decade = 1e-6;
    map[with_sign ? 127 : 0] = 0;
    for (int i = 0; i < 7; i++, decade *= 10) {
        const int values = 1 << (with_sign ? i : i + 1);
        for (int j = 0; j < values; j++)
            *up++ = (float)(decade * (0.1 + 0.9 * (j + 0.5) / values));
    }
    *up = 1;
    for (int i = 0; with_sign && i < 127; i++)
        map[126 - i] = -map[128 + i];
}

#endif
