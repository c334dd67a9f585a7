/* One optimizer step over all tensors. Breaks if schedules, clipping by the global norm, AdamW with two rates
 * or the EMA differed from PyTorch's and diffusers'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "train/step/optimizer.h"

#include <math.h>
#include <string.h>

/* diffusers.optimization.get_scheduler(…, num_warmup_steps=4, num_training_steps=20) at steps 4 to 19, where
 * ours, which counts from 1 and learns at its first step too, has 5 to 20. */
static void schedules_are_those_of_diffusers_after_the_warm_up(void **state)
{
    (void)state;
    static const double linear[] = {1.0, 0.9375, 0.875, 0.8125, 0.75, 0.6875, 0.625, 0.5625,
                                    0.5, 0.4375, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625};
    static const double cosine[] = {1.0,
                                    0.9903926402016152,
                                    0.9619397662556434,
                                    0.9157348061512727,
                                    0.8535533905932737,
                                    0.7777851165098011,
                                    0.6913417161825449,
                                    0.5975451610080642,
                                    0.5,
                                    0.4024548389919359,
                                    0.30865828381745514,
                                    0.22221488349019902,
                                    0.14644660940672627,
                                    0.08426519384872733,
                                    0.03806023374435663,
                                    0.009607359798384785};
    for (int s = 5; s <= 20; s++) {
        assert_float_equal(schedule_factor(SCHEDULE_CONSTANT, s, 20, 4), 1, 0);
        assert_float_equal(schedule_factor(SCHEDULE_LINEAR, s, 20, 4), linear[s - 5], 1e-12);
        assert_float_equal(schedule_factor(SCHEDULE_COSINE, s, 20, 4), cosine[s - 5], 1e-12);
    }
    for (int s = 1; s <= 4; s++)
        assert_float_equal(schedule_factor(SCHEDULE_COSINE, s, 20, 4), s / 4.0, 1e-12);
    assert_float_equal(schedule_factor(SCHEDULE_COSINE, 1, 20, 0), 1, 0);
    assert_true(isfinite(schedule_factor(SCHEDULE_LINEAR, 20, 20, 20)));
}

/* A run that is no longer than its warm-up still reaches its rate. */
static void a_short_run_warms_up_over_a_part_of_it(void **state)
{
    (void)state;
    Config c = {.optimizer = {.warmup = 100}};
    assert_int_equal(optimizer_warmup(&c, 101), 100);
    assert_int_equal(optimizer_warmup(&c, 100), 10);
    assert_int_equal(optimizer_warmup(&c, 5), 0);
    c.optimizer.lr = 1;
    assert_float_equal(optimizer_rate(&c, GROUP_UNET, 5, 100), 0.5, 1e-12);
    assert_float_equal(optimizer_rate(&c, GROUP_UNET, 100, 100), 1, 1e-12);
    assert_float_equal(optimizer_rate(&c, GROUP_UNET, 1, 5), 1, 1e-12);
}

static void ema_decay_rises_to_its_value(void **state)
{
    (void)state;
    assert_float_equal(average_decay(0.999, 0), 0.1, 1e-12);
    assert_float_equal(average_decay(0.999, 90), 0.91, 1e-12);
    assert_float_equal(average_decay(0.999, 100000), 0.999, 1e-12);
}

/* torch.optim.AdamW with two groups and clip_grad_norm_(1.0), three steps; gradients grow and shrink. */
static void three_steps_are_those_of_pytorch(void **state)
{
    (void)state;
    static const double norms[] = {6.811066150665283, 7.553972244262695, 9.811505317687988};
    static const double expected[3][5] = {
        {0.9908502697944641, -1.992051601409912, 0.4952666759490967, 0.2526191771030426, 3.997734785079956},
        {0.9814170598983765, -1.98340904712677, 0.4897269010543823, 0.2550690174102783, 3.995638132095337},
        {0.9717546105384827, -1.974405288696289, 0.48378226161003113, 0.2571820318698883, 3.993739366531372}};
    static const float g[] = {3, -1, 0.5f}, h[] = {-2, 0.125f};
    Config config = {0};
    config.optimizer.lr = 1e-2;
    config.optimizer.text_encoder_lr = 3e-3;
    config.optimizer.settings.weight_decay = 0.1;
    config.optimizer.settings.beta1 = 0.9;
    config.optimizer.settings.beta2 = 0.999;
    config.optimizer.settings.eps =
        0.1; /* large: else AdamW would not see how far the gradient was clipped */
    config.train.max_grad_norm = 1;
    config.train.ema = 0.5f;
    Parameters p = {.dev = device_cpu(), .optimizer = optimizer_at(0), .numbers = &(StepNumbers){0}};
    const int64_t shapes[] = {3, 2};
    Parameter items[2] = {{.name = "a"}, {.name = "b"}};
    assert_int_equal(flat_new(&p.flat, device_cpu(), NULL, 2 * FLAT_STEP, false), STATUS_OK);
    for (int i = 0; i < 2; i++)
        items[i].weight = flat_take(&p.flat, 1, &shapes[i]);
    p.items = items;
    p.segments = (Segment[]){{0, 3, GROUP_UNET}, {FLAT_STEP, 2, GROUP_TEXT}};
    p.count = 2;
    assert_int_equal(share_new(comm_alone(), p.segments, p.count, p.flat.size, &p.share), STATUS_OK);
    for (int i = 0; i < optimizer_states(p.optimizer); i++)
        p.states[i] = tensor_new(DTYPE_F32, 1, &p.flat.size);
    p.averages = tensor_new(DTYPE_F32, 1, &p.flat.size);
    memcpy(items[0].weight->data, (float[]){1, -2, 0.5f}, 3 * sizeof(float));
    memcpy(items[1].weight->data, (float[]){0.25f, 4}, 2 * sizeof(float));
    memcpy(p.averages->data, p.flat.weights->data, tensor_bytes(p.averages));
    double average = 1;
    for (int k = 0; k < 3; k++) {
        UpdateNumbers numbers;
        for (int i = 0; i < 3; i++)
            ((float *)items[0].weight->grad->data)[i] = g[i] * (float)(k + 1);
        for (int i = 0; i < 2; i++)
            ((float *)items[1].weight->grad->data)[i] = h[i] * (float)(3 - k);
        assert_int_equal(optimizer_step(&config, &p, k + 1, 3, 1, NULL, &numbers), STATUS_OK);
        assert_float_equal(numbers.norm, norms[k], 1e-5);
        for (int i = 0; i < 5; i++)
            assert_float_equal(tensor_at(items[i / 3].weight, i % 3), expected[k][i], 1e-6);
        const double decay = (1.0 + k) / (10.0 + k);
        average = decay * average + (1 - decay) * expected[k][0];
        assert_float_equal(tensor_at(p.averages, 0), average, 1e-6);
    }
    assert_int_equal(p.updates, 3);
    /* a step that is not finite leaves everything, and does not count */
    const float before = ((float *)items[0].weight->data)[0];
    UpdateNumbers numbers;
    ((float *)items[1].weight->grad->data)[1] = NAN;
    assert_int_equal(optimizer_step(&config, &p, 4, 4, 1, NULL, &numbers), STATUS_OK);
    assert_false(isfinite(numbers.norm));
    assert_string_equal(numbers.broken, "b");
    assert_true(((float *)items[0].weight->data)[0] == before);
    assert_int_equal(p.updates, 3);
    assert_float_equal(optimizer_rate(&config, GROUP_UNET, 2, 3), 1e-2, 0);
    assert_float_equal(optimizer_rate(&config, GROUP_TEXT, 2, 3), 3e-3, 0);
    for (int i = 0; i < 2; i++)
        tensor_free(items[i].weight);
    for (int i = 0; i < UPDATE_STATES; i++)
        tensor_free(p.states[i]);
    tensor_free(p.averages);
    share_free(&p.share);
    flat_free(&p.flat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_are_those_of_diffusers_after_the_warm_up),
        cmocka_unit_test(a_short_run_warms_up_over_a_part_of_it),
        cmocka_unit_test(ema_decay_rises_to_its_value),
        cmocka_unit_test(three_steps_are_those_of_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
