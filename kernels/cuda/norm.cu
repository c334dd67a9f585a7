/* Group norm (with or without SiLU), forward and backward: the formulas of kernels/cpu/norm.c, f32.
 *
 * A block has one picture, a set of whole groups, whose channels are whole packs (packs.h), and a piece of
 * the positions. Its threads are rows of packs, so that a warp reads along the channels; each keeps the
 * constants of its pack's channels in registers and goes down the positions:
 *
 *                    channels of the set: 80 of 320 in 10 groups a block, 10 packs
 *     position 0     t0   t1   t2  …  t9         The threads' sums of each channel are added through shared
 *     position 1     t10  t11  t12 …  t19        memory, a warp adds the channels of a group.
 *     …
 *     position 24    t240 …           t249       t250 … t255 have none
 *     position 25    t0   …
 *
 * Memory decides. A set with no more than WHOLE elements is one block: one kernel, which reads a second time
 * what the card's caches still hold. Else the sums over pieces of about PIECE elements are one kernel, and
 * the next, cut alike, begins by adding up its groups' pieces, at most PIECES: two passes over memory and no
 * third launch.
 *
 * Sums are of x minus the picture's first pixel, so that the variance survives a mean that is large against
 * it; pieces hand on mean and squared deviations, which add up without loss (Chan et al. 1979). The backward
 * works z out again: cheaper than reading it. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/gelu.h"
#include "kernels/cuda/base/packs.h"
#include "norm_weights.h"

#define THREADS 256
#define WHOLE_THREADS 512
#define WHOLE 40960
#define PIECE 8192
#define PIECES 128
#define SET 64        /* channels that a block of a piece should have: 128 bytes in 16 bits */
#define SET_MOST 4096 /* what shared memory has room for */

typedef struct Group {
    Floats x, w, b, dy, y;    /* y: the output, or grad_x */
    float *mean, *rstd;       /* (B,groups) */
    float *partial;           /* (B,pieces,groups,2) */
    float *channels;          /* (B pieces,2,C): of the gradients of w and b, or NULL */
    int64_t P, rows;          /* positions; those of a piece */
    int C, groups, each, set; /* channels of a group; of a block */
    int pieces, silu;
    float eps;
    int whole; /* one block has all positions */
    int given; /* mean and rstd are read, not taken of x */
} Group;

/* What a block has. */
typedef struct Part {
    int64_t b, row, rows; /* picture; its first position, their number */
    int first, channels, groups;
} Part;

__device__ static inline Part part_of(const Group &s)
{
    Part p;
    p.b = blockIdx.z;
    p.row = blockIdx.x * s.rows;
    p.rows = s.P - p.row < s.rows ? s.P - p.row : s.rows;
    p.first = blockIdx.y * s.set;
    p.channels = s.C - p.first < s.set ? s.C - p.first : s.set;
    p.groups = p.channels / s.each;
    return p;
}

/* Element of x at position r of the part, channel c of the set. */
__device__ static inline int64_t element_of(const Group &s, const Part &p, int64_t r, int c)
{
    return (p.b * s.P + p.row + r) * s.C + p.first + c;
}

/* What a thread's pack of channels is to be normalised with: z = (x - mean) factor + bias. */
template <int N> struct Channels {
    float mean[N], factor[N], bias[N];
};

/* mean, rstd: of the set's groups */
template <int N>
__device__ static inline void channels_of(const Group &s, const Part &p, int c, const float *mean,
                                          const float *rstd, Channels<N> *k)
{
#pragma unroll
    for (int j = 0; j < N; j++) {
        const int g = (c + j) / s.each;
        k->mean[j] = mean[g];
        k->factor[j] = rstd[g] * load_one(s.w, p.first + c + j);
        k->bias[j] = load_one(s.b, p.first + c + j);
    }
}

/* dz: dy, or dy silu'(z), where d = x - mean */
__device__ static inline float gradient_of_z(float d, float dy, float factor, float bias, int silu)
{
    return silu ? silu_grad_of(d * factor + bias, dy) : dy;
}

/* Sums over a part's positions ------------------------------------------------------------------------- */

/* The thread's positions are lane, lane + lanes …: first += x - origin, second += its square. */
template <typename T, int N>
__device__ static inline void add_rows(const Group &s, const Part &p, int c, int lane, int lanes,
                                       float first[N], float second[N])
{
    float origin[N];
    load<T, N>(s.x, p.b * s.P * s.C + p.first + c, origin);
#pragma unroll 4
    for (int64_t r = lane; r < p.rows; r += lanes) {
        float x[N];
        load<T, N>(s.x, element_of(s, p, r, c), x);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float d = x[j] - origin[j];
            first[j] += d;
            second[j] += d * d;
        }
    }
}

/* first += dz, second += dz (x - mean) */
template <typename T, int N>
__device__ static inline void add_gradient_rows(const Group &s, const Part &p, int c, int lane, int lanes,
                                                float first[N], float second[N])
{
    const int64_t groups = p.b * s.groups + p.first / s.each;
    Channels<N> k;
    channels_of<N>(s, p, c, s.mean + groups, s.rstd + groups, &k);
#pragma unroll(N > 1 ? 2 : 1)
    for (int64_t r = lane; r < p.rows; r += lanes) {
        float x[N], dy[N];
        load<T, N>(s.x, element_of(s, p, r, c), x);
        load<T, N>(s.dy, element_of(s, p, r, c), dy);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float d = x[j] - k.mean[j];
            const float dz = gradient_of_z(d, dy[j], k.factor[j], k.bias[j], s.silu);
            first[j] += dz;
            second[j] += dz * d;
        }
    }
}

/* sums (2,set): the two sums of each channel of the part. room: 2 N floats for each thread. Ends with a
 * barrier.
 */
template <typename T, int N, bool BACKWARD>
__device__ static inline void channel_sums(const Group &s, const Part &p, float *room, float *sums)
{
    const int threads = blockDim.x, most = threads * N;
    for (int begin = 0; begin < p.channels; begin += most) { /* more than once only where a group is huge */
        const int count = p.channels - begin < most ? p.channels - begin : most, packs = count / N;
        const int lanes = threads / packs, lane = threadIdx.x / packs, pack = threadIdx.x % packs;
        float first[N] = {}, second[N] = {};
        if (lane < lanes) {
            if (BACKWARD)
                add_gradient_rows<T, N>(s, p, begin + pack * N, lane, lanes, first, second);
            else
                add_rows<T, N>(s, p, begin + pack * N, lane, lanes, first, second);
                /* (lanes,2,N,packs): neighbouring threads write neighbours */
#pragma unroll
            for (int j = 0; j < N; j++) {
                room[(lane * 2 * N + j) * packs + pack] = first[j];
                room[((lane * 2 + 1) * N + j) * packs + pack] = second[j];
            }
        }
        __syncthreads();
        /* the lanes' sums: by as many threads as there are, each of which leaves its own in its first row */
        const int columns = 2 * count, shares = columns < threads ? threads / columns : 1;
        for (int i = threadIdx.x; i < columns * shares; i += threads) {
            float sum = 0;
            for (int l = i / columns; l < lanes; l += shares)
                sum += room[l * columns + i % columns];
            if (i / columns < lanes)
                room[i] = sum;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < columns; i += threads) {
            const int which = i / count, at = i % count;
            float sum = 0;
            for (int l = 0; l < shares && l < lanes; l++)
                sum += room[l * columns + i];
            sums[which * s.set + begin + at % packs * N + at / packs] = sum;
        }
        __syncthreads();
    }
}

/* The forward ------------------------------------------------------------------------------------------ */

/* Mean and squared deviations of a group in the part; of a whole warp, the same in each lane. */
typedef struct Moments {
    float mean, spread;
} Moments;

__device__ static inline Moments moments_of(const Group &s, const Part &p, int g, const float *sums)
{
    const int lane = threadIdx.x % WARP;
    const float n = (float)p.rows;
    const int64_t first_pixel = p.b * s.P * s.C + p.first;
    float mean = 0, spread = 0;
    for (int c = g * s.each + lane; c < (g + 1) * s.each; c += WARP)
        mean += load_one(s.x, first_pixel + c) + sums[c] / n;
    mean = warp_sum(mean) / (float)s.each;
    for (int c = g * s.each + lane; c < (g + 1) * s.each; c += WARP) {
        const float sum = sums[c], away = load_one(s.x, first_pixel + c) + sum / n - mean;
        spread += sums[s.set + c] - sum * sum / n + n * away * away;
    }
    return Moments{mean, warp_sum(spread)};
}

/* Of all positions, from the pieces' moments. */
__device__ static inline Moments moments_of_pieces(const Group &s, const Part &p, int g)
{
    const float *of = s.partial + (p.b * s.pieces * s.groups + p.first / s.each + g) * 2;
    const int lane = threadIdx.x % WARP;
    float mean = 0, spread = 0;
    for (int i = lane; i < s.pieces; i += WARP) {
        const int64_t rows = i < s.pieces - 1 ? s.rows : s.P - i * s.rows;
        mean += of[(int64_t)i * s.groups * 2] * ((float)rows / (float)s.P);
    }
    mean = warp_sum(mean);
    for (int i = lane; i < s.pieces; i += WARP) {
        const int64_t rows = i < s.pieces - 1 ? s.rows : s.P - i * s.rows;
        const float away = of[(int64_t)i * s.groups * 2] - mean;
        spread += of[(int64_t)i * s.groups * 2 + 1] + (float)(rows * s.each) * away * away;
    }
    return Moments{mean, warp_sum(spread)};
}

/* Keeps the group's mean and rstd for the block, and for the backward. */
__device__ static inline void keep_moments(const Group &s, const Part &p, int g, Moments m, float *mean,
                                           float *rstd)
{
    const float spread = m.spread < 0 ? 0 : m.spread; /* rounding may give less than 0; NaN stays */
    const float r = 1.0f / sqrtf(spread / ((float)s.P * (float)s.each) + s.eps);
    if (threadIdx.x % WARP != 0)
        return;
    mean[g] = m.mean;
    rstd[g] = r;
    if (blockIdx.x == 0) {
        s.mean[p.b * s.groups + p.first / s.each + g] = m.mean;
        s.rstd[p.b * s.groups + p.first / s.each + g] = r;
    }
}

/* y of the part. mean, rstd: of the set's groups, in shared memory. */
template <typename T, int N>
__device__ static inline void normalise(const Group &s, const Part &p, const float *mean, const float *rstd)
{
    const int most = blockDim.x * N;
    for (int begin = 0; begin < p.channels; begin += most) {
        const int packs = (p.channels - begin < most ? p.channels - begin : most) / N;
        const int lanes = blockDim.x / packs, lane = threadIdx.x / packs;
        const int c = begin + threadIdx.x % packs * N;
        Channels<N> k;
        if (lane >= lanes)
            continue;
        channels_of<N>(s, p, c, mean, rstd, &k);
#pragma unroll 2
        for (int64_t r = lane; r < p.rows; r += lanes) {
            float x[N];
            load<T, N>(s.x, element_of(s, p, r, c), x);
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float z = (x[j] - k.mean[j]) * k.factor[j] + k.bias[j];
                x[j] = s.silu ? silu_of(z) : z;
            }
            store<T, N>(s.y, element_of(s, p, r, c), x);
        }
    }
}

/* Shared memory: the threads' room, 2 N floats each, which is the groups' mean and rstd afterwards; the
 * channels' sums (2,set). */
template <typename T, int N>
__global__ static void __launch_bounds__(WHOLE_THREADS) group_norm_sums_kernel(Group s)
{
    SHARED(float, room);
    float *const sums = room + 2 * N * blockDim.x;
    const Part p = part_of(s);
    channel_sums<T, N, false>(s, p, room, sums);
    for (int g = threadIdx.x / WARP; g < p.groups; g += blockDim.x / WARP) {
        const Moments m = moments_of(s, p, g, sums);
        float *to = s.partial + ((p.b * s.pieces + blockIdx.x) * s.groups + p.first / s.each + g) * 2;
        if (threadIdx.x % WARP == 0)
            to[0] = m.mean, to[1] = m.spread;
    }
}

template <typename T, int N>
__global__ static void __launch_bounds__(WHOLE_THREADS) group_norm_kernel(Group s)
{
    SHARED(float, room);
    float *const sums = room + 2 * N * blockDim.x, *const mean = room;
    const Part p = part_of(s);
    float *const rstd = mean + p.groups;
    if (s.whole && !s.given)
        channel_sums<T, N, false>(s, p, room, sums);
    for (int g = threadIdx.x; s.given && g < p.groups; g += blockDim.x) {
        mean[g] = s.mean[p.b * s.groups + p.first / s.each + g];
        rstd[g] = s.rstd[p.b * s.groups + p.first / s.each + g];
    }
    for (int g = threadIdx.x / WARP; !s.given && g < p.groups; g += blockDim.x / WARP) {
        const Moments m = s.whole ? moments_of(s, p, g, sums) : moments_of_pieces(s, p, g);
        keep_moments(s, p, g, m, mean, rstd);
    }
    __syncthreads();
    if (s.y.data)
        normalise<T, N>(s, p, mean, rstd);
}

/* The backward ----------------------------------------------------------------------------------------- */

/* Σ w dz and Σ w dz (x - mean) of a group in the part; leaves the channels' for the gradients of w and b. */
typedef struct Slopes {
    float sum, product;
} Slopes;

__device__ static inline Slopes slopes_of(const Group &s, const Part &p, int g, const float *sums)
{
    const int lane = threadIdx.x % WARP;
    float *const channels =
        s.channels ? s.channels + (p.b * s.pieces + blockIdx.x) * 2 * s.C + p.first : NULL;
    const float rstd = s.rstd[p.b * s.groups + p.first / s.each + g];
    float sum = 0, product = 0;
    for (int c = g * s.each + lane; c < (g + 1) * s.each; c += WARP) {
        const float w = load_one(s.w, p.first + c);
        sum += w * sums[c];
        product += w * sums[s.set + c];
        if (channels) {
            channels[c] = sums[s.set + c] * rstd;
            channels[s.C + c] = sums[c];
        }
    }
    return Slopes{warp_sum(sum), warp_sum(product)};
}

__device__ static inline Slopes slopes_of_pieces(const Group &s, const Part &p, int g)
{
    const float *of = s.partial + (p.b * s.pieces * s.groups + p.first / s.each + g) * 2;
    float sum = 0, product = 0;
    for (int i = threadIdx.x % WARP; i < s.pieces; i += WARP) {
        sum += of[(int64_t)i * s.groups * 2];
        product += of[(int64_t)i * s.groups * 2 + 1];
    }
    return Slopes{warp_sum(sum), warp_sum(product)};
}

/* dx = factor dz + (x - mean) slope + offset */
template <typename T, int N>
__device__ static inline void take_back(const Group &s, const Part &p, const float *slopes,
                                        const float *offsets)
{
    const int most = blockDim.x * N;
    const int64_t groups = p.b * s.groups + p.first / s.each;
    for (int begin = 0; begin < p.channels; begin += most) {
        const int packs = (p.channels - begin < most ? p.channels - begin : most) / N;
        const int lanes = blockDim.x / packs, lane = threadIdx.x / packs;
        const int c = begin + threadIdx.x % packs * N;
        Channels<N> k;
        float slope[N], offset[N];
        if (lane >= lanes)
            continue;
        channels_of<N>(s, p, c, s.mean + groups, s.rstd + groups, &k);
#pragma unroll
        for (int j = 0; j < N; j++) {
            slope[j] = slopes[(c + j) / s.each];
            offset[j] = offsets[(c + j) / s.each];
        }
        for (int64_t r = lane; r < p.rows; r += lanes) {
            float x[N], dy[N];
            load<T, N>(s.x, element_of(s, p, r, c), x);
            load<T, N>(s.dy, element_of(s, p, r, c), dy);
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float d = x[j] - k.mean[j];
                const float dz = gradient_of_z(d, dy[j], k.factor[j], k.bias[j], s.silu);
                x[j] = dz * k.factor[j] + (d * slope[j] + offset[j]);
            }
            store<T, N>(s.y, element_of(s, p, r, c), x);
        }
    }
}

template <typename T, int N>
__global__ static void __launch_bounds__(WHOLE_THREADS) group_norm_backward_sums_kernel(Group s)
{
    SHARED(float, room);
    float *const sums = room + 2 * N * blockDim.x;
    const Part p = part_of(s);
    channel_sums<T, N, true>(s, p, room, sums);
    for (int g = threadIdx.x / WARP; g < p.groups; g += blockDim.x / WARP) {
        const Slopes m = slopes_of(s, p, g, sums);
        float *to = s.partial + ((p.b * s.pieces + blockIdx.x) * s.groups + p.first / s.each + g) * 2;
        if (threadIdx.x % WARP == 0)
            to[0] = m.sum, to[1] = m.product;
    }
}

template <typename T, int N>
__global__ static void __launch_bounds__(WHOLE_THREADS) group_norm_backward_kernel(Group s)
{
    SHARED(float, room);
    float *const sums = room + 2 * N * blockDim.x, *const slopes = room;
    const Part p = part_of(s);
    float *const offsets = slopes + p.groups;
    if (s.whole)
        channel_sums<T, N, true>(s, p, room, sums);
    for (int g = threadIdx.x / WARP; g < p.groups; g += blockDim.x / WARP) {
        const Slopes m = s.whole ? slopes_of(s, p, g, sums) : slopes_of_pieces(s, p, g);
        const float rstd = s.rstd[p.b * s.groups + p.first / s.each + g];
        const float factor = -rstd / ((float)s.P * (float)s.each);
        if (threadIdx.x % WARP == 0) {
            slopes[g] = factor * (rstd * (rstd * m.product));
            offsets[g] = factor * m.sum;
        }
    }
    __syncthreads();
    if (s.y.data)
        take_back<T, N>(s, p, slopes, offsets);
}

/* The host's side -------------------------------------------------------------------------------------- */

/* How x is cut: by its shape and the types of what goes along with it, not by where it lies. Fails where a
 * group has more channels than a block has memory for. */
static Status group_of(const Tensor *x, int groups, bool alike, Group *s)
{
    const int B = (int)x->shape[0], width = alike ? (int)(16 / dtype_size(x->dtype)) : 4;
    int least = 1; /* groups that are whole packs together */
    s->C = (int)tensor_dim(x, -1);
    s->groups = groups;
    s->each = s->C / groups;
    s->P = tensor_rows(x) / B;
    while (s->C % width == 0 && least < groups && least * s->each % width)
        least++;
    if (least * s->each > SET_MOST)
        least = 1;
    if (s->each > SET_MOST)
        return status_fail("a group of %d channels is more than %d", s->each, SET_MOST);
    s->set = least * s->each;
    s->whole = s->P * s->set <= WHOLE;
    while (!s->whole && s->set < SET && s->set < s->C)
        s->set += least * s->each;
    s->rows = PIECE / s->set > s->P / PIECES ? PIECE / s->set : s->P / PIECES + 1;
    if (s->whole)
        s->rows = s->P;
    s->pieces = (int)((s->P + s->rows - 1) / s->rows);
    return STATUS_OK;
}

static size_t partial_bytes(const Group *s, const Tensor *x)
{
    const size_t floats = (size_t)(x->shape[0] * s->pieces * s->groups) * 2;
    return s->whole ? 0 : floats * sizeof(float);
}

static bool forward_alike(const Norm *n)
{
    return !n->y || n->x->dtype == n->y->dtype;
}

static bool backward_alike(const Norm *n)
{
    return n->x->dtype == n->grad_y->dtype && (!n->grad_x || n->x->dtype == n->grad_x->dtype);
}

static dim3 grid_of(const Group *s, const Tensor *x)
{
    return dim3((unsigned)s->pieces, blocks_for(s->C, s->set), (unsigned)x->shape[0]);
}

static unsigned threads_of(const Group *s)
{
    return s->whole ? WHOLE_THREADS : THREADS;
}

static size_t shared_of(const Group *s, int N)
{
    return (2 * (size_t)N * threads_of(s) + 2 * (size_t)s->set) * sizeof(float);
}

/* Whether every block's rows are packs. */
static bool group_packed(const Group *s, const Tensor *x, const Tensor *dy, const Tensor *y, bool alike)
{
    const int width = alike ? (int)(16 / dtype_size(x->dtype)) : 4;
    return s->set % width == 0 && is_packed(x, s->C) && is_packed(dy, s->C) && is_packed(y, s->C);
}

static Status cuda_group_norm_scratch(const Norm *n, size_t *bytes)
{
    Group s = {};
    TRY(group_of(n->x, n->groups, forward_alike(n), &s));
    *bytes = partial_bytes(&s, n->x);
    return STATUS_OK;
}

static Status cuda_group_norm(const Norm *n, void *scratch)
{
    FLOATS_ONLY(n->x, n->w, n->b, n->y);
    const bool alike = forward_alike(n);
    Group s = {};
    TRY(group_of(n->x, n->groups, alike, &s));
    s.x = floats_of(n->x);
    s.w = floats_of(n->w);
    s.b = floats_of(n->b);
    s.y = floats_of(n->y);
    s.mean = (float *)n->mean->data;
    s.rstd = (float *)n->rstd->data;
    s.partial = (float *)scratch;
    s.silu = n->silu;
    s.given = n->given;
    s.eps = n->eps;
    WITH_PACKS(group_packed(&s, n->x, NULL, n->y, alike), alike, n->x->dtype, T, N, {
        if (!s.whole && !s.given)
            TRY(LAUNCH(grid_of(&s, n->x), dim3(threads_of(&s)), shared_of(&s, N),
                       (group_norm_sums_kernel<T, N>), s));
        return LAUNCH(grid_of(&s, n->x), dim3(threads_of(&s)), shared_of(&s, N), (group_norm_kernel<T, N>),
                      s);
    });
}

static Status cuda_group_norm_backward_scratch(const Norm *n, size_t *bytes)
{
    Group s = {};
    TRY(group_of(n->x, n->groups, backward_alike(n), &s));
    *bytes = partial_bytes(&s, n->x);
    if (n->grad_w || n->grad_b)
        *bytes += norm_weights_bytes(n->x->shape[0] * s.pieces, s.C);
    return STATUS_OK;
}

static Status cuda_group_norm_backward(const Norm *n, void *scratch)
{
    FLOATS_ONLY(n->x, n->w, n->b, n->grad_y, n->grad_x);
    const bool alike = backward_alike(n), trained = n->grad_w || n->grad_b;
    Group s = {};
    TRY(group_of(n->x, n->groups, alike, &s));
    s.x = floats_of(n->x);
    s.w = floats_of(n->w);
    s.b = floats_of(n->b);
    s.dy = floats_of(n->grad_y);
    s.y = floats_of(n->grad_x);
    s.mean = (float *)n->mean->data;
    s.rstd = (float *)n->rstd->data;
    s.partial = (float *)scratch;
    s.channels = trained ? (float *)((char *)scratch + partial_bytes(&s, n->x)) : NULL;
    s.silu = n->silu;
    WITH_PACKS(group_packed(&s, n->x, n->grad_y, n->grad_x, alike), alike, n->x->dtype, T, N, {
        if (!s.whole)
            TRY(LAUNCH(grid_of(&s, n->x), dim3(threads_of(&s)), shared_of(&s, N),
                       (group_norm_backward_sums_kernel<T, N>), s));
        if (s.whole || n->grad_x)
            TRY(LAUNCH(grid_of(&s, n->x), dim3(threads_of(&s)), shared_of(&s, N),
                       (group_norm_backward_kernel<T, N>), s));
    });
    return trained ? norm_weights(s.channels, n->x->shape[0] * s.pieces, s.C, n->grad_w, n->grad_b)
                   : STATUS_OK;
}

void cuda_norm_table(Device *d)
{
    d->group_norm_scratch = cuda_group_norm_scratch;
    d->group_norm = cuda_group_norm;
    d->group_norm_backward_scratch = cuda_group_norm_backward_scratch;
    d->group_norm_backward = cuda_group_norm_backward;
}
