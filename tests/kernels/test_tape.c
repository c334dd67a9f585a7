/* The tape: gradients that meet are summed, shared ones are not written into, and a checkpointed block gives
 * the same bytes as the block itself, with and without a plan. */
#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define N 33

typedef struct Args {
    float x[N], y[N];
    float out[N], grad_x[N], grad_y[N];
    bool checkpointing;
} Args;

static Args make_args(void)
{
    Args a = {0};
    for (int i = 0; i < N; i++) {
        a.x[i] = (float)(i - 16) * 0.125f;
        a.y[i] = (float)(i * 7 % 11) * 0.25f - 1;
    }
    return a;
}

/* x x + y: the residual sum hands one gradient to two tensors, one of which gets two more. */
static Tensor *block(Ctx *c, const void *arg, Tensor **in, int n)
{
    (void)arg, (void)n;
    Tensor *h = add(c, multiply(c, in[0], in[0]), in[1]);
    return add(c, silu(c, h), in[0]);
}

static void step(Ctx *c, void *arg)
{
    Args *a = arg;
    const int64_t shape[] = {1, N};
    ctx_set_checkpointing(c, a->checkpointing);
    Tensor *x = ctx_input(c, DTYPE_F32, 2, shape, a->x), *y = ctx_input(c, DTYPE_F32, 2, shape, a->y);
    x->requires_grad = y->requires_grad = true;
    Tensor *in[] = {x, y};
    Tensor *h = checkpointed(c, block, NULL, in, 2);
    in[0] = h;
    h = checkpointed(c, block, NULL, in, 2);
    h = add(c, h, x);
    ctx_read(c, h, a->out);
    ctx_backward(c, mse_loss(c, h, ctx_zeros(c, DTYPE_F32, 2, shape), NULL, NULL), 1);
    ctx_read(c, x->grad, a->grad_x);
    ctx_read(c, y->grad, a->grad_y);
}

static void checkpointing_and_plans_never_change_a_byte(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Args plain = make_args();
    assert_int_equal(ctx_run(c, NULL, step, &plain), STATUS_OK);
    for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
        Args a = make_args();
        a.checkpointing = checkpointing;
        Plan *p;
        assert_int_equal(ctx_rehearse(c, step, &a, &p), STATUS_OK);
        assert_int_equal(ctx_run(c, p, step, &a), STATUS_OK);
        plan_free(p);
        assert_memory_equal(a.out, plain.out, sizeof a.out);
        assert_memory_equal(a.grad_x, plain.grad_x, sizeof a.grad_x);
        assert_memory_equal(a.grad_y, plain.grad_y, sizeof a.grad_y);
    }
    ctx_free(c);
}

static double loss_of(Ctx *c, Args *a)
{
    assert_int_equal(ctx_run(c, NULL, step, a), STATUS_OK);
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += (double)a->out[i] * a->out[i];
    return sum / N;
}

static void gradients_that_meet_are_summed(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Args a = make_args();
    assert_int_equal(ctx_run(c, NULL, step, &a), STATUS_OK);
    for (int i = 0; i < N; i += 5) {
        const float h = 1e-2f;
        Args up = make_args(), down = make_args();
        up.x[i] += h, down.x[i] -= h;
        const double gx = (loss_of(c, &up) - loss_of(c, &down)) / (2 * (double)h);
        assert_float_equal(a.grad_x[i], gx, 2e-2 * (1 + (gx < 0 ? -gx : gx)));
        up = make_args(), down = make_args();
        up.y[i] += h, down.y[i] -= h;
        const double gy = (loss_of(c, &up) - loss_of(c, &down)) / (2 * (double)h);
        assert_float_equal(a.grad_y[i], gy, 2e-2 * (1 + (gy < 0 ? -gy : gy)));
    }
    ctx_free(c);
}

static void nothing_is_recorded_without_need(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Args a = make_args();
    a.checkpointing = true;
    ctx_set_recording(c, false);
    const int64_t shape[] = {1, N};
    Tensor *x = tensor_over(a.x, DTYPE_F32, 2, shape), *in[] = {x, x};
    x->requires_grad = true;
    assert_false(checkpointed(c, block, NULL, in, 2)->requires_grad);
    tensor_free(x);
    ctx_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpointing_and_plans_never_change_a_byte),
        cmocka_unit_test(gradients_that_meet_are_summed),
        cmocka_unit_test(nothing_is_recorded_without_need),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
