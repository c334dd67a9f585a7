/* GELU and GEGLU, as elementwise operations and as what follows a product have them. */
#ifndef ATL_CPU_GELU_H
#define ATL_CPU_GELU_H

#include "pieces.h"
#include "vec.h"

#define SQRT_HALF 0.70710678118654752f
#define RSQRT_2PI 0.39894228040143268f

/* x Φ(x), Φ(x) = (1 + erf(x / √2)) / 2 */
VEC vf gelu_of(vf x)
{
    return x * (0.5f + 0.5f * vec_erf(x * SQRT_HALF));
}
/* The same within 1.3e-4: erf(x / √2) as a polynomial, which is 1 at ±4. */
VEC vf gelu_nearly(vf x)
{
    const vf t = vec_min(vec_set(4), vec_max(vec_set(-4), x)), s = t * t;
    vf p = s * -2.55758503e-9f + 2.08982513e-7f;
    p = p * s + -7.42155225e-6f;
    p = p * s + 1.52408378e-4f;
    p = p * s + -2.04227003e-3f;
    p = p * s + 1.91633515e-2f;
    p = p * s + -1.32128984e-1f;
    p = p * s + 7.97611415e-1f;
    return x * (0.5f + 0.5f * t * p);
}
/* x rows are (a, b), both C long; y rows C: a gelu(b) */
typedef struct Geglu {
    const void *x;
    void *y;
    DType xt, yt;
    int64_t C;
} Geglu;

VEC void geglu_row(const char *x, DType xt, char *y, DType yt, int64_t C)
{
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        vec_put_n(y, yt, i, vec_get_n(x, xt, i, n) * gelu_of(vec_get_n(x, xt, C + i, n)), n);
    }
}

static inline void geglu_piece(const void *args, int64_t first, int64_t last)
{
    const Geglu *s = args;
    for (int64_t r = first; r < last; r++) {
        const char *x = at_element(s->x, s->xt, r * 2 * s->C);
        char *y = at_element(s->y, s->yt, r * s->C);
        if (s->xt == s->yt)
            WITH_DTYPE(s->xt, geglu_row(x, T, y, T, s->C));
        else
            geglu_row(x, s->xt, y, s->yt, s->C);
    }
}

static inline void geglu_rows(const Geglu *s, int64_t rows)
{
    for_pieces(rows, s->C, geglu_piece, s);
}

#endif
