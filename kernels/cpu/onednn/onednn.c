/* oneDNN behind onednn.h: descriptors, primitives and the table that keeps them. A primitive's memory objects
 * are made once and pointed at the operands for each run, so that a run allocates nothing of ours. The table
 * is the process's: threads of a host that compute with several models take turns here, product by product.
 */
#include "onednn.h"

#include "kernels/base/mem.h"
#include "onednn_versions.h"
#include "reserve.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The table of primitives ------------------------------------------------------------------------------ */

enum { OP_A, OP_B, OP_BIAS, OP_Y, OP_ADD, OP_SCRATCH, OPERANDS };
enum { KEY = 24, BUCKETS = 1024, FORMATS = 256 };

/* An operand: its argument number and the two queries that find its layout; argument 0 is absent. */
typedef struct Operand {
    int arg;
    dnnl_query_t query;
    int index;
} Operand;

struct OnePrimitive {
    int64_t key[KEY];
    OnePrimitive *next;
    const Operand *operands; /* OPERANDS of them */
    bool bias, add;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive; /* made at the first run */
    dnnl_memory_t memory[OPERANDS];
    size_t scratch_bytes, weight_bytes;
    int weight_format;
    dnnl_dims_t weight_dims;
    /* weights from and to the files' order, made at the first use: [0] from f32, [1] from bf16, [2] back */
    dnnl_primitive_t reorder[3];
    dnnl_memory_t reorder_plain[3], reorder_packed[3];
};

static struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    OnePrimitive *bucket[BUCKETS];
    Layout format[FORMATS]; /* every order of weights met so far; its place is its number */
    int formats;
    bool sgemm[2][2][2]; /* called with a, b transposed, added to y */
} one;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

/* Evaluates x when it is this thread's turn. */
#define IN_TURN(x)                                                                                           \
    do {                                                                                                     \
        pthread_mutex_lock(&turn);                                                                           \
        const Status in_turn_ = (x);                                                                         \
        pthread_mutex_unlock(&turn);                                                                         \
        return in_turn_;                                                                                     \
    } while (0)

/* What a matrix product adds to its result, laid out like it: the first and only thing done after it. */
#define ADD_ARG (DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1)

static const Operand forward_operands[OPERANDS] = {
    {DNNL_ARG_SRC, dnnl_query_src_md, 0},      {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
    {DNNL_ARG_BIAS, dnnl_query_weights_md, 1}, {DNNL_ARG_DST, dnnl_query_dst_md, 0},
    {ADD_ARG, dnnl_query_dst_md, 0},           {DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md, 0}};
static const Operand data_operands[OPERANDS] = {{DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0},
                                                {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                                                {0, dnnl_query_undef, 0},
                                                {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
                                                {0, dnnl_query_undef, 0},
                                                {DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md, 0}};
static const Operand weight_operands[OPERANDS] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                                                  {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0},
                                                  {DNNL_ARG_DIFF_BIAS, dnnl_query_diff_weights_md, 1},
                                                  {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
                                                  {0, dnnl_query_undef, 0},
                                                  {DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md, 0}};

const char *onednn_version(void)
{
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

void onednn_cap_isa(bool avx2)
{
    dnnl_set_max_cpu_isa(avx2 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_sse41);
}

bool onednn_has_bf16(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

static const char *reason(dnnl_status_t s)
{
    switch (s) {
    case dnnl_out_of_memory:
        return "out of memory";
    case dnnl_invalid_arguments:
        return "invalid arguments";
    case dnnl_unimplemented:
        return "not implemented on this processor";
    default:
        return "runtime error";
    }
}

static Status one_fail(dnnl_status_t s, const char *what)
{
    return status_fail("oneDNN %s cannot %s: %s", onednn_version(), what, reason(s));
}

static Status start(void)
{
    TRY(reserve_keep());
    if (one.stream)
        return STATUS_OK;
    dnnl_status_t s = one.engine ? dnnl_success : dnnl_engine_create(&one.engine, dnnl_cpu, 0);
    if (!s)
        s = dnnl_stream_create(&one.stream, one.engine, dnnl_stream_default_flags);
    return s ? one_fail(s, "start") : STATUS_OK;
}

static dnnl_data_type_t one_type(DType t)
{
    return t == DTYPE_F32 ? dnnl_f32 : t == DTYPE_BF16 ? dnnl_bf16 : dnnl_f16;
}

static OnePrimitive **slot_of(const int64_t key[KEY])
{
    uint64_t h = 1469598103934665603u; /* FNV-1a over the words */
    for (int i = 0; i < KEY; i++)
        h = (h ^ (uint64_t)key[i]) * 1099511628211u;
    return &one.bucket[(h >> 32) % BUCKETS];
}

static OnePrimitive *look_up(const int64_t key[KEY])
{
    for (OnePrimitive *p = *slot_of(key); p; p = p->next)
        if (memcmp(p->key, key, sizeof p->key) == 0)
            return p;
    return NULL;
}

/* The number of an order of weights; one that no longer fits the table gets a number equal to no other. */
static int format_number(LayoutRef layout)
{
    static int unknown = -1;
    for (int i = 0; i < one.formats; i++)
        if (dnnl_memory_desc_equal(ref(&one.format[i]), layout))
            return i;
    if (one.formats == FORMATS || layout_copy(&one.format[one.formats], layout))
        return --unknown;
    return one.formats++;
}

/* Puts a made description into the table. Takes desc over, in failure too. */
static Status keep(const int64_t key[KEY], dnnl_primitive_desc_t desc, const Operand *operands, bool bias,
                   bool add, OnePrimitive **out)
{
    OnePrimitive *p = mem_calloc(1, sizeof *p);
    if (!p) {
        dnnl_primitive_desc_destroy(desc);
        return STATUS_FAILED;
    }
    memcpy(p->key, key, sizeof p->key);
    p->desc = desc;
    p->operands = operands;
    p->bias = bias;
    p->add = add;
    p->scratch_bytes =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0));
    const LayoutRef weight = dnnl_primitive_desc_query_md(desc, operands[OP_B].query, 0);
    p->weight_bytes = dnnl_memory_desc_get_size(weight);
    p->weight_format = format_number(weight);
    OnePrimitive **slot = slot_of(key);
    p->next = *slot;
    *slot = p;
    *out = p;
    return STATUS_OK;
}

static dnnl_status_t user_scratch(dnnl_primitive_attr_t *attr)
{
    const dnnl_status_t s = dnnl_primitive_attr_create(attr);
    return s ? s : dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
}

/* Descriptions ----------------------------------------------------------------------------------------- */

/* Words that differ wherever the primitives do; the first tells matrix products from convolutions. */
static void matmul_key(const OneMatmul *d, int64_t key[KEY])
{
    int32_t alpha, beta;
    memcpy(&alpha, &d->alpha, sizeof alpha);
    memcpy(&beta, &d->beta, sizeof beta);
    const int64_t words[KEY] = {100,        omp_get_max_threads(),
                                d->m,       d->n,
                                d->k,       d->lda,
                                d->ldb,     d->ldy,
                                d->type,    d->y_type,
                                d->trans_a, d->trans_b,
                                d->bias,    alpha,
                                beta,       d->add};
    memcpy(key, words, sizeof words);
}

static void conv_key(const OneConv *d, int64_t key[KEY])
{
    const int64_t words[KEY] = {d->kind,       omp_get_max_threads(),
                                d->b,          d->h,
                                d->w,          d->c,
                                d->k,          d->kh,
                                d->kw,         d->oh,
                                d->ow,         d->stride,
                                d->pad_top,    d->pad_left,
                                d->pad_bottom, d->pad_right,
                                d->type,       d->bias,
                                d->blocked,    d->y_type,
                                d->sum};
    memcpy(key, words, sizeof words);
}

static dnnl_status_t matmul_attr(const OneMatmul *d, LayoutRef y, dnnl_primitive_attr_t *attr)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = user_scratch(attr);
    if (!s)
        s = dnnl_post_ops_create(&ops);
    if (!s && d->alpha != 1.0f)
        s = append_factor(ops, d->alpha);
    if (!s && d->beta != 0.0f)
        s = append_sum(ops, d->beta);
    if (!s && d->add)
        s = dnnl_post_ops_append_binary(ops, dnnl_binary_add, y);
    if (!s)
        s = dnnl_primitive_attr_set_post_ops(*attr, ops);
    dnnl_post_ops_destroy(ops);
    return s;
}

/* A row-major matrix of rows × columns as the product sees it, stored transposed or not. */
static dnnl_status_t matrix_layout(Layout *l, int64_t rows, int64_t columns, int64_t stride, bool transposed,
                                   DType type)
{
    const dnnl_dims_t dims = {rows, columns};
    const dnnl_dims_t strides = {transposed ? 1 : stride, transposed ? stride : 1};
    return layout_strides(l, 2, dims, one_type(type), strides);
}

static Status find_matmul(const OneMatmul *d, OnePrimitive **out)
{
    int64_t key[KEY];
    matmul_key(d, key);
    *out = look_up(key);
    if (*out)
        return STATUS_OK;
    TRY(start());
    Layout a = {0}, b = {0}, bias = {0}, y = {0};
    const dnnl_dims_t row = {1, d->n};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t s = matrix_layout(&a, d->m, d->k, d->lda, d->trans_a, d->type);
    if (!s)
        s = matrix_layout(&b, d->k, d->n, d->ldb, d->trans_b, d->type);
    if (!s)
        s = matrix_layout(&y, d->m, d->n, d->ldy, false, d->y_type);
    if (!s && d->bias)
        s = layout_tag(&bias, 2, row, dnnl_f32, dnnl_ab);
    if (!s)
        s = matmul_attr(d, ref(&y), &attr);
    if (!s)
        s = matmul_desc(&desc, one.engine, ref(&a), ref(&b), ref(&bias), ref(&y), attr);
    dnnl_primitive_attr_destroy(attr);
    layout_free(&a);
    layout_free(&b);
    layout_free(&bias);
    layout_free(&y);
    return s ? one_fail(s, "multiply these matrices")
             : keep(key, desc, forward_operands, d->bias, d->add, out);
}

Status onednn_matmul(const OneMatmul *d, OnePrimitive **out)
{
    IN_TURN(find_matmul(d, out));
}

/* The layouts of a convolution's operands; weights in whatever order is the fastest. */
static dnnl_status_t conv_layouts(const OneConv *d, DType weight_type, Layout *x, Layout *w, Layout *bias,
                                  Layout *y)
{
    const dnnl_dims_t xs = {d->b, d->c, d->h, d->w}, ys = {d->b, d->k, d->oh, d->ow};
    const dnnl_dims_t ws = {d->k, d->c, d->kh, d->kw}, bs = {d->k};
    const dnnl_format_tag_t tag = d->blocked ? dnnl_nChw8c : dnnl_nhwc;
    dnnl_status_t s = layout_tag(x, 4, xs, one_type(d->type), tag);
    if (!s)
        s = layout_tag(y, 4, ys, one_type(d->y_type), tag);
    if (!s)
        s = layout_tag(w, 4, ws, one_type(weight_type), dnnl_format_tag_any);
    if (!s && d->bias)
        s = layout_tag(bias, 1, bs, dnnl_f32, dnnl_a);
    return s;
}

static dnnl_status_t add_to_result(dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = dnnl_post_ops_create(&ops);
    if (!s)
        s = append_sum(ops, 1.0f);
    if (!s)
        s = dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl_post_ops_destroy(ops);
    return s;
}

static dnnl_status_t conv_make(const OneConv *d, OneConvKind kind, const_dnnl_primitive_desc_t forward,
                               dnnl_primitive_desc_t *desc)
{
    const dnnl_dims_t strides = {d->stride, d->stride};
    const dnnl_dims_t before = {d->pad_top, d->pad_left}, after = {d->pad_bottom, d->pad_right};
    Layout x = {0}, w = {0}, bias = {0}, y = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = conv_layouts(d, kind == ONE_BACKWARD_WEIGHT ? DTYPE_F32 : d->type, &x, &w, &bias, &y);
    if (!s)
        s = user_scratch(&attr);
    if (!s && d->sum && kind == d->kind)
        s = add_to_result(attr);
    if (!s)
        s = conv_desc(desc, one.engine, kind, ref(&x), ref(&w), ref(&bias), ref(&y), strides, before, after,
                      forward, attr);
    dnnl_primitive_attr_destroy(attr);
    layout_free(&x);
    layout_free(&w);
    layout_free(&bias);
    layout_free(&y);
    return s;
}

static Status find_conv(const OneConv *d, OnePrimitive **out)
{
    int64_t key[KEY];
    conv_key(d, key);
    *out = look_up(key);
    if (*out)
        return STATUS_OK;
    TRY(start());
    dnnl_primitive_desc_t desc = NULL, forward = NULL;
    dnnl_status_t s = d->kind == ONE_FORWARD ? dnnl_success : conv_make(d, ONE_FORWARD, NULL, &forward);
    if (!s)
        s = conv_make(d, d->kind, forward, &desc);
    dnnl_primitive_desc_destroy(forward);
    if (s)
        return one_fail(s, "convolve these shapes");
    const Operand *operands[] = {forward_operands, data_operands, weight_operands};
    TRY(keep(key, desc, operands[d->kind], d->bias && d->kind != ONE_BACKWARD_DATA, false, out));
    const int64_t dims[4] = {d->k, d->c, d->kh, d->kw};
    memcpy((*out)->weight_dims, dims, sizeof dims);
    return STATUS_OK;
}

Status onednn_conv(const OneConv *d, OnePrimitive **out)
{
    IN_TURN(find_conv(d, out));
}

size_t onednn_scratch_bytes(const OnePrimitive *p)
{
    return p->scratch_bytes;
}
size_t onednn_weight_bytes(const OnePrimitive *p)
{
    return p->weight_bytes;
}
int onednn_weight_format(const OnePrimitive *p)
{
    return p->weight_format;
}

/* Running ---------------------------------------------------------------------------------------------- */

static bool present(const OnePrimitive *p, int i)
{
    return p->operands[i].arg && (i != OP_BIAS || p->bias) && (i != OP_ADD || p->add) &&
           (i != OP_SCRATCH || p->scratch_bytes);
}

static dnnl_status_t make(OnePrimitive *p)
{
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < OPERANDS && !s; i++)
        if (present(p, i) && !p->memory[i])
            s = dnnl_memory_create(
                &p->memory[i],
                dnnl_primitive_desc_query_md(p->desc, p->operands[i].query, p->operands[i].index), one.engine,
                DNNL_MEMORY_NONE);
    return s ? s : dnnl_primitive_create(&p->primitive, p->desc);
}

static Status run(OnePrimitive *p, void *const data[OPERANDS])
{
    dnnl_exec_arg_t args[OPERANDS];
    int n = 0;
    TRY(reserve_keep());
    dnnl_status_t s = p->primitive ? dnnl_success : make(p);
    for (int i = 0; i < OPERANDS && !s; i++) {
        if (!present(p, i))
            continue;
        s = dnnl_memory_set_data_handle(p->memory[i], data[i]);
        args[n++] = (dnnl_exec_arg_t){p->operands[i].arg, p->memory[i]};
    }
    if (!s)
        s = dnnl_primitive_execute(p->primitive, one.stream, n, args);
    return s ? one_fail(s, "compute this product") : reserve_check();
}

Status onednn_run(OnePrimitive *p, void *a, void *b, void *bias, void *y, void *scratch)
{
    return onednn_run_add(p, a, b, bias, y, NULL, scratch);
}

Status onednn_run_add(OnePrimitive *p, void *a, void *b, void *bias, void *y, void *add, void *scratch)
{
    void *const data[OPERANDS] = {a, b, bias, y, add, scratch};
    IN_TURN(run(p, data));
}

/* Makes reorder i of p: from the plain weight of type to the packed one, or back, added. */
static dnnl_status_t make_reorder(OnePrimitive *p, int i, DType type)
{
    const bool back = i == 2;
    Layout plain = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t desc = NULL;
    const LayoutRef packed = dnnl_primitive_desc_query_md(p->desc, p->operands[OP_B].query, 0);
    dnnl_status_t s = layout_tag(&plain, 4, p->weight_dims, one_type(type), dnnl_oihw);
    if (!s)
        s = dnnl_primitive_attr_create(&attr);
    if (!s)
        s = dnnl_post_ops_create(&ops);
    if (!s && back)
        s = append_sum(ops, 1.0f);
    if (!s)
        s = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (!s)
        s = dnnl_reorder_primitive_desc_create(&desc, back ? packed : ref(&plain), one.engine,
                                               back ? ref(&plain) : packed, one.engine, attr);
    if (!s && !p->reorder_plain[i])
        s = dnnl_memory_create(&p->reorder_plain[i], ref(&plain), one.engine, DNNL_MEMORY_NONE);
    if (!s && !p->reorder_packed[i])
        s = dnnl_memory_create(&p->reorder_packed[i], packed, one.engine, DNNL_MEMORY_NONE);
    if (!s)
        s = dnnl_primitive_create(&p->reorder[i], desc);
    dnnl_primitive_desc_destroy(desc);
    dnnl_post_ops_destroy(ops);
    dnnl_primitive_attr_destroy(attr);
    layout_free(&plain);
    return s;
}

static Status run_reorder(OnePrimitive *p, int i, DType type, void *plain, void *packed)
{
    TRY(reserve_keep());
    dnnl_status_t s = p->reorder[i] ? dnnl_success : make_reorder(p, i, type);
    if (!s)
        s = dnnl_memory_set_data_handle(p->reorder_plain[i], plain);
    if (!s)
        s = dnnl_memory_set_data_handle(p->reorder_packed[i], packed);
    const bool back = i == 2;
    const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, back ? p->reorder_packed[i] : p->reorder_plain[i]},
                                     {DNNL_ARG_TO, back ? p->reorder_plain[i] : p->reorder_packed[i]}};
    if (!s)
        s = dnnl_primitive_execute(p->reorder[i], one.stream, 2, args);
    return s ? one_fail(s, "reorder these weights") : reserve_check();
}

Status onednn_pack(OnePrimitive *p, const void *weight, DType type, void *packed)
{
    IN_TURN(run_reorder(p, type == DTYPE_F32 ? 0 : 1, type, (void *)weight, packed));
}

Status onednn_unpack_add(OnePrimitive *p, const void *packed, float *gradient)
{
    IN_TURN(run_reorder(p, 2, DTYPE_F32, gradient, (void *)packed));
}

Status onednn_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *y, int64_t ldy)
{
    const dnnl_status_t s =
        dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, y, ldy);
    return s ? one_fail(s, "multiply these matrices") : STATUS_OK;
}

void onednn_expect_sgemm(bool trans_a, bool trans_b, float beta)
{
    one.sgemm[trans_a][trans_b][beta != 0] = true;
}

/* Getting ready ---------------------------------------------------------------------------------------- */

/* Each way of calling sgemm has code of its own, made at the first call. */
static Status small_products(void)
{
    enum { SIDE = 64, WAYS = 8 };
    const size_t count = (size_t)SIDE * SIDE;
    float *m = mem_calloc(3 * count, sizeof *m);
    Status s = m ? STATUS_OK : STATUS_FAILED;
    for (int way = 0; way < WAYS && s == STATUS_OK; way++) {
        const bool a = way & 1, b = way & 2, add = way & 4;
        if (one.sgemm[a][b][add])
            s = onednn_sgemm(a, b, SIDE, SIDE, SIDE, 1, m, SIDE, m + count, SIDE, add, m + 2 * count, SIDE);
    }
    mem_free(m);
    return s;
}

static Status warm_up(void)
{
    for (int i = 0; i < BUCKETS; i++)
        for (OnePrimitive *p = one.bucket[i]; p; p = p->next) {
            TRY(reserve_keep());
            const dnnl_status_t s = p->primitive ? dnnl_success : make(p);
            if (s)
                return one_fail(s, "prepare this product");
        }
    return small_products();
}

Status onednn_warm_up(void)
{
    IN_TURN(warm_up());
}
