/* Matrix products over any mix of storage types, by cuBLASLt (lt.h).
 *
 * The library multiplies two matrices of one type, and writes that type or f32. What a product wants beyond
 * that is done around it: an operand of another type is converted first (16 bits win over f32, as autocast
 * has it: LoRA's f32 weights meet 16-bit activations; f16 with bf16 meet in f32); a result or a residual of
 * another type goes through f32 in scratch memory and `finish`. Bias and residual are the library's own
 * epilogue where their types allow it. A low-rank product is added to what the first has written, and a GEGLU
 * reads that. Both go into the product itself where product.cu takes it. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/kernel.h"
#include "kernels/cuda/base/lt.h"
#include "kernels/cuda/base/packs.h"
#include "kernels/cuda/conv/int8.h"
#include "kernels/cuda/conv/product.h"

#include "kernels/floats.h"

#include <string.h>

/* Weights in 8 bits -------------------------------------------------------------------------------------- */

template <typename T>
__global__ static void decode_kernel(const signed char *w, const float *scales, int64_t row, int64_t n, T *y)
{
    const int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    for (int64_t i = first; i < first + 8 && i < n; i++)
        y[i] = from_float<T>((float)w[i] * scales[i / row]);
}

static Status decode(const Tensor *w, const Tensor *scales, Tensor *y)
{
    FLOATS_ONLY(scales, y);
    const int64_t n = tensor_count(w);
    WITH_FLOAT(y->dtype, T,
               TRY(LAUNCH(blocks_for(n, 256 * 8), 256, 0, decode_kernel<T>, (const signed char *)w->data,
                          (const float *)scales->data, n / w->shape[0], n, (T *)y->data)));
    return STATUS_OK;
}

/* What a product is made of: types, and what lies where in scratch memory (bytes, 0: nothing). */
typedef struct Route {
    DType type, d_type;         /* of the library's operands and result */
    DType low_type;             /* of the low-rank product's operands */
    bool finish;                /* the result is f32 in scratch memory, and y is made of it */
    bool bias_after, add_after; /* bias, residual: by `finish` */
    size_t a, b, bias, t, up;   /* converted operands */
    size_t d, h;                /* the result before `finish`; what is under a GEGLU and not kept */
    size_t all;
} Route;

static size_t room(int64_t count, DType type)
{
    return aligned_bytes((size_t)count * dtype_size(type));
}

/* The type that two operands meet in. */
static DType meeting(DType a, DType b)
{
    return a == b ? a : a == DTYPE_F32 ? b : b == DTYPE_F32 ? a : DTYPE_F32;
}

static Route route_of(const Product *p)
{
    Route r = {};
    const DType y = p->y->dtype;
    r.type = p->b->dtype == DTYPE_I8 ? p->a->dtype : meeting(p->a->dtype, p->b->dtype);
    r.finish = (y != DTYPE_F32 && y != r.type) || (p->residual && p->residual->dtype != y) || p->k == 0;
    r.d_type = r.finish ? DTYPE_F32 : y;
    r.bias_after = p->bias && r.finish;
    r.add_after = p->residual && r.finish;
    r.a = p->a->dtype == r.type ? 0 : room(p->m * p->k, r.type);
    r.b = p->b->dtype == r.type ? 0 : room(p->n * p->k, r.type);
    r.bias = p->bias && !r.finish && p->bias->dtype != r.d_type ? room(p->n, r.d_type) : 0;
    if (p->t) {
        const int64_t rank = tensor_dim(p->t, -1);
        r.low_type = r.d_type == DTYPE_F32 ? meeting(p->t->dtype, p->up->dtype) : r.d_type;
        r.t = p->t->dtype == r.low_type ? 0 : room(p->m * rank, r.low_type);
        r.up = p->up->dtype == r.low_type ? 0 : room(p->n * rank, r.low_type);
    }
    r.d = r.finish ? room(p->m * p->n, DTYPE_F32) : 0;
    r.h = p->geglu && !p->keep_h ? room(p->m * p->n, y) : 0;
    r.all = r.a + r.b + r.bias + r.t + r.up + r.d + r.h;
    return r;
}

static Tensor flat(const void *data, DType type, int64_t count)
{
    Tensor t = {};
    t.data = (void *)data;
    t.dtype = type;
    t.ndim = 1;
    t.shape[0] = count;
    return t;
}

/* The operand in the wanted type: where it is, or converted into the next `bytes` of scratch memory. */
static Status converted(const Tensor *x, DType type, size_t bytes, char **scratch, const void **to)
{
    *to = x->data;
    if (!bytes)
        return STATUS_OK;
    const Tensor from = flat(x->data, x->dtype, tensor_count(x));
    Tensor made = flat(*scratch, type, tensor_count(x));
    *to = made.data;
    *scratch += bytes;
    return x->dtype == DTYPE_I8 ? decode(x, x->scales, &made) : cuda_device()->copy(&from, &made);
}

/* y = beta y + sum + bias + residual, whatever their types. sum: NULL is 0. */
typedef struct Finish {
    const float *sum;
    Floats bias, residual; /* no data: not added */
    void *y;
    int64_t n, count;
    float beta;
} Finish;

template <typename Y> __global__ static void finish_kernel(Finish f)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= f.count)
        return;
    Y *y = (Y *)f.y;
    float x = f.sum ? f.sum[i] : 0;
    if (f.beta != 0)
        x += f.beta * to_float(y[i]);
    if (f.bias.data)
        x += load_one(f.bias, i % f.n);
    if (f.residual.data)
        x += load_one(f.residual, i);
    y[i] = from_float<Y>(x);
}

static Status finish(const Product *p, const Route *r, const void *sum, void *y)
{
    Finish f = {};
    f.sum = (const float *)sum;
    f.bias = floats_of(r->bias_after ? p->bias : NULL);
    f.residual = floats_of(r->add_after ? p->residual : NULL);
    f.y = y;
    f.n = p->n;
    f.count = p->m * p->n;
    f.beta = p->beta;
    WITH_FLOAT(p->y->dtype, Y, TRY(LAUNCH(blocks_for(f.count, 256), 256, 0, finish_kernel<Y>, f)));
    return STATUS_OK;
}

/* d = alpha op(a) op(b) + …, all but the low-rank product. */
static Status main_product(const Product *p, const Route *r, char **scratch, void *d)
{
    LtOperands o = {};
    LtProduct lt = {};
    if (p->k == 0)
        return STATUS_OK;
    TRY(converted(p->a, r->type, r->a, scratch, &o.a));
    TRY(converted(p->b, r->type, r->b, scratch, &o.b));
    if (p->bias && !r->bias_after)
        TRY(converted(p->bias, r->d_type, r->bias, scratch, &o.bias));
    o.alpha = p->alpha;
    o.beta = r->finish ? 0 : p->beta; /* `finish` knows what y was */
    o.d = d;
    if (p->residual && !r->add_after) {
        o.c = p->residual->data;
        o.beta = 1;
    }
    lt.m = p->m, lt.n = p->n, lt.k = p->k;
    lt.trans_a = p->trans_a, lt.trans_b = p->trans_b;
    lt.lda = p->trans_a ? p->m : p->k;
    lt.ldb = p->trans_b ? p->k : p->n;
    lt.ldd = p->n;
    lt.type = r->type;
    lt.tf32 = p->tf32;
    lt.d_type = r->d_type;
    lt.has_bias = o.bias != NULL;
    return lt_product(&lt, &o);
}

/* d += scale t up^T */
static Status low_rank_product(const Product *p, const Route *r, char **scratch, void *d)
{
    LtOperands o = {};
    LtProduct lt = {};
    TRY(converted(p->t, r->low_type, r->t, scratch, &o.a));
    TRY(converted(p->up, r->low_type, r->up, scratch, &o.b));
    o.alpha = p->scale;
    o.beta = 1;
    o.d = d;
    lt.m = p->m, lt.n = p->n, lt.k = tensor_dim(p->t, -1);
    lt.trans_b = true;
    lt.lda = lt.ldb = lt.k;
    lt.ldd = p->n;
    lt.type = r->low_type;
    lt.tf32 = p->tf32;
    lt.d_type = r->d_type;
    return lt_product(&lt, &o);
}

/* A weight in 8 bits, which comes with its scales. */
static bool is_decoded(const Tensor *b)
{
    return b->dtype == DTYPE_I8 && b->scales;
}

/* Products of 8 bits ------------------------------------------------------------------------------------- */

/* A low-rank product is added to what they have written, by the library. */
static bool takes_narrow(const Product *p)
{
    return cuda_int8_takes_product(p) && !(p->t && route_of(p).finish);
}

static Tensor matrix(void *data, DType type, int64_t rows, int64_t columns)
{
    Tensor t = {};
    t.data = data;
    t.dtype = type;
    t.ndim = 2;
    t.shape[0] = rows;
    t.shape[1] = columns;
    return t;
}

static size_t narrow_scratch(const Product *p)
{
    const Route r = route_of(p);
    return r.h + r.t + r.up + cuda_int8_product_scratch(p);
}

static Status narrow_product(const Product *p, char *scratch)
{
    const Route r = route_of(p);
    Product whole = *p;
    void *h = !p->geglu ? p->y->data : p->keep_h ? p->keep_h->data : scratch;
    Tensor under = matrix(h, p->y->dtype, p->m, p->n);
    whole.y = &under;
    whole.geglu = false;
    scratch += r.h;
    TRY(cuda_int8_product(&whole, scratch + r.t + r.up));
    if (p->t)
        TRY(low_rank_product(p, &r, &scratch, h));
    return p->geglu ? cuda_device()->geglu(&under, p->y) : STATUS_OK;
}

static Status product_scratch(const Product *p, size_t *bytes)
{
    FLOATS_ONLY(p->a, is_decoded(p->b) ? NULL : p->b, p->bias, p->residual, p->t, p->up, p->y, p->keep_h);
    *bytes = takes_narrow(p) ? narrow_scratch(p) : cuda_product_fused_fits(p) ? 0 : route_of(p).all;
    return lt_open();
}

static Status product(const Product *p, void *scratch_memory)
{
    FLOATS_ONLY(p->a, is_decoded(p->b) ? NULL : p->b, p->bias, p->residual, p->t, p->up, p->y, p->keep_h);
    const Route r = route_of(p);
    char *scratch = (char *)scratch_memory;
    if (p->m == 0 || p->n == 0)
        return STATUS_OK;
    if (takes_narrow(p))
        return narrow_product(p, scratch);
    if (cuda_product_fused_fits(p))
        return cuda_product_fused(p);
    void *h = !p->geglu ? p->y->data : p->keep_h ? p->keep_h->data : scratch;
    scratch += r.h;
    void *d = r.finish ? scratch : h;
    scratch += r.d;
    TRY(main_product(p, &r, &scratch, d));
    if (p->t)
        TRY(low_rank_product(p, &r, &scratch, d));
    if (r.finish)
        TRY(finish(p, &r, p->k ? d : NULL, h));
    if (!p->geglu)
        return STATUS_OK;
    Tensor under = matrix(h, p->y->dtype, p->m, p->n);
    return cuda_device()->geglu(&under, p->y);
}

extern "C" void cuda_linear_table(Device *d)
{
    d->product_scratch = product_scratch;
    d->product = product;
    d->decode = decode;
    d->product_decodes = true;
}
