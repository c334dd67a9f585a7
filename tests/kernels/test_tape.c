/* The tape: gradients that meet are summed, shared ones are not written into, and a checkpointed block gives
 * the same bytes as the block itself, with and without a plan. */
#include "kernels/device.h"
#include "cotangent.h"

#include <math.h>
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

/* Many inputs of a block --------------------------------------------------------------------------------- */

enum { INPUTS = 11 };

typedef struct Sum {
    float x[INPUTS][N], grad[INPUTS][N];
    bool checkpointing;
} Sum;

/* silu(silu(… x0 x1 …) x10): each product and each activation keeps what it read. */
static Tensor *chain(Ctx *c, const void *arg, Tensor **in, int n)
{
    (void)arg;
    Tensor *h = in[0];
    for (int i = 1; i < n; i++)
        h = silu(c, multiply(c, h, in[i]));
    return h;
}

static void chain_step(Ctx *c, void *arg)
{
    Sum *s = arg;
    const int64_t shape[] = {1, N};
    Tensor *in[INPUTS];
    ctx_set_checkpointing(c, s->checkpointing);
    for (int i = 0; i < INPUTS; i++) {
        in[i] = ctx_input(c, DTYPE_F32, 2, shape, s->x[i]);
        in[i]->requires_grad = true;
    }
    Tensor *h = checkpointed(c, chain, NULL, in, INPUTS);
    ctx_backward(c, mse_loss(c, h, ctx_zeros(c, DTYPE_F32, 2, shape), NULL, NULL), 1);
    for (int i = 0; i < INPUTS; i++)
        ctx_read(c, in[i]->grad, s->grad[i]);
}

static void a_block_of_many_inputs_is_checkpointed(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Sum sums[2] = {0};
    int64_t ticks[2];
    for (int on = 0; on < 2; on++) {
        Sum *s = &sums[on];
        s->checkpointing = on;
        for (int i = 0; i < INPUTS; i++)
            for (int j = 0; j < N; j++)
                s->x[i][j] = 1 + (float)((i * 31 + j * 7) % 13) / 16;
        Plan *p;
        assert_int_equal(ctx_rehearse(c, chain_step, s, &p), STATUS_OK);
        assert_int_equal(ctx_run(c, p, chain_step, s), STATUS_OK);
        ticks[on] = plan_tick_count(p);
        plan_free(p);
    }
    assert_true(ticks[1] >= ticks[0] + 2 * (INPUTS - 1)); /* the block was run again */
    assert_memory_equal(sums[0].grad, sums[1].grad, sizeof sums[0].grad);
    ctx_free(c);
}

/* Many readers of one tensor ---------------------------------------------------------------------------- */

enum { READERS = 30 };

typedef struct Readers {
    DType dtype;
    float x[N], factor[READERS][N], grad[N];
    bool checkpointing;
} Readers;

/* x f_i, where f_i is a constant: its gradient is one part, f_i times what comes in. */
static Tensor *reader(Ctx *c, const void *arg, Tensor **in, int n)
{
    (void)arg, (void)n;
    return multiply(c, in[0], in[1]);
}

static void readers_step(Ctx *c, void *arg)
{
    Readers *r = arg;
    const int64_t shape[] = {1, N};
    ctx_set_checkpointing(c, r->checkpointing);
    Tensor *leaf = ctx_input(c, DTYPE_F32, 2, shape, r->x), *sum = NULL;
    leaf->requires_grad = true;
    Tensor *x = cast(c, leaf, r->dtype);
    for (int i = 0; i < READERS; i++) {
        Tensor *in[] = {x, cast(c, ctx_input(c, DTYPE_F32, 2, shape, r->factor[i]), r->dtype)};
        Tensor *y = cast(c, checkpointed(c, reader, NULL, in, 2), DTYPE_F32);
        sum = sum ? add(c, sum, y) : y;
    }
    float values[N];
    for (int j = 0; j < N; j++)
        values[j] = 1;
    ctx_backward(c, scalar_with_cotangent(c, sum, values), 1);
    ctx_read(c, leaf->grad, r->grad);
}

/* The parts are exact in 16 bits and of one sign; their sum is rounded at the first addition and at the end.
 */
static void many_gradients_of_one_tensor_add_up_in_f32(void **state)
{
    (void)state;
    static const double unit[] = {[DTYPE_F32] = 0x1p-24, [DTYPE_BF16] = 0x1p-8, [DTYPE_F16] = 0x1p-11};
    for (DType type = DTYPE_F32; type <= DTYPE_F16; type++) {
        Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = type});
        Readers runs[2] = {0};
        for (int on = 0; on < 2; on++) {
            Readers *r = &runs[on];
            double worst = 0;
            *r = (Readers){.dtype = type, .checkpointing = on};
            for (int j = 0; j < N; j++)
                for (int i = 0; i < READERS; i++)
                    r->factor[i][j] = (float)(128 + (i * 37 + j * 11) % 127) / 256;
            Plan *p;
            assert_int_equal(ctx_rehearse(c, readers_step, r, &p), STATUS_OK);
            assert_int_equal(ctx_run(c, p, readers_step, r), STATUS_OK);
            plan_free(p);
            for (int j = 0; j < N; j++) {
                double sum = 0;
                for (int i = 0; i < READERS; i++)
                    sum += (double)r->factor[i][j];
                worst = fmax(worst, fabs((double)r->grad[j] - sum) / sum);
            }
            assert_true(worst <= 1.1 * unit[type]); /* a unit at the end, a tenth of one at first */
        }
        assert_memory_equal(runs[0].grad, runs[1].grad, sizeof runs[0].grad);
        ctx_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpointing_and_plans_never_change_a_byte),
        cmocka_unit_test(gradients_that_meet_are_summed),
        cmocka_unit_test(nothing_is_recorded_without_need),
        cmocka_unit_test(a_block_of_many_inputs_is_checkpointed),
        cmocka_unit_test(many_gradients_of_one_tensor_add_up_in_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
