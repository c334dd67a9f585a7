/* The table of the device `far`: each function takes its arguments down as a call, whose `run` hands them to
 * the processor's function of the same name. One macro for each shape of arguments. */
#include "queue.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

static const Device *cpu;
static Device far;

void far_queue_table(Device *d); /* queue.c */

/* Tensors alone, two to five; all but the last few are read. */
#define FAR_2(name)                                                                                          \
    static Status run_##name(Call *k)                                                                        \
    {                                                                                                        \
        return cpu->name(call_get(k, 0), call_get(k, 1));                                                    \
    }                                                                                                        \
    static Status far_##name(const Tensor *a, Tensor *b)                                                     \
    {                                                                                                        \
        return queue_tensors(#name, run_##name, (const Tensor *[]){a, b}, 2);                                \
    }
#define FAR_3(name)                                                                                          \
    static Status run_##name(Call *k)                                                                        \
    {                                                                                                        \
        return cpu->name(call_get(k, 0), call_get(k, 1), call_get(k, 2));                                    \
    }                                                                                                        \
    static Status far_##name(const Tensor *a, const Tensor *b, Tensor *y)                                    \
    {                                                                                                        \
        return queue_tensors(#name, run_##name, (const Tensor *[]){a, b, y}, 3);                             \
    }
/* A descriptor of tensors with scratch memory. */
#define FAR_DESCRIPTOR(name, Type, offsets)                                                                  \
    static Status run_##name(Call *k)                                                                        \
    {                                                                                                        \
        return cpu->name((const Type *)call_extra(k, offsets), call_scratch(k));                             \
    }                                                                                                        \
    static Status far_##name##_scratch(const Type *d, size_t *bytes)                                         \
    {                                                                                                        \
        return cpu->name##_scratch(d, bytes);                                                                \
    }                                                                                                        \
    static Status far_##name(const Type *d, void *scratch)                                                   \
    {                                                                                                        \
        return queue_descriptor(#name, run_##name, d, sizeof *d, offsets, COUNT(offsets), scratch);          \
    }
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static Status queue_tensors(const char *name, CallFn run, const Tensor **t, int n)
{
    Call *k = call_new(name, run);
    if (!k)
        return STATUS_FAILED;
    for (int i = 0; i < n; i++)
        call_tensor(k, t[i]);
    return call_queue(k);
}

static Status queue_descriptor(const char *name, CallFn run, const void *d, size_t bytes,
                               const size_t *offsets, int n, void *scratch)
{
    Call *k = call_new(name, run);
    if (!k)
        return STATUS_FAILED;
    call_descriptor(k, d, bytes, offsets, n);
    k->scratch = scratch;
    return call_queue(k);
}

/* With numbers beside the tensors. */
static Status queue_numbers(const char *name, CallFn run, const Tensor **t, int n, int64_t i0, double f0)
{
    Call *k = call_new(name, run);
    if (!k)
        return STATUS_FAILED;
    for (int i = 0; i < n; i++)
        call_tensor(k, t[i]);
    k->i[0] = i0;
    k->f[0] = f0;
    return call_queue(k);
}

/* linear */
static const size_t product_tensors[] = {
    offsetof(Product, a), offsetof(Product, b),  offsetof(Product, bias), offsetof(Product, residual),
    offsetof(Product, t), offsetof(Product, up), offsetof(Product, y),    offsetof(Product, keep_h)};
FAR_DESCRIPTOR(product, Product, product_tensors)

static Status run_column_sum(Call *k)
{
    return cpu->column_sum(call_get(k, 0), call_get(k, 1), k->i[0]);
}
static Status far_column_sum(const Tensor *g, Tensor *out, bool accumulate)
{
    return queue_numbers("column_sum", run_column_sum, (const Tensor *[]){g, out}, 2, accumulate, 0);
}

static Status run_kronecker(Call *k)
{
    return cpu->kronecker((float)k->f[0], call_get(k, 0), call_get(k, 1), call_get(k, 2));
}
static Status far_kronecker(float factor, const Tensor *a, const Tensor *b, Tensor *y)
{
    return queue_numbers("kronecker", run_kronecker, (const Tensor *[]){a, b, y}, 3, 0, (double)factor);
}
static Status run_kronecker_backward(Call *k)
{
    return cpu->kronecker_backward((float)k->f[0], call_get(k, 0), call_get(k, 1), call_get(k, 2),
                                   call_get(k, 3), call_get(k, 4));
}
static Status far_kronecker_backward(float factor, const Tensor *a, const Tensor *b, const Tensor *grad_y,
                                     Tensor *grad_a, Tensor *grad_b)
{
    return queue_numbers("kronecker_backward", run_kronecker_backward,
                         (const Tensor *[]){a, b, grad_y, grad_a, grad_b}, 5, 0, (double)factor);
}

/* conv: what the processor keeps of a layer (its packed forms) lies in a layer of far's own, whose tensors
 * are where calls see them */
typedef struct Shadow {
    Layer layer;
    Tensor weight, grad;
} Shadow;

static const size_t conv_tensors[] = {offsetof(Conv, x),        offsetof(Conv, w),
                                      offsetof(Conv, bias),     offsetof(Conv, per_picture),
                                      offsetof(Conv, residual), offsetof(Conv, y)};

/* With the tensors of the host's layer: as calls see them, or as the host does where only shapes are looked
 * at.
 */
static Layer *shadow_of(Layer *l, const Tensor *weight, const Tensor *grad)
{
    Shadow *s = l->packed ? l->packed : calloc(1, sizeof *s);
    if (!s)
        return NULL;
    l->packed = s;
    s->weight = *weight;
    s->weight.grad = NULL;
    if (grad) {
        s->grad = *grad;
        s->weight.grad = &s->grad;
    }
    s->layer.name = l->name;
    s->layer.weight = &s->weight;
    s->layer.still = l->still;
    s->layer.pack_off = l->pack_off;
    s->layer.pack_forward_only = l->pack_forward_only;
    return &s->layer;
}

static Conv for_shapes(const Conv *a)
{
    Conv b = *a;
    b.layer = a->layer ? shadow_of(a->layer, a->layer->weight, a->layer->weight->grad) : NULL;
    return b;
}

static Status queue_conv(const char *name, CallFn run, const Conv *a, void *scratch)
{
    Call *k = call_new(name, run);
    if (!k)
        return STATUS_FAILED;
    Conv bare = *a;
    bare.layer = NULL;
    call_descriptor(k, &bare, sizeof bare, conv_tensors, COUNT(conv_tensors));
    k->scratch = scratch;
    k->layer = a->layer;
    if (a->layer) {
        const int count = k->count; /* behind the descriptor's */
        call_tensor(k, a->layer->weight);
        call_tensor(k, a->layer->still ? a->layer->weight->grad : NULL);
        k->count = count;
        k->i[0] = a->layer->still;
    }
    return call_queue(k);
}

static Layer *layer_of(Call *k)
{
    if (!k->layer)
        return NULL;
    Tensor weight = k->t[k->count], grad = k->t[k->count + 1];
    weight.data = far_inside(weight.data);
    grad.data = far_inside(grad.data);
    return shadow_of(k->layer, &weight, k->has[k->count + 1] ? &grad : NULL);
}

#define FAR_CONV(name)                                                                                       \
    static Status run_##name(Call *k)                                                                        \
    {                                                                                                        \
        Conv a = *(const Conv *)call_extra(k, conv_tensors);                                                 \
        a.layer = layer_of(k);                                                                               \
        return cpu->name(&a, call_scratch(k));                                                               \
    }                                                                                                        \
    static Status far_##name##_scratch(const Conv *a, size_t *bytes)                                         \
    {                                                                                                        \
        const Conv b = for_shapes(a);                                                                        \
        return cpu->name##_scratch(&b, bytes);                                                               \
    }                                                                                                        \
    static Status far_##name(const Conv *a, void *scratch)                                                   \
    {                                                                                                        \
        return queue_conv(#name, run_##name, a, scratch);                                                    \
    }
FAR_CONV(conv2d)
FAR_CONV(conv2d_backward_data)
FAR_CONV(conv2d_backward_weight)

static size_t far_packed_bytes(const Layer *l)
{
    const Shadow *s = l->packed;
    return s ? cpu->packed_bytes(&s->layer) : 0;
}

static void far_unpack(Layer *l)
{
    Shadow *s = l->packed;
    far.settle();
    if (s && s->layer.packed)
        cpu->unpack(&s->layer);
    free(s);
    l->packed = NULL;
}

/* norm */
static const size_t norm_tensors[] = {offsetof(Norm, x),      offsetof(Norm, w),      offsetof(Norm, b),
                                      offsetof(Norm, y),      offsetof(Norm, mean),   offsetof(Norm, rstd),
                                      offsetof(Norm, grad_y), offsetof(Norm, grad_x), offsetof(Norm, grad_w),
                                      offsetof(Norm, grad_b)};
FAR_DESCRIPTOR(group_norm, Norm, norm_tensors)
FAR_DESCRIPTOR(group_norm_backward, Norm, norm_tensors)
FAR_DESCRIPTOR(layer_norm_backward, Norm, norm_tensors)

static Status run_layer_norm(Call *k)
{
    return cpu->layer_norm(call_extra(k, norm_tensors));
}
static Status far_layer_norm(const Norm *n)
{
    return queue_descriptor("layer_norm", run_layer_norm, n, sizeof *n, norm_tensors, COUNT(norm_tensors),
                            NULL);
}

/* pointwise */
FAR_2(copy)
FAR_3(decode)
FAR_2(silu)
FAR_3(silu_backward)
FAR_2(gelu)
FAR_3(gelu_backward)
FAR_2(quick_gelu)
FAR_3(quick_gelu_backward)
FAR_2(geglu)
FAR_3(geglu_backward)
FAR_3(add)
FAR_3(multiply)
FAR_2(sum_per_channel)
FAR_3(add_rows)
FAR_2(sum_rows)

static Status run_fill(Call *k)
{
    return cpu->fill(call_get(k, 0), (float)k->f[0]);
}
static Status far_fill(Tensor *t, float value)
{
    return queue_numbers("fill", run_fill, (const Tensor *[]){t}, 1, 0, (double)value);
}

/* attention */
static const size_t attention_tensors[] = {
    offsetof(Attention, q),      offsetof(Attention, k),      offsetof(Attention, v),
    offsetof(Attention, out),    offsetof(Attention, lse),    offsetof(Attention, grad_out),
    offsetof(Attention, grad_q), offsetof(Attention, grad_k), offsetof(Attention, grad_v)};
FAR_DESCRIPTOR(attention, Attention, attention_tensors)
FAR_DESCRIPTOR(attention_backward, Attention, attention_tensors)

/* shape */
FAR_3(concat)
FAR_2(from_nchw)
FAR_2(to_nchw)

static Status run_slice_channels(Call *k)
{
    return cpu->slice_channels(call_get(k, 0), k->i[0], call_get(k, 1));
}
static Status far_slice_channels(const Tensor *x, int64_t first, Tensor *y)
{
    return queue_numbers("slice_channels", run_slice_channels, (const Tensor *[]){x, y}, 2, first, 0);
}

/* embedding */
FAR_3(embedding)
FAR_3(embedding_backward)
FAR_3(take_rows)
FAR_3(take_rows_backward)

static Status run_timestep_embedding(Call *k)
{
    return cpu->timestep_embedding(call_get(k, 0), k->i[0], (float)k->f[0], call_get(k, 1));
}
static Status far_timestep_embedding(const Tensor *t, bool flip_sin_to_cos, float downscale_freq_shift,
                                     Tensor *y)
{
    return queue_numbers("timestep_embedding", run_timestep_embedding, (const Tensor *[]){t, y}, 2,
                         flip_sin_to_cos, (double)downscale_freq_shift);
}

/* loss */
static Status run_mse_loss(Call *k)
{
    return cpu->mse_loss(call_get(k, 0), call_get(k, 1), call_get(k, 2), call_get(k, 3), call_get(k, 4));
}
static Status far_mse_loss(const Tensor *p, const Tensor *t, const Tensor *weight, Tensor *loss,
                           Tensor *per_sample)
{
    return queue_tensors("mse_loss", run_mse_loss, (const Tensor *[]){p, t, weight, loss, per_sample}, 5);
}
static Status run_mse_loss_backward(Call *k)
{
    return cpu->mse_loss_backward(call_get(k, 0), call_get(k, 1), call_get(k, 2), call_get(k, 3),
                                  call_get(k, 4));
}
static Status far_mse_loss_backward(const Tensor *p, const Tensor *t, const Tensor *weight,
                                    const Tensor *grad_loss, Tensor *grad_p)
{
    return queue_tensors("mse_loss_backward", run_mse_loss_backward,
                         (const Tensor *[]){p, t, weight, grad_loss, grad_p}, 5);
}

/* optimizer: the list of segments is the host's and stays; what the weights are compared with and the numbers
 * are the device's */
static Status run_update(Call *k)
{
    Update *u = (Update *)(void *)k->extra;
    u->from = far_inside(u->from);
    return cpu->update(u, call_get(k, 0), call_get(k, 1), call_get(k, 2), call_get(k, 3), call_get(k, 4),
                       far_inside(k->at), call_scratch(k));
}
static Status far_update_scratch(const Update *u, size_t *bytes)
{
    return cpu->update_scratch(u, bytes);
}
static Status far_update(const Update *u, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, Tensor *average,
                         StepNumbers *numbers, void *scratch)
{
    Call *k = call_new("update", run_update);
    if (!k)
        return STATUS_FAILED;
    call_descriptor(k, u, sizeof *u, NULL, 0);
    k->brings = true;
    const Tensor *const t[] = {w, g, m, v, average};
    for (int i = 0; i < COUNT(t); i++)
        call_tensor(k, t[i]);
    k->at = numbers;
    k->scratch = scratch;
    return call_queue(k);
}

static Status run_exchange(Call *k)
{
    return cpu->exchange(call_get(k, 0), call_get(k, 1));
}
static Status far_exchange(Tensor *a, Tensor *b)
{
    return queue_tensors("exchange", run_exchange, (const Tensor *[]){a, b}, 2);
}

/* The table --------------------------------------------------------------------------------------------- */

static void fill_in(void)
{
    cpu = device_cpu();
    far_queue_table(&far);
    far.name = "far";
    far.chip = "the processor behind memory of its own";
    far.copy = far_copy;
    far.decode = far_decode;
    far.fill = far_fill;
    far.product_scratch = far_product_scratch;
    far.product = far_product;
    far.column_sum = far_column_sum;
    far.kronecker = far_kronecker;
    far.kronecker_backward = far_kronecker_backward;
    far.conv2d_scratch = far_conv2d_scratch;
    far.conv2d = far_conv2d;
    far.conv2d_backward_data_scratch = far_conv2d_backward_data_scratch;
    far.conv2d_backward_data = far_conv2d_backward_data;
    far.conv2d_backward_weight_scratch = far_conv2d_backward_weight_scratch;
    far.conv2d_backward_weight = far_conv2d_backward_weight;
    far.packed_bytes = far_packed_bytes;
    far.unpack = far_unpack;
    far.group_norm_scratch = far_group_norm_scratch;
    far.group_norm = far_group_norm;
    far.group_norm_backward_scratch = far_group_norm_backward_scratch;
    far.group_norm_backward = far_group_norm_backward;
    far.layer_norm = far_layer_norm;
    far.layer_norm_backward_scratch = far_layer_norm_backward_scratch;
    far.layer_norm_backward = far_layer_norm_backward;
    far.silu = far_silu;
    far.silu_backward = far_silu_backward;
    far.gelu = far_gelu;
    far.gelu_backward = far_gelu_backward;
    far.quick_gelu = far_quick_gelu;
    far.quick_gelu_backward = far_quick_gelu_backward;
    far.geglu = far_geglu;
    far.geglu_backward = far_geglu_backward;
    far.add = far_add;
    far.multiply = far_multiply;
    far.sum_per_channel = far_sum_per_channel;
    far.add_rows = far_add_rows;
    far.sum_rows = far_sum_rows;
    far.attention_scratch = far_attention_scratch;
    far.attention = far_attention;
    far.attention_backward_scratch = far_attention_backward_scratch;
    far.attention_backward = far_attention_backward;
    far.concat = far_concat;
    far.slice_channels = far_slice_channels;
    far.from_nchw = far_from_nchw;
    far.to_nchw = far_to_nchw;
    far.embedding = far_embedding;
    far.embedding_backward = far_embedding_backward;
    far.take_rows = far_take_rows;
    far.take_rows_backward = far_take_rows_backward;
    far.timestep_embedding = far_timestep_embedding;
    far.mse_loss = far_mse_loss;
    far.mse_loss_backward = far_mse_loss_backward;
    far.update_scratch = far_update_scratch;
    far.update = far_update;
    far.exchange = far_exchange;
}

const Device *device_far(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_in);
    return &far;
}
