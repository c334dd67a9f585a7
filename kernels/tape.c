/* The tape: which operations ran, and the gradient's way back through them.
 *
 * A step is a straight line of operations, so the tape is a list from the last node to the first; the
 * backward pass walks it once. A tensor's grad is made by the first consumer that reaches it and added to by
 * the others; when the walk comes to the node that made the tensor, all have been there. Handing the same
 * gradient to two tensors (residual sums) copies nothing: both are marked as shared, and adding to a shared
 * gradient makes a new tensor. */
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

/* Gradients -------------------------------------------------------------------------------------------- */

Tensor *grad_target(Ctx *c, Tensor *x)
{
    return x && x->requires_grad ? ctx_place(c, x->dtype, x->ndim, x->shape, PLACE_GRADIENT) : NULL;
}

/* Two gradients are summed in x's own type. From the third on the sum is kept in f32, since each rounding to
 * 16 bits would stay in it (a time embedding's has 22 parts), and rounded once, when it is handed on. */
void grad_add(Ctx *c, Tensor *x, Tensor *d)
{
    if (!x || !d || !x->requires_grad)
        return;
    if (!x->grad) {
        x->grad = d;
        x->grad_shared = false;
        x->grad_parts = 1;
        return;
    }
    op_begin(c, "gradient sum", NULL);
    const DType type = x->grad_parts > 1 ? DTYPE_F32 : x->dtype;
    const bool in_place = !x->grad_shared && x->grad->dtype == type;
    Tensor *sum = in_place ? x->grad : ctx_place(c, type, x->ndim, x->shape, PLACE_GRADIENT);
    op_use(c, x->grad);
    op_use(c, d);
    if (c->state->checks)
        checks_made(c, sum);
    RUN(c, c->dev->add(x->grad, d, sum));
    x->grad = sum;
    x->grad_shared = false;
    x->grad_parts++;
}

/* t's whole gradient, in t's own type. */
static void grad_settle(Ctx *c, Tensor *t)
{
    if (t->grad->dtype == t->dtype)
        return;
    op_begin(c, "gradient sum", NULL);
    op_use(c, t->grad);
    Tensor *g = ctx_place(c, t->dtype, t->ndim, t->shape, PLACE_GRADIENT);
    RUN(c, c->dev->copy(t->grad, g));
    t->grad = g;
}

void grad_pass(Ctx *c, Tensor *x, Tensor *g)
{
    if (!x || !x->requires_grad)
        return;
    if (x->dtype != g->dtype) {
        Tensor *d = grad_target(c, x);
        op_use(c, g);
        RUN(c, c->dev->copy(g, d));
        grad_add(c, x, d);
        return;
    }
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
    x->grad_parts = 1;
}

/* The way back ----------------------------------------------------------------------------------------- */

static void walk_back(Ctx *c, Node *n)
{
    for (; n; n = n->before)
        if (n->out->grad) {
            grad_settle(c, n->out);
            n->backward(c, n);
            if (n->layer && c->state->layer_added)
                c->state->layer_added(c, n->layer, c->state->watch_arg);
        }
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

/* Checkpointed blocks (Chen et al. 2016) --------------------------------------------------------------- */

typedef struct Block {
    BlockFn fn;
    const void *arg;
    Kept *kept;
    int n;
    Tensor *in[]; /* n */
} Block;

/* Operations an element from which a result is dear. A step of SD 1.5's shapes keeps the results of its 3×3
 * convolutions and of attention to 1,024 tokens and more: at 512×512 in 16 bits some 70 MB, for half of what
 * the second runs take without. */
#define DEAR_FLOP 4096

bool tape_wanted(const Ctx *c)
{
    return c->recording || c->state->probing;
}

void op_keep(Ctx *c, double flop, Tensor *out, Tensor *side)
{
    CtxState *s = c->state;
    if (!s->probing)
        return;
    Kept *k = ctx_host(c, sizeof *k);
    *k = (Kept){.out = out, .side = side, .dear = flop >= DEAR_FLOP * (double)tensor_count(out)};
    *s->keeping = k;
    s->keeping = &k->next;
}

Tensor *op_kept(Ctx *c, Tensor **side)
{
    CtxState *s = c->state;
    Kept *k = s->again ? *s->again : NULL;
    if (!k)
        return NULL;
    s->again = &k->next;
    if (side)
        *side = k->side;
    return k->out;
}

/* The block's own result is kept too: its numbers are not asked for, as nothing follows it in the block. */
static void choose_kept(Kept *k, bool dear, const Tensor *result)
{
    for (; k; k = k->next)
        if (!(dear && k->dear) && k->out->place != result->place)
            k->out = NULL;
}

/* Runs the block again, this time recording, and walks its own piece of tape back. The inputs are the tensors
 * of the first run, so their gradients arrive where the rest of the tape expects them. */
static void block_backward(Ctx *c, Node *node)
{
    CtxState *s = c->state;
    Block *b = (Block *)node->arg; /* run once more and never again: fn may do with its inputs as it likes */
    Node *head = s->head;
    const Checkpointing checkpointing = s->checkpointing;
    s->head = NULL;
    s->checkpointing = CHECKPOINTING_OFF;
    s->again = &b->kept;
    c->recording = true;
    Tensor *out = b->fn(c, b->arg, b->in, b->n);
    c->recording = false;
    s->again = NULL;
    s->checkpointing = checkpointing;
    Node *inner = s->head;
    s->head = head;
    if (!out->requires_grad)
        return;
    op_begin(c, "checkpointed", NULL);
    op_use(c, node->out->grad);
    out->grad = node->out->grad;
    out->grad_shared = true;
    out->grad_parts = 1;
    walk_back(c, inner);
}

static void keep_block(Ctx *c, Node *node, BlockFn fn, const void *arg, Kept *kept, Tensor **in, int n)
{
    Block *b = ctx_host(c, sizeof *b + (size_t)n * sizeof *in);
    *b = (Block){.fn = fn, .arg = arg, .kept = kept, .n = n};
    memcpy(b->in, in, (size_t)n * sizeof *in);
    node->arg = b;
}

Tensor *checkpointed(Ctx *c, BlockFn fn, const void *arg, Tensor **in, int n)
{
    CtxState *s = c->state;
    if (!c->recording || s->checkpointing == CHECKPOINTING_OFF)
        return fn(c, arg, in, n);
    Kept *kept = NULL;
    c->recording = false;
    s->probing = true;
    s->keeping = &kept;
    Tensor *out = fn(c, arg, in, n);
    s->probing = false;
    c->recording = true;
    choose_kept(kept, s->checkpointing == CHECKPOINTING_ON, out);
    Node *node = tape_record(c, "checkpointed", NULL, out, out->requires_grad, block_backward);
    if (node)
        keep_block(c, node, fn, arg, kept, in, n);
    return out;
}
