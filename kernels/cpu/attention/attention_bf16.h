/* Attention where products are of bf16 (attention_bf16.c). */
#ifndef ATL_CPU_ATTENTION_BF16_H
#define ATL_CPU_ATTENTION_BF16_H

#include "kernels/cpu/isa.h"

#include "heads.h"

/* A task: up to so many queries of a picture's head, from `query` on, in so many floats of memory. For heads
 * in pairs. */
int64_t ISA(attention_bf16_floats)(const Heads *h, int64_t queries);
void ISA(attention_bf16_task)(const Attention *a, const Heads *h, int64_t picture, int64_t head,
                              int64_t query, int64_t queries, float *memory);

#endif
