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
 * and the next pixel's lies C further.
 * Over a doubled map each pixel's four are computed together, from windows of 2×2 (conv_weight.h), so that
 * the doubled map never exists. Under a GEGLU half of a panel's columns are of the first half of h and half
 * of the second, so that h is never in memory. */
#include "int8.h"

#include "convert.h"
#include "gelu.h"

#include <omp.h>

#if VL >= 8

#include "int8_operands.h"

/* Products ---------------------------------------------------------------------------------------------- */

/* sums (n,PANEL) of n rows of q, ld apart, with a panel. */
VEC void row_group(int n, const Job *j, const uint8_t *q, const int8_t *packed, int32_t *sums)
{
    vi sum[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < n; r++)
        sum[r][0] = sum[r][1] = (vi){0};
    for (int64_t s = 0; s < j->segments; s++, q += j->segment_ld)
        for (int64_t i = 0; i < j->quads; i++, packed += PANEL * QUAD) {
            const vi a = (vi)vec_load((const float *)(const void *)packed);
            const vi b = (vi)vec_load((const float *)(const void *)(packed + VL * QUAD));
#pragma GCC unroll 16
            for (int r = 0; r < n; r++) {
                const vi x = quad_in_all(q + r * j->ld + i * QUAD);
                sum[r][0] = dot(sum[r][0], x, a);
                sum[r][1] = dot(sum[r][1], x, b);
            }
        }
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        memcpy(sums + r * PANEL, &sum[r][0], sizeof sum[r][0]);
        memcpy(sums + r * PANEL + VL, &sum[r][1], sizeof sum[r][1]);
    }
}

/* Where a row of sums is in y: a phase's pixels are every other of every other row. */
VEC int64_t row_of_y(const Job *j, int part, int64_t row)
{
    const int64_t h = row / j->OW * 2 + part / 2, w = row % j->OW * 2 + part % 2; /* h counts all pictures' */
    return h * 2 * j->OW + w;
}

/* x to y, by the processor's own conversion where it has one. */
VEC void put_result(const Job *j, DType type, int64_t at, int columns, vf x)
{
#if VL == 16
    if (type == DTYPE_BF16 && j->converts && columns == VL) {
        vh h;
        __asm__("vcvtneps2bf16 %1, %0" : "=v"(h) : "v"(x));
        *(vh_mem *)((uint16_t *)j->y->data + at) = h;
        return;
    }
#endif
    vec_put_n(j->y->data, type, at, x, columns);
}

/* VL columns of a group: how many there are, which the first is, and what their sums stand for. */
typedef struct Columns {
    int n;
    int64_t at;
    vi of_weights;
    vf scale, bias;
} Columns;

/* Of a convolution's `picture`. */
VEC Columns columns_of(const Job *j, bool conv, const Block *b, int part, int half, int64_t first,
                       int64_t picture)
{
    Columns c = {.scale = vec_load(b->scale[part] + half * VL), .bias = vec_load(b->bias[part] + half * VL)};
    memcpy(&c.of_weights, b->sum[part] + half * VL, sizeof c.of_weights);
    c.at = half_column(j, first, part, half, &c.n);
    const Tensor *v = conv ? j->conv->per_picture : NULL;
    if (v && c.n)
        c.bias += vec_get_n(v->data, v->dtype, picture * j->N + c.at, c.n);
    return c;
}

VEC vf value_of(const Columns *c, const int32_t *sum, int32_t zero, float step)
{
    const vi whole = (vi)vec_load((const float *)(const void *)sum) - c->of_weights * zero;
    return __builtin_convertvector(whole, vf) * (c->scale * step) + c->bias;
}

VEC void put_values(const Job *j, DType type, int64_t row_at, const Columns *c, vf x)
{
    if (!c->n)
        return;
    if (j->residual)
        x += vec_get_n(j->residual->data, type, row_at + c->at, c->n);
    put_result(j, type, row_at + c->at, c->n, x);
}

/* Rows of a group are of one picture. */
VEC void put_group(int n, const Job *j, DType type, bool conv, bool geglu, const Block *b, int part,
                   int64_t first, int64_t row, const int32_t *sums)
{
    const int64_t picture = conv ? row / (j->OH * j->OW) : 0, width = geglu ? j->N / 2 : j->N;
    const Columns low = columns_of(j, conv, b, part, 0, first, picture),
                  high = columns_of(j, conv, b, part, 1, first, picture);
    for (int r = 0; r < n; r++, sums += PANEL) {
        const int64_t from = conv ? picture : row + r;
        const int64_t at = (conv && j->phases ? row_of_y(j, part, row + r) : row + r) * width;
        const vf x = value_of(&low, sums, j->zero[from], j->step[from]),
                 y = value_of(&high, sums + VL, j->zero[from], j->step[from]);
        if (geglu) {
            put_values(j, type, at, &low, x * (type == DTYPE_BF16 ? gelu_nearly(y) : gelu_of(y)));
        } else {
            put_values(j, type, at, &low, x);
            put_values(j, type, at, &high, y);
        }
    }
}

/* row_group() with n as a constant. Apart from what is done with the sums, or the compiler has too few
 * registers for the loop. */
static __attribute__((noinline)) void sum_group(int n, const Job *j, const uint8_t *q, const int8_t *packed,
                                                int32_t *sums)
{
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        row_group(n_ < ROWS ? n_ : ROWS, j, q, packed, sums);                                                \
        break;
    switch (n) {
        EACH_TO_12(GROUP)
    default:
        break;
    }
#undef GROUP
}

/* n rows, one panel. */
static void group(int n, const Job *j, const Block *b, int part, int64_t first, int64_t row, const uint8_t *q)
{
    int32_t sums[ROWS * PANEL];
    for (int r = 0; j->residual && !j->phases && r < n; r++) /* comes in while the sums are made */
        __builtin_prefetch(
            at_element(j->residual->data, j->residual->dtype, (row + r) * j->N + first + part * PANEL));
    sum_group(n, j, q, b->packed[part], sums);
    if (j->conv)
        WITH_DTYPE(j->y->dtype, put_group(n, j, T, true, false, b, part, first, row, sums));
    else if (j->geglu)
        WITH_DTYPE(j->y->dtype, put_group(n, j, T, false, true, b, part, first, row, sums));
    else
        WITH_DTYPE(j->y->dtype, put_group(n, j, T, false, false, b, part, first, row, sums));
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
        for (int p = 0; p < j->parts; p++)
            group((int)n, j, b, p, first, row, j->phases ? q + (p / 2 * j->PW + p % 2) * j->C : q);
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
    return aligned_bytes(sizeof(Block)) + (size_t)(j->parts * PANEL * depth_of(j));
}

/* Columns and rows of a task: PANELS or one, and so many tasks that threads end together. */
static void cut(Job *j)
{
    j->threads = omp_get_max_threads();
    j->converts = computes_bf16();
    j->block = j->phases || depth_of(j) > DEEP ? PANEL : PANELS * PANEL;
    j->parts = j->phases ? PHASES : (int)(j->block / PANEL);
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
    for (int p = 0; p < j->parts; p++)
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
    const int64_t side = s->upsample ? 2 : 3, times = s->upsample ? 2 : 1;
    Job j = {.rows = y->shape[0] * y->shape[1] * y->shape[2] / (times * times),
             .segments = side,
             .conv = a,
             .phases = s->upsample,
             .OH = y->shape[1] / times,
             .OW = y->shape[2] / times,
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
    j.quads = side * j.C / QUAD;
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
           (!a->residual || a->residual->dtype == a->y->dtype);
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
