/* What a checkpointed block keeps for its second run. Breaks if that run computes what the first has kept, or
 * does not compute what it has not, or if any of it changes a byte. */
#include "kernels/base/mem.h"
#include "kernels/ctx.h"
#include "kernels/devices/devices.h"
#include "kernels/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SIDE = 32, TOKENS = SIDE * SIDE, IN = 256, WIDTH = 8, RUNS = CHECKPOINTING_WHOLE + 1 };

typedef struct Net {
    Layer conv, inner, outer;
    Checkpointing how;
    float *x;                  /* (1,SIDE,SIDE,IN) */
    float out[TOKENS * WIDTH]; /* what the block makes */
    float *grad_x;             /* like x */
} Net;

static Tensor *weight(int ndim, const int64_t *shape, bool trained)
{
    Tensor *t = tensor_new(DTYPE_F32, ndim, shape);
    assert_non_null(t);
    float *at = t->data;
    for (int64_t i = 0; i < tensor_count(t); i++)
        at[i] = 0.3f * sinf((float)(i * 7 % 1013));
    t->requires_grad = trained;
    if (trained)
        assert_non_null(t->grad = tensor_new(DTYPE_F32, ndim, shape));
    return t;
}

static Net net_new(Checkpointing how)
{
    const int64_t square[] = {WIDTH, WIDTH};
    Net n = {
        .how = how,
        .conv = {.name = "conv", .weight = weight(4, (int64_t[]){WIDTH, IN, 3, 3}, false), .pack_off = true},
        .inner = {.name = "inner", .weight = weight(2, square, true)},
        .outer = {.name = "outer", .weight = weight(2, square, true)},
        .x = mem_calloc(TOKENS * IN, sizeof *n.x),
        .grad_x = mem_calloc(TOKENS * IN, sizeof *n.grad_x)};
    for (int i = 0; i < TOKENS * IN; i++)
        n.x[i] = cosf((float)(i * 11 % 997));
    return n;
}

static void net_free(Net *n)
{
    tensor_free(n->conv.weight);
    tensor_free(n->inner.weight);
    tensor_free(n->outer.weight);
    mem_free(n->x);
    mem_free(n->grad_x);
}

/* A convolution and attention, which are dear; a product, which is not; and a product at the end. */
static Tensor *block(Ctx *c, const void *arg, Tensor **in, int count)
{
    (void)count;
    const Net *n = arg;
    Tensor *h = conv2d(c, &n->conv, CONV_SAME, in[0]);
    h = reshape(c, h, 3, (int64_t[]){1, TOKENS, WIDTH});
    Tensor *q = linear(c, &n->inner, h);
    h = linear_add(c, &n->outer, attention(c, 1, 0, q, h, h), h);
    return reshape(c, h, 4, (int64_t[]){1, SIDE, SIDE, WIDTH});
}

static void step(Ctx *c, void *arg)
{
    Net *n = arg;
    ctx_set_checkpointing(c, n->how);
    Tensor *x = ctx_input(c, DTYPE_F32, 4, (int64_t[]){1, SIDE, SIDE, IN}, n->x);
    x->requires_grad = true;
    Tensor *y = checkpointed(c, block, n, &x, 1);
    ctx_read(c, y, n->out);
    ctx_backward(c, mse_loss(c, y, ctx_zeros(c, DTYPE_F32, 4, y->shape), NULL, NULL), 1);
    ctx_read(c, x->grad, n->grad_x);
}

static void what_is_dear_is_computed_once(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    double flop[RUNS];
    Net nets[RUNS];
    for (int how = 0; how < RUNS; how++) {
        Net *n = &nets[how];
        *n = net_new((Checkpointing)how);
        Plan *p;
        assert_int_equal(ctx_rehearse(c, step, n, &p), STATUS_OK);
        assert_int_equal(ctx_run(c, p, step, n), STATUS_OK);
        flop[how] = plan_flop(p);
        plan_free(p);
    }
    const double conv = 2.0 * TOKENS * WIDTH * IN * 9, attended = 4.0 * TOKENS * TOKENS * WIDTH,
                 product = 2.0 * TOKENS * WIDTH * WIDTH;
    assert_true(flop[CHECKPOINTING_ON] == flop[CHECKPOINTING_OFF] + product);
    assert_true(flop[CHECKPOINTING_WHOLE] == flop[CHECKPOINTING_ON] + conv + attended);
    for (int how = 1; how < RUNS; how++) {
        const Net *a = &nets[0], *b = &nets[how];
        assert_memory_equal(a->out, b->out, sizeof a->out);
        assert_memory_equal(a->grad_x, b->grad_x, TOKENS * IN * sizeof *a->grad_x);
        assert_memory_equal(a->inner.weight->grad->data, b->inner.weight->grad->data,
                            sizeof(float) * WIDTH * WIDTH);
        assert_memory_equal(a->outer.weight->grad->data, b->outer.weight->grad->data,
                            sizeof(float) * WIDTH * WIDTH);
    }
    for (int how = 0; how < RUNS; how++)
        net_free(&nets[how]);
    ctx_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_dear_is_computed_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
