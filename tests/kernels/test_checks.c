/* The search for the first number that is none: it names the operation, its layer and the pass, it names
 * nothing where all is well, and it changes no byte of what it looks at. */
#include "kernels/adapter.h"
#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#define N 4

/* Two layers with a SiLU between them: mse(second(silu(first(x))), 0). */
typedef struct Net {
    Layer first, second;
    float x[N], out[N];
    float grad_scale;
    bool checkpointing;
} Net;

static Layer layer_of(const char *name, float diagonal, bool trained)
{
    Layer l = {.name = name, .weight = tensor_new(DTYPE_F32, 2, (int64_t[]){N, N})};
    for (int i = 0; i < N; i++)
        tensor_set_at(l.weight, i * N + i, (double)diagonal);
    l.weight->requires_grad = trained;
    l.weight->grad = trained ? tensor_new(DTYPE_F32, 2, (int64_t[]){N, N}) : NULL;
    return l;
}

static Net net_new(float first, float second)
{
    Net n = {.first = layer_of("first", first, true), .second = layer_of("second", second, true)};
    n.grad_scale = 1;
    for (int i = 0; i < N; i++)
        n.x[i] = 0.5f;
    return n;
}

static void net_free(Net *n)
{
    tensor_free(n->first.weight);
    tensor_free(n->second.weight);
}

static Tensor *block(Ctx *c, const void *arg, Tensor **in, int n)
{
    (void)n;
    const Net *net = arg;
    return linear(c, &net->second, silu(c, linear(c, &net->first, in[0])));
}

static void step(Ctx *c, void *arg)
{
    Net *net = arg;
    ctx_set_checkpointing(c, net->checkpointing);
    Tensor *x = ctx_input(c, DTYPE_F32, 2, (int64_t[]){1, N}, net->x);
    Tensor *y = checkpointed(c, block, net, &x, 1);
    ctx_read(c, y, net->out);
    ctx_backward(c, mse_loss(c, y, ctx_zeros(c, DTYPE_F32, 2, (int64_t[]){1, N}), NULL, NULL),
                 net->grad_scale);
}

static Status run_with(bool checks, Net *net, CtxFinding *found)
{
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plan *p;
    assert_int_equal(ctx_rehearse(c, step, net, &p), STATUS_OK);
    ctx_set_checks(c, checks);
    const Status s = ctx_run(c, p, step, net);
    *found = *ctx_finding(c);
    plan_free(p);
    ctx_free(c);
    return s;
}

static void assert_found(const CtxFinding *f, const char *op, const char *layer, bool own, bool backward)
{
    assert_non_null(f->op);
    assert_string_equal(f->op, op);
    assert_string_equal(f->layer, layer);
    assert_int_equal(f->own, own);
    assert_int_equal(f->backward, backward);
    assert_false(isfinite(f->value));
}

static void a_broken_weight_is_named(void **state)
{
    (void)state;
    CtxFinding f;
    for (int on = 0; on < 2; on++) {
        Net net = net_new(1, 1);
        net.checkpointing = on;
        tensor_set_at(net.second.weight, 3, NAN);
        assert_int_equal(run_with(true, &net, &f), STATUS_FAILED);
        assert_non_null(strstr(status_message(), "linear (second): its result holds"));
        assert_found(&f, "linear", "second", true, false);
        assert_string_equal(f.broken, "weight");
        net_free(&net);
    }
    Net net = net_new(1, 1);
    Adapter a = {.kind = &adapter_lora,
                 .tensors = {[LORA_DOWN] = tensor_new(DTYPE_F32, 2, (int64_t[]){1, N}),
                             [LORA_UP] = tensor_new(DTYPE_F32, 2, (int64_t[]){N, 1})},
                 .scale = 1};
    tensor_set_at(a.tensors[LORA_UP], 1, INFINITY);
    tensor_set_at(a.tensors[LORA_DOWN], 0, 1);
    net.first.adapters = &a;
    assert_int_equal(run_with(true, &net, &f), STATUS_FAILED);
    assert_found(&f, "linear", "first", true, false);
    assert_string_equal(f.broken, "adapter");
    adapter_free_tensors(&a);
    net_free(&net);
}

static void an_overflow_is_named_where_it_happens(void **state)
{
    (void)state;
    CtxFinding f;
    Net net = net_new(1e20f, 1e20f); /* forward: 0.5e20, times 1e20 */
    assert_int_equal(run_with(true, &net, &f), STATUS_FAILED);
    assert_found(&f, "linear", "second", true, false);
    assert_null(f.broken);
    net_free(&net);

    net = net_new(1e-28f, 1e15f); /* forward is small; backward: the gradient grows by 1e15 a layer */
    net.grad_scale = 1e38f;
    assert_int_equal(run_with(true, &net, &f), STATUS_FAILED);
    assert_found(&f, "linear", "second", true, true);
    assert_string_equal(f.what, "gradient of its input");
    assert_non_null(strstr(status_message(), "gradient"));
    net_free(&net);
}

/* x 1e30, weights 1e-30: only the product of a gradient and x is too large. */
static void a_gradient_of_a_weight_is_looked_at_too(void **state)
{
    (void)state;
    CtxFinding f;
    Net net = net_new(1e-30f, 1);
    for (int i = 0; i < N; i++)
        net.x[i] = 1e30f;
    net.grad_scale = 1e10f;
    assert_int_equal(run_with(true, &net, &f), STATUS_FAILED);
    assert_found(&f, "linear", "first", true, true);
    assert_string_equal(f.what, "gradient of its weight");
    net_free(&net);
}

static void bad_inputs_and_layerless_operations_are_named(void **state)
{
    (void)state;
    CtxFinding f;
    Net net = net_new(1, 1);
    net.x[2] = NAN;
    assert_int_equal(run_with(true, &net, &f), STATUS_FAILED);
    assert_string_equal(f.op, "input");
    assert_null(f.layer);
    net_free(&net);

    net = net_new(1, 1e20f); /* y y in the loss */
    assert_int_equal(run_with(true, &net, &f), STATUS_FAILED);
    assert_found(&f, "mse_loss", "second", false, false);
    net_free(&net);
}

static void without_checks_nothing_is_looked_for(void **state)
{
    (void)state;
    CtxFinding f;
    Net net = net_new(1e20f, 1e20f);
    assert_int_equal(run_with(false, &net, &f), STATUS_OK);
    assert_null(f.op);
    assert_false(isfinite((double)net.out[0]));
    net_free(&net);
}

static void checks_change_no_byte(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        CtxFinding f;
        Net a = net_new(0.7f, 1.3f), b = net_new(0.7f, 1.3f);
        a.checkpointing = b.checkpointing = on;
        assert_int_equal(run_with(false, &a, &f), STATUS_OK);
        assert_int_equal(run_with(true, &b, &f), STATUS_OK);
        assert_null(f.op);
        assert_memory_equal(a.out, b.out, sizeof a.out);
        assert_memory_equal(a.first.weight->grad->data, b.first.weight->grad->data, N * N * sizeof(float));
        assert_memory_equal(a.second.weight->grad->data, b.second.weight->grad->data, N * N * sizeof(float));
        net_free(&a);
        net_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_weight_is_named),
        cmocka_unit_test(an_overflow_is_named_where_it_happens),
        cmocka_unit_test(a_gradient_of_a_weight_is_looked_at_too),
        cmocka_unit_test(bad_inputs_and_layerless_operations_are_named),
        cmocka_unit_test(without_checks_nothing_is_looked_for),
        cmocka_unit_test(checks_change_no_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
