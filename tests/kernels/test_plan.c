/* The memory plan: places that live at the same time never share a byte, and a step that is not the one
 * rehearsed is an error that names both operations. */
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "kernels/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void places_alive_together_never_overlap(void **state)
{
    (void)state;
    uint32_t seed = 7;
    for (int round = 0; round < 20; round++) {
        Plan *p = plan_new(device_cpu());
        const int ticks = 60;
        for (int i = 0; i < 150; i++) {
            const int32_t first = (int32_t)(next_random(&seed) % ticks);
            const int32_t n = plan_add(p, "x", 1 + next_random(&seed) % 5000, first, PLACE_ACTIVATION);
            p->places[n].last = i % 17 == 0 ? PLACE_FOREVER : first + (int32_t)(next_random(&seed) % 12);
        }
        p->ticks = ticks;
        assert_int_equal(plan_pack(p), STATUS_OK);
        size_t fullest = 0;
        for (int k = 0; k < PLACE_KINDS; k++)
            fullest += plan_kind_bytes(p, (PlaceKind)k);
        assert_true(plan_peak_bytes(p) >= fullest);
        assert_true((double)plan_peak_bytes(p) < 1.3 * (double)fullest);
        for (int i = 0; i < p->count; i++)
            for (int j = 0; j < i; j++) {
                const Place *a = &p->places[i], *b = &p->places[j];
                if (a->first <= b->last && b->first <= a->last)
                    assert_true(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset);
            }
        plan_free(p);
    }
}

static void sum_step(Ctx *c, void *arg)
{
    const float *data = arg;
    const int64_t shape[] = {4};
    Tensor *a = ctx_input(c, DTYPE_F32, 1, shape, data), *b = ctx_input(c, DTYPE_F32, 1, shape, data + 4);
    ctx_read(c, add(c, a, b), (float *)arg + 8);
}

static void longer_step(Ctx *c, void *arg)
{
    const int64_t shape[] = {4};
    Tensor *a = ctx_input(c, DTYPE_F32, 1, shape, arg);
    ctx_read(c, multiply(c, multiply(c, a, a), a), (float *)arg + 8);
}

static void planned_step_computes_the_same(void **state)
{
    (void)state;
    float data[12] = {1, 2, 3, 4, 10, 20, 30, 40};
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plan *p;
    assert_int_equal(ctx_rehearse(c, sum_step, data, &p), STATUS_OK);
    assert_true(data[8] == 0); /* rehearsing computes nothing */
    assert_int_equal(ctx_run(c, p, sum_step, data), STATUS_OK);
    assert_true(data[8] == 11 && data[11] == 44);
    plan_free(p);
    ctx_free(c);
}

static void another_step_than_the_planned_one_is_named(void **state)
{
    (void)state;
    float data[12] = {1, 2, 3, 4};
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plan *p;
    assert_int_equal(ctx_rehearse(c, sum_step, data, &p), STATUS_OK);
    assert_int_equal(ctx_run(c, p, longer_step, data), STATUS_FAILED);
    assert_non_null(strstr(status_message(), "'multiply'"));
    assert_non_null(strstr(status_message(), "'input'"));
    plan_free(p);
    ctx_free(c);
}

/* The same tensors in the same order, of which the last is made of another: of `first` while planning, whose
 * memory is not `second`'s. */
typedef struct Swapped {
    float data[4], out[4];
    bool late;
} Swapped;

static void swapped_step(Ctx *c, void *arg)
{
    Swapped *w = arg;
    Tensor *first = ctx_input(c, DTYPE_F32, 1, (int64_t[]){4}, w->data), *second = add(c, first, first);
    Tensor *third = add(c, second, second);
    Tensor *last = w->late ? first : third;
    ctx_read(c, add(c, last, last), w->out);
}

static void a_tensor_used_longer_than_planned_is_named(void **state)
{
    (void)state;
    Swapped w = {.data = {1, 2, 3, 4}};
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plan *p;
    assert_int_equal(ctx_rehearse(c, swapped_step, &w, &p), STATUS_OK);
    assert_int_equal(ctx_run(c, p, swapped_step, &w), STATUS_OK);
    assert_true(w.out[3] == 32);
    w.late = true;
    assert_int_equal(ctx_run(c, p, swapped_step, &w), STATUS_FAILED);
    assert_non_null(strstr(status_message(), "after its planned end"));
    plan_free(p);
    /* one that is used less long shows that the plan is another step's */
    assert_int_equal(ctx_rehearse(c, swapped_step, &w, &p), STATUS_OK);
    w.late = false;
    assert_int_equal(ctx_run(c, p, swapped_step, &w), STATUS_FAILED);
    plan_free(p);
    ctx_free(c);
}

static volatile sig_atomic_t stop_flag;

static void stop_flag_ends_the_step(void **state)
{
    (void)state;
    float data[12] = {1, 2, 3, 4};
    Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.stop = &stop_flag});
    stop_flag = 1;
    assert_int_equal(ctx_run(c, NULL, sum_step, data), STATUS_INTERRUPTED);
    stop_flag = 0;
    assert_int_equal(ctx_run(c, NULL, sum_step, data), STATUS_OK);
    ctx_free(c);
}

static int refuse_large(size_t bytes, void *arg)
{
    (void)arg;
    return bytes >= 1000;
}

static void large_step(Ctx *c, void *arg)
{
    const int64_t shape[] = {1024};
    Tensor *a = ctx_zeros(c, DTYPE_F32, 1, shape);
    ctx_read(c, add(c, a, a), arg);
}

static void no_memory_is_a_failure_with_a_message(void **state)
{
    (void)state;
    float out[1024];
    Ctx *c = ctx_new(device_cpu(), NULL);
    assert_int_equal(ctx_run(c, NULL, large_step, out), STATUS_OK);
    mem_set_hook(refuse_large, NULL);
    assert_int_equal(ctx_run(c, NULL, large_step, out), STATUS_FAILED);
    mem_set_hook(NULL, NULL);
    assert_non_null(strstr(status_message(), "out of memory"));
    ctx_free(c);
}

static long allocations_left;

static int refuse_from_here_on(size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    return --allocations_left < 0;
}

/* Enough operations, forward and backward, that the step's own structures fill several pieces. */
static void long_step(Ctx *c, void *arg)
{
    Tensor *x = ctx_input(c, DTYPE_F32, 1, (int64_t[]){4}, arg);
    x->requires_grad = true;
    for (int i = 0; i < 1500; i++)
        x = silu(c, x);
    Tensor *zero = ctx_zeros(c, DTYPE_F32, 1, (int64_t[]){4});
    Tensor *loss = mse_loss(c, x, zero, NULL, NULL);
    ctx_read(c, loss, (float *)arg + 4);
    ctx_backward(c, loss, 1);
}

static Status plan_and_run(float *data)
{
    Plan *p = NULL;
    Ctx *c = ctx_new(device_cpu(), NULL);
    if (!c)
        return STATUS_FAILED;
    Status s = ctx_rehearse(c, long_step, data, &p);
    if (s == STATUS_OK)
        s = ctx_run(c, p, long_step, data);
    if (s == STATUS_OK)
        s = ctx_run(c, NULL, long_step, data);
    plan_free(p);
    ctx_free(c);
    return s;
}

/* From the n-th allocation on there is none, for every n: the step is left at once, with a message. Without a
 * plan each tensor is an allocation: of the thousands only every 61st is tried. */
static void a_step_without_memory_for_its_structures_is_left(void **state)
{
    (void)state;
    int failures = 0;
    for (long n = 0;; n += n < 60 ? 1 : 61) {
        float data[5] = {1, 2, 3, 4};
        allocations_left = n;
        mem_set_hook(refuse_from_here_on, NULL);
        const Status s = plan_and_run(data);
        mem_set_hook(NULL, NULL);
        if (s == STATUS_OK)
            break;
        assert_int_equal(s, STATUS_FAILED);
        assert_non_null(strstr(status_message(), "out of memory"));
        failures++;
    }
    assert_true(failures > 60);
}

/* One allocation refused: the one after `left` more. */
typedef struct Refusal {
    int left;
    bool happened;
} Refusal;

static int refuse_one(size_t bytes, void *arg)
{
    Refusal *r = arg;
    (void)bytes;
    const bool now = r->left-- == 0;
    r->happened = r->happened || now;
    return now;
}

/* A convolution of sizes that no step had before: the device has to make ready for it. */
typedef struct NewConv {
    Layer layer;
    int64_t side;
} NewConv;

static void new_conv_step(Ctx *c, void *arg)
{
    const NewConv *n = arg;
    const int64_t shape[] = {1, n->side, 5, n->layer.weight->shape[1]};
    ctx_keep(c, conv2d(c, &n->layer, CONV_SAME, ctx_zeros(c, DTYPE_F32, 4, shape)));
}

/* What the device cannot make ready while a step is rehearsed is known then, not when the step runs. */
static void a_question_of_the_device_that_fails_fails_the_rehearsal(void **state)
{
    (void)state;
    static const int64_t shape[] = {3, 2, 3, 3};
    NewConv n = {.layer = {.name = "new", .weight = tensor_new(DTYPE_F32, 4, shape)}, .side = 40};
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plan *p;
    assert_int_equal(ctx_rehearse(c, new_conv_step, &n, &p), STATUS_OK);
    plan_free(p);
    for (int first = 0;; first++) {
        Refusal r = {.left = first};
        n.side++;
        mem_set_hook(refuse_one, &r);
        const Status s = ctx_rehearse(c, new_conv_step, &n, &p);
        mem_set_hook(NULL, NULL);
        if (s == STATUS_OK)
            plan_free(p);
        if (!r.happened)
            break;
        assert_int_not_equal(s, STATUS_OK);
    }
    device_cpu()->unpack(&n.layer);
    tensor_free(n.layer.weight);
    ctx_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_alive_together_never_overlap),
        cmocka_unit_test(planned_step_computes_the_same),
        cmocka_unit_test(another_step_than_the_planned_one_is_named),
        cmocka_unit_test(a_tensor_used_longer_than_planned_is_named),
        cmocka_unit_test(a_step_without_memory_for_its_structures_is_left),
        cmocka_unit_test(stop_flag_ends_the_step),
        cmocka_unit_test(no_memory_is_a_failure_with_a_message),
        cmocka_unit_test(a_question_of_the_device_that_fails_fails_the_rehearsal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
