/* LoRA (Hu et al. 2021), and on convolutions LoCon: down has the layer's own kernel, stride and padding, up
 * is 1×1.
 *
 *     y += scale up(down(x))          down (r,in[,kh,kw])  up (out,r[,1,1])
 *
 * Backward, with t = down(x) and u = scale g up:  grad up += scale gᵀ t,  grad down += uᵀ x,
 * grad x += u down. */
#include "adapter.h"

#include "kernels/op.h"

static Status check(const Adapter *a, const Tensor *w)
{
    char d[80], u[80];
    const Tensor *down = a->tensors[LORA_DOWN], *up = a->tensors[LORA_UP];
    if (!down || !up)
        return status_fail("there is no %s part", down ? "up" : "down");
    const Matrix in = weight_matrix(down), out = weight_matrix(up), layer = weight_matrix(w);
    if (in.rows < 1 || in.columns != layer.columns || out.rows != layer.rows || out.columns != in.rows)
        return status_fail("down %s and up %s do not fit the model's weight of (%lld,%lld); was this made "
                           "for another model?",
                           tensor_describe(down, d, sizeof d), tensor_describe(up, u, sizeof u),
                           (long long)layer.rows, (long long)layer.columns);
    return STATUS_OK;
}

static int64_t rank(const Adapter *a)
{
    return a->tensors[LORA_DOWN] ? a->tensors[LORA_DOWN]->shape[0] : 0;
}

/* (…,r) for every position of y (…,out) */
static Tensor *hidden(Ctx *c, const Adapter *a, DType type, const Tensor *y)
{
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < y->ndim; i++)
        shape[i] = i + 1 < y->ndim ? y->shape[i] : rank(a);
    return ctx_tensor(c, type, y->ndim, shape);
}

static void add_to(Ctx *c, const Adapter *a, const Site *at, const Tensor *x, Tensor *y)
{
    Tensor *t = hidden(c, a, y->dtype, y);
    site_apply(c, at, a->tensors[LORA_DOWN], x, false, t);
    product(c, a->scale, matrix_of(t), false, weight_matrix(a->tensors[LORA_UP]), true, 1, matrix_of(y),
            NULL);
}

static const Tensor *ride(Ctx *c, const Adapter *a, const Site *at, const Tensor *x, const Tensor **up)
{
    Tensor *t = hidden(c, a, c->dtype, x);
    site_apply(c, at, a->tensors[LORA_DOWN], x, false, t);
    *up = a->tensors[LORA_UP];
    return t;
}

static void backward(Ctx *c, const Adapter *a, const Site *at, const Tensor *x, const Tensor *g,
                     Tensor *grad_x)
{
    const Tensor *down = a->tensors[LORA_DOWN], *up = a->tensors[LORA_UP];
    if (up->requires_grad) {
        Tensor *t = hidden(c, a, g->dtype, g);
        site_apply(c, at, down, x, false, t);
        product(c, a->scale, matrix_of(g), true, matrix_of(t), false, 1, weight_matrix(up->grad), NULL);
    }
    if (!down->requires_grad && !grad_x)
        return;
    Tensor *u = hidden(c, a, g->dtype, g);
    product(c, a->scale, matrix_of(g), false, weight_matrix(up), false, 0, matrix_of(u), NULL);
    if (down->requires_grad)
        site_backward_weight(c, at, x, u, down->grad);
    if (grad_x)
        site_backward_data(c, at, down, u, grad_x);
}

static Tensor *delta(Ctx *c, const Adapter *a, const Tensor *w)
{
    Tensor *y = ctx_tensor(c, DTYPE_F32, w->ndim, w->shape);
    product(c, a->scale, weight_matrix(a->tensors[LORA_UP]), false, weight_matrix(a->tensors[LORA_DOWN]),
            false, 0, weight_matrix(y), NULL);
    return y;
}

static void delta_backward(Ctx *c, const Adapter *a, const Tensor *grad_delta)
{
    const Tensor *down = a->tensors[LORA_DOWN], *up = a->tensors[LORA_UP];
    const Matrix g = weight_matrix(grad_delta);
    if (up->requires_grad)
        product(c, a->scale, g, false, weight_matrix(down), true, 1, weight_matrix(up->grad), NULL);
    if (down->requires_grad)
        product(c, a->scale, weight_matrix(up), true, g, false, 1, weight_matrix(down->grad), NULL);
}

const AdapterKind adapter_lora = {
    .name = "lora",
    .title = "LoRA",
    .roles = {[LORA_DOWN] = "down", [LORA_UP] = "up"},
    .check = check,
    .rank = rank,
    .add = add_to,
    .ride = ride,
    .backward = backward,
    .delta = delta,
    .delta_backward = delta_backward,
};
