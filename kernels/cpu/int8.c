/* Products of whole numbers in 8 bits, for weights that are stored so: twice as many a cycle as of bf16.
 *
 * A weight's row has a scale (Tensor.scales). What it is multiplied with is rounded here, each time, to 0 …
 * 255 with a step and a zero of its own: a product's operand row by row, a convolution's picture by picture,
 * as all pixels of a window are summed up together. 0 is among the 256 values, so that a map's padding is
 * exact, and what SiLU made of a map, -0.28 … much, uses all of them:
 *
 *     x ≈ step (q − zero)      w ≈ scale v      y = step scale (Σ q v − zero Σ v) + what is added
 *
 * The sums are exact, in 32 bits; so neither threads nor order matter.
 *
 * Tiling. The processor's instruction sums up four products in each of VL lanes (vpdpbusd). Lanes are columns
 * of y: a panel of 2 VL columns' weights is put in the order of its use, (depth/4, 2 VL, 4), by the task that
 * uses it, which then walks over rows of y, ROWS × 2 VL sums in registers. A convolution's operand is rounded
 * into a map with its padding around: a row of it are then kh pieces of kw·C bytes that follow each other,
 * and the next pixel's lies C further. Under a GEGLU half of a panel's columns are of the first half of h and
 * half of the second, so that h is never in memory. */
#include "int8.h"

#include "convert.h"
#include "gelu.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#if VL >= 8

enum {
    PANEL = 2 * VL,           /* columns of y */
    ROWS = VL == 16 ? 12 : 6, /* of y, at a time */
    QUAD = 4,
    TAPS = 9,
    DEEP = 8192,     /* bytes of a row; beyond, one panel at a time is all that a second-level cache holds */
    LEAST_ROWS = 16, /* of a product: a few rows are not worth it, such as the time's */
    PANELS = 2,      /* for which rows are walked over together */
    TASKS = 4,       /* for each thread */
};

typedef uint8_t vb __attribute__((vector_size(VL)));
typedef uint8_t vb_mem __attribute__((vector_size(VL), aligned(1), may_alias));

typedef struct Job {
    /* the rounded operand: rows of `segments` pieces of `quads` · 4 bytes */
    uint8_t *q;
    float *step;
    int32_t *zero;
    int64_t rows, ld, segments, quads, segment_ld;
    /* a convolution's: rows are pixels (B,OH,OW), of a padded map (B,PH,PW,C) */
    const Conv *conv;
    int64_t OH, OW, PH, PW, C;
    /* the weights (N, depth), a product's as they are, a convolution's (N,C,3,3) */
    const int8_t *w;
    const float *scales;
    int64_t N;
    bool geglu;
    /* what is added, and where to; y (rows, N), or (rows, N/2) */
    const Tensor *bias, *residual, *y;
    int64_t block, chunk; /* columns and rows of a task */
    char *own;            /* each thread's */
    int threads;
} Job;

/* What belongs to the columns of a task. */
typedef struct Block {
    int8_t *packed[PANELS];
    int32_t sum[PANELS][PANEL]; /* of the weights */
    float scale[PANELS][PANEL], bias[PANELS][PANEL];
} Block;

/* Rounding ---------------------------------------------------------------------------------------------- */

/* least ≤ 0 ≤ most; odd: NaN where one of the numbers is not finite. */
typedef struct Range {
    float least, most, odd;
} Range;

VEC Range range_of(const void *x, DType type, int64_t at, int64_t n)
{
    vf least = vec_set(0), most = vec_set(0), odd = vec_set(0);
    for (int64_t i = 0; i < n; i += VL) {
        const vf v = vec_get_n(x, type, at + i, vec_part(i, n));
        least = vec_min(v, least);
        most = vec_max(v, most);
        odd += v * 0.0f;
    }
    return (Range){-vec_largest(-least), vec_largest(most), vec_sum(odd)};
}

/* NaN as a step makes NaN of everything. */
static void step_of(Range r, float *step, int32_t *zero)
{
    const float s = (r.most - r.least) * (1.0f / 255), odd = r.odd + s * 0.0f;
    *step = s > 0 ? s + odd : 1 + odd;
    *zero = s > 0 && odd == 0 ? (int32_t)lrintf(-r.least / s) : 0;
}

VEC void round_row(const void *x, DType type, int64_t at, int64_t n, float step, int32_t zero, uint8_t *q)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds; the lowest byte is the number's */
    const float by = 1.0f / step;
    for (int64_t i = 0; i < n; i += VL) {
        const int part = vec_part(i, n);
        vf v = vec_get_n(x, type, at + i, part) * by + (float)zero;
        v = vec_min(vec_set(255), vec_max(vec_set(0), v)) + magic;
        const vb bytes = __builtin_convertvector((vu)v & 0xff, vb);
        if (part == VL)
            *(vb_mem *)(q + i) = bytes;
        else
            memcpy(q + i, &bytes, (size_t)part);
    }
}

typedef struct Rounding {
    const Tensor *x;
    const Job *j;
    Range *ranges; /* of a map's rows */
} Rounding;

static void product_rows_piece(const void *args, int64_t first, int64_t last)
{
    const Rounding *s = args;
    const Job *j = s->j;
    const int64_t k = j->quads * QUAD;
    for (int64_t r = first; r < last; r++) {
        Range range;
        WITH_DTYPE(s->x->dtype, range = range_of(s->x->data, T, r * k, k));
        step_of(range, &j->step[r], &j->zero[r]);
        WITH_DTYPE(s->x->dtype, round_row(s->x->data, T, r * k, k, j->step[r], j->zero[r], j->q + r * j->ld));
    }
}

static void map_ranges_piece(const void *args, int64_t first, int64_t last)
{
    const Rounding *s = args;
    const int64_t n = s->x->shape[2] * s->j->C;
    for (int64_t r = first; r < last; r++)
        WITH_DTYPE(s->x->dtype, s->ranges[r] = range_of(s->x->data, T, r * n, n));
}

/* Rows of the padded map. */
static void map_rows_piece(const void *args, int64_t first, int64_t last)
{
    const Rounding *s = args;
    const Job *j = s->j;
    const int64_t H = s->x->shape[1], W = s->x->shape[2], n = W * j->C, left = j->conv->s.pad_left * j->C;
    for (int64_t r = first; r < last; r++) {
        const int64_t b = r / j->PH, h = r % j->PH - j->conv->s.pad_top;
        uint8_t *q = j->q + r * j->PW * j->C;
        memset(q, j->zero[b], (size_t)(j->PW * j->C));
        if (h >= 0 && h < H)
            WITH_DTYPE(s->x->dtype,
                       round_row(s->x->data, T, (b * H + h) * n, n, j->step[b], j->zero[b], q + left));
    }
}

static void round_map(const Job *j, const Tensor *x, Range *ranges)
{
    const Rounding s = {.x = x, .j = j, .ranges = ranges};
    const int64_t B = x->shape[0], H = x->shape[1], n = x->shape[2] * j->C;
    for_pieces(B * H, n, map_ranges_piece, &s);
    for (int64_t b = 0; b < B; b++) {
        Range all = {0};
        for (const Range *r = ranges + b * H; r < ranges + (b + 1) * H; r++) {
            all.least = fminf(all.least, r->least);
            all.most = fmaxf(all.most, r->most);
            all.odd += r->odd;
        }
        step_of(all, &j->step[b], &j->zero[b]);
    }
    for_pieces(B * j->PH, n, map_rows_piece, &s);
}

/* Weights ----------------------------------------------------------------------------------------------- */

VEC vi dot(vi sum, vi unsigned_bytes, vi bytes)
{
#if VL == 16
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(bytes));
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(unsigned_bytes), "x"(bytes));
#endif
    return sum;
}

/* x (VL,VL) quads of VL columns, to n quads of the panel from `to` on; their sum is added to *sum. */
VEC void put_quads(vf x[VL], int64_t n, int8_t *to, int64_t step, vi *sum)
{
    vec_transpose(x);
    for (int64_t i = 0; i < n; i++) {
        vec_store((float *)(void *)(to + i * step), x[i]);
        *sum = dot(*sum, (vi){0} + 0x01010101, (vi)x[i]);
    }
}

/* VL columns from `column` on, as far as there are, of a product's weights. */
static void pack_rows(const Job *j, int64_t column, int columns, int8_t *to, int32_t *sums)
{
    const int64_t k = j->quads * QUAD;
    vi sum = {0};
    for (int64_t i = 0; i < k; i += QUAD * VL) {
        const int64_t bytes = k - i < QUAD * VL ? k - i : QUAD * VL;
        vf x[VL] = {0};
        for (int l = 0; l < columns; l++)
            memcpy(&x[l], j->w + (column + l) * k + i, (size_t)bytes);
        put_quads(x, bytes / QUAD, to + i * PANEL, PANEL * QUAD, &sum);
    }
    memcpy(sums, &sum, sizeof sum);
}

/* Four channels of a 3×3 weight, (4,9), as nine quads. */
VEC void turn_taps(const int8_t *w, uint32_t quads[TAPS])
{
    for (int t = 0; t < TAPS; t++) {
        const uint8_t four[QUAD] = {(uint8_t)w[t], (uint8_t)w[TAPS + t], (uint8_t)w[2 * TAPS + t],
                                    (uint8_t)w[3 * TAPS + t]};
        memcpy(&quads[t], four, sizeof four);
    }
}

/* The same of a convolution's, whose taps come in the order in which a window's bytes do. */
static void pack_windows(const Job *j, int64_t column, int columns, int8_t *to, int32_t *sums)
{
    const int64_t quads = j->C / QUAD;
    vi sum = {0};
    for (int64_t c = 0; c < quads; c++) {
        uint32_t turned[VL][2 * VL] = {{0}}; /* a column's taps */
        for (int l = 0; l < columns; l++)
            turn_taps(j->w + ((column + l) * j->C + c * QUAD) * TAPS, turned[l]);
        for (int t = 0; t < TAPS; t += VL) {
            vf x[VL];
            for (int l = 0; l < VL; l++)
                x[l] = vec_load((const float *)(const void *)(turned[l] + t));
            put_quads(x, TAPS - t < VL ? TAPS - t : VL, to + (t * quads + c) * PANEL * QUAD,
                      quads * PANEL * QUAD, &sum);
        }
    }
    memcpy(sums, &sum, sizeof sum);
}

/* The columns of h, or of y, that half `half` of panel `panel` of a task stands for, from the task's column
 * on: how many there are. */
static int64_t half_column(const Job *j, int64_t first, int panel, int half, int *columns)
{
    const int64_t end = j->geglu ? j->N / 2 : j->N;
    const int64_t at = j->geglu ? first + panel * VL : first + panel * PANEL + half * VL;
    const int64_t left = end - at;
    *columns = left < 0 ? 0 : left < VL ? (int)left : VL;
    return at + (j->geglu && half ? j->N / 2 : 0);
}

static void pack_block(const Job *j, int64_t first, Block *b)
{
    for (int p = 0; p < j->block / PANEL; p++)
        for (int half = 0; half < 2; half++) {
            int columns;
            const int64_t at = half_column(j, first, p, half, &columns);
            int8_t *to = b->packed[p] + half * VL * QUAD;
            if (j->conv)
                pack_windows(j, at, columns, to, b->sum[p] + half * VL);
            else
                pack_rows(j, at, columns, to, b->sum[p] + half * VL);
            for (int l = 0; l < VL; l++) {
                b->scale[p][half * VL + l] = l < columns ? j->scales[at + l] : 0;
                b->bias[p][half * VL + l] =
                    l < columns && j->bias ? get_float(j->bias->data, j->bias->dtype, at + l) : 0;
            }
        }
}

/* Products ---------------------------------------------------------------------------------------------- */

/* sums (n,PANEL) of n rows of q, ld apart, with a panel. */
VEC void row_group(int n, const Job *j, const uint8_t *q, const int8_t *packed, vi sum[ROWS][2])
{
#pragma GCC unroll 16
    for (int r = 0; r < n; r++)
        sum[r][0] = sum[r][1] = (vi){0};
    for (int64_t s = 0; s < j->segments; s++, q += j->segment_ld)
        for (int64_t i = 0; i < j->quads; i++, packed += PANEL * QUAD) {
            const vi a = (vi)vec_load((const float *)(const void *)packed);
            const vi b = (vi)vec_load((const float *)(const void *)(packed + VL * QUAD));
#pragma GCC unroll 16
            for (int r = 0; r < n; r++) {
                int32_t four;
                memcpy(&four, q + r * j->ld + i * QUAD, sizeof four);
                const vi x = (vi){0} + four;
                sum[r][0] = dot(sum[r][0], x, a);
                sum[r][1] = dot(sum[r][1], x, b);
            }
        }
}

/* What a sum stands for. */
VEC vf value_of(const Job *j, const Block *b, int panel, int half, int64_t row, vi sum)
{
    const int64_t from = j->conv ? row / (j->OH * j->OW) : row;
    vi of_weights;
    memcpy(&of_weights, b->sum[panel] + half * VL, sizeof of_weights);
    const vf exact = __builtin_convertvector(sum - of_weights * j->zero[from], vf);
    return exact * (vec_load(b->scale[panel] + half * VL) * j->step[from]) +
           vec_load(b->bias[panel] + half * VL);
}

VEC void put_values(const Job *j, DType type, int64_t row, int64_t column, int columns, vf x)
{
    const int64_t width = j->geglu ? j->N / 2 : j->N, at = row * width + column;
    const Tensor *v = j->conv ? j->conv->per_picture : NULL;
    if (v)
        x += vec_get_n(v->data, v->dtype, row / (j->OH * j->OW) * j->N + column, columns);
    if (j->residual)
        x += vec_get_n(j->residual->data, type, at, columns);
    vec_put_n(j->y->data, type, at, x, columns);
}

VEC void put_group(int n, const Job *j, DType type, const Block *b, int panel, int64_t first, int64_t row,
                   vi sum[ROWS][2])
{
    int columns[2];
    int64_t at[2];
    for (int half = 0; half < 2; half++)
        at[half] = half_column(j, first, panel, half, &columns[half]);
    for (int r = 0; r < n; r++) {
        const vf x = value_of(j, b, panel, 0, row + r, sum[r][0]),
                 gate = value_of(j, b, panel, 1, row + r, sum[r][1]);
        if (j->geglu) {
            if (columns[0])
                put_values(j, type, row + r, at[0], columns[0], x * gelu_of(gate));
            continue;
        }
        if (columns[0])
            put_values(j, type, row + r, at[0], columns[0], x);
        if (columns[1])
            put_values(j, type, row + r, at[1], columns[1], gate);
    }
}

/* n rows, one panel. */
VEC void group_of(int n, const Job *j, const Block *b, int panel, int64_t first, int64_t row,
                  const uint8_t *q)
{
    vi sum[ROWS][2];
    row_group(n, j, q, b->packed[panel], sum);
    WITH_DTYPE(j->y->dtype, put_group(n, j, T, b, panel, first, row, sum));
}

static void group(int n, const Job *j, const Block *b, int panel, int64_t first, int64_t row,
                  const uint8_t *q)
{
    switch (n) {
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        group_of(n_ < ROWS ? n_ : ROWS, j, b, panel, first, row, q);                                         \
        break;
        GROUP(1)
        GROUP(2)
        GROUP(3)
        GROUP(4)
        GROUP(5)
        GROUP(6)
        GROUP(7)
        GROUP(8)
        GROUP(9)
        GROUP(10)
        GROUP(11)
        GROUP(12)
#undef GROUP
    default:
        break;
    }
}

static const uint8_t *row_at(const Job *j, int64_t row)
{
    if (!j->conv)
        return j->q + row * j->ld;
    const int64_t stride = j->conv->s.stride, b = row / (j->OH * j->OW), h = row / j->OW % j->OH;
    return j->q + ((b * j->PH + h * stride) * j->PW + row % j->OW * stride) * j->C;
}

/* Rows in groups as equal as possible, none across the end of a map's row. */
static void task(const Job *j, int64_t first, int64_t from, int64_t to, Block *b)
{
    pack_block(j, first, b);
    for (int64_t row = from; row < to;) {
        const int64_t end = j->conv ? (row / j->OW + 1) * j->OW : to, left = (end < to ? end : to) - row;
        const int64_t groups = (left + ROWS - 1) / ROWS, n = (left + groups - 1) / groups;
        const uint8_t *q = row_at(j, row);
        for (int p = 0; p < j->block / PANEL; p++)
            group((int)n, j, b, p, first, row, q);
        row += n;
    }
}

/* Calls ------------------------------------------------------------------------------------------------- */

static int64_t depth_of(const Job *j)
{
    return j->segments * j->quads * QUAD;
}

/* A thread's block, and its packed panels. */
static size_t own_bytes(const Job *j)
{
    return aligned_bytes(sizeof(Block)) + (size_t)(j->block * depth_of(j));
}

/* Columns and rows of a task: PANELS or one, and so many tasks that threads end together. */
static void cut(Job *j)
{
    j->threads = omp_get_max_threads();
    j->block = depth_of(j) > DEEP ? PANEL : PANELS * PANEL;
    const int64_t blocks = (j->N + j->block - 1) / j->block,
                  wanted = (TASKS * j->threads + blocks - 1) / blocks;
    const int64_t unit = j->conv ? j->OW : ROWS, units = (j->rows + unit - 1) / unit;
    const int64_t chunks = wanted < units ? wanted : units;
    j->chunk = (units + chunks - 1) / chunks * unit;
}

static Block *block_at(const Job *j, int thread)
{
    char *own = j->own + (size_t)thread * own_bytes(j);
    Block *b = (Block *)(void *)own;
    for (int p = 0; p < PANELS; p++)
        b->packed[p] = (int8_t *)own + aligned_bytes(sizeof *b) + (size_t)(p * PANEL * depth_of(j));
    return b;
}

static void run(const Job *j)
{
    const int64_t columns = j->geglu ? j->block / 2 : j->block, width = j->geglu ? j->N / 2 : j->N;
    const int64_t blocks = (width + columns - 1) / columns, chunks = (j->rows + j->chunk - 1) / j->chunk;
#pragma omp parallel for num_threads(j->threads) schedule(dynamic)
    for (int64_t i = 0; i < blocks * chunks; i++) {
        const int64_t from = i % chunks * j->chunk,
                      to = from + j->chunk < j->rows ? from + j->chunk : j->rows;
        task(j, i / chunks * columns, from, to, block_at(j, omp_get_thread_num()));
    }
}

/* Scratch memory: the rounded operand, steps, zeros, a map's ranges, what is each thread's. */
typedef struct Places {
    size_t q, step, zero, ranges, own;
} Places;

static Places places_of(const Job *j, size_t operand, int64_t steps, int64_t ranges)
{
    return (Places){.q = aligned_bytes(operand),
                    .step = aligned_bytes((size_t)steps * sizeof(float)),
                    .zero = aligned_bytes((size_t)steps * sizeof(int32_t)),
                    .ranges = aligned_bytes((size_t)ranges * sizeof(Range)),
                    .own = (size_t)j->threads * own_bytes(j)};
}

static size_t total(Places p)
{
    return p.q + p.step + p.zero + p.ranges + p.own;
}

static Range *settle_in(Job *j, Places p, char *scratch)
{
    j->q = (uint8_t *)scratch;
    j->step = (float *)(void *)(scratch + p.q);
    j->zero = (int32_t *)(void *)(scratch + p.q + p.step);
    j->own = scratch + p.q + p.step + p.zero + p.ranges;
    return (Range *)(void *)(scratch + p.q + p.step + p.zero);
}

static Job job_of_product(const Product *p, Places *places)
{
    Job j = {.rows = p->m,
             .ld = p->k,
             .segments = 1,
             .quads = p->k / QUAD,
             .w = p->b->data,
             .scales = p->b->scales->data,
             .N = p->n,
             .geglu = p->geglu,
             .bias = p->bias,
             .residual = p->residual,
             .y = p->y};
    cut(&j);
    *places = places_of(&j, (size_t)(p->m * p->k), p->m, 0);
    return j;
}

static Job job_of_conv(const Conv *a, Places *places)
{
    const Tensor *x = a->x, *y = a->y;
    const ConvShape *s = &a->s;
    Job j = {.rows = y->shape[0] * y->shape[1] * y->shape[2],
             .segments = 3,
             .conv = a,
             .OH = y->shape[1],
             .OW = y->shape[2],
             .PH = x->shape[1] + s->pad_top + s->pad_bottom,
             .PW = x->shape[2] + s->pad_left + s->pad_right,
             .C = x->shape[3],
             .w = a->w->data,
             .scales = a->w->scales->data,
             .N = y->shape[3],
             .bias = a->bias,
             .residual = a->residual,
             .y = y};
    j.ld = s->stride * j.C;
    j.quads = 3 * j.C / QUAD;
    j.segment_ld = j.PW * j.C;
    cut(&j);
    *places =
        places_of(&j, (size_t)(x->shape[0] * j.PH * j.PW * j.C), x->shape[0], x->shape[0] * x->shape[1]);
    return j;
}

static bool is_narrow(const Tensor *w)
{
    return w->dtype == DTYPE_I8 && w->scales && cpu_has_int8(32 * VL);
}

bool ISA(int8_takes_product)(const Product *p)
{
    return p->narrow && is_narrow(p->b) && p->trans_b && !p->trans_a && p->alpha == 1 && p->beta == 0 &&
           p->k % QUAD == 0 && p->m >= LEAST_ROWS && !(p->geglu && (p->t || p->keep_h)) &&
           (!p->residual || p->residual->dtype == p->y->dtype);
}

bool ISA(int8_takes_conv)(const Conv *a)
{
    const Tensor *w = a->w;
    return a->narrow && is_narrow(w) && w->shape[2] == 3 && w->shape[3] == 3 && w->shape[1] % QUAD == 0 &&
           !a->s.upsample && (!a->residual || a->residual->dtype == a->y->dtype);
}

size_t ISA(int8_product_scratch)(const Product *p)
{
    Places places;
    job_of_product(p, &places);
    return total(places);
}

size_t ISA(int8_conv_scratch)(const Conv *a)
{
    Places places;
    job_of_conv(a, &places);
    return total(places);
}

void ISA(int8_product)(const Product *p, void *scratch)
{
    Places places;
    Job j = job_of_product(p, &places);
    settle_in(&j, places, scratch);
    for_pieces(j.rows, p->k, product_rows_piece, &(Rounding){.x = p->a, .j = &j});
    run(&j);
}

void ISA(int8_conv)(const Conv *a, void *scratch)
{
    Places places;
    Job j = job_of_conv(a, &places);
    Range *ranges = settle_in(&j, places, scratch);
    round_map(&j, a->x, ranges);
    run(&j);
}

#else

bool ISA(int8_takes_product)(const Product *p)
{
    (void)p;
    return false;
}
bool ISA(int8_takes_conv)(const Conv *a)
{
    (void)a;
    return false;
}
size_t ISA(int8_product_scratch)(const Product *p)
{
    (void)p;
    return 0;
}
size_t ISA(int8_conv_scratch)(const Conv *a)
{
    (void)a;
    return 0;
}
void ISA(int8_product)(const Product *p, void *scratch)
{
    (void)p, (void)scratch;
}
void ISA(int8_conv)(const Conv *a, void *scratch)
{
    (void)a, (void)scratch;
}

#endif
