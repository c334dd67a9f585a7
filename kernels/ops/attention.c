/* Attention on the tape. */
#include "kernels/op.h"

/* Attention -------------------------------------------------------------------------------------------- */

/* in: q k v out lse; i[0] heads, i[1] causal */
static void attention_backward(Ctx *c, Node *n)
{
    Tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    op_begin(c, "attention backward", NULL);
    Attention a = {.heads = (int)n->i[0],
                   .threads = c->threads,
                   .causal = n->i[1],
                   .tf32 = c->tf32,
                   .q = q,
                   .k = k,
                   .v = v,
                   .out = n->out,
                   .lse = n->in[3]};
    a.grad_out = n->out->grad;
    a.grad_q = grad_target(c, q);
    a.grad_k = grad_target(c, k);
    a.grad_v = grad_target(c, v);
    op_use(c, q), op_use(c, k), op_use(c, v), op_use(c, n->out), op_use(c, n->in[3]), op_use(c, a.grad_out);
    op_flop(c, 10.0 * (double)tensor_count(q) * (double)k->shape[1]);
    RUN_IN_SCRATCH(c, attention_backward, &a);
    grad_add(c, q, a.grad_q);
    grad_add(c, k, a.grad_k);
    grad_add(c, v, a.grad_v);
}

static void check_attention(Ctx *c, int heads, const Tensor *q, const Tensor *k, const Tensor *v)
{
    char a[80], b[80], d[80];
    const bool shapes = q->ndim == 3 && k->ndim == 3 && tensor_same_shape(k, v) &&
                        q->shape[0] == k->shape[0] && q->shape[2] == k->shape[2];
    if (!shapes || heads < 1 || q->shape[2] % heads)
        op_fail(c, "queries %s, keys %s, values %s do not fit together with %d heads",
                tensor_describe(q, a, sizeof a), tensor_describe(k, b, sizeof b),
                tensor_describe(v, d, sizeof d), heads);
}

/* out, and lse (B,heads,N): the logarithm of each query's sum of exponentials */
static Tensor *forward(Ctx *c, int heads, unsigned flags, Tensor *q, Tensor *k, Tensor *v, Tensor **lse)
{
    const double flop = 4.0 * (double)tensor_count(q) * (double)k->shape[1];
    op_use(c, q), op_use(c, k), op_use(c, v);
    Tensor *out = ctx_tensor(c, q->dtype, q->ndim, q->shape);
    const int64_t lse_shape[] = {q->shape[0], heads, q->shape[1]};
    *lse = ctx_tensor(c, DTYPE_F32, 3, lse_shape);
    const Attention a = {.heads = heads,
                         .threads = c->threads,
                         .causal = flags & ATTENTION_CAUSAL,
                         .narrow = flags & ATTENTION_NARROW && !tape_wanted(c),
                         .tf32 = c->tf32,
                         .q = q,
                         .k = k,
                         .v = v,
                         .out = out,
                         .lse = *lse};
    if (ctx_status(c) == STATUS_OK) {
        op_flop(c, flop);
        RUN_IN_SCRATCH(c, attention, &a);
    }
    op_keep(c, flop, out, *lse);
    return out;
}

Tensor *attention(Ctx *c, int heads, unsigned flags, Tensor *q, Tensor *k, Tensor *v)
{
    op_begin(c, "attention", NULL);
    check_attention(c, heads, q, k, v);
    Tensor *lse, *out = op_kept(c, &lse);
    if (!out)
        out = forward(c, heads, flags, q, k, v, &lse);
    Node *n = tape_record(c, "attention", NULL, out, q->requires_grad || k->requires_grad || v->requires_grad,
                          attention_backward);
    if (n) {
        n->in[0] = q, n->in[1] = k, n->in[2] = v, n->in[3] = lse;
        n->i[0] = heads, n->i[1] = flags & ATTENTION_CAUSAL;
    }
    return out;
}
