/* Adapters as linear and conv2d meet them, and what the kinds of adapters are made of. */
#ifndef ATL_OPS_ADAPTER_H
#define ATL_OPS_ADAPTER_H

#include "kernels/adapter.h"
#include "linear.h"

struct Site {
    const Layer *layer;
    const ConvShape *conv; /* NULL: a product over the last dimension */
};

/* For linear and conv2d; what at->layer has none of costs nothing. */
bool adapters_fit(Ctx *c, const Layer *l); /* false: the operation has failed */
/* `first` and all after it. */
void adapters_add(Ctx *c, const Site *at, const Adapter *first, const Tensor *x, Tensor *y);
/* g is y's gradient; x may be NULL where no adapter is trained, grad_x where nobody wants it. */
void adapters_backward(Ctx *c, const Site *at, const Tensor *x, const Tensor *g, Tensor *grad_x);

/* For kinds: w, (K,in[,kh,kw]), in the place of the layer's weight, whatever K. y = x w or y += x w; grad x
 * and grad w are always added to. */
void site_apply(Ctx *c, const Site *at, const Tensor *w, const Tensor *x, bool add, Tensor *y);
void site_backward_data(Ctx *c, const Site *at, const Tensor *w, const Tensor *g, Tensor *grad_x);
void site_backward_weight(Ctx *c, const Site *at, const Tensor *x, const Tensor *g, Tensor *grad_w);

/* f32 (rows,columns), for parts of ΔW. */
Tensor *delta_matrix(Ctx *c, int64_t rows, int64_t columns);
/* factor ab, in f32; and to the gradients of a and b, where they are trained, those from grad_ab. */
Tensor *delta_product(Ctx *c, float factor, const Tensor *a, const Tensor *b);
void delta_product_backward(Ctx *c, const Tensor *a, const Tensor *b, const Tensor *grad_ab);

#endif
