/* The instruction that products of 8 bits are made of (int8.c, attention/attention_int8.c): in each of VL
 * lanes the sum of four products of a byte without and a byte with a sign, added to 32 bits. Exact, but where
 * 32 bits are not enough. */
#ifndef ATL_CPU_DOT_H
#define ATL_CPU_DOT_H

#include "vec.h"

#if VL >= 8

enum { QUAD = 4 };

VEC vi dot(vi sum, vi unsigned_bytes, vi bytes)
{
#if VL == 16
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(bytes));
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(unsigned_bytes), "x"(bytes));
#endif
    return sum;
}

/* Four bytes in every lane. */
VEC vi quad_in_all(const void *four)
{
    int32_t x;
    memcpy(&x, four, sizeof x);
    return (vi){0} + x;
}

typedef uint8_t vb __attribute__((vector_size(VL)));
typedef uint8_t vb_mem __attribute__((vector_size(VL), aligned(1), may_alias));

#endif
#endif
