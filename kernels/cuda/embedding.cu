/* Tables of vectors and texts' tokens, looked up by number, and the sine and cosine features of a timestep.
 *
 * Numbers lie on the device, so one outside of the table cannot be refused; its row is NaN, which is found
 * and named as any other. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/packs.h"

#define THREADS 128

/* ids i32 (tokens), w (V,D) -> y (tokens,D); block (columns, token) */
template <typename T, int N>
__global__ static void embedding_kernel(const int32_t *ids, Floats w, Floats y, int64_t V, int64_t D)
{
    const int64_t c = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * N, id = ids[blockIdx.x];
    float x[N];
    if (c >= D)
        return;
    if (id >= 0 && id < V)
        load<T, N>(w, id * D + c, x);
    else
        for (int j = 0; j < N; j++)
            x[j] = nanf("");
    store<T, N>(y, blockIdx.x * D + c, x);
}

static Status cuda_embedding(const Tensor *ids, const Tensor *w, Tensor *y)
{
    FLOATS_ONLY(w, y);
    const int64_t V = w->shape[0], D = w->shape[1];
    WITH_PACKS(is_packed(w, D) && is_packed(y, D), w->dtype == y->dtype, y->dtype, T, N,
               return LAUNCH(dim3((unsigned)tensor_count(ids), blocks_for(D, THREADS * N)), dim3(THREADS), 0,
                             (embedding_kernel<T, N>), (const int32_t *)ids->data, floats_of(w), floats_of(y),
                             V, D));
}

/* grad_w rows += the rows of grad_y that were made from them, in the tokens' order: the block of the first
 * token with a number adds those of all that have it. Tokens are few (77 a caption), so looking for them is
 * cheap. */
template <typename T, int N>
__global__ static void embedding_backward_kernel(const int32_t *ids, int tokens, Floats g, Floats grad_w,
                                                 int64_t V, int64_t D)
{
    const int token = blockIdx.x, id = ids[token];
    const int64_t c = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * N;
    float sum[N], x[N];
    if (c >= D || id < 0 || id >= V)
        return;
    for (int i = 0; i < token; i++)
        if (ids[i] == id)
            return;
    load<float, N>(grad_w, id * D + c, sum);
    for (int i = token; i < tokens; i++)
        if (ids[i] == id) {
            load<T, N>(g, i * D + c, x);
#pragma unroll
            for (int j = 0; j < N; j++)
                sum[j] += x[j];
        }
    store<float, N>(grad_w, id * D + c, sum);
}

static Status cuda_embedding_backward(const Tensor *ids, const Tensor *grad_y, Tensor *grad_w)
{
    FLOATS_ONLY(grad_y, grad_w);
    const int64_t V = grad_w->shape[0], D = grad_w->shape[1], tokens = tensor_count(ids);
    WITH_PACKS(is_packed(grad_y, D) && is_packed(grad_w, D), true, grad_y->dtype, T, N,
               return LAUNCH(dim3((unsigned)tokens, blocks_for(D, THREADS * N)), dim3(THREADS), 0,
                             (embedding_backward_kernel<T, N>), (const int32_t *)ids->data, (int)tokens,
                             floats_of(grad_y), floats_of(grad_w), V, D));
}

/* x (B,T,D), rows i32 (B) -> y (B,D); block (columns, text) */
template <typename T, int N>
__global__ static void take_rows_kernel(Floats x, const int32_t *rows, Floats y, int64_t tokens, int64_t D)
{
    const int64_t c = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * N, b = blockIdx.x, row = rows[b];
    float v[N];
    if (c >= D)
        return;
    if (row >= 0 && row < tokens)
        load<T, N>(x, (b * tokens + row) * D + c, v);
    else
        for (int j = 0; j < N; j++)
            v[j] = nanf("");
    store<T, N>(y, b * D + c, v);
}

static Status cuda_take_rows(const Tensor *x, const Tensor *rows, Tensor *y)
{
    FLOATS_ONLY(x, y);
    const int64_t B = x->shape[0], tokens = x->shape[1], D = x->shape[2];
    WITH_PACKS(is_packed(x, D) && is_packed(y, D), x->dtype == y->dtype, y->dtype, T, N,
               return LAUNCH(dim3((unsigned)B, blocks_for(D, THREADS * N)), dim3(THREADS), 0,
                             (take_rows_kernel<T, N>), floats_of(x), (const int32_t *)rows->data,
                             floats_of(y), tokens, D));
}

/* grad_x: grad_y in the token that was taken, zeros in the others; block (columns, token of all texts) */
template <typename T, int N>
__global__ static void take_rows_backward_kernel(const int32_t *rows, Floats g, Floats grad_x, int tokens,
                                                 int64_t D)
{
    const int64_t c = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * N;
    const int b = blockIdx.x / tokens, token = blockIdx.x - b * tokens;
    float v[N] = {};
    if (c >= D)
        return;
    if (token == rows[b])
        load<T, N>(g, b * D + c, v);
    store<T, N>(grad_x, blockIdx.x * D + c, v);
}

static Status cuda_take_rows_backward(const Tensor *rows, const Tensor *grad_y, Tensor *grad_x)
{
    FLOATS_ONLY(grad_y, grad_x);
    const int64_t B = grad_x->shape[0], tokens = grad_x->shape[1], D = grad_x->shape[2];
    WITH_PACKS(is_packed(grad_y, D) && is_packed(grad_x, D), grad_y->dtype == grad_x->dtype, grad_x->dtype, T,
               N,
               return LAUNCH(dim3((unsigned)(B * tokens), blocks_for(D, THREADS * N)), dim3(THREADS), 0,
                             (take_rows_backward_kernel<T, N>), (const int32_t *)rows->data,
                             floats_of(grad_y), floats_of(grad_x), (int)tokens, D));
}

/* diffusers' get_timestep_embedding: frequencies 10000^(-i / (dim/2 - shift)), i < dim/2; (sin, cos) of
 * t times frequency, or (cos, sin) if flipped; an odd dim ends in 0. Rounded to f32 where PyTorch rounds: at
 * t = 999 the last bit of a frequency is worth 6e-5. Block (features, picture). */
__global__ static void timestep_kernel(const float *t, Floats y, int64_t dim, bool flip, float shift)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, pairs = dim / 2, row = blockIdx.y * dim;
    if (dim % 2 && i == pairs)
        store_one(y, row + dim - 1, 0);
    if (i >= pairs)
        return;
    const float log_period = -9.210340371976184f; /* -ln 10000 */
    const float exponent = log_period * (float)i / ((float)pairs - shift);
    const float frequency = (float)exp((double)exponent), angle = t[blockIdx.y] * frequency;
    store_one(y, row + (flip ? pairs : 0) + i, (float)sin((double)angle));
    store_one(y, row + (flip ? 0 : pairs) + i, (float)cos((double)angle));
}

static Status cuda_timestep_embedding(const Tensor *t, bool flip_sin_to_cos, float downscale_freq_shift,
                                      Tensor *y)
{
    FLOATS_ONLY(y);
    const int64_t dim = tensor_dim(y, -1);
    return LAUNCH(dim3(blocks_for(dim / 2 + 1, THREADS), (unsigned)tensor_count(t)), dim3(THREADS), 0,
                  timestep_kernel, (const float *)t->data, floats_of(y), dim, flip_sin_to_cos,
                  downscale_freq_shift);
}

void cuda_embedding_table(Device *d)
{
    d->embedding = cuda_embedding;
    d->embedding_backward = cuda_embedding_backward;
    d->take_rows = cuda_take_rows;
    d->take_rows_backward = cuda_take_rows_backward;
    d->timestep_embedding = cuda_timestep_embedding;
}
