/* The tape: which operations ran, and the gradient's way back through them.
 *
 * A step is a straight line of operations, so the tape is a list from the last node to the first; the
 * backward pass walks it once. A tensor's grad is made by the first consumer that reaches it and added to by
 * the others. Handing the same gradient to two tensors (residual sums) copies nothing: both are marked as
 * shared, and adding to a shared gradient makes a new tensor. */
#include "kernels/base/mem.h"
#include "ctx_state.h"

#include <string.h>

Node *tape_record(Ctx *c, const char *name, const Layer *layer, Tensor *out, bool needs_grad,
                  BackwardFn backward)
{
    CtxState *s = c->state;
    if (!needs_grad || !(c->recording || s->probing))
        return NULL;
    out->requires_grad = true;
    if (!c->recording)
        return NULL;
    Node *n = ctx_host(c, sizeof *n);
    n->name = name;
    n->layer = layer;
    n->out = out;
    n->backward = backward;
    n->before = s->head;
    s->head = n;
    return n;
}

static void walk_back(Ctx *c, Node *n)
{
    for (; n; n = n->before)
        if (n->out->grad)
            n->backward(c, n);
}

void ctx_backward(Ctx *c, Tensor *loss, float grad_scale)
{
    CtxState *s = c->state;
    const bool recording = c->recording;
    Node *head = s->head;
    c->recording = false;
    s->head = NULL;
    op_begin(c, "loss gradient", NULL);
    loss->grad = ctx_place(c, loss->dtype, loss->ndim, loss->shape, PLACE_GRADIENT);
    s->backward = true;
    RUN(c, c->dev->fill(loss->grad, grad_scale));
    walk_back(c, head);
    if (s->checks)
        checks_done(c);
    s->backward = false;
    c->recording = recording;
}

Tensor *grad_target(Ctx *c, Tensor *x)
{
    return x && x->requires_grad ? ctx_place(c, x->dtype, x->ndim, x->shape, PLACE_GRADIENT) : NULL;
}

void grad_add(Ctx *c, Tensor *x, Tensor *d)
{
    if (!x || !d || !x->requires_grad)
        return;
    if (!x->grad) {
        x->grad = d;
        x->grad_shared = false;
        return;
    }
    op_begin(c, "gradient sum", NULL);
    Tensor *sum = x->grad_shared ? ctx_place(c, x->dtype, x->ndim, x->shape, PLACE_GRADIENT) : x->grad;
    op_use(c, x->grad);
    op_use(c, d);
    if (c->state->checks)
        checks_made(c, sum);
    RUN(c, c->dev->add(x->grad, d, sum));
    x->grad = sum;
    x->grad_shared = false;
}

void grad_pass(Ctx *c, Tensor *x, Tensor *g)
{
    if (!x || !x->requires_grad)
        return;
    if (!tensor_same_shape(x, g)) { /* a view of the same memory in x's shape */
        Tensor *view = ctx_host(c, sizeof *view);
        *view = *g;
        view->ndim = x->ndim;
        memcpy(view->shape, x->shape, sizeof x->shape);
        g = view;
    }
    if (x->grad) {
        grad_add(c, x, g);
        return;
    }
    x->grad = g;
    x->grad_shared = true;
}

/* Checkpointed blocks (Chen et al. 2016) --------------------------------------------------------------- */

#define BLOCK_INPUTS 6

typedef struct Block {
    BlockFn fn;
    const void *arg;
    Tensor *in[BLOCK_INPUTS];
    int n;
} Block;

/* Runs the block again, this time recording, and walks its own piece of tape back. The inputs are the tensors
 * of the first run, so their gradients arrive where the rest of the tape expects them. */
static void block_backward(Ctx *c, Node *node)
{
    CtxState *s = c->state;
    const Block *b = node->arg;
    Node *head = s->head;
    const bool checkpointing = s->checkpointing;
    Tensor *in[BLOCK_INPUTS];
    memcpy(in, b->in, sizeof in);
    s->head = NULL;
    s->checkpointing = false;
    c->recording = true;
    Tensor *out = b->fn(c, b->arg, in, b->n);
    c->recording = false;
    s->checkpointing = checkpointing;
    Node *inner = s->head;
    s->head = head;
    if (!out->requires_grad)
        return;
    op_begin(c, "checkpointed", NULL);
    op_use(c, node->out->grad);
    out->grad = node->out->grad;
    out->grad_shared = true;
    walk_back(c, inner);
}

Tensor *checkpointed(Ctx *c, BlockFn fn, const void *arg, Tensor **in, int n)
{
    CtxState *s = c->state;
    if (!c->recording || !s->checkpointing || n > BLOCK_INPUTS)
        return fn(c, arg, in, n);
    c->recording = false;
    s->probing = true;
    Tensor *out = fn(c, arg, in, n);
    s->probing = false;
    c->recording = true;
    Node *node = tape_record(c, "checkpointed", NULL, out, out->requires_grad, block_backward);
    if (node) {
        Block b = {.fn = fn, .arg = arg, .n = n};
        memcpy(b.in, in, sizeof *in * (size_t)n);
        node->arg = ctx_copy(c, &b, sizeof b);
    }
    return out;
}
