/* A layer's adapters, of whatever kind, forward and backward (kernels/adapter.h).
 *
 * What an adapter adds is added to y after the layer's own product, one adapter after the other. Nothing of
 * it is kept for the backward pass: a low-rank kind's hidden values are few and a ΔW is large, so both are
 * made again. DoRA's factors make a ΔW of any kind. ΔW lives for one operation, in f32, and is not added to
 * W: in 16 bits most of it would be rounded away. */
#include "adapter.h"

#include "conv.h"

/* A weight at its place ---------------------------------------------------------------------------------- */

/* w (K,in·kh·kw), however its dimensions were stored, as (K,in,kh,kw). */
static Tensor *as_kernel(Ctx *c, const Site *at, const Tensor *w)
{
    Tensor view = *at->layer->weight;
    view.data = w->data;
    view.home = w->home;
    view.dtype = w->dtype;
    view.shape[0] = w->shape[0];
    view.place = w->place;
    return (Tensor *)ctx_copy(c, &view, sizeof view);
}

static void add_to(Ctx *c, Tensor *y, const Tensor *x)
{
    op_use(c, x), op_use(c, y);
    RUN(c, c->dev->add(y, x, y));
}

void site_apply(Ctx *c, const Site *at, const Tensor *w, const Tensor *x, bool add, Tensor *y)
{
    if (!at->conv) {
        product(c, 1, matrix_of(x), false, weight_matrix(w), true, add ? 1 : 0, matrix_of(y), NULL);
        return;
    }
    Tensor *own = add ? ctx_tensor(c, y->dtype, y->ndim, y->shape) : y;
    conv_run(c, &(Conv){.s = *at->conv, .x = x, .w = as_kernel(c, at, w), .y = own});
    if (add)
        add_to(c, y, own);
}

void site_backward_data(Ctx *c, const Site *at, const Tensor *w, const Tensor *g, Tensor *grad_x)
{
    if (!at->conv) {
        product(c, 1, matrix_of(g), false, weight_matrix(w), false, 1, matrix_of(grad_x), NULL);
        return;
    }
    Tensor *own = ctx_tensor(c, grad_x->dtype, grad_x->ndim, grad_x->shape);
    conv_run_backward_data(c, &(Conv){.s = *at->conv, .x = own, .w = as_kernel(c, at, w), .y = g});
    add_to(c, grad_x, own);
}

void site_backward_weight(Ctx *c, const Site *at, const Tensor *x, const Tensor *g, Tensor *grad_w)
{
    if (!at->conv)
        product(c, 1, matrix_of(g), true, matrix_of(x), false, 1, weight_matrix(grad_w), NULL);
    else
        conv_run_backward_weight(c, &(Conv){.s = *at->conv, .x = x, .w = as_kernel(c, at, grad_w), .y = g});
}

/* Parts of ΔW -------------------------------------------------------------------------------------------- */

Tensor *delta_matrix(Ctx *c, int64_t rows, int64_t columns)
{
    return ctx_tensor(c, DTYPE_F32, 2, (int64_t[]){rows, columns});
}

Tensor *delta_product(Ctx *c, float factor, const Tensor *a, const Tensor *b)
{
    const Matrix left = weight_matrix(a), right = weight_matrix(b);
    Tensor *y = delta_matrix(c, left.rows, right.columns);
    product(c, factor, left, false, right, false, 0, matrix_of(y), NULL);
    return y;
}

void delta_product_backward(Ctx *c, const Tensor *a, const Tensor *b, const Tensor *grad_ab)
{
    const Matrix left = weight_matrix(a), right = weight_matrix(b), g = weight_matrix(grad_ab);
    if (a->requires_grad)
        product(c, 1, g, false, right, true, 1, weight_matrix(a->grad), NULL);
    if (b->requires_grad)
        product(c, 1, left, true, g, false, 1, weight_matrix(b->grad), NULL);
}

/* DoRA --------------------------------------------------------------------------------------------------- */

/* A number for each row, (rows,1), or each column, (1,columns), as (rows,columns). */
static Tensor *spread(Ctx *c, const Tensor *factor, const Matrix m)
{
    const bool by_rows = factor->shape[1] == 1 && factor->shape[0] == m.rows;
    Tensor *ones = delta_matrix(c, by_rows ? 1 : m.rows, by_rows ? m.columns : 1);
    RUN(c, c->dev->fill(ones, 1));
    op_next(c);
    return delta_product(c, 1, by_rows ? factor : ones, by_rows ? ones : factor);
}

/* y ⊙= a number for each row or column */
static void multiply_spread(Ctx *c, const Tensor *factor, Tensor *y)
{
    const Tensor *all = spread(c, factor, weight_matrix(y));
    op_next(c);
    op_use(c, all), op_use(c, y);
    RUN(c, c->dev->multiply(y, all, y));
}

/* weight_factor ⊙ W + delta_factor ⊙ ΔW, f32 */
static Tensor *decomposed(Ctx *c, const Adapter *a, const Layer *l)
{
    Tensor *delta = a->kind->delta(c, a, l->weight);
    multiply_spread(c, a->delta_factor, delta);
    const Tensor *w = op_weight(c, l);
    Tensor *wide = ctx_tensor(c, DTYPE_F32, l->weight->ndim, l->weight->shape);
    op_use(c, w);
    RUN(c, c->dev->copy(w, wide));
    multiply_spread(c, a->weight_factor, wide);
    op_next(c);
    add_to(c, delta, wide);
    return delta;
}

/* ΔW as it is added to the layer's weight. */
static Tensor *whole_delta(Ctx *c, const Adapter *a, const Layer *l)
{
    return a->delta_factor ? decomposed(c, a, l) : a->kind->delta(c, a, l->weight);
}

static void delta_backward(Ctx *c, const Adapter *a, const Site *at, const Tensor *x, const Tensor *g,
                           Tensor *grad_x)
{
    const Tensor *w = at->layer->weight;
    if (adapter_trained(a)) {
        Tensor *grad_delta = ctx_tensor(c, DTYPE_F32, w->ndim, w->shape);
        RUN(c, c->dev->fill(grad_delta, 0));
        site_backward_weight(c, at, x, g, grad_delta);
        if (a->delta_factor) /* the lengths stay as they are */
            multiply_spread(c, a->delta_factor, grad_delta);
        a->kind->delta_backward(c, a, grad_delta);
    }
    if (grad_x)
        site_backward_data(c, at, whole_delta(c, a, at->layer), g, grad_x);
}

/* A layer's adapters ------------------------------------------------------------------------------------- */

bool adapters_fit(Ctx *c, const Layer *l)
{
    for (const Adapter *a = l->adapters; a; a = a->next)
        op_check(c, status_in(a->kind->check(a, l->weight), "its %s adapter", a->kind->title));
    return ctx_status(c) == STATUS_OK;
}

void adapters_add(Ctx *c, const Site *at, const Adapter *first, const Tensor *x, Tensor *y)
{
    for (const Adapter *a = first; a; a = a->next)
        if (a->kind->add && !a->delta_factor)
            a->kind->add(c, a, at, x, y);
        else
            site_apply(c, at, whole_delta(c, a, at->layer), x, true, y);
}

void adapters_backward(Ctx *c, const Site *at, const Tensor *x, const Tensor *g, Tensor *grad_x)
{
    for (const Adapter *a = at->layer->adapters; a; a = a->next)
        if (a->kind->backward && !a->delta_factor)
            a->kind->backward(c, a, at, x, g, grad_x);
        else
            delta_backward(c, a, at, x, g, grad_x);
}
