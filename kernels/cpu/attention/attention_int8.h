/* Attention with products of 8 bits (attention_int8.c), and what it falls back on. */
#ifndef ATL_CPU_ATTENTION_INT8_H
#define ATL_CPU_ATTENTION_INT8_H

#include "kernels/cpu/isa.h"

#include "heads.h"

/* Whether attention goes this way: it is asked for, the processor has the instructions, and there are so many
 * keys that it pays. */
bool ISA(attention_int8_takes)(const Attention *a);
size_t ISA(attention_int8_scratch)(const Attention *a);
void ISA(attention_int8)(const Attention *a, void *scratch);

/* A task of attention.c: up to so many queries of a picture's head, from `query` on, in so many floats of
 * memory. */
int64_t ISA(attention_task_floats)(const Heads *h, int64_t queries);
void ISA(attention_task)(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t query,
                         int64_t queries, float *memory);

#endif
