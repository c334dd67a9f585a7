/* A convolution as the kernels see it, and what their files share.
 *
 * All three products of a layer are made of the same walk: an output has a window of source pixels, each with
 * the weights of one tap. Outputs come in classes that have equal windows: one, or four by the parities of
 * row and column. Along one side of the map (rows or columns),
 *
 *     output place + spread·i   has the source pixels   step·i + start … step·i + start + taps − 1,
 *
 * those outside of the source being zero, and tap a multiplies the sum of the weight's elements first[a] …
 * last[a]:
 *
 *     forward                one class, step = stride, start = −padding, tap a = element a
 *     forward, doubled map   phase p: two source pixels from i + p − 1 on, tap sums {0}{1,2} or {0,1}{2}
 *     gradient of x          source is grad y, channels are exchanged; one class, step 1, elements reversed
 *       with stride 2        phase p of x: the elements of p's parity, reversed; step 1, spread 2
 *       doubled map          four pixels of grad y from 2i − 1 on: {2}{1,2}{0,1}{0}, step 2
 *
 * So a doubled map costs 4 taps a pixel instead of 9, and no class multiplies zeros. The gradient of the
 * weight takes the forward's classes and adds each tap's gradient to all the elements that are its sum.
 *
 * The weight's form for a walk is (N, taps, channels) for each class, channels rounded up with zeros, so that
 * rows of N are read along the depth of the product. */
#ifndef ATL_CUDA_CONV_H
#define ATL_CUDA_CONV_H

#include "kernels/cuda/base/packs.h"

enum { WINDOW_MAX = 16, CLASSES_MAX = 4 };

typedef struct Side {
    int taps, start, count, place; /* count: outputs of the class */
    unsigned char first[WINDOW_MAX], last[WINDOW_MAX];
} Side;

typedef struct ConvClass {
    Side rows, columns;
    int first_tap; /* taps of the classes before */
} ConvClass;

/* What happens to a sum on its way out. */
typedef struct Ending {
    void *y; /* (rows,N) */
    const void *bias, *per_picture, *residual;
    int y_type, bias_type, per_picture_type, residual_type;
    bool wide; /* y and the residual are of one type, and 16 bytes of them are aligned wherever 16 begin */
    float *partial; /* not NULL: sums of a part of the depth go here instead, (splits,rows,N), and nothing
                       else */
} Ending;

/* y (…,N) and what is added to it; each may be NULL but y. */
Ending conv_ending(const Tensor *y, const Tensor *bias, const Tensor *per_picture, const Tensor *residual);

typedef struct ConvWalk {
    const void *source, *form; /* (B,H,W,C); (N,taps,padded) for each class */
    int source_type;
    int64_t H, W, C, padded;
    int64_t pictures, out_H, out_W, N;
    int step, spread, classes, all_taps;
    int splits; /* parts that the depth is cut into */
    ConvClass of[CLASSES_MAX];
    Ending end;
} ConvWalk;

static inline int64_t class_rows(const ConvWalk *w, int i)
{
    return w->pictures * w->of[i].rows.count * w->of[i].columns.count;
}
static inline int64_t most_class_rows(const ConvWalk *w)
{
    int64_t most = 0;
    for (int i = 0; i < w->classes; i++)
        most = class_rows(w, i) > most ? class_rows(w, i) : most;
    return most;
}
static inline int most_taps(const ConvWalk *w)
{
    int most = 0;
    for (int i = 0; i < w->classes; i++) {
        const int taps = w->of[i].rows.taps * w->of[i].columns.taps;
        most = taps > most ? taps : most;
    }
    return most;
}

/* Tiles of the tensor cores' kernel for a walk of this shape, and into how many parts it cuts the depth. */
typedef struct Tiling {
    int tile, splits;
} Tiling;

Tiling conv_tiling(const ConvWalk *w);           /* conv_forward.cu */
Status conv_tensor(const ConvWalk *w, int tile); /* source, form and y of one type */
Status conv_finish(const ConvWalk *w);           /* y from end.partial */
int conv_plain_splits(const ConvWalk *w);        /* conv_plain.cu */
Status conv_plain(const ConvWalk *w);            /* any source and y, form f32 */

/* Gradient of the weight, in parts of the depth: w's classes are the forward's, source is x, N is K. */
typedef struct WeightWalk {
    ConvWalk w;
    int kh, kw;
    const void *grad_y; /* (pictures,out_H,out_W,K) */
    int grad_y_type;
    float *parts; /* (splits,K,all_taps,C) */
} WeightWalk;

Tiling conv_weight_tiling(const WeightWalk *g); /* conv_weight.cu */
Status conv_weight_tensor(const WeightWalk *g,
                          int tile);               /* x and grad y of one type, 8 channels or a multiple */
int conv_weight_plain_splits(const WeightWalk *g); /* conv_plain.cu */
Status conv_weight_plain(const WeightWalk *g);
/* grad (K,C,kh,kw) += the parts, grad_bias (K) += sum of grad y, where it is not NULL, by slab_sums
 * (slabs,K). */
Status conv_weight_finish(const WeightWalk *g, float *grad, float *slab_sums, float *grad_bias);
int conv_bias_slabs(const WeightWalk *g);

/* Elements of any type ---------------------------------------------------------------------------------- */

__device__ static inline float read_float(const void *p, int type, int64_t i)
{
    return load_one(Floats{(void *)p, type}, i);
}

/* An output of a class as its pixel, and how many on another is, added with carries instead of a division. */
typedef struct Pixel {
    int picture, r, s;
} Pixel;

__device__ static inline Pixel pixel_of(const ConvClass &k, int i)
{
    const int in_picture = k.rows.count * k.columns.count, in = i % in_picture;
    const Pixel p = {i / in_picture, in / k.columns.count, in % k.columns.count};
    return p;
}
__device__ static inline void pixel_add(Pixel &p, const Pixel &by, const ConvClass &k)
{
    p.s += by.s, p.r += by.r, p.picture += by.picture;
    if (p.s >= k.columns.count)
        p.s -= k.columns.count, p.r++;
    if (p.r >= k.rows.count)
        p.r -= k.rows.count, p.picture++;
}

/* Where output `row` of a class is in y, as a row of N, and in which picture. */
typedef struct OutputAt {
    int64_t row, picture;
} OutputAt;
__device__ static inline OutputAt output_at(const ConvWalk &w, const ConvClass &k, int64_t row)
{
    const Pixel p = pixel_of(k, (int)row);
    OutputAt at;
    at.picture = p.picture;
    at.row =
        (p.picture * w.out_H + k.rows.place + p.r * w.spread) * w.out_W + k.columns.place + p.s * w.spread;
    return at;
}

/* v, COUNT sums of row `at` from column n on (a multiple of COUNT), into y of type T, or as part `split`. */
template <typename T, int COUNT>
__device__ static inline void end_columns(const ConvWalk &w, OutputAt at, int64_t n, int split, float *v)
{
    const Ending &e = w.end;
    const int64_t i = at.row * w.N + n;
    const int count = w.N - n < COUNT ? (int)(w.N - n) : COUNT;
    if (e.partial) {
        float *to = e.partial + split * w.pictures * w.out_H * w.out_W * w.N + i;
        if (w.N % 4 == 0) {
#pragma unroll
            for (int j = 0; j < COUNT; j += 4)
                if (j < count)
                    *(float4 *)(to + j) = make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]);
        } else {
#pragma unroll
            for (int j = 0; j < COUNT; j++)
                if (j < count)
                    to[j] = v[j];
        }
        return;
    }
#pragma unroll
    for (int j = 0; j < COUNT; j++) {
        if (e.bias && j < count)
            v[j] += read_float(e.bias, e.bias_type, n + j);
        if (e.per_picture && j < count)
            v[j] += read_float(e.per_picture, e.per_picture_type, at.picture * w.N + n + j);
    }
    T *y = (T *)e.y + i;
    if (e.wide && COUNT % Pack<T>::count == 0) { /* N is a multiple of a pack */
#pragma unroll
        for (int part = 0; part < COUNT; part += Pack<T>::count) {
            Pack<T> to, add;
            if (part >= count)
                break;
            if (e.residual)
                add = *(const Pack<T> *)((const T *)e.residual + i + part);
#pragma unroll
            for (int j = 0; j < Pack<T>::count; j++)
                to.at[j] = from_float<T>(e.residual ? v[part + j] + to_float(add.at[j]) : v[part + j]);
            *(Pack<T> *)(y + part) = to;
        }
        return;
    }
#pragma unroll
    for (int j = 0; j < COUNT; j++)
        if (j < count)
            y[j] = from_float<T>(e.residual ? v[j] + read_float(e.residual, e.residual_type, i + j) : v[j]);
}

#endif
