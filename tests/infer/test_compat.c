/* The rows of what other programs do differently, and that samplers and noise follow them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/compat/compat.h"

#include <string.h>

static void programs_are_found_by_name(void **state)
{
    (void)state;
    assert_string_equal(compat_find(NULL)->name, COMPAT_DEFAULT);
    assert_string_equal(compat_find("comfy")->label, "ComfyUI");
    assert_null(compat_find("invoke"));
    assert_ptr_equal(compat_of(NULL), compat_find("diffusers"));
    assert_ptr_equal(compat_of(compat_find("a1111")), compat_find("a1111"));
}

static void programs_sample_in_their_own_way(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        SamplerConvention sampling;
        const char *rng;
        bool apart;
    } rows[] = {{"diffusers", SAMPLER_DIFFUSERS, "cpu", false},
                {"a1111", SAMPLER_A1111, "cuda", false},
                {"comfy", SAMPLER_COMFY, "cpu", true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        NoiseKind kind;
        const Compat *c = compat_find(rows[i].name);
        assert_int_equal(c->sampling, rows[i].sampling);
        assert_string_equal(c->rng, rows[i].rng);
        assert_int_equal(c->noise_apart, rows[i].apart);
        assert_int_equal(noise_kind_parse(c->rng, &kind), STATUS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(programs_are_found_by_name),
                                       cmocka_unit_test(programs_sample_in_their_own_way)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
