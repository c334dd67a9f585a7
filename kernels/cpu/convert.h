/* Storage types changed for a whole matrix: what products and convolutions do to operands that are not in the
 * type they compute in. Rows keep their order; both sides have their own leading dimension. */
#ifndef ATL_CPU_CONVERT_H
#define ATL_CPU_CONVERT_H

#include "isa.h"
#include "pieces.h"
#include "vec.h"

typedef struct ConvertRows {
    void *to;
    const void *from, *bias,
        *add;            /* bias (columns) is added to every row, add (rows,columns) to all; or NULL */
    const float *scales; /* from i8: what each row's numbers are times */
    DType to_type, from_type, bias_type, add_type;
    int64_t columns, to_ld, from_ld, add_ld;
} ConvertRows;

VEC void convert_row(const ConvertRows *c, int64_t row, DType to, DType from)
{
    for (int64_t i = 0; i < c->columns; i += VL) {
        const int n = vec_part(i, c->columns);
        vf x = from == DTYPE_I8
                   ? vec_get_i8((const int8_t *)c->from + row * c->from_ld + i, n) * vec_set(c->scales[row])
                   : vec_get_n(c->from, from, row * c->from_ld + i, n);
        if (c->bias)
            x += vec_get_n(c->bias, c->bias_type, i, n);
        if (c->add)
            x += vec_get_n(c->add, c->add_type, row * c->add_ld + i, n);
        vec_put_n(c->to, to, row * c->to_ld + i, x, n);
    }
}

static inline void convert_rows_piece(const void *args, int64_t first, int64_t last)
{
    const ConvertRows *c = args;
    for (int64_t r = first; r < last; r++) {
        if (c->to_type == DTYPE_F32 && c->from_type == DTYPE_BF16)
            convert_row(c, r, DTYPE_F32, DTYPE_BF16);
        else if (c->to_type == DTYPE_BF16 && c->from_type == DTYPE_F32)
            convert_row(c, r, DTYPE_BF16, DTYPE_F32);
        else if (c->to_type == DTYPE_F32 && c->from_type == DTYPE_F32)
            convert_row(c, r, DTYPE_F32, DTYPE_F32);
        else if (c->to_type == DTYPE_F32 && c->from_type == DTYPE_I8)
            convert_row(c, r, DTYPE_F32, DTYPE_I8);
        else if (c->to_type == DTYPE_BF16 && c->from_type == DTYPE_I8)
            convert_row(c, r, DTYPE_BF16, DTYPE_I8);
        else
            convert_row(c, r, c->to_type, c->from_type);
    }
}

/* to = from (+ bias), rows shared out among the threads. */
static inline void convert_rows(const ConvertRows *c, int64_t rows)
{
    for_pieces(rows, c->columns, convert_rows_piece, c);
}

/* n elements in a row, in pieces. */
static inline void convert_all(void *to, DType to_type, const void *from, DType from_type, int64_t n)
{
    const int64_t width = 4096, rows = n / width;
    convert_rows(&(ConvertRows){.to = to,
                                .from = from,
                                .to_type = to_type,
                                .from_type = from_type,
                                .columns = width,
                                .to_ld = width,
                                .from_ld = width},
                 rows);
    const ConvertRows rest = {.to = at_element(to, to_type, rows * width),
                              .from = at_element(from, from_type, rows * width),
                              .to_type = to_type,
                              .from_type = from_type,
                              .columns = n - rows * width};
    if (rest.columns)
        convert_rows(&rest, 1);
}

/* Whether this copy computes products of bf16 in bf16: only the AVX-512 one, where the processor can. */
static inline bool computes_bf16(void)
{
    return VL == 16 && cpu_has_bf16();
}

/* n, rounded up to whole cache lines: how pieces of scratch memory follow each other. */
static inline size_t aligned_bytes(size_t n)
{
    return (n + 63) / 64 * 64;
}

#endif
