/* Products in f32 from operands of any storage, for AVX2.
 *
 * A library's sgemm wants f32: weights in 16 or 8 bits would be widened into memory first and read back, and
 * what follows a product (bias, residual, GEGLU, a low-rank product) would be another pass over its result.
 * Here operands are widened while they are packed, which a fast product has to do anyway, and what follows is
 * done to the sums while they are in the second-level cache.
 *
 * Tiling. Sums of STRIP rows × PANEL columns stay in registers. Rows of a are packed by all threads together
 * into strips (depth,STRIP), at most PACKED_BYTES of them at a time; a task of one thread is PART rows by
 * COLUMNS columns, for which it packs b itself:
 *
 *     for some rows
 *         a into strips                                  shared, in the third-level cache
 *         for COLUMNS columns, for PART rows             a task
 *             for DEPTH of k, for PANEL of the columns
 *                 b into a panel (depth,PANEL)           24 KB, in the first-level cache
 *                 sums (PART,PANEL) += strips · panel    130 KB of a task, in the second-level cache
 *             y = sums, and what follows
 *
 * A low-rank product t upᵀ is more of the same sums, a and t side by side, b and up below each other. Under a
 * GEGLU half of a task's columns are of the first half of h and half of the second. The order of each sum is
 * fixed by k alone. Measured on one core (Zen 5), 512 to 8,192 rows: 109–123 GFLOP/s whatever the storage,
 * where sgemm has 115–125 of f32. */
#include "panels.h"

#include "convert.h"
#include "gelu.h"

#include <omp.h>

enum {
    STRIP = 6,
    PANEL = 2 * VL,
    COLUMNS = 2 * PANEL,
    VECTORS = COLUMNS / VL,
    DEPTH = 384,
    PART = 1020, /* a multiple of STRIP */
    LEAST_PART = 96,
    PACKED_BYTES = 6 << 20,
    FEWEST_ROWS = 192, /* that are packed at a time, however deep: so often is b packed anew */
    MOST_ROWS = 4080,
    AHEAD = 192, /* floats of a strip that are fetched early */
    LEAST = 16,  /* rows, and columns: fewer would leave most of a tile empty */
};

/* Two products of one sum: a · b and t · upᵀ. */
typedef struct Term {
    const void *a, *b;
    const float *b_scales;
    DType a_type, b_type;
    bool trans_a, trans_b;
    int64_t k, lda, ldb;
    float factor;
    int64_t depth, blocks; /* of k: blocks of `depth`, the last may be less */
    int64_t strip;         /* floats of a strip of one block */
    int64_t at;            /* where its strips begin in the packed rows */
} Term;

typedef struct Job {
    const Gemm *g;
    Term term[2];
    int terms;
    int64_t rows, strips; /* at a time */
    int64_t width;        /* columns of y, or of each half of h */
    int64_t columns, parts, part;
    int threads;
    float *packed, *own;
} Job;

static int64_t ratio_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Packing ----------------------------------------------------------------------------------------------- */

VEC vf element_vector(const void *p, DType type, int64_t at, int n)
{
    return type == DTYPE_I8 ? vec_get_i8((const int8_t *)p + at, n) : vec_get_n(p, type, at, n);
}

/* VL numbers of each of STRIP rows of a, from element at[r] on, n of them there, to n rows of STRIP. Each is
 * stored as a whole vector, whose last lanes the next row covers. */
VEC void turn_rows(const void *a, DType type, const int64_t at[STRIP], int64_t from, int n, float *to)
{
    vf x[VL];
    for (int r = 0; r < VL; r++)
        x[r] = r < STRIP ? vec_get_n(a, type, at[r] + from, n) : vec_set(0);
    vec_transpose(x);
    for (int r = 0; r < n; r++)
        vec_store(to + r * STRIP, x[r]);
}

/* One strip: rows `row` … of a, `rows` of them there, columns k … k+depth-1, to (depth,STRIP). What stands
 * for rows that are not there is never written to y. */
VEC void pack_strip(const Term *t, DType type, int64_t row, int64_t rows, int64_t k, int64_t depth, float *to)
{
    if (t->trans_a) {
        const int n = (int)smaller(rows, VL);
        for (int64_t i = 0; i < depth; i++)
            vec_store(to + i * STRIP, vec_get_n(t->a, type, (k + i) * t->lda + row, n));
        return;
    }
    int64_t at[STRIP], i = 0;
    for (int64_t r = 0; r < STRIP; r++)
        at[r] = (row + smaller(r, rows - 1)) * t->lda + k;
    for (; i + VL <= depth; i += VL)
        turn_rows(t->a, type, at, i, VL, to + i * STRIP);
    if (i < depth)
        turn_rows(t->a, type, at, i, (int)(depth - i), to + i * STRIP);
}

/* A panel: columns `column` …, at most `columns` of them there, of rows k … k+depth-1, to (depth,PANEL). */
VEC void pack_panel(const Term *t, DType type, int64_t column, int64_t columns, int64_t k, int64_t depth,
                    float *to)
{
    for (int64_t half = 0; half < PANEL; half += VL) {
        const int64_t first = column + half, there = columns - half;
        if (!t->trans_b) {
            const int n = (int)(there < 0 ? 0 : smaller(there, VL));
            for (int64_t i = 0; i < depth; i++) {
                const float by = t->factor * (type == DTYPE_I8 ? t->b_scales[k + i] : 1);
                vec_store(to + i * PANEL + half,
                          n ? element_vector(t->b, type, (k + i) * t->ldb + first, n) * by : vec_set(0));
            }
            continue;
        }
        float by[VL];
        for (int c = 0; c < VL; c++)
            by[c] = t->factor * (type == DTYPE_I8 && c < there ? t->b_scales[first + c] : 1);
        const vf factor = vec_load(by);
        for (int64_t i = 0; i < depth; i += VL) {
            const int part = vec_part(i, depth);
            vf x[VL];
            for (int c = 0; c < VL; c++)
                x[c] =
                    c < there ? element_vector(t->b, type, (first + c) * t->ldb + k + i, part) : vec_set(0);
            vec_transpose(x);
            for (int r = 0; r < part; r++)
                vec_store(to + (i + r) * PANEL + half, x[r] * factor);
        }
    }
}

static void panel_of(const Term *t, int64_t column, int64_t columns, int64_t k, int64_t depth, float *to)
{
    if (t->b_type == DTYPE_I8)
        pack_panel(t, DTYPE_I8, column, columns, k, depth, to);
    else
        WITH_DTYPE(t->b_type, pack_panel(t, T, column, columns, k, depth, to));
}

static int64_t depth_of(const Term *t, int64_t block)
{
    return smaller(t->depth, t->k - block * t->depth);
}

/* Strip s of the rows from `first` on, in all blocks of all terms. */
static void strip_of(const Job *j, int64_t first, int64_t s)
{
    for (int i = 0; i < j->terms; i++) {
        const Term *t = &j->term[i];
        const int64_t row = first + s * STRIP, rows = j->g->m - row;
        for (int64_t block = 0; block < t->blocks; block++)
            WITH_DTYPE(t->a_type, pack_strip(t, T, row, rows, block * t->depth, depth_of(t, block),
                                             j->packed + t->at + (block * j->strips + s) * t->strip));
    }
}

/* Sums -------------------------------------------------------------------------------------------------- */

/* c (STRIP,PANEL), rows COLUMNS apart, = or += a (depth,STRIP)ᵀ · b (depth,PANEL) */
VEC void tile_of(bool first, int64_t depth, const float *a, const float *b, float *c)
{
    vf sum[STRIP][2];
#pragma GCC unroll 16
    for (int r = 0; r < STRIP; r++) {
        sum[r][0] = first ? vec_set(0) : vec_load(c + r * COLUMNS);
        sum[r][1] = first ? vec_set(0) : vec_load(c + r * COLUMNS + VL);
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < depth; i++) {
        const vf x = vec_load(b + i * PANEL), y = vec_load(b + i * PANEL + VL);
        __builtin_prefetch(a + i * STRIP + AHEAD);
#pragma GCC unroll 16
        for (int r = 0; r < STRIP; r++) {
            const vf by = vec_set(a[i * STRIP + r]);
            sum[r][0] += x * by;
            sum[r][1] += y * by;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < STRIP; r++) {
        vec_store(c + r * COLUMNS, sum[r][0]);
        vec_store(c + r * COLUMNS + VL, sum[r][1]);
    }
}

static void tiles_of(bool first, int64_t strips, int64_t strip, int64_t depth, const float *a, const float *b,
                     float *c)
{
    for (int64_t s = 0; s < strips; s++, a += strip, c += STRIP * COLUMNS)
        if (first)
            tile_of(true, depth, a, b, c);
        else
            tile_of(false, depth, a, b, c);
}

/* What follows ------------------------------------------------------------------------------------------ */

/* Where a vector of a task's sums belongs: n columns from `column` on, of y or of h; n is 0 beyond them. */
typedef struct Place {
    int64_t column;
    int n;
    vf bias;
} Place;

static Place place_of(const Job *j, int64_t task_column, int v)
{
    const Gemm *g = j->g;
    const int64_t half = g->geglu ? v * VL / PANEL : 0, within = v * VL - half * PANEL;
    const int64_t left = j->width - (task_column + within);
    Place p = {.column = half * j->width + task_column + within,
               .n = (int)(left < 0 ? 0 : smaller(left, VL)),
               .bias = vec_set(0)};
    if (g->bias && p.n)
        p.bias = vec_get_n(g->bias->data, g->bias->dtype, p.column, p.n);
    return p;
}

/* What a vector of sums comes to, all added. */
VEC vf value_of(const Gemm *g, DType type, const Place *p, int64_t row, const float *sum)
{
    vf x = vec_load(sum) + p->bias;
    if (g->beta != 0 && !g->geglu)
        x += g->beta * vec_get_n(g->y, type, row * g->ldy + p->column, p->n);
    if (g->adds)
        x += vec_get_n(g->residual, g->residual_type, row * g->ldy + p->column, p->n);
    return x;
}

VEC vf rounded_to(DType type, vf x)
{
    return type == DTYPE_F32    ? x
           : type == DTYPE_BF16 ? vec_from_bf16(vec_to_bf16(x))
                                : vec_from_f16(vec_to_f16(x));
}

VEC void finish_row(const Gemm *g, DType type, bool whole, Place places[VECTORS], int64_t row,
                    const float *sums)
{
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        Place p = places[v];
        p.n = whole ? VL : p.n;
        if (p.n)
            vec_put_n(g->y, type, row * g->ldy + p.column, value_of(g, type, &p, row, sums + v * VL), p.n);
    }
}

/* Of h, then of y. */
VEC void finish_geglu(const Gemm *g, DType type, Place places[VECTORS], int64_t row, const float *sums)
{
    for (int v = 0; v < VECTORS / 2; v++) {
        const Place *first = &places[v], *second = &places[v + VECTORS / 2];
        if (!first->n)
            continue;
        const vf a = rounded_to(type, value_of(g, type, first, row, sums + v * VL));
        const vf b = rounded_to(type, value_of(g, type, second, row, sums + PANEL + v * VL));
        if (g->keep_h) {
            vec_put_n(g->keep_h->data, type, row * g->n + first->column, a, first->n);
            vec_put_n(g->keep_h->data, type, row * g->n + second->column, b, second->n);
        }
        vec_put_n(g->y, type, row * (g->n / 2) + first->column, a * gelu_of(b), first->n);
    }
}

VEC void finish(const Job *j, DType type, int64_t column, int64_t row, int64_t rows, const float *sums)
{
    Place places[VECTORS];
    bool whole = true;
    for (int v = 0; v < VECTORS; v++) {
        places[v] = place_of(j, column, v);
        whole &= places[v].n == VL;
    }
    for (int64_t r = 0; r < rows; r++)
        if (j->g->geglu)
            finish_geglu(j->g, type, places, row + r, sums + r * COLUMNS);
        else if (whole)
            finish_row(j->g, type, true, places, row + r, sums + r * COLUMNS);
        else
            finish_row(j->g, type, false, places, row + r, sums + r * COLUMNS);
}

/* A call ------------------------------------------------------------------------------------------------ */

static Term term_of(Term t)
{
    t.blocks = ratio_up(t.k, DEPTH);
    t.depth = ratio_up(ratio_up(t.k, t.blocks), VL) * VL;
    t.strip = ratio_up(t.depth * STRIP + VL, 16) * 16;
    return t;
}

static Job job_of(const Gemm *g)
{
    Job j = {.g = g, .terms = 1, .width = g->geglu ? g->n / 2 : g->n, .threads = omp_get_max_threads()};
    j.term[0] = term_of((Term){.a = g->a,
                               .b = g->b,
                               .b_scales = g->b_scales,
                               .a_type = g->a_type,
                               .b_type = g->b_type,
                               .trans_a = g->trans_a,
                               .trans_b = g->trans_b,
                               .k = g->k,
                               .lda = g->lda,
                               .ldb = g->ldb,
                               .factor = g->alpha});
    if (g->t) {
        const int64_t r = tensor_dim(g->t, -1);
        j.terms = 2;
        j.term[1] = term_of((Term){.a = g->t->data,
                                   .b = g->up->data,
                                   .a_type = g->t->dtype,
                                   .b_type = g->up->dtype,
                                   .trans_b = true,
                                   .k = r,
                                   .lda = r,
                                   .ldb = r,
                                   .factor = g->scale});
    }
    int64_t rows = PACKED_BYTES / 4 / g->k;
    rows = rows < FEWEST_ROWS ? FEWEST_ROWS : smaller(rows, MOST_ROWS);
    j.strips = ratio_up(ratio_up(g->m, ratio_up(g->m, rows)), STRIP);
    j.rows = j.strips * STRIP;
    for (int i = 1; i < j.terms; i++)
        j.term[i].at = j.term[i - 1].at + j.strips * j.term[i - 1].blocks * j.term[i - 1].strip;
    /* so many tasks that each thread has several */
    j.columns = ratio_up(j.width, g->geglu ? PANEL : COLUMNS);
    const int64_t wanted = ratio_up(3 * j.threads, j.columns), most = ratio_up(j.rows, LEAST_PART);
    const int64_t parts = smaller(wanted, most), least = ratio_up(j.rows, PART);
    j.part = ratio_up(j.strips, parts < least ? least : parts) * STRIP;
    j.parts = ratio_up(j.rows, j.part);
    return j;
}

static int64_t packed_floats(const Job *j)
{
    const Term *last = &j->term[j->terms - 1];
    return last->at + j->strips * last->blocks * last->strip;
}

/* One thread's own: a panel and a task's sums. */
static int64_t own_floats(const Job *j)
{
    return DEPTH * PANEL + j->part * COLUMNS;
}

/* sgemm is faster by a few percent where it need not widen anything. */
bool ISA(panels_take)(const Gemm *g)
{
    const bool all_f32 = g->a_type == DTYPE_F32 && g->b_type == DTYPE_F32 && g->y_type == DTYPE_F32;
    return VL == 8 && g->m >= LEAST && g->n >= LEAST && g->k >= VL && (g->geglu || !all_f32);
}

size_t ISA(panels_scratch)(const Gemm *g)
{
    const Job j = job_of(g);
    return (size_t)(packed_floats(&j) + j.threads * own_floats(&j)) * sizeof(float);
}

static void task_of(const Job *j, int64_t first, int64_t rows, int64_t task, float *own)
{
    const int64_t part = task % j->parts * j->part,
                  column = task / j->parts * (j->g->geglu ? PANEL : COLUMNS);
    const int64_t here = smaller(j->part, rows - part), strips = ratio_up(here, STRIP);
    float *panel = own, *sums = own + DEPTH * PANEL;
    if (here <= 0)
        return;
    for (int i = 0; i < j->terms; i++) {
        const Term *t = &j->term[i];
        for (int64_t block = 0; block < t->blocks; block++) {
            const int64_t depth = depth_of(t, block);
            const float *a = j->packed + t->at + (block * j->strips + part / STRIP) * t->strip;
            for (int64_t half = 0; half < 2; half++) {
                const int64_t from = column + (j->g->geglu ? 0 : half * PANEL), there = j->width - from;
                if (there <= 0)
                    continue;
                panel_of(t, from + (j->g->geglu ? half * j->width : 0), there, block * t->depth, depth,
                         panel);
                tiles_of(i + block == 0, strips, t->strip, depth, a, panel, sums + half * PANEL);
            }
        }
    }
    WITH_DTYPE(j->g->y_type, finish(j, T, column, first + part, here, sums));
}

void ISA(panels_run)(const Gemm *g, void *scratch)
{
    Job j = job_of(g);
    j.packed = scratch;
    j.own = j.packed + packed_floats(&j);
#pragma omp parallel num_threads(j.threads)
    for (int64_t first = 0; first < g->m; first += j.rows) {
        const int64_t rows = smaller(j.rows, g->m - first);
#pragma omp for schedule(dynamic, 8)
        for (int64_t s = 0; s < ratio_up(rows, STRIP); s++)
            strip_of(&j, first, s);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < j.columns * j.parts; i++)
            task_of(&j, first, rows, i, j.own + omp_get_thread_num() * own_floats(&j));
    }
}
