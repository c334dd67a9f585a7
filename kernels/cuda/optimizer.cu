/* What happens to all trained parameters after the backward pass, as kernels/cpu/training/optimizer.c has it:
 * the norm, clipping, the optimizer's step, the average, and how far the weights went.
 *
 * Nothing is read back: the kernel that moves the weights finds on the device whether it may, and what to
 * multiply the gradients with. A step that is recorded is launched with the same arguments each time, so what
 * changes from one to the next (rates, corrections of means) is put into scratch memory, with the list of
 * tensors.
 *
 *     begin    one block    which chunk each tensor begins with
 *     squares  chunks       Σ g² of each chunk, in double
 *     decide   one block    the tensors' sums, the norm, whether to go on, the gradients' factor
 *     move     chunks       the optimizer over CHUNK numbers of one tensor: 16 bytes a thread of each block
 *     average  everything   the moving average, where there is one
 *     report   one block    the tensors' sums of what they moved by
 *
 * A chunk's block looks for its tensor in the list, all threads at once. Sums keep one order: a thread's
 * numbers, the threads of a block, the chunks of a tensor, the tensors. */
#include "kernels/cuda/base/families.h"
#include "optimizer.h"

#include <math.h>

/* The list --------------------------------------------------------------------------------------------- */

__device__ static inline int64_t pieces_of(int64_t count, int64_t each)
{
    return (count + each - 1) / each;
}
__device__ static inline int64_t room_of(int64_t count, int64_t each)
{
    (void)each;
    return state8_room(count);
}

/* first[i] = the sum of SIZE(count, each) of the tensors before i; the threads have neighbouring parts of
 * the list. room: a number for each thread */
template <int64_t (*SIZE)(int64_t count, int64_t each)>
__device__ static void add_up(const Work &s, int64_t each, int64_t *first, int64_t *room)
{
    const int64_t part = (s.count + ONE_BLOCK - 1) / ONE_BLOCK, begin = threadIdx.x * part;
    const int64_t end = begin + part < s.count ? begin + part : s.count;
    int64_t sum = 0;
    for (int64_t i = begin; i < end; i++)
        sum += SIZE(s.segments[i].count, each);
    room[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < (int)threadIdx.x; i++)
        sum += room[i];
    for (int64_t i = begin; i < end; i++) {
        first[i] = sum;
        sum += SIZE(s.segments[i].count, each);
    }
    if (end == s.count && begin <= end)
        first[s.count] = sum;
    __syncthreads();
}

__global__ static void __launch_bounds__(ONE_BLOCK) update_begin_kernel(Work s)
{
    SHARED(int64_t, room);
    add_up<pieces_of>(s, CHUNK, s.chunk, room);
    add_up<room_of>(s, 0, s.room, room);
    if (s.from)
        add_up<pieces_of>(s, s.stride, s.sample, room);
}

/* The norm ---------------------------------------------------------------------------------------------- */

__global__ static void __launch_bounds__(THREADS) update_squares_kernel(Work s)
{
    SHARED(double, room); /* a double for each warp; one number */
    const Chunk c = chunk_of(s, (int64_t *)(room + THREADS / WARP));
    const float *g = s.g + s.segments[c.tensor].first;
    double sum = 0;
    if (by_fours(s.segments[c.tensor])) {
        const int64_t whole = c.last / 4 * 4;
#pragma unroll 4
        for (int64_t i = c.first + threadIdx.x * 4; i < whole; i += THREADS * 4) {
            float x[4];
            load_as<float, 4>(g, i, x);
            for (int j = 0; j < 4; j++)
                sum += (double)x[j] * (double)x[j];
        }
        if (whole + threadIdx.x < c.last)
            sum += (double)g[whole + threadIdx.x] * (double)g[whole + threadIdx.x];
    } else {
        for (int64_t i = c.first + threadIdx.x; i < c.last; i += THREADS)
            sum += (double)g[i] * (double)g[i];
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        s.parts[blockIdx.x] = sum;
}

/* sums[i] = the sum of tensor i's chunks in parts, a warp each. Ends with a barrier. */
__device__ static inline void sum_chunks(const Work &s, const double *parts)
{
    for (int64_t i = threadIdx.x / WARP; i < s.count; i += ONE_BLOCK / WARP) {
        double sum = 0;
        for (int64_t k = s.chunk[i] + threadIdx.x % WARP; k < s.chunk[i + 1]; k += WARP)
            sum += parts[k];
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0)
            s.sums[i] = sum;
    }
    __syncthreads();
}

/* The first tensor whose sum is not finite; −1. room: an int for each warp. The same in each thread. */
__device__ static inline int first_broken(const Work &s, int *room)
{
    int first = 0x7fffffff;
    for (int64_t i = threadIdx.x; i < s.count; i += ONE_BLOCK)
        if (!isfinite(s.sums[i]) && i < first)
            first = (int)i;
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
        const int other = __shfl_xor_sync(EVERY_LANE, first, apart);
        first = other < first ? other : first;
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = first;
    __syncthreads();
    for (int i = 0; i < ONE_BLOCK / WARP; i++)
        first = room[i] < first ? room[i] : first;
    return first == 0x7fffffff ? -1 : first;
}

__global__ static void __launch_bounds__(ONE_BLOCK) update_decide_kernel(Work s)
{
    SHARED(double, room); /* a double for each warp */
    sum_chunks(s, s.parts);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < s.count; i += ONE_BLOCK)
        sum += s.sums[i];
    sum = block_sum(sum, room);
    const int broken = first_broken(s, (int *)room);
    if (threadIdx.x != 0)
        return;
    s.verdict->go = 0;
    if (s.numbers->skipped)
        return;
    const double norm =
        sqrt(sum + s.settings->other_squares) * s.settings->unscale; /* a power of two: exact */
    double clip = 1;
    if (s.settings->clip > 0) /* torch.nn.utils.clip_grad_norm_ has the same 1e-6 */
        clip = fmin(1.0, s.settings->clip / (norm + 1e-6));
    if (!s.more) {
        s.numbers->norm = s.numbers->change = 0;
        s.numbers->segment = -1;
        for (int k = 0; k < UPDATE_GROUPS; k++)
            s.numbers->moved[k] = 0;
    }
    s.numbers->norm = s.more ? sqrt(s.numbers->norm * s.numbers->norm + norm * norm) : norm;
    if (broken >= 0 && s.numbers->segment < 0)
        s.numbers->segment = s.number + broken;
    s.numbers->skipped = !isfinite(norm);
    s.verdict->grad_scale = (float)(clip * s.settings->unscale);
    s.verdict->go = isfinite(norm);
}

/* AdamW ------------------------------------------------------------------------------------------------- */

/* The settings as one tensor has them. */
typedef struct Step {
    float grad_scale, decay, step_size, new_m, keep_v, new_v, root, eps;
} Step;

__device__ static inline Step step_of(const Work &s, int group)
{
    const Settings *k = s.settings;
    return Step{s.verdict->grad_scale,
                k->decay[group],
                k->step_size[group],
                k->new_m,
                k->keep_v,
                k->new_v,
                k->root,
                k->eps};
}

/* torch.optim.AdamW, in its order: w *= 1 - lr wd; m += (1-β1)(g - m); v = β2 v + (1-β2) g²;
 * w -= lr/(1-β1^t) m / (√v / √(1-β2^t) + eps). N neighbours; returns the sum of squares of what w moved by.
 */
template <int N>
__device__ static inline float adamw(const Step &k, const float g[N], float w[N], float m[N], float v[N])
{
    float moved = 0;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float grad = g[j] * k.grad_scale, before = w[j];
        m[j] += (grad - m[j]) * k.new_m;
        v[j] = v[j] * k.keep_v + grad * grad * k.new_v;
        w[j] = before * k.decay - m[j] / (sqrtf(v[j]) / k.root + k.eps) * k.step_size;
        moved += (w[j] - before) * (w[j] - before);
    }
    return moved;
}

/* A tensor's numbers. */
typedef struct Numbers {
    float *w;
    const float *g;
    float *m, *v;
} Numbers;

/* N of a tensor's numbers, from i on. */
template <int N> __device__ static inline float adamw_at(const Numbers &t, const Step &k, int64_t i)
{
    float w[N], g[N], m[N], v[N];
    load_as<float, N>(t.g, i, g);
    load_as<float, N>(t.w, i, w);
    load_as<float, N>(t.m, i, m);
    load_as<float, N>(t.v, i, v);
    const float moved = adamw<N>(k, g, w, m, v);
    store_as<float, N>(t.w, i, w);
    store_as<float, N>(t.m, i, m);
    store_as<float, N>(t.v, i, v);
    return moved;
}

/* The block's chunk, all f32. */
__device__ static inline float adamw_chunk(const Numbers &t, const Step &k, const Chunk &c, bool fours)
{
    float moved = 0;
    if (fours) {
        const int64_t whole = c.last / 4 * 4;
        for (int64_t i = c.first + threadIdx.x * 4; i < whole; i += THREADS * 4)
            moved += adamw_at<4>(t, k, i);
        if (whole + threadIdx.x < c.last)
            moved += adamw_at<1>(t, k, whole + threadIdx.x);
    } else {
        for (int64_t i = c.first + threadIdx.x; i < c.last; i += THREADS)
            moved += adamw_at<1>(t, k, i);
    }
    return moved;
}

/* Σ (w - from)² of the chunk's samples, every stride-th number of the tensor. After a barrier. */
__device__ static inline double change_of(const Work &s, const Chunk &c)
{
    const float *w = s.w + s.segments[c.tensor].first, *from = s.from + s.sample[c.tensor];
    double sum = 0;
    for (int64_t k = (c.first + s.stride - 1) / s.stride + threadIdx.x; k * s.stride < c.last; k += THREADS) {
        const double d = (double)w[k * s.stride] - (double)from[k];
        sum += d * d;
    }
    return sum;
}

/* Writes the chunk's sums, the weights being written. room: a double for each warp */
__device__ static inline void keep_sums(const Work &s, const Chunk &c, float moved, double *room)
{
    const double sum = block_sum((double)moved, room); /* with a barrier: every weight is written */
    const double change = s.from ? block_sum(change_of(s, c), room) : 0;
    if (threadIdx.x == 0) {
        s.parts[blockIdx.x] = sum;
        s.changes[blockIdx.x] = change;
    }
}

__global__ static void __launch_bounds__(THREADS) update_adamw_kernel(Work s)
{
    SHARED(double, room); /* a double for each warp; one number */
    if (!s.verdict->go)
        return;
    const Chunk c = chunk_of(s, (int64_t *)(room + THREADS / WARP));
    const Segment t = s.segments[c.tensor];
    const Numbers n = {s.w + t.first, s.g + t.first, (float *)s.m + t.first, (float *)s.v + t.first};
    keep_sums(s, c, adamw_chunk(n, step_of(s, t.group), c, by_fours(t)), room);
}

/* AdamW with states in 8 bits --------------------------------------------------------------------------- */

#define LANE_NUMBERS (STATE8_BLOCK / WARP) /* a warp has a block */

/* The code of the nearest value, found by halves; what is halfway takes the lower. map: in shared memory */
__device__ static inline unsigned char code_of(float x, const float *map)
{
    int code = 0;
#pragma unroll
    for (int step = STATE8_CODES / 2; step > 0; step /= 2)
        if (x > 0.5f * (map[code + step - 1] + map[code + step]))
            code += step;
    return (unsigned char)code;
}

/* A lane's 8 codes, read and written at once where there are as many. */
__device__ static inline void decode8(const unsigned char *codes, float most, const float *map, int count,
                                      float x[LANE_NUMBERS])
{
    Neighbours<unsigned char, LANE_NUMBERS> c = {};
    if (count == LANE_NUMBERS)
        c = *(const Neighbours<unsigned char, LANE_NUMBERS> *)codes;
    else
        for (int j = 0; j < count; j++)
            c.at[j] = codes[j];
#pragma unroll
    for (int j = 0; j < LANE_NUMBERS; j++)
        x[j] = j < count ? map[c.at[j]] * most : 0;
}

/* All lanes of a warp; returns the largest magnitude, NaN where there is one. Numbers from `count` on are 0.
 */
__device__ static inline float encode8(const float x[LANE_NUMBERS], const float *map, int count,
                                       unsigned char *codes)
{
    Neighbours<unsigned char, LANE_NUMBERS> c;
    float most = 0;
    bool lost = false;
#pragma unroll
    for (int j = 0; j < LANE_NUMBERS; j++) {
        lost = lost || isnan(x[j]);
        most = fmaxf(most, fabsf(x[j]));
    }
    most = warp_max(most);
    if (__any_sync(EVERY_LANE, lost))
        most = nanf("");
#pragma unroll
    for (int j = 0; j < LANE_NUMBERS; j++)
        c.at[j] = code_of(most > 0 ? x[j] / most : 0, map);
    if (count == LANE_NUMBERS)
        *(Neighbours<unsigned char, LANE_NUMBERS> *)codes = c;
    else
        for (int j = 0; j < count; j++)
            codes[j] = c.at[j];
    return most;
}

/* A warp's block of a tensor, from number i on. part: where the tensor's part of the states begins */
__device__ static inline float adamw8_block(const Work &s, const Segment &t, const Step &k, int64_t part,
                                            int64_t i, const float *m_map, const float *v_map)
{
    unsigned char *const m8 = (unsigned char *)s.m + part, *const v8 = (unsigned char *)s.v + part;
    float *const m_most = (float *)(m8 + state8_aligned(t.count)) + i / STATE8_BLOCK;
    float *const v_most = (float *)(v8 + state8_aligned(t.count)) + i / STATE8_BLOCK;
    const int64_t at = i + threadIdx.x % WARP * LANE_NUMBERS, left = t.count - at;
    const int count = left < 0 ? 0 : left < LANE_NUMBERS ? (int)left : LANE_NUMBERS;
    float *const w = s.w + t.first + at;
    const float *const g = s.g + t.first + at;
    float x[LANE_NUMBERS] = {}, grad[LANE_NUMBERS] = {}, m[LANE_NUMBERS], v[LANE_NUMBERS];
    if (count == LANE_NUMBERS && by_fours(t)) {
        load_as<float, LANE_NUMBERS>(w, 0, x);
        load_as<float, LANE_NUMBERS>(g, 0, grad);
    } else {
#pragma unroll
        for (int j = 0; j < LANE_NUMBERS; j++)
            if (j < count)
                x[j] = w[j], grad[j] = g[j];
    }
    decode8(m8 + at, *m_most, m_map, count, m);
    decode8(v8 + at, *v_most, v_map, count, v);
    const float moved = adamw<LANE_NUMBERS>(k, grad, x, m, v);
    if (count == LANE_NUMBERS && by_fours(t)) {
        store_as<float, LANE_NUMBERS>(w, 0, x);
    } else {
#pragma unroll
        for (int j = 0; j < LANE_NUMBERS; j++)
            if (j < count)
                w[j] = x[j];
    }
    const float new_m = encode8(m, m_map, count, m8 + at), new_v = encode8(v, v_map, count, v8 + at);
    __syncwarp(); /* every lane has read the magnitudes */
    if (threadIdx.x % WARP == 0) {
        *m_most = new_m;
        *v_most = new_v;
    }
    return moved;
}

/* Chunks are whole blocks. */
__global__ static void __launch_bounds__(THREADS) update_adamw8_kernel(Work s)
{
    SHARED(double, room); /* a double for each warp; one number; the two maps */
    if (!s.verdict->go)
        return;
    float *const m_map = (float *)(room + THREADS / WARP + 1), *const v_map = m_map + STATE8_CODES;
    for (int i = threadIdx.x; i < STATE8_CODES; i += THREADS) {
        m_map[i] = s.settings->m_map[i];
        v_map[i] = s.settings->v_map[i];
    }
    const Chunk c = chunk_of(s, (int64_t *)(room + THREADS / WARP)); /* with a barrier */
    const Segment t = s.segments[c.tensor];
    const Step k = step_of(s, t.group);
    const int64_t part = s.room[c.tensor];
    float moved = 0;
    if (t.count < STATE8_SMALL) {
        const Numbers n = {s.w + t.first, s.g + t.first, (float *)((char *)s.m + part),
                           (float *)((char *)s.v + part)};
        moved = adamw_chunk(n, k, c, by_fours(t));
    } else {
        for (int64_t i = c.first + threadIdx.x / WARP * STATE8_BLOCK; i < c.last;
             i += THREADS / WARP * STATE8_BLOCK)
            moved += adamw8_block(s, t, k, part, i, m_map, v_map);
    }
    keep_sums(s, c, moved, room);
}

/* The average, and what is said -------------------------------------------------------------------------- */

template <int N> __global__ static void update_average_kernel(Work s, Floats average, Floats w, int64_t count)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    float a[N], x[N];
    if (i >= count || !s.verdict->go)
        return;
    load<float, N>(average, i, a);
    load<float, N>(w, i, x);
#pragma unroll
    for (int j = 0; j < N; j++)
        a[j] = a[j] * s.settings->average_decay + x[j] * s.settings->average_new;
    store<float, N>(average, i, a);
}

__global__ static void __launch_bounds__(ONE_BLOCK) update_report_kernel(Work s)
{
    SHARED(double, room); /* a double for each warp */
    if (!s.verdict->go)
        return;
    sum_chunks(s, s.parts);
    double moved[UPDATE_GROUPS] = {}, change = 0;
    for (int64_t i = threadIdx.x; i < s.count; i += ONE_BLOCK)
        for (int k = 0; k < UPDATE_GROUPS; k++)
            moved[k] += s.segments[i].group == k ? s.sums[i] : 0;
    for (int k = 0; k < UPDATE_GROUPS; k++)
        moved[k] = block_sum(moved[k], room);
    const int broken = first_broken(s, (int *)room);
    if (s.from) {
        __syncthreads();
        sum_chunks(s, s.changes);
        for (int64_t i = threadIdx.x; i < s.count; i += ONE_BLOCK) /* each sample stands for stride weights */
            change += s.sums[i] * (double)s.segments[i].count / (double)(s.sample[i + 1] - s.sample[i]);
        change = block_sum(change, room);
    }
    if (threadIdx.x != 0)
        return;
    for (int k = 0; k < UPDATE_GROUPS; k++)
        s.numbers->moved[k] += moved[k];
    if (broken >= 0 && s.numbers->segment < 0)
        s.numbers->segment = s.number + broken;
    s.numbers->change += change;
}

/* The host's side ---------------------------------------------------------------------------------------- */

static Settings settings_of(const Update *u)
{
    const double correction1 = 1 - pow(u->beta1, (double)u->step);
    const double correction2 = 1 - pow(u->beta2, (double)u->step);
    Settings s = {};
    s.unscale = u->unscale;
    s.other_squares = u->other_squares;
    s.clip = u->clip;
    for (int k = 0; k < UPDATE_GROUPS; k++) {
        s.decay[k] = (float)(1 - u->rates[k] * u->weight_decay);
        s.step_size[k] = (float)(u->rates[k] / correction1);
    }
    s.new_m = (float)(1 - u->beta1);
    s.keep_v = (float)u->beta2;
    s.new_v = (float)(1 - u->beta2);
    s.root = (float)sqrt(correction2);
    s.eps = (float)u->eps;
    s.average_decay = u->decay;
    s.average_new = (float)(1 - (double)u->decay);
    state8_map(true, s.m_map);
    state8_map(false, s.v_map);
    return s;
}

static Status cuda_update_scratch(const Update *u, size_t *bytes)
{
    Work s = {};
    *bytes = lay_out(u, NULL, &s);
    return STATUS_OK;
}

static Status average_moves(const Work *s, const Tensor *average, const Tensor *w)
{
    const int64_t n = tensor_count(w);
    WITH_WIDTH(is_packed(average, n) && is_packed(w, n), float, N,
               return LAUNCH(dim3(blocks_for(n, THREADS * N)), dim3(THREADS), 0, (update_average_kernel<N>),
                             *s, floats_of(average), floats_of(w), n));
}

static Status cuda_update(const Update *u, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, Tensor *average,
                          StepNumbers *numbers, void *scratch)
{
    const Settings settings = settings_of(u);
    const dim3 chunks((unsigned)chunks_of(u)), one(1);
    const size_t sums = ONE_BLOCK / WARP * sizeof(double), of_chunk = (THREADS / WARP + 1) * sizeof(double);
    Work s = {};
    lay_out(u, (char *)scratch, &s);
    s.numbers = numbers;
    s.w = (float *)w->data;
    s.g = (const float *)g->data;
    s.m = m->data;
    s.v = v->data;
    s.from = u->from;
    s.count = u->count;
    s.stride = u->stride;
    s.more = u->more;
    s.number = u->number;
    if (!u->more) /* else they are still there */
        TRY(cuda_device()->put(s.settings, &settings, sizeof settings));
    TRY(cuda_device()->put(s.segments, u->segments, (size_t)u->count * sizeof *u->segments));
    TRY(LAUNCH(one, dim3(ONE_BLOCK), ONE_BLOCK * sizeof(int64_t), update_begin_kernel, s));
    TRY(LAUNCH(chunks, dim3(THREADS), of_chunk, update_squares_kernel, s));
    TRY(LAUNCH(one, dim3(ONE_BLOCK), sums, update_decide_kernel, s));
    if (u->measure_only)
        return STATUS_OK;
    if (u->kind == UPDATE_ADAMW8BIT)
        TRY(LAUNCH(chunks, dim3(THREADS), of_chunk + 2 * STATE8_CODES * sizeof(float), update_adamw8_kernel,
                   s));
    else
        TRY(LAUNCH(chunks, dim3(THREADS), of_chunk, update_adamw_kernel, s));
    if (average)
        TRY(average_moves(&s, average, w));
    return LAUNCH(one, dim3(ONE_BLOCK), sums, update_report_kernel, s);
}

template <int N> __global__ static void exchange_kernel(Floats a, Floats b, int64_t count)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    float x[N], y[N];
    if (i >= count)
        return;
    load<float, N>(a, i, x);
    load<float, N>(b, i, y);
    store<float, N>(a, i, y);
    store<float, N>(b, i, x);
}

static Status cuda_exchange(Tensor *a, Tensor *b)
{
    const int64_t n = tensor_count(a);
    WITH_WIDTH(is_packed(a, n) && is_packed(b, n), float, N,
               return LAUNCH(dim3(blocks_for(n, THREADS * N)), dim3(THREADS), 0, (exchange_kernel<N>),
                             floats_of(a), floats_of(b), n));
}

void cuda_optimizer_table(Device *d)
{
    d->update_scratch = cuda_update_scratch;
    d->update = cuda_update;
    d->exchange = cuda_exchange;
}
