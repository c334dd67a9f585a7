/* How far 20 steps of the built-in model, which is trained, end from where f32 ends: with weights in 8 bits,
 * with products of 8 bits, and, beside them, in bf16. Breaks if rounding to 8 bits costs more than it has to.
 * The figures stand in docs/performance.md. */
#include "infer/pipeline/pipeline.h"
#include "kernels/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static SampleResult draw(DType dtype, int quantised, int narrow)
{
    Model *m;
    Pipeline *p;
    SampleResult result;
    SampleRequest r = sample_request_default();
    r.prompt = "a red circle";
    r.steps = 20;
    r.seed = 3;
    if (model_open(&(ModelRequest){.name = "builtin:tiny",
                                   .parts = MODEL_ALL,
                                   .dtype = dtype,
                                   .quantised = quantised,
                                   .narrow = narrow},
                   &m) != STATUS_OK)
        fail_msg("%s", status_message());
    Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = dtype});
    assert_non_null(c);
    if (pipeline_new(c, m, &p) != STATUS_OK || pipeline_sample(p, &r, NULL, NULL, &result) != STATUS_OK)
        fail_msg("%s", status_message());
    pipeline_free(p);
    ctx_free(c);
    model_free(m);
    return result;
}

/* In the L2 norm, of the whole's. */
static double apart(SampleResult a, const SampleResult *whole)
{
    double sum = 0, of = 0;
    for (int64_t i = 0; i < tensor_count(a.latents); i++) {
        const double x = tensor_at(a.latents, i), y = tensor_at(whole->latents, i);
        sum += (x - y) * (x - y);
        of += y * y;
    }
    sample_result_free(&a);
    return sqrt(sum / of);
}

static void eight_bits_end_near_f32(void **state)
{
    (void)state;
    SampleResult whole = draw(DTYPE_F32, 0, 0);
    const double bf16 = apart(draw(DTYPE_BF16, 0, 0), &whole),
                 weights = apart(draw(DTYPE_F32, MODEL_UNET | MODEL_TEXT, 0), &whole),
                 products = apart(draw(DTYPE_F32, MODEL_UNET | MODEL_TEXT, MODEL_UNET), &whole);
    print_message("bf16 %.4f, weights in 8 bits %.4f, products of 8 bits %.4f\n", bf16, weights, products);
    assert_true(bf16 > 1e-4 && bf16 < 0.02);
    assert_true(weights > 1e-4 && weights < 0.02);
    assert_true(products > 1e-4 && products < 0.05);
    sample_result_free(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(eight_bits_end_near_f32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
