/* Weights in 8 bits on the card: the form that convolutions keep of them, and how bytes become operands of
 * the tensor cores.
 *
 * The form is (K,elements of the window,C), C rounded up with zeros to whole groups of 32. In a group channel
 * c is byte c%8 · 4 + c/8, the transpose of 4×8:
 *
 *     byte      0  1  2  3   4  5  6  7   8  9 …  31
 *     channel   0  8 16 24   1  9 17 25   2 10 …  31
 *
 * which suits both products of a layer. Of operand B a lane holds column g = lane/4 and rows 2t, 2t+1, 2t+8,
 * 2t+9 of each 16 (mma.h; t = lane%4). Where channels are the depth, a group of a row has its 8 bytes of two
 * mma side by side, 8t … 8t+7; where they are columns, the four bytes 4g … 4g+3 are its column in four tiles
 * of 8. So a thread reads 8 or 4 bytes at once, which need no further shuffling, and one form serves forward
 * and backward. */
#ifndef ATL_CUDA_BYTES_H
#define ATL_CUDA_BYTES_H

#include "conv.h"

enum { BYTE_GROUP = 32, BYTE_CHUNK = 16 };

__host__ __device__ static inline int byte_place(int c)
{
    return c / BYTE_GROUP * BYTE_GROUP + c % 8 * 4 + c % BYTE_GROUP / 8;
}
static inline int64_t byte_row(int64_t channels)
{
    return (channels + BYTE_GROUP - 1) / BYTE_GROUP * BYTE_GROUP;
}

typedef struct ByteForm {
    const signed char *data; /* (K,window,row) */
    const float *scales;     /* (K) */
    int window, width, row;  /* elements of the window, of a row of it; bytes of channels */
} ByteForm;

/* conv_bytes.cu: source and y of one 16-bit type; C and N are whole groups, and no tap is a sum. */
Tiling conv_bytes_tiling(const ConvWalk *w, bool backward);
Status conv_bytes(const ConvWalk *w, const ByteForm *f, int tile, bool backward);
/* The form of a weight as files have it, (K,C,kh,kw) on the card. */
Status conv_bytes_form(const Tensor *weight, signed char *form);

/* Bytes to numbers, faster than by conversions, which go at a quarter of the speed. */
#define BYTE_SIGNS 0x80808080u

/* A constant that stays in a register. An instruction holds one, and the compiler writes another instruction
 * for a second at each use; so it is not told that this is one: blocks are rows of threads, threadIdx.y is 0.
 */
__device__ static inline unsigned held_constant(unsigned x)
{
    return x + threadIdx.y;
}

/* Byte i of a word of them ^ BYTE_SIGNS: 2^23 + (byte + 128), less that. */
__device__ static inline float byte_float(unsigned turned, int i)
{
#ifdef ATL_CUDA_HOST
    return (float)((int)(turned >> 8 * i & 255) - 128);
#else
    return __uint_as_float(__byte_perm(turned, held_constant(0x4b000000u), (unsigned)(0x7440 | i))) -
           8388736.0f;
#endif
}

#endif
