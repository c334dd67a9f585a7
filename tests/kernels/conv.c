/* Convolutions: strides, paddings, channel counts that hit tails and blocks, trained and frozen weights. */
#include "gradcheck.h"

/* x, W, then (i[0]) b; i[1…6] the shape; of conv2d i[7]: what the layer keeps */
static ConvShape shape_of(const OpCase *k)
{
    return (ConvShape){(int)k->i[1], (int)k->i[2], (int)k->i[3], (int)k->i[4], (int)k->i[5], k->i[6]};
}

/* A layer that the backward pass can read, and may be kept packed: what the last one kept is given back by
 * the device that made it. */
static Layer *layer_of(Ctx *c, Tensor *weight, Tensor *bias)
{
    static Layer layer;
    static void (*unpack)(Layer * l);
    if (layer.packed)
        unpack(&layer);
    layer = (Layer){.name = "layer", .weight = weight, .bias = bias};
    unpack = c->dev->unpack;
    return &layer;
}

enum { ONCE, TWICE, TWICE_FORWARD, TWICE_NOT_KEPT };

/* Twice: the second time, forward and backward, by the forms that the layer has kept of its weight. */
static Tensor *run_conv2d(Ctx *c, const OpCase *k, Tensor **in)
{
    Layer *l = layer_of(c, in[1], k->i[0] ? in[2] : NULL);
    l->pack_off = k->i[7] == TWICE_NOT_KEPT;
    l->pack_forward_only = k->i[7] == TWICE_FORWARD;
    Tensor *y = conv2d(c, l, shape_of(k), in[0]);
    return k->i[7] == ONCE ? y : add(c, y, conv2d(c, l, shape_of(k), in[0]));
}

/* Σ over the window of output position (i,j) of picture b, for output channel o. */
static double window(const OpCase *k, const double *x, const double *w, int64_t b, int64_t i, int64_t j,
                     int64_t o)
{
    const int64_t H = k->shape[0][1], W = k->shape[0][2], C = k->shape[0][3];
    const int64_t kh = k->shape[1][2], kw = k->shape[1][3];
    const ConvShape s = shape_of(k);
    const int times = s.upsample ? 2 : 1;
    double sum = 0;
    for (int64_t u = 0; u < kh; u++)
        for (int64_t v = 0; v < kw; v++) {
            const int64_t y = i * s.stride + u - s.pad_top, z = j * s.stride + v - s.pad_left;
            if (y < 0 || y >= times * H || z < 0 || z >= times * W)
                continue;
            for (int64_t c = 0; c < C; c++)
                sum += x[((b * H + y / times) * W + z / times) * C + c] * w[((o * C + c) * kh + u) * kw + v];
        }
    return sum;
}

static int times_run(const OpCase *k)
{
    return k->inputs < 4 && k->i[7] != ONCE ? 2 : 1;
}

static int64_t twin_conv2d(const OpCase *k, const double *const *in, double *out)
{
    const ConvShape s = shape_of(k);
    const int64_t B = k->shape[0][0], K = k->shape[1][0], times = s.upsample ? 2 : 1;
    const int64_t H = times * k->shape[0][1], W = times * k->shape[0][2];
    const int64_t OH = (H + s.pad_top + s.pad_bottom - k->shape[1][2]) / s.stride + 1;
    const int64_t OW = (W + s.pad_left + s.pad_right - k->shape[1][3]) / s.stride + 1;
    int64_t n = 0;
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < OH; i++)
            for (int64_t j = 0; j < OW; j++)
                for (int64_t o = 0; o < K; o++)
                    out[n++] =
                        times_run(k) * (window(k, in[0], in[1], b, i, j, o) + (k->i[0] ? in[2][o] : 0));
    return n;
}

#define CONV .run = run_conv2d, .twin = twin_conv2d
#define KEPT(text, how)                                                                                      \
    {                                                                                                        \
        .c = {.what = text,                                                                                  \
              .inputs = 3,                                                                                   \
              .ndim = {4, 4, 1},                                                                             \
              .shape = {{1, 3, 4, 16}, {24, 16, 3, 3}, {24}},                                                \
              .weight = {false, true, true},                                                                 \
              .no_grad = {false, true, true},                                                                \
              .i = {1, 1, 1, 1, 1, 1, false, how},                                                           \
              .range = 0.5},                                                                                 \
        CONV                                                                                                 \
    }

#define TILES(text, B, H, W, C, K, ...)                                                                      \
    {                                                                                                        \
        .c = {.what = text,                                                                                  \
              .inputs = 3,                                                                                   \
              .ndim = {4, 4, 1},                                                                             \
              .shape = {{B, H, W, C}, {K, C, 3, 3}, {K}},                                                    \
              .weight = {false, true, true},                                                                 \
              .range = 0.5,                                                                                  \
              __VA_ARGS__},                                                                                  \
        CONV                                                                                                 \
    }

const OpTest *optest_conv2d(int *count)
{
    static const OpTest tests[] = {
        {.c = {.what = "3×3, trained, latent channels in",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 5, 6, 4}, {9, 4, 3, 3}, {9}},
               .weight = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1}},
         CONV},
        {.c = {.what = "3×3, trained, picture channels out, no bias",
               .inputs = 2,
               .ndim = {4, 4},
               .shape = {{1, 6, 5, 10}, {3, 10, 3, 3}},
               .weight = {false, true},
               .i = {0, 1, 1, 1, 1, 1}},
         CONV},
        {.c = {.what = "3×3 with stride 2",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 7, 8, 5}, {6, 5, 3, 3}, {6}},
               .weight = {false, true, true},
               .i = {1, 2, 1, 1, 1, 1}},
         CONV},
        {.c = {.what = "3×3 with stride 2, padded right and bottom only",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{1, 8, 6, 5}, {6, 5, 3, 3}, {6}},
               .weight = {false, true, true},
               .i = {1, 2, 0, 0, 1, 1}},
         CONV},
        {.c = {.what = "3×3 in whole blocks of channels",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 5, 4, 40}, {48, 40, 3, 3}, {48}},
               .weight = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1},
               .range = 0.5},
         CONV},
        {.c = {.what = "3×3 with a frozen weight",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 5, 6, 32}, {40, 32, 3, 3}, {40}},
               .weight = {false, true, true},
               .no_grad = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1},
               .range = 0.5},
         CONV},
        {.c = {.what = "3×3 with a frozen weight and a trained bias",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 3, 4, 5}, {6, 5, 3, 3}, {6}},
               .weight = {false, true, true},
               .no_grad = {false, true},
               .i = {1, 1, 1, 1, 1, 1}},
         CONV},
        {.c = {.what = "1×1",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 3, 5, 7}, {6, 7, 1, 1}, {6}},
               .weight = {false, true, true},
               .i = {1, 1, 0, 0, 0, 0}},
         CONV},
        {.c = {.what = "1×1 with stride 2",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 5, 4, 7}, {6, 7, 1, 1}, {6}},
               .weight = {false, true, true},
               .i = {1, 2, 0, 0, 0, 0}},
         CONV},
        {.c = {.what = "4×4 patches without overlap to one position",
               .inputs = 2,
               .ndim = {4, 4},
               .shape = {{2, 4, 4, 3}, {5, 3, 4, 4}},
               .weight = {false, true},
               .i = {0, 1, 0, 0, 0, 0}},
         CONV},
        {.c = {.what = "upsampled, trained",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 3, 4, 5}, {6, 5, 3, 3}, {6}},
               .weight = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1, true}},
         CONV},
        {.c = {.what = "upsampled from one pixel, no bias",
               .inputs = 2,
               .ndim = {4, 4},
               .shape = {{1, 1, 1, 7}, {3, 7, 3, 3}},
               .weight = {false, true},
               .i = {0, 1, 1, 1, 1, 1, true}},
         CONV},
        {.c = {.what = "upsampled with a frozen weight, whole blocks of channels",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 3, 5, 32}, {40, 32, 3, 3}, {40}},
               .weight = {false, true, true},
               .no_grad = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1, true},
               .range = 0.5},
         CONV},
        {.c = {.what = "3×3 with stride 2, trained, whole chunks of channels",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 5, 6, 16}, {24, 16, 3, 3}, {24}},
               .weight = {false, true, true},
               .i = {1, 2, 1, 1, 1, 1},
               .range = 0.5},
         CONV},
        {.c = {.what = "3×3 with stride 2, padded right and bottom only, whole chunks of channels",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 6, 5, 24}, {16, 24, 3, 3}, {16}},
               .weight = {false, true, true},
               .no_grad = {false, true, true},
               .i = {1, 2, 0, 0, 1, 1},
               .range = 0.5},
         CONV},
        {.c = {.what = "1×1 with stride 2, whole chunks of channels",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{1, 5, 6, 40}, {24, 40, 1, 1}, {24}},
               .weight = {false, true, true},
               .i = {1, 2, 0, 0, 0, 0}},
         CONV},
        {.c = {.what = "few channels out of many",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{1, 5, 7, 32}, {4, 32, 3, 3}, {4}},
               .weight = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1},
               .range = 0.5},
         CONV},
        {.c = {.what = "upsampled, trained, whole chunks of channels",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{2, 3, 2, 16}, {24, 16, 3, 3}, {24}},
               .weight = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1, true},
               .range = 0.5},
         CONV},
        {.c = {.what = "few pixels, a long sum: cut into parts",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{1, 2, 3, 96}, {40, 96, 3, 3}, {40}},
               .weight = {false, true, true},
               .no_grad = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1},
               .range = 0.25},
         CONV},
        {.c = {.what = "few pixels, many channels on both sides, trained",
               .inputs = 3,
               .ndim = {4, 4, 1},
               .shape = {{1, 3, 3, 72}, {72, 72, 3, 3}, {72}},
               .weight = {false, true, true},
               .i = {1, 1, 1, 1, 1, 1},
               .range = 0.25},
         CONV},
        KEPT("twice, the weight kept in its forms", TWICE),
        KEPT("twice, the forward's form kept", TWICE_FORWARD),
        KEPT("twice, nothing kept", TWICE_NOT_KEPT),
        /* enough tiles of 4×4 for Winograd's way (kernels/cpu/winograd.c) */
        TILES("tiles beyond the map, trained", 1, 13, 11, 32, 32, .i = {1, 1, 1, 1, 1, 1}),
        TILES("several blocks of channels, frozen", 2, 9, 13, 64, 96, .i = {1, 1, 1, 1, 1, 1},
              .no_grad = {false, true, true}),
        TILES("whole tiles, no bias, frozen", 2, 12, 16, 96, 32, .i = {0, 1, 1, 1, 1, 1},
              .no_grad = {false, true, true}),
        TILES("padded otherwise on each side, frozen", 1, 14, 13, 32, 32, .i = {1, 1, 0, 2, 1, 0},
              .no_grad = {false, true, true}),
        TILES("padded by two above, frozen", 1, 12, 14, 32, 32, .i = {1, 1, 2, 0, 2, 1},
              .no_grad = {false, true, true}),
        TILES("more tiles than one group, frozen", 1, 35, 38, 32, 32, .i = {1, 1, 1, 1, 1, 1},
              .no_grad = {false, true, true}),
        /* too few for it, but with AVX2 */
        TILES("one tile a picture, trained", 3, 4, 3, 32, 64, .i = {1, 1, 1, 1, 1, 1}),
        TILES("two tiles a picture, frozen", 2, 3, 6, 64, 32, .i = {1, 1, 1, 1, 1, 1},
              .no_grad = {false, true, true}),
        TILES("upsampled tiles, frozen", 1, 7, 5, 32, 64, .i = {1, 1, 1, 1, 1, 1, true},
              .no_grad = {false, true, true}),
        TILES("upsampled tiles, trained", 2, 6, 7, 64, 32, .i = {0, 1, 1, 1, 1, 1, true}),
        /* whole chunks of channels on few pixels, of which products of bf16 are made (conv_bf16.c) */
        TILES("a small map, frozen", 2, 3, 5, 64, 32, .i = {1, 1, 1, 1, 1, 1},
              .no_grad = {false, true, true}),
        TILES("a small map, padded otherwise on each side, trained", 1, 4, 3, 32, 64,
              .i = {1, 1, 0, 1, 1, 0}),
        TILES("rows of more than one group, frozen", 1, 2, 14, 96, 128, .i = {0, 1, 1, 1, 1, 1},
              .no_grad = {false, true, true}),
        TILES("stride 2, frozen", 2, 5, 4, 64, 32, .i = {1, 2, 1, 1, 1, 1}, .no_grad = {false, true, true}),
        TILES("stride 2, padded right and bottom only, trained", 1, 6, 7, 32, 64, .i = {1, 2, 0, 0, 1, 1}),
        TILES("upsampled, frozen", 2, 3, 2, 64, 96, .i = {1, 1, 1, 1, 1, 1, true},
              .no_grad = {false, true, true}),
        TILES("upsampled, trained", 1, 2, 3, 32, 64, .i = {0, 1, 1, 1, 1, 1, true}),
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}

/* With what is added: x, W, residual, per_picture, then (i[0]) b; i[1…6] the shape, i[7] 1: no residual, 2:
 * no per_picture. */
static Tensor *run_conv2d_add(Ctx *c, const OpCase *k, Tensor **in)
{
    return conv2d_add(c, layer_of(c, in[1], k->i[0] ? in[4] : NULL), shape_of(k), in[0],
                      k->i[7] == 2 ? NULL : in[3], k->i[7] == 1 ? NULL : in[2]);
}

static int64_t twin_conv2d_add(const OpCase *k, const double *const *in, double *out)
{
    const double *const conv[] = {in[0], in[1], k->i[0] ? in[4] : NULL};
    const int64_t n = twin_conv2d(k, conv, out), K = k->shape[1][0], pixels = n / K / k->shape[0][0];
    for (int64_t i = 0; i < n; i++) {
        if (k->i[7] != 1)
            out[i] += in[2][i];
        if (k->i[7] != 2)
            out[i] += in[3][i / (pixels * K) * K + i % K];
    }
    return n;
}

#define CONV_ADD(text, B, H, W, C, K, ...)                                                                   \
    {                                                                                                        \
        .c = {.what = text,                                                                                  \
              .inputs = 5,                                                                                   \
              .ndim = {4, 4, 4, 2, 1},                                                                       \
              .shape = {{B, H, W, C}, {K, C, 3, 3}, {B, H, W, K}, {B, K}, {K}},                              \
              .weight = {false, true, false, false, true},                                                   \
              .range = 0.5,                                                                                  \
              __VA_ARGS__},                                                                                  \
        .run = run_conv2d_add, .twin = twin_conv2d_add                                                       \
    }

const OpTest *optest_conv2d_add(int *count)
{
    static const OpTest tests[] = {
        CONV_ADD("both, trained", 3, 4, 5, 5, 6, .i = {1, 1, 1, 1, 1, 1}),
        CONV_ADD("both, frozen, whole blocks of channels", 2, 5, 4, 32, 40, .i = {1, 1, 1, 1, 1, 1},
                 .no_grad = {false, true, false, false, true}),
        CONV_ADD("for each picture", 2, 3, 3, 4, 9, .i = {1, 1, 1, 1, 1, 1, false, 1},
                 .no_grad = {false, true, true, false, true}),
        CONV_ADD("a residual", 2, 3, 3, 4, 9, .i = {1, 1, 1, 1, 1, 1, false, 2},
                 .no_grad = {false, true, false, true, true}),
        CONV_ADD("only what is added has a gradient", 2, 3, 2, 4, 5, .i = {1, 1, 1, 1, 1, 1},
                 .no_grad = {true, true, false, false, true}),
        CONV_ADD("both, frozen, a small map", 2, 3, 4, 64, 32, .i = {1, 1, 1, 1, 1, 1},
                 .no_grad = {false, true, false, false, true}),
        CONV_ADD("both, frozen, tiles", 2, 9, 13, 32, 64, .i = {1, 1, 1, 1, 1, 1},
                 .no_grad = {false, true, false, false, true}),
        CONV_ADD("a residual, tiles", 1, 13, 16, 64, 32, .i = {1, 1, 1, 1, 1, 1, false, 2},
                 .no_grad = {false, true, false, true, true}),
        {.c = {.what = "many pixels, 320 channels out of a 1×1 weight",
               .inputs = 4,
               .ndim = {4, 4, 4, 2},
               .shape = {{2, 8, 15, 8}, {320, 8, 1, 1}, {2, 8, 15, 320}, {2, 320}},
               .weight = {false, true},
               .no_grad = {false, true},
               .i = {0, 1, 0, 0, 0, 0},
               .range = 0.5},
         .run = run_conv2d_add,
         .twin = twin_conv2d_add},
        {.c = {.what = "more pixels, 128 channels out of a 1×1 weight",
               .inputs = 4,
               .ndim = {4, 4, 4, 2},
               .shape = {{2, 25, 20, 8}, {128, 8, 1, 1}, {2, 25, 20, 128}, {2, 128}},
               .weight = {false, true},
               .no_grad = {false, true},
               .i = {0, 1, 0, 0, 0, 0},
               .range = 0.5},
         .run = run_conv2d_add,
         .twin = twin_conv2d_add},
        {.c = {.what = "no bias, a 1×1 weight",
               .inputs = 4,
               .ndim = {4, 4, 4, 2},
               .shape = {{2, 3, 4, 5}, {6, 5, 1, 1}, {2, 3, 4, 6}, {2, 6}},
               .weight = {false, true},
               .i = {0, 1, 0, 0, 0, 0}},
         .run = run_conv2d_add,
         .twin = twin_conv2d_add},
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}
