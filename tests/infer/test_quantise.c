/* Weights in 8 bits are decoded to what they are times their scales, wherever a product wants them, and are
 * as close to the whole ones as 8 bits are. Breaks if an operation reads a weight past op_weight(), or a
 * scale belongs to another row. */
#include "infer/models/conditioning.h"
#include "infer/models/model.h"
#include "infer/weights/layerset.h"
#include "kernels/base/mem.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

#include "tests/far/far.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SD1 TEST_GOLDEN "/models/sd1"
enum { STATES = 2 * 77 * 16, LATENTS = 2 * 4 * 16 * 16 };

static float noise[LATENTS], states[STATES];

typedef struct Try {
    const UNet *unet;
    float out[LATENTS];
} Try;

static void step(Ctx *c, void *arg)
{
    Try *t = arg;
    Tensor *x = ctx_input(c, DTYPE_F32, 4, (int64_t[]){2, 4, 16, 16}, noise);
    Tensor *text = ctx_input(c, DTYPE_F32, 3, (int64_t[]){2, 77, 16}, states);
    Tensor *when = ctx_input(c, DTYPE_F32, 1, (int64_t[]){2}, (float[]){10, 500});
    x = unet_forward(c, t->unet, from_nchw(c, x), when, &(Conditioning){.states = text});
    ctx_read(c, to_nchw(c, x), t->out);
}

/* Twice, for fetches go ahead from the second time on. */
static void predict(const Device *dev, Model *m, Offload offload, bool planned, Try *t)
{
    Ctx *c = ctx_new(dev, &(CtxOptions){.threads = 2});
    Plan *plan = NULL;
    m->offload = offload;
    assert_int_equal(model_place(m, dev), STATUS_OK);
    t->unet = m->unet;
    ctx_set_recording(c, false);
    if (planned)
        assert_int_equal(ctx_rehearse(c, step, t, &plan), STATUS_OK);
    for (int i = 0; i < 2; i++)
        if (ctx_run(c, plan, step, t) != STATUS_OK)
            fail_msg("%s", status_message());
    plan_free(plan);
    ctx_free(c);
}

static Model *open_unet(bool quantised)
{
    Model *m;
    const ModelRequest r = {
        .name = SD1, .parts = MODEL_UNET, .dtype = DTYPE_F32, .quantised = quantised ? MODEL_UNET : 0};
    if (model_open(&r, &m) != STATUS_OK)
        fail_msg("%s", status_message());
    return m;
}

/* The same weights, decoded by hand. Returns how many there were. */
static int decode_all(LayerSet *set)
{
    int count = 0;
    for (int i = 0; i < set->count; i++) {
        Tensor *q = set->items[i]->weight;
        if (!q || q->dtype != DTYPE_I8)
            continue;
        Tensor *w = tensor_new(DTYPE_F32, q->ndim, q->shape);
        assert_non_null(w);
        const int64_t n = tensor_count(q) / q->shape[0];
        for (int64_t j = 0; j < tensor_count(q); j++)
            ((float *)w->data)[j] = (float)((int8_t *)q->data)[j] * ((float *)q->scales->data)[j / n];
        tensor_free(q);
        set->items[i]->weight = w;
        count++;
    }
    return count;
}

static void fill(float *x, int n, unsigned seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
}

static int make_inputs(void **state)
{
    (void)state;
    fill(noise, LATENTS, 1);
    fill(states, STATES, 2);
    return 0;
}

static double distance(const Try *a, const Try *b)
{
    double apart = 0, size = 0;
    for (int i = 0; i < LATENTS; i++) {
        apart += pow((double)a->out[i] - b->out[i], 2);
        size += pow((double)b->out[i], 2);
    }
    return sqrt(apart / size);
}

static void a_model_in_8_bits_is_the_one_with_its_weights_decoded(void **state)
{
    (void)state;
    Try whole, quantised, decoded;
    Model *m = open_unet(false);
    predict(device_cpu(), m, OFFLOAD_OFF, true, &whole);
    model_free(m);
    m = open_unet(true);
    predict(device_cpu(), m, OFFLOAD_OFF, true, &quantised);
    assert_true(decode_all(unet_layers(m->unet)) >= 5);
    predict(device_cpu(), m, OFFLOAD_OFF, true, &decoded);
    model_free(m);
    assert_true(distance(&quantised, &decoded) < 1e-5); /* products are cut otherwise */
    const double apart = distance(&quantised, &whole);
    assert_true(apart > 1e-5 && apart < 0.02);
}

/* In 8 bits on both sides it is coarser, but no other picture; and where the device has no such products,
 * or a gradient is wanted, it is the same. */
static void products_of_8_bits_are_close(void **state)
{
    (void)state;
    Try quantised, narrow, twice;
    const Device *dev = test_device();
    Model *m = open_unet(true);
    predict(dev, m, OFFLOAD_OFF, true, &quantised);
    layerset_narrow(unet_layers(m->unet));
    predict(dev, m, OFFLOAD_OFF, true, &narrow);
    predict(dev, m, OFFLOAD_OFF, false, &twice);
    model_free(m);
    assert_memory_equal(narrow.out, twice.out, sizeof narrow.out);
    const double apart = distance(&narrow, &quantised);
    assert_true(apart < 0.05);
    const int bits = !strncmp(device_cpu_isa(), "avx512", 6) ? 512
                     : !strcmp(device_cpu_isa(), "avx2")     ? 256
                                                             : 0;
    const bool has = test_device_is("cuda") ? test_card_multiplies_bytes() : bits && cpu_has_int8(bits);
    assert_true(has ? apart > 1e-5 : apart == 0);
}

static size_t most;

static int watch(size_t bytes, void *arg)
{
    (void)arg;
    const size_t now = mem_in_use() + bytes;
    most = now > most ? now : most;
    return 0;
}

/* The built-in UNet's, which are many, widened from f16 and rounded to 8 bits one after the other. */
static void one_weight_at_a_time_is_wide(void **state)
{
    (void)state;
    Model *m;
    const ModelRequest r = {
        .name = "builtin:tiny", .parts = MODEL_UNET, .dtype = DTYPE_F32, .quantised = MODEL_UNET};
    const size_t before = mem_in_use();
    most = 0;
    mem_set_hook(watch, NULL);
    const Status s = model_open(&r, &m);
    mem_set_hook(NULL, NULL);
    assert_int_equal(s, STATUS_OK);
    const size_t wide = layerset_elements(unet_layers(m->unet)) * sizeof(float);
    model_free(m);
    assert_true(most - before < wide / 2);
}

static void wherever_its_weights_wait(void **state)
{
    (void)state;
    Try here, there;
    const bool cuda = test_device_is("cuda");
    Model *m = open_unet(true);
    predict(device_cpu(), m, OFFLOAD_OFF, true, &here);
    model_free(m);
    for (int planned = 0; planned < 2; planned++)
        for (int offload = OFFLOAD_OFF; offload <= OFFLOAD_ALL; offload++) {
            m = open_unet(true);
            predict(cuda ? test_device() : device_far(), m, (Offload)offload, planned, &there);
            model_free(m);
            assert_true(distance(&there, &here) <= 1e-5); /* another device decodes elsewhere */
        }
}

/* One layer: x (ROWS,IN) by a weight in 8 bits and by the same decoded, both in f16, with and without a
 * GEGLU. */
enum { ROWS = 600, IN = 72, OUT = 160 };

typedef struct Linear {
    Layer layer;
    bool geglu;
    float x[ROWS * IN], y[ROWS * OUT];
} Linear;

static void linear_step(Ctx *c, void *arg)
{
    Linear *l = arg;
    Tensor *x = cast(c, ctx_input(c, DTYPE_F32, 2, (int64_t[]){ROWS, IN}, l->x), c->dtype);
    ctx_read(c, l->geglu ? linear_geglu(c, &l->layer, x) : linear(c, &l->layer, x), l->y);
}

static void run_linear(const Device *dev, Linear *l)
{
    Ctx *c = ctx_new(dev, &(CtxOptions){.dtype = DTYPE_F16, .threads = 2});
    ctx_set_recording(c, false);
    if (ctx_run(c, NULL, linear_step, l) != STATUS_OK)
        fail_msg("%s", status_message());
    ctx_free(c);
}

static void a_product_decodes_its_weight(void **state)
{
    (void)state;
    static Linear l;
    static float expected[ROWS * OUT];
    const Device *dev = test_device();
    const int64_t shape[] = {OUT, IN};
    Tensor *q = tensor_new(DTYPE_I8, 2, shape), *w = tensor_new(DTYPE_F16, 2, shape);
    assert_true(q && w && (q->scales = tensor_new(DTYPE_F32, 1, shape)));
    fill(l.x, ROWS * IN, 3);
    for (int r = 0; r < OUT; r++) {
        ((float *)q->scales->data)[r] = 0.001f * (float)(r + 1);
        for (int i = 0; i < IN; i++) {
            const int value = (r * 37 + i * 11) % 255 - 127;
            ((int8_t *)q->data)[r * IN + i] = (int8_t)value;
            tensor_set_at(w, r * IN + i, (double)((float)value * ((float *)q->scales->data)[r]));
        }
    }
    assert_true(tensor_place(q, dev) == STATUS_OK && tensor_place(q->scales, dev) == STATUS_OK &&
                tensor_place(w, dev) == STATUS_OK);
    for (l.geglu = false;; l.geglu = true) {
        const int n = ROWS * (l.geglu ? OUT / 2 : OUT);
        double worst = 0, largest = 0;
        l.layer = (Layer){.name = "layer", .weight = w};
        run_linear(dev, &l);
        memcpy(expected, l.y, sizeof expected);
        l.layer.weight = q;
        run_linear(dev, &l);
        for (int i = 0; i < n; i++) {
            worst = fmax(worst, fabs((double)l.y[i] - expected[i]));
            largest = fmax(largest, fabs((double)expected[i]));
        }
        assert_true(largest > 1 && worst <= 1e-3 * largest);
        if (l.geglu)
            break;
    }
    tensor_free(q);
    tensor_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_in_8_bits_is_the_one_with_its_weights_decoded),
        cmocka_unit_test(products_of_8_bits_are_close),
        cmocka_unit_test(one_weight_at_a_time_is_wide),
        cmocka_unit_test(wherever_its_weights_wait),
        cmocka_unit_test(a_product_decodes_its_weight),
    };
    return cmocka_run_group_tests(tests, make_inputs, NULL);
}
