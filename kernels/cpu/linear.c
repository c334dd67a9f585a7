/* Matrix products over any mix of storage types.
 *
 * Four ways. f32 with f32: oneDNN's sgemm. A bf16 left operand on a processor with bf16 arithmetic: oneDNN's
 * bf16 product, after converting a right operand in f32 (a trained weight), as autocast does, or in 8 bits.
 * With AVX2, what sgemm would want widened, and a GEGLU: panels.c. Everything else is cut into panels of
 * cache size, operands are widened to f32 panel by panel into scratch memory, and sgemm multiplies those. A
 * bias and a residual go in by oneDNN in the second way, and while the panel is still in cache in the others.
 * But for panels.c a low-rank product and a GEGLU follow by panels of rows, so that the second finds y in the
 * cache and h, twice as wide as the result, is never whole in memory unless it is to be kept. Which way is
 * taken, and how the panels are cut, depends on shapes and types alone. */
#include "kernels/cpu/onednn/onednn.h"
#include "kernels/floats.h"
#include "convert.h"
#include "families.h"
#include "gelu.h"
#include "gemm.h"
#include "int8.h"
#include "panels.h"

#include <string.h>

static Gemm gemm_of(const Product *p)
{
    return (Gemm){.m = p->m,
                  .n = p->n,
                  .k = p->k,
                  .trans_a = p->trans_a,
                  .trans_b = p->trans_b,
                  .alpha = p->alpha,
                  .beta = p->beta,
                  .a = p->a->data,
                  .b = p->b->data,
                  .residual = p->residual ? p->residual->data : NULL,
                  .b_scales = p->b->scales ? p->b->scales->data : NULL,
                  .bias = p->bias,
                  .y = p->y->data,
                  .a_type = p->a->dtype,
                  .b_type = p->b->dtype,
                  .y_type = p->y->dtype,
                  .residual_type = p->residual ? p->residual->dtype : p->y->dtype,
                  .adds = p->residual != NULL,
                  .lda = p->trans_a ? p->m : p->k,
                  .ldb = p->trans_b ? p->k : p->n,
                  .ldy = p->n};
}

/* Products in bf16 ------------------------------------------------------------------------------------- */

static bool is_bf16_product(const Gemm *g)
{
    return computes_bf16() && g->a_type == DTYPE_BF16 && g->b_type != DTYPE_F16 && g->y_type != DTYPE_F16 &&
           (g->beta == 0.0f || g->beta == 1.0f) && !(g->bias && g->alpha != 1.0f) && g->k > 0 &&
           g->residual_type == g->y_type;
}

static int64_t stored_rows_b(const Gemm *g)
{
    return g->trans_b ? g->n : g->k;
}
static int64_t stored_columns_b(const Gemm *g)
{
    return g->trans_b ? g->k : g->n;
}

static Status bf16_primitive(const Gemm *g, OnePrimitive **p)
{
    const OneMatmul d = {.m = g->m,
                         .n = g->n,
                         .k = g->k,
                         .lda = g->lda,
                         .ldb = g->b_type == DTYPE_BF16 ? g->ldb : stored_columns_b(g),
                         .ldy = g->ldy,
                         .type = DTYPE_BF16,
                         .y_type = g->y_type,
                         .trans_a = g->trans_a,
                         .trans_b = g->trans_b,
                         .bias = g->bias != NULL,
                         .add = g->adds,
                         .alpha = g->alpha,
                         .beta = g->beta};
    return onednn_matmul(&d, p);
}

/* Scratch memory of a bf16 product: b in bf16, the bias in f32, oneDNN's own. */
static size_t bf16_b_bytes(const Gemm *g)
{
    return g->b_type == DTYPE_BF16 ? 0 : aligned_bytes((size_t)(g->n * g->k) * 2);
}
static size_t bf16_bias_bytes(const Gemm *g)
{
    return g->bias && g->bias->dtype != DTYPE_F32 ? aligned_bytes((size_t)g->n * 4) : 0;
}

/* b in bf16: where it is, or converted to the beginning of scratch memory, which then begins after it. */
static void bf16_b(Gemm *g, char **scratch)
{
    if (g->b_type == DTYPE_BF16)
        return;
    convert_rows(&(ConvertRows){.to = *scratch,
                                .from = g->b,
                                .scales = g->b_scales,
                                .to_type = DTYPE_BF16,
                                .from_type = g->b_type,
                                .columns = stored_columns_b(g),
                                .to_ld = stored_columns_b(g),
                                .from_ld = g->ldb},
                 stored_rows_b(g));
    const size_t bytes = bf16_b_bytes(g);
    g->b = *scratch;
    g->b_type = DTYPE_BF16;
    g->ldb = stored_columns_b(g);
    *scratch += bytes;
}

static Status bf16_product(Gemm g, char *scratch)
{
    OnePrimitive *p;
    const void *bias = g.bias ? g.bias->data : NULL;
    TRY(bf16_primitive(&g, &p));
    bf16_b(&g, &scratch);
    if (bf16_bias_bytes(&g)) {
        convert_all(scratch, DTYPE_F32, bias, g.bias->dtype, g.n);
        bias = scratch;
        scratch += bf16_bias_bytes(&g);
    }
    return onednn_run_add(p, (void *)g.a, (void *)g.b, (void *)bias, g.y, (void *)g.residual, scratch);
}

/* Products in f32, by panels --------------------------------------------------------------------------- */

/* Columns are cut where rows would become few: sgemm packs b once for every panel of rows. */
enum { PANEL_BYTES = 4 << 20, PANEL_COLUMNS = 2048 };

/* How a product is cut: (mb,kb) panels of op(a), (kb,nb) of op(b), (mb,nb) of y. A panel of an operand that
 * is f32 already needs no memory. */
typedef struct Panels {
    int64_t mb, nb, kb;
    size_t a_bytes, b_bytes, y_bytes;
} Panels;

/* The largest multiple of 64 up to n of which PANEL_BYTES hold `floats` each, 64 at least. */
static int64_t panel_rows(int64_t n, int64_t floats)
{
    int64_t rows = PANEL_BYTES / (4 * floats) / 64 * 64;
    if (rows < 64)
        rows = 64;
    return rows < n ? rows : n;
}

static Panels panels_of(const Gemm *g)
{
    Panels p = {.mb = g->m, .nb = g->n, .kb = g->k};
    const bool a = g->a_type != DTYPE_F32, b = g->b_type != DTYPE_F32, y = g->y_type != DTYPE_F32;
    if ((a || b) && p.kb > 4096)
        p.kb = 4096;
    if (b)
        p.nb = panel_rows(g->n, p.kb > 512 ? p.kb : 512);
    if (a)
        p.mb = panel_rows(g->m, p.kb > 512 ? p.kb : 512);
    if (y || g->bias || g->adds) {
        if (p.nb > PANEL_COLUMNS)
            p.nb = PANEL_COLUMNS;
        const int64_t rows = panel_rows(g->m, p.nb);
        p.mb = rows < p.mb ? rows : p.mb;
    }
    p.a_bytes = a ? aligned_bytes((size_t)(p.mb * p.kb) * 4) : 0;
    p.b_bytes = b ? aligned_bytes((size_t)(p.kb * p.nb) * 4) : 0;
    p.y_bytes = y ? aligned_bytes((size_t)(p.mb * p.nb) * 4) : 0;
    return p;
}

/* A panel of an operand: rows × columns from (row, column) of the matrix as the product sees it. */
typedef struct Panel {
    const float *data;
    int64_t ld;
} Panel;

static Panel widen_panel(const void *matrix, DType type, const float *scales, bool transposed, int64_t ld,
                         int64_t row, int64_t rows, int64_t column, int64_t columns, void *scratch)
{
    const int64_t r = transposed ? column : row, n = transposed ? columns : rows;
    const int64_t i = transposed ? row : column, width = transposed ? rows : columns;
    const char *from = at_element(matrix, type, r * ld + i);
    if (type == DTYPE_F32)
        return (Panel){(const float *)(const void *)from, ld};
    convert_rows(&(ConvertRows){.to = scratch,
                                .from = from,
                                .scales = scales ? scales + r : NULL,
                                .to_type = DTYPE_F32,
                                .from_type = type,
                                .columns = width,
                                .to_ld = width,
                                .from_ld = ld},
                 n);
    return (Panel){scratch, width};
}

/* The product's panel at (row, column): over all of k, then the bias and y's own type. */
static Status f32_panel(const Gemm *g, const Panels *p, int64_t row, int64_t column, bool *a_ready,
                        char *scratch)
{
    const int64_t m = row + p->mb < g->m ? p->mb : g->m - row,
                  n = column + p->nb < g->n ? p->nb : g->n - column;
    char *a_scratch = scratch, *b_scratch = scratch + p->a_bytes, *y_scratch = b_scratch + p->b_bytes;
    char *y_out = at_element(g->y, g->y_type, row * g->ldy + column);
    float *y = p->y_bytes ? (float *)(void *)y_scratch : (float *)(void *)y_out;
    const int64_t ldy = p->y_bytes ? n : g->ldy;
    ConvertRows io = {.to = y,
                      .from = y_out,
                      .to_type = DTYPE_F32,
                      .from_type = g->y_type,
                      .columns = n,
                      .to_ld = ldy,
                      .from_ld = g->ldy};
    if (p->y_bytes && g->beta != 0.0f)
        convert_rows(&io, m);
    for (int64_t k = 0; k < g->k; k += p->kb) {
        const int64_t kb = k + p->kb < g->k ? p->kb : g->k - k;
        const bool whole = p->kb == g->k; /* the panel of a serves the whole row of panels */
        Panel a = {(const float *)(const void *)a_scratch, g->trans_a ? m : kb};
        if (!(whole && *a_ready && p->a_bytes))
            a = widen_panel(g->a, g->a_type, NULL, g->trans_a, g->lda, row, m, k, kb, a_scratch);
        *a_ready = whole;
        const Panel b =
            widen_panel(g->b, g->b_type, g->b_scales, g->trans_b, g->ldb, k, kb, column, n, b_scratch);
        TRY(onednn_sgemm(g->trans_a, g->trans_b, m, n, kb, g->alpha, a.data, a.ld, b.data, b.ld,
                         k == 0 ? g->beta : 1.0f, y, ldy));
    }
    if (p->y_bytes || g->bias || g->adds) {
        io.from = y, io.from_type = DTYPE_F32, io.from_ld = ldy;
        io.to = y_out, io.to_type = g->y_type, io.to_ld = g->ldy;
        io.bias = g->bias ? at_element(g->bias->data, g->bias->dtype, column) : NULL;
        io.bias_type = g->bias ? g->bias->dtype : DTYPE_F32;
        io.add = g->adds ? at_element(g->residual, g->residual_type, row * g->ldy + column) : NULL;
        io.add_type = g->residual_type, io.add_ld = g->ldy;
        convert_rows(&io, m);
    }
    return STATUS_OK;
}

static Status f32_product(const Gemm *g, char *scratch)
{
    const Panels p = panels_of(g);
    for (int64_t row = 0; row < g->m; row += p.mb) {
        bool a_ready = false;
        for (int64_t column = 0; column < g->n; column += p.nb)
            TRY(f32_panel(g, &p, row, column, &a_ready, scratch));
    }
    return STATUS_OK;
}

/* Any product ------------------------------------------------------------------------------------------ */

Status ISA(gemm_scratch)(const Gemm *g, size_t *bytes)
{
    if (is_bf16_product(g)) {
        OnePrimitive *p;
        TRY(bf16_primitive(g, &p));
        *bytes = bf16_b_bytes(g) + bf16_bias_bytes(g) + onednn_scratch_bytes(p);
        return STATUS_OK;
    }
    if (ISA(panels_take)(g)) {
        *bytes = ISA(panels_scratch)(g);
        return STATUS_OK;
    }
    onednn_expect_sgemm(g->trans_a, g->trans_b, g->beta);
    const Panels p = panels_of(g);
    *bytes = p.a_bytes + p.b_bytes + p.y_bytes;
    return STATUS_OK;
}

Status ISA(gemm)(const Gemm *g, void *scratch)
{
    if (g->m == 0 || g->n == 0)
        return STATUS_OK;
    if (is_bf16_product(g))
        return bf16_product(*g, scratch);
    if (!ISA(panels_take)(g))
        return f32_product(g, scratch);
    ISA(panels_run)(g, scratch);
    return STATUS_OK;
}

/* Products that something follows ------------------------------------------------------------------------ */

/* Rows of y, or of h, at a time: what a level 2 cache holds, but enough that an operand which is widened or
 * packed for each panel costs nothing against the product. Multiples of 64. */
enum { ROWS_BYTES = 1 << 20, ROWS_LEAST = 512 };

static int64_t rows_at_once(const Gemm *g)
{
    int64_t rows = ROWS_BYTES / (g->n * (int64_t)dtype_size(g->y_type)) / 64 * 64;
    if (rows < ROWS_LEAST)
        rows = ROWS_LEAST;
    return rows < g->m ? rows : g->m;
}

/* `rows` rows from `first` on, or as many as there are, whose result's memory is y; all NULL while rehearsed.
 */
static Gemm rows_of(const Gemm *g, int64_t first, int64_t rows, void *y)
{
    Gemm part = *g;
    part.a = g->a ? at_element(g->a, g->a_type, first * g->lda) : NULL;
    part.residual = g->residual ? at_element(g->residual, g->residual_type, first * g->ldy) : NULL;
    part.m = first + rows < g->m ? rows : g->m - first;
    part.y = y;
    return part;
}

/* y += scale t up^T */
static Gemm low_rank_of(const Product *p, const Gemm *g)
{
    const int64_t r = tensor_dim(p->t, -1);
    Gemm low = {.m = g->m,
                .n = g->n,
                .k = r,
                .trans_b = true,
                .alpha = p->scale,
                .beta = 1,
                .a = p->t->data,
                .b = p->up->data,
                .a_type = p->t->dtype,
                .b_type = p->up->dtype,
                .y_type = g->y_type,
                .residual_type = g->y_type,
                .lda = r,
                .ldb = r,
                .ldy = g->n};
    return low;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The product with all that follows, for panels.c. */
static Gemm whole_of(const Product *p)
{
    Gemm g = gemm_of(p);
    g.t = p->t, g.up = p->up, g.scale = p->scale;
    g.geglu = p->geglu, g.keep_h = p->keep_h;
    return g;
}

/* Of any part: the first, or the last, which may be another size. */
static Status parts_scratch(const Gemm *g, int64_t rows, size_t *bytes)
{
    const Gemm parts[] = {rows_of(g, 0, rows, NULL), rows_of(g, (g->m - 1) / rows * rows, rows, NULL)};
    for (int i = 0; i < 2; i++) {
        size_t part;
        TRY(ISA(gemm_scratch)(&parts[i], &part));
        *bytes = larger(*bytes, part);
    }
    return STATUS_OK;
}

/* h where it is not kept: one part of it. */
static size_t h_bytes(const Product *p, const Gemm *g)
{
    return p->geglu && !p->keep_h ? aligned_bytes((size_t)(rows_at_once(g) * g->n) * dtype_size(g->y_type))
                                  : 0;
}

static Status followed_scratch(const Product *p, size_t *bytes)
{
    Gemm g = gemm_of(p);
    size_t part = 0;
    *bytes = 0;
    if (g.m == 0)
        return STATUS_OK;
    *bytes = h_bytes(p, &g);
    if (is_bf16_product(&g)) { /* b is converted once, before all parts */
        *bytes += bf16_b_bytes(&g);
        g.ldb = stored_columns_b(&g);
        g.b_type = DTYPE_BF16;
    }
    TRY(parts_scratch(&g, rows_at_once(&g), &part));
    if (p->t) {
        const Gemm low = low_rank_of(p, &g);
        TRY(parts_scratch(&low, rows_at_once(&g), &part));
    }
    *bytes += part;
    return STATUS_OK;
}

static Status followed_product(const Product *p, char *scratch)
{
    Gemm g = gemm_of(p);
    const int64_t rows = rows_at_once(&g), C = g.n / 2;
    char *h = p->geglu ? p->keep_h ? p->keep_h->data : scratch : g.y;
    const bool whole = !p->geglu || p->keep_h; /* h, or y itself, is there from its first row to its last */
    scratch += h_bytes(p, &g);
    if (is_bf16_product(&g))
        bf16_b(&g, &scratch);
    for (int64_t first = 0; first < g.m; first += rows) {
        void *here = whole ? at_element(h, g.y_type, first * g.n) : h;
        const Gemm part = rows_of(&g, first, rows, here);
        TRY(ISA(gemm)(&part, scratch));
        if (p->t) {
            const Gemm all = low_rank_of(p, &g), low = rows_of(&all, first, rows, here);
            TRY(ISA(gemm)(&low, scratch));
        }
        if (p->geglu)
            geglu_rows(&(Geglu){.x = here,
                                .y = at_element(g.y, g.y_type, first * C),
                                .xt = g.y_type,
                                .yt = g.y_type,
                                .C = C},
                       part.m);
    }
    return STATUS_OK;
}

/* In 8 bits, and then the low-rank product -----------------------------------------------------------------
 */

static Status narrow_scratch(const Product *p, size_t *bytes)
{
    *bytes = 0;
    if (p->t) {
        const Gemm g = gemm_of(p), low = low_rank_of(p, &g);
        TRY(ISA(gemm_scratch)(&low, bytes));
    }
    *bytes = larger(*bytes, ISA(int8_product_scratch)(p));
    return STATUS_OK;
}

static Status narrow_product(const Product *p, void *scratch)
{
    ISA(int8_product)(p, scratch);
    if (!p->t)
        return STATUS_OK;
    const Gemm g = gemm_of(p);
    Gemm low = low_rank_of(p, &g);
    low.y = p->y->data;
    return ISA(gemm)(&low, scratch);
}

/* The table's functions -------------------------------------------------------------------------------- */

static Status cpu_product_scratch(const Product *p, size_t *bytes)
{
    FLOATS_ONLY(p->a, p->b->scales ? NULL : p->b, p->bias, p->residual, p->t, p->up, p->y, p->keep_h);
    if (ISA(int8_takes_product)(p))
        return narrow_scratch(p, bytes);
    const Gemm g = whole_of(p);
    if ((g.geglu || g.t) && (is_bf16_product(&g) || !ISA(panels_take)(&g)))
        return followed_scratch(p, bytes);
    return ISA(gemm_scratch)(&g, bytes);
}

static Status cpu_product(const Product *p, void *scratch)
{
    FLOATS_ONLY(p->a, p->b->scales ? NULL : p->b, p->bias, p->residual, p->t, p->up, p->y, p->keep_h);
    if (ISA(int8_takes_product)(p))
        return narrow_product(p, scratch);
    const Gemm g = whole_of(p);
    if ((g.geglu || g.t) && (is_bf16_product(&g) || !ISA(panels_take)(&g)))
        return followed_product(p, scratch);
    return ISA(gemm)(&g, scratch);
}

/* Sums over rows: blocks of columns, each cut into SUM_PIECES pieces of rows, added up in order. */
enum { SUM_PIECES = 16, SUM_COLUMNS = 64 };

typedef struct ColumnSum {
    const Tensor *g;
    int64_t rows, columns, first, n; /* this block: n columns from first on */
    float part[SUM_PIECES][SUM_COLUMNS];
} ColumnSum;

static void sum_rows_of(const ColumnSum *s, int64_t first, int64_t last, DType type, float *out)
{
    vf sum[SUM_COLUMNS / VL] = {0};
    const int64_t whole = s->n / VL;
    const int rest = (int)(s->n % VL);
    for (int64_t r = first; r < last; r++) {
        const int64_t at = r * s->columns + s->first;
        for (int64_t i = 0; i < whole; i++)
            sum[i] += vec_get(s->g->data, type, at + i * VL);
        if (rest)
            sum[whole] += vec_get_n(s->g->data, type, at + whole * VL, rest);
    }
    for (int64_t i = 0; i < SUM_COLUMNS / VL; i++)
        vec_store(out + i * VL, sum[i]);
}

static void column_sum_piece(const void *args, int64_t first, int64_t last)
{
    const ColumnSum *s = args;
    const int64_t size = (s->rows + SUM_PIECES - 1) / SUM_PIECES;
    for (int64_t i = first; i < last; i++) {
        const int64_t from = i * size < s->rows ? i * size : s->rows;
        const int64_t to = from + size < s->rows ? from + size : s->rows;
        WITH_DTYPE(s->g->dtype, sum_rows_of(s, from, to, T, (float *)s->part[i]));
    }
}

static Status cpu_column_sum(const Tensor *g, Tensor *out, bool accumulate)
{
    FLOATS_ONLY(g, out);
    ColumnSum s = {.g = g, .rows = tensor_rows(g), .columns = tensor_dim(g, -1)};
    float *y = out->data;
    for (s.first = 0; s.first < s.columns; s.first += SUM_COLUMNS) {
        s.n = s.columns - s.first < SUM_COLUMNS ? s.columns - s.first : SUM_COLUMNS;
        for_pieces(SUM_PIECES, (s.rows / SUM_PIECES + 1) * SUM_COLUMNS, column_sum_piece, &s);
        for (int64_t i = 0; i < s.n; i++) {
            float sum = 0;
            for (int piece = 0; piece < SUM_PIECES; piece++)
                sum += s.part[piece][i];
            y[s.first + i] = accumulate ? y[s.first + i] + sum : sum;
        }
    }
    return STATUS_OK;
}

void ISA(linear_table)(Device *d)
{
    d->product_decodes = true;
    d->product_scratch = cpu_product_scratch;
    d->product = cpu_product;
    d->column_sum = cpu_column_sum;
}
