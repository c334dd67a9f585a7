/* The device `far` catches what it is there for: mistakes are planted, one of each kind, and each has to
 * show. Breaks if a test that passes on it would prove nothing. */
#include "far.h"

#include "kernels/op.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 4, OUT = 3, IN = 2 };

/* y = x W^T, its sum of squares, and the gradient of W. */
typedef struct Work {
    Layer layer;
    float x[N * IN], y[N * OUT], loss;
} Work;

static void step(Ctx *c, void *arg)
{
    Work *w = arg;
    Tensor *y = linear(c, &w->layer, ctx_input(c, DTYPE_F32, 2, (int64_t[]){N, IN}, w->x));
    ctx_read(c, y, w->y);
    Tensor *loss = mse_loss(c, y, ctx_zeros(c, DTYPE_F32, 2, (int64_t[]){N, OUT}), NULL, NULL);
    ctx_read(c, loss, &w->loss);
    ctx_backward(c, loss, 1);
}

static Tensor *weight_on(const Device *dev, float first)
{
    float values[OUT * IN];
    for (int i = 0; i < OUT * IN; i++)
        values[i] = first + (float)i;
    Tensor *w = tensor_new_on(dev, DTYPE_F32, 2, (int64_t[]){OUT, IN});
    assert_non_null(w);
    assert_int_equal(tensor_put(w, values, DTYPE_F32), STATUS_OK);
    w->requires_grad = true;
    w->grad = tensor_new_on(dev, DTYPE_F32, 2, (int64_t[]){OUT, IN});
    assert_non_null(w->grad);
    return w;
}

static Work work_on(const Device *dev)
{
    Work w = {.layer = {.name = "layer", .weight = weight_on(dev, 1)}};
    for (int i = 0; i < N * IN; i++)
        w.x[i] = (float)i / 4;
    return w;
}

static void same_bytes_as_the_processor(void **state)
{
    (void)state;
    float grad[2][OUT * IN];
    Work work[2];
    const Device *const devices[] = {device_cpu(), device_far()};
    for (int d = 0; d < 2; d++) {
        Ctx *c = ctx_new(devices[d], &(CtxOptions){.threads = 1});
        work[d] = work_on(devices[d]);
        Plan *plan;
        assert_int_equal(ctx_rehearse(c, step, &work[d], &plan), STATUS_OK);
        assert_int_equal(ctx_run(c, plan, step, &work[d]), STATUS_OK);
        assert_int_equal(tensor_get(work[d].layer.weight->grad, grad[d], DTYPE_F32), STATUS_OK);
        plan_free(plan);
        tensor_free(work[d].layer.weight);
        ctx_free(c);
    }
    assert_memory_equal(work[0].y, work[1].y, sizeof work[0].y);
    assert_memory_equal(grad[0], grad[1], sizeof grad[0]);
    assert_true(work[0].loss == work[1].loss && grad[0][0] != 0);
}

/* Runs touch in a process of its own, and tells whether that was its end. */
static bool ends_the_process(void (*touch)(Tensor *t), Tensor *t)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(2);                 /* the sanitizers would say what happened */
        signal(SIGSEGV, SIG_DFL); /* which CMocka has taken */
        touch(t);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static volatile float seen;
static void read_first(Tensor *t)
{
    seen = *(const volatile float *)t->data;
}
static void write_first(Tensor *t)
{
    *(volatile float *)t->data = 1;
}

static void the_host_may_not_touch_a_weight(void **state)
{
    (void)state;
    Tensor *far = weight_on(device_far(), 1), *near = weight_on(device_cpu(), 1);
    assert_true(ends_the_process(read_first, far));
    assert_true(ends_the_process(write_first, far));
    assert_false(ends_the_process(read_first, near));
    tensor_free(far);
    tensor_free(near);
}

static void a_result_is_there_after_the_wait(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_far(), &(CtxOptions){.threads = 1});
    Work w = work_on(device_far());
    if (ctx_start(c, NULL, step, &w) != STATUS_OK)
        fail_msg("%s", status_message());
    assert_true(isnan(w.loss) && isnan(w.y[N * OUT - 1]));
    memset(w.x, 0, sizeof w.x); /* the input has been taken already */
    assert_int_equal(ctx_wait(c), STATUS_OK);
    assert_true(w.loss > 0 && w.y[N * OUT - 1] > 0);
    tensor_free(w.layer.weight);
    ctx_free(c);
}

static void memory_given_back_too_early_is_named(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_far(), &(CtxOptions){.threads = 1});
    Work w = work_on(device_far());
    assert_int_equal(ctx_start(c, NULL, step, &w), STATUS_OK);
    tensor_free(w.layer.weight);
    assert_int_equal(ctx_wait(c), STATUS_FAILED);
    assert_non_null(strstr(status_message(), "product: its memory was given back before it had run"));
    ctx_free(c);
}

static void memory_of_the_host_is_none_of_the_devices(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_far(), &(CtxOptions){.threads = 1});
    Work w = work_on(device_cpu());
    assert_int_equal(ctx_run(c, NULL, step, &w), STATUS_FAILED);
    assert_non_null(strstr(status_message(), "product: was given memory of the host"));
    tensor_free(w.layer.weight);
    ctx_free(c);
}

/* A recorded step is run again as it was, with other inputs; contents may be exchanged, addresses not. */
static void a_pointer_exchanged_under_a_recorded_step_shows(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_far(), &(CtxOptions){.threads = 1});
    Work w = work_on(device_far());
    Tensor *weight = w.layer.weight, *average = weight_on(device_far(), 7);
    Plan *plan;
    assert_int_equal(ctx_rehearse(c, step, &w, &plan), STATUS_OK);
    ctx_set_capture(c, true);
    const FarCount before = far_count();
    assert_int_equal(ctx_run(c, plan, step, &w), STATUS_OK);
    assert_false(ctx_replayed(c));
    const float first = w.loss;
    w.x[0] = 40;
    assert_int_equal(ctx_run(c, plan, step, &w), STATUS_OK);
    assert_true(ctx_replayed(c) && w.loss > first);

    void *data = weight->data; /* what an average must not do */
    weight->data = average->data;
    average->data = data;
    assert_int_equal(ctx_run(c, plan, step, &w), STATUS_OK);
    assert_false(ctx_replayed(c));
    assert_string_equal(far_count().differs, "product");
    average->data = weight->data;
    weight->data = data;
    assert_int_equal(ctx_run(c, plan, step, &w), STATUS_OK);
    assert_false(ctx_replayed(c));

    assert_int_equal(tensor_copy(weight, average), STATUS_OK); /* what it may */
    assert_int_equal(ctx_run(c, plan, step, &w), STATUS_OK);
    assert_true(ctx_replayed(c));
    assert_int_equal(far_count().recordings - before.recordings, 3);
    assert_int_equal(far_count().replays - before.replays, 2);
    plan_free(plan);
    tensor_free(weight);
    tensor_free(average);
    ctx_free(c);
}

/* A function that the processor has and this device has not would be a call of NULL. */
static void no_function_is_missing(void **state)
{
    (void)state;
    const char *far = (const char *)device_far(), *cpu = (const char *)device_cpu();
    for (size_t at = offsetof(Device, copy); at < sizeof(Device); at += sizeof(void *)) {
        if (at == offsetof(Device, product_decodes) || at == offsetof(Device, packs_from_host))
            continue; /* what a device can, no function */
        void *here, *there;
        memcpy(&here, far + at, sizeof here);
        memcpy(&there, cpu + at, sizeof there);
        if (!here && there)
            fail_msg("function number %zu of the table after copy: see tests/far/table.c",
                     (at - offsetof(Device, copy)) / sizeof(void *));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_function_is_missing),
        cmocka_unit_test(same_bytes_as_the_processor),
        cmocka_unit_test(the_host_may_not_touch_a_weight),
        cmocka_unit_test(a_result_is_there_after_the_wait),
        cmocka_unit_test(memory_given_back_too_early_is_named),
        cmocka_unit_test(memory_of_the_host_is_none_of_the_devices),
        cmocka_unit_test(a_pointer_exchanged_under_a_recorded_step_shows),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return far_memory() == 0 ? failed : 1; /* everything was given back */
}
