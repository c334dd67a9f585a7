/* 3×3 convolutions by the processor's own products of bf16, and the gradients of their inputs, where
 * Winograd's way does not pay: small maps, strides, doubled maps. No weight is kept in another form: a
 * model's would take as much memory again, backward twice as much.
 *
 * What is read is copied into a map with its padding around, (B,PH,PW,C). Each pixel written is then a sum
 * over taps, which are places in that map from the pixel's own on, and channels. Pixels of different parity
 * may have different taps; they are parts:
 *
 *     stride s            1 part of 9 taps, pixels s apart
 *     doubled map         4 parts of 2×2 taps, whose weights are sums (conv_bf16_weight.h)
 *     gradient, stride 1  1 part of 9 taps
 *     gradient, stride 2  4 parts of 4, 2, 2 and 1 taps
 *     gradient, doubled   1 part of 4×4 taps, pixels 2 apart
 *
 * Tiling. A task of one thread are LANES channels of some rows of the map. For each `chunk` of C it makes a
 * panel of the weight, from the file's order, in the second-level cache, and walks over the pixels with
 * ROWS × LANES sums in registers; vdpbf16ps adds two products in each lane. Meanwhile the next chunk's part
 * of the weight is fetched from memory, which for 64 pixels takes half as long as the products. */
#include "conv_bf16.h"

#include "convert.h"

#include <omp.h>

#if VL == 16

#include "conv_bf16_weight.h"

enum {
    ROWS = 12,         /* pixels at a time */
    TASK_ROWS = 256,   /* pixels of a part in a task, about */
    TASKS = 4,         /* for each thread, at least */
    LINE = 64,         /* bytes that a cache fetches at once */
    MOST_PIXELS = 1024 /* of a picture's smaller map: with more, making the weight's order once for all costs
                          less than a panel for each task, and few weights meet such maps */
};

typedef struct Tap {
    int64_t at; /* in the map, from the pixel's own place on */
    int slot;   /* in the panel */
} Tap;

typedef struct Part {
    int taps;
    Tap tap[SUMS];
    int64_t row, column; /* of its first pixel in what is written */
} Part;

typedef struct Job {
    const Tensor *in, *out, *bias, *per_picture, *residual;
    uint16_t *map;
    int64_t PH, PW, C, top, left; /* the map, and where `in` begins there */
    int64_t H, W, K;              /* pixels of a part, channels that are written */
    int64_t ahead;                /* from pixel to pixel in the map, in each direction */
    int64_t step;                 /* the same in what is written */
    int parts;
    Part part[4];
    Panels panels;
    int64_t chunk_rows; /* rows of a task, of all pictures' */
    char *own;
    int threads;
} Job;

/* A thread's own. */
typedef struct Own {
    Staged staged;
    uint32_t panel[SUMS * PAIRS * LANES];
    float sums[]; /* (parts, pixels of a task, LANES) */
} Own;

/* The way through the map -------------------------------------------------------------------------------- */

static void add_tap(const Job *j, Part *p, int64_t row, int64_t column, int slot)
{
    p->tap[p->taps++] = (Tap){(row * j->PW + column) * j->C, slot};
}

static void plain_taps(Job *j)
{
    j->parts = 1;
    for (int t = 0; t < TAPS; t++)
        add_tap(j, &j->part[0], t / 3, t % 3, t);
}

/* Pixel (2h + row, 2w + column): what is seen of x begins there at h + row and w + column in the padded map.
 */
static void doubled_taps(Job *j)
{
    j->parts = 4;
    j->step = 2;
    for (int i = 0; i < j->parts; i++) {
        Part *p = &j->part[i];
        p->row = i / 2, p->column = i % 2;
        for (int t = 0; t < 4; t++)
            add_tap(j, p, p->row + t / 2, p->column + t % 2,
                    (int)(4 * (2 * p->row + t / 2) + 2 * p->column + t % 2));
    }
}

/* Grad y's rows 2h − 1 … 2h + 2 are those that saw x's row h. */
static void gradient_of_doubled_taps(Job *j)
{
    static const int sums[] = {0, 2, 1, 3}; /* of turned taps */
    j->parts = 1;
    j->ahead = 2;
    for (int t = 0; t < SUMS; t++)
        add_tap(j, &j->part[0], t / 4, t % 4, 4 * sums[t / 4] + sums[t % 4]);
}

/* Pixel 2h + row of x was seen by grad y's pixel h + (row + top − u)/2 through tap u, where that is whole. */
static void gradient_of_stride_taps(Job *j, const ConvShape *s)
{
    j->parts = 4;
    j->step = 2;
    for (int i = 0; i < j->parts; i++) {
        Part *p = &j->part[i];
        p->row = i / 2, p->column = i % 2;
        for (int t = 0; t < TAPS; t++) {
            const int64_t down = p->row + s->pad_top - t / 3, across = p->column + s->pad_left - t % 3;
            if (down % 2 == 0 && across % 2 == 0)
                add_tap(j, p, 1 + down / 2, 1 + across / 2, TAPS - 1 - t);
        }
    }
}

/* Rows of a task: few enough for their sums to stay in the second-level cache, and so many tasks that threads
 * end together. */
static void cut(Job *j)
{
    const int64_t blocks = j->K / LANES, rows = j->in->shape[0] * j->H,
                  wanted = (TASKS * j->threads + blocks - 1) / blocks, fit = TASK_ROWS / j->W;
    const int64_t equal = (rows + wanted - 1) / wanted, most = fit > 1 ? fit : 1;
    j->chunk_rows = equal < most ? equal : most;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static Job job_of(const Conv *a, bool backward)
{
    const Tensor *in = backward ? a->y : a->x, *out = backward ? a->x : a->y;
    const ConvShape *s = &a->s;
    const int64_t H = in->shape[1], W = in->shape[2], C = in->shape[3];
    const bool strided = backward && s->stride == 2;
    Job j = {.in = in,
             .out = out,
             .C = C,
             .K = out->shape[3],
             .top = strided                    ? 1
                    : backward && !s->upsample ? 2 - s->pad_top
                                               : s->pad_top,
             .left = strided                    ? 1
                     : backward && !s->upsample ? 2 - s->pad_left
                                                : s->pad_left,
             .ahead = backward ? 1 : s->stride,
             .step = 1,
             .panels = {.w = a->w->data,
                        .type = a->w->dtype,
                        .K = a->w->shape[0],
                        .C = a->w->shape[1],
                        .chunk = C % CHUNK ? CHUNK / 2 : CHUNK,
                        .turned = backward,
                        .sums = s->upsample},
             .threads = omp_get_max_threads()};
    const int64_t halves = strided || (s->upsample && !backward) ? 2 : 1;
    j.H = (out->shape[1] + halves - 1) / halves, j.W = (out->shape[2] + halves - 1) / halves;
    const int64_t times = backward && s->upsample ? 2 : j.ahead, window = backward && s->upsample ? 4 : 3;
    j.PH = larger((j.H - 1) * times + window, H + j.top),
    j.PW = larger((j.W - 1) * times + window, W + j.left);
    if (strided)
        gradient_of_stride_taps(&j, s);
    else if (s->upsample && backward)
        gradient_of_doubled_taps(&j);
    else if (s->upsample)
        doubled_taps(&j);
    else
        plain_taps(&j);
    if (!backward)
        j.bias = a->bias, j.per_picture = a->per_picture, j.residual = a->residual;
    cut(&j);
    return j;
}

/* A part of the weight that is to be in the cache when it is wanted: rows of so many bytes. */
typedef struct Ahead {
    const char *from;
    int64_t rows, bytes, ld, row, byte;
    int64_t at_once; /* lines with each tap */
} Ahead;

/* Asks for the next `lines` lines of what the panel after this one is made of. */
VEC void fetch_lines(Ahead *f, int64_t lines)
{
    for (; lines > 0 && f->row < f->rows; lines--) {
        __builtin_prefetch(f->from + f->row * f->ld + f->byte);
        f->byte += LINE;
        if (f->byte >= f->bytes)
            f->row++, f->byte = 0;
    }
}

static Ahead ahead_of(const Panels *p, int64_t out, int64_t in)
{
    const int64_t row = p->turned ? in + p->chunk : out, column = p->turned ? out : in + p->chunk;
    const bool last = in + p->chunk >= (p->turned ? p->K : p->C);
    const int64_t size = (int64_t)dtype_size(p->type);
    return (Ahead){.from = last ? NULL : at_element(p->w, p->type, (row * p->C + column) * TAPS),
                   .rows = last        ? 0
                           : p->turned ? p->chunk
                                       : LANES,
                   .bytes = (p->turned ? LANES : p->chunk) * TAPS * size,
                   .ld = p->C * TAPS * size};
}

/* Products ---------------------------------------------------------------------------------------------- */

/* sums (n,LANES) of n pixels += what chunk channels of the map from `map` on come to, by one part's taps. */
VEC void pixel_group(int n, const Job *j, const Part *p, bool first, const uint16_t *map,
                     const uint32_t *panel, Ahead *ahead, float *sums)
{
    const int64_t pairs = j->panels.chunk / 2, ld = j->ahead * j->C;
    vf sum[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        sum[r][0] = first ? vec_set(0) : vec_load(sums + r * LANES);
        sum[r][1] = first ? vec_set(0) : vec_load(sums + r * LANES + VL);
    }
    for (int t = 0; t < p->taps; t++) {
        const uint16_t *x = map + p->tap[t].at;
        const float *w = (const float *)(const void *)(panel + p->tap[t].slot * pairs * LANES);
        fetch_lines(ahead, ahead->at_once);
        for (int64_t i = 0; i < pairs; i++, x += 2, w += LANES) {
            const vf a = vec_load(w), b = vec_load(w + VL);
#pragma GCC unroll 16
            for (int r = 0; r < n; r++) {
                float pair;
                memcpy(&pair, x + r * ld, sizeof pair);
                const vf both = pair - (vf){0};
                __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum[r][0]) : "v"(a), "v"(both));
                __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum[r][1]) : "v"(b), "v"(both));
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        vec_store(sums + r * LANES, sum[r][0]);
        vec_store(sums + r * LANES + VL, sum[r][1]);
    }
}

/* pixel_group() with n as a constant. */
static __attribute__((noinline)) void sum_group(int n, const Job *j, const Part *p, bool first,
                                                const uint16_t *map, const uint32_t *panel, Ahead *ahead,
                                                float *sums)
{
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        pixel_group(n_, j, p, first, map, panel, ahead, sums);                                               \
        break;
    switch (n) {
        EACH_TO_12(GROUP)
    default:
        break;
    }
#undef GROUP
}

/* A task ------------------------------------------------------------------------------------------------ */

/* All sums of a chunk of C from c on: a row of pixels in groups as equal as possible. */
static void sum_chunk(const Job *j, int64_t from, int64_t to, int64_t k, int64_t c, Own *own)
{
    const int64_t groups = (j->W + ROWS - 1) / ROWS;
    Ahead ahead = ahead_of(&j->panels, k, c);
    ahead.at_once = (ahead.rows * (ahead.bytes / LINE + 1)) / ((to - from) * groups * TAPS) + 1;
    for (int64_t row = from; row < to; row++)
        for (int64_t i = 0; i < groups; i++) {
            const int64_t first = i * j->W / groups, n = (i + 1) * j->W / groups - first;
            const uint16_t *map =
                j->map + ((row / j->H * j->PH + row % j->H * j->ahead) * j->PW + first * j->ahead) * j->C + c;
            for (int p = 0; p < j->parts; p++)
                sum_group((int)n, j, &j->part[p], c == 0, map, own->panel, &ahead,
                          own->sums + ((p * j->chunk_rows + row - from) * j->W + first) * LANES);
        }
}

VEC vf added(const Job *j, int64_t b, int64_t k)
{
    vf x = vec_set(0);
    if (j->bias)
        x += vec_get(j->bias->data, j->bias->dtype, k);
    if (j->per_picture)
        x += vec_get(j->per_picture->data, j->per_picture->dtype, b * j->K + k);
    return x;
}

/* Part p's pixels of a row of the map, those within what is written. */
VEC void put_row(const Job *j, DType type, const Part *p, int64_t row, int64_t k, const float *sums)
{
    const int64_t b = row / j->H, h = row % j->H * j->step + p->row, OH = j->out->shape[1],
                  OW = j->out->shape[2];
    const vf more[2] = {added(j, b, k), added(j, b, k + VL)};
    for (int64_t i = 0; h < OH && i < j->W; i++) {
        const int64_t w = i * j->step + p->column, at = ((b * OH + h) * OW + w) * j->K + k;
        for (int half = 0; w < OW && half < 2; half++) {
            vf x = vec_load(sums + i * LANES + half * VL) + more[half];
            if (j->residual)
                x += vec_get(j->residual->data, j->residual->dtype, at + half * VL);
            vec_put(j->out->data, type, at + half * VL, x);
        }
    }
}

static void task(const Job *j, int64_t from, int64_t to, int64_t k, Own *own)
{
    for (int64_t c = 0; c < j->C; c += j->panels.chunk) {
        pack_panel(&j->panels, k, c, &own->staged, own->panel);
        sum_chunk(j, from, to, k, c, own);
    }
    for (int p = 0; p < j->parts; p++)
        for (int64_t row = from; row < to; row++)
            WITH_DTYPE(j->out->dtype, put_row(j, T, &j->part[p], row, k,
                                              own->sums + (p * j->chunk_rows + row - from) * j->W * LANES));
}

/* Calls ------------------------------------------------------------------------------------------------- */

/* Rows of the padded map, of all pictures. */
static void map_piece(const void *args, int64_t first, int64_t last)
{
    const Job *j = args;
    const int64_t H = j->in->shape[1], W = j->in->shape[2];
    for (int64_t r = first; r < last; r++) {
        const int64_t h = r % j->PH - j->top, row = j->PW * j->C;
        uint16_t *to = j->map + r * row;
        memset(to, 0, (size_t)row * sizeof *to);
        if (h >= 0 && h < H)
            memcpy(to + j->left * j->C, (const uint16_t *)j->in->data + (r / j->PH * H + h) * W * j->C,
                   (size_t)(W * j->C) * sizeof *to);
    }
}

static size_t map_bytes(const Job *j)
{
    return aligned_bytes((size_t)(j->in->shape[0] * j->PH * j->PW * j->C) * sizeof *j->map);
}

static size_t own_bytes(const Job *j)
{
    return aligned_bytes(sizeof(Own) + (size_t)(j->parts * j->chunk_rows * j->W * LANES) * sizeof(float));
}

bool ISA(bf16_takes_conv)(const Conv *a, bool backward)
{
    const Tensor *w = a->w, *in = backward ? a->y : a->x;
    const ConvShape *s = &a->s;
    const int64_t x = a->x->shape[1] * a->x->shape[2], y = a->y->shape[1] * a->y->shape[2];
    return computes_bf16() && in->dtype == DTYPE_BF16 && !w->scales && w->shape[2] == 3 && w->shape[3] == 3 &&
           w->shape[0] % LANES == 0 && w->shape[1] % LANES == 0 && s->stride <= 2 && s->pad_top <= 1 &&
           s->pad_left <= 1 && !(s->upsample && s->stride != 1) && in->shape[0] > 0 &&
           (x < y ? x : y) <= MOST_PIXELS;
}

size_t ISA(bf16_conv_scratch)(const Conv *a, bool backward)
{
    const Job j = job_of(a, backward);
    return map_bytes(&j) + (size_t)j.threads * own_bytes(&j);
}

void ISA(bf16_conv)(const Conv *a, bool backward, void *scratch)
{
    Job j = job_of(a, backward);
    j.map = scratch;
    j.own = (char *)scratch + map_bytes(&j);
    const int64_t rows = j.in->shape[0] * j.H, chunks = (rows + j.chunk_rows - 1) / j.chunk_rows;
    for_pieces(j.in->shape[0] * j.PH, j.PW * j.C, map_piece, &j);
#pragma omp parallel for num_threads(j.threads) schedule(dynamic)
    for (int64_t i = 0; i < j.K / LANES * chunks; i++) {
        const int64_t from = i % chunks * j.chunk_rows,
                      to = from + j.chunk_rows < rows ? from + j.chunk_rows : rows;
        task(&j, from, to, i / chunks * LANES,
             (Own *)(void *)(j.own + (size_t)omp_get_thread_num() * own_bytes(&j)));
    }
}

#else

bool ISA(bf16_takes_conv)(const Conv *a, bool backward)
{
    (void)a, (void)backward;
    return false;
}
size_t ISA(bf16_conv_scratch)(const Conv *a, bool backward)
{
    (void)a, (void)backward;
    return 0;
}
void ISA(bf16_conv)(const Conv *a, bool backward, void *scratch)
{
    (void)a, (void)backward, (void)scratch;
}

#endif
