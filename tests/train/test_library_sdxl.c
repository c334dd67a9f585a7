/* The library and SDXL: sizes that it is told, and no negative prompt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/atelier.h"

#include <string.h>

static AtlModel *open_model(const char *kind)
{
    AtlModel *m = NULL;
    const AtlModelOptions o = {.size = sizeof o, .device = "cpu", .threads = 1};
    if (atl_model_open(kind, &o, &m) != ATL_OK)
        fail_msg("%s", atl_message());
    return m;
}

static AtlPicture draw(AtlModel *m, AtlSample s)
{
    AtlPicture p;
    s.size = sizeof s;
    s.prompt = "a red heart";
    s.steps = 3;
    s.seed = 3;
    if (atl_sample(m, &s, &p) != ATL_OK)
        fail_msg("%s", atl_message());
    return p;
}

static void what_is_said_counts_and_is_kept(void **state)
{
    (void)state;
    const struct {
        AtlSample s;
        const char *says;
    } CASES[] = {
        {{.negative = ""}, "\"negative\":\"\""},
        {{.crop_top = 400}, "[\"crop-top\",\"400\"]"},
        {{.crop_left = 400}, "[\"crop-left\",\"400\"]"},
        {{.original_width = 300, .original_height = 200}, "[\"original-size\",\"300x200\"]"},
        {{.target_width = 300, .target_height = 200}, "[\"target-size\",\"300x200\"]"},
        {{.negative_original_width = 9, .negative_original_height = 8},
         "[\"negative-original-size\",\"9x8\"]"},
        {{.negative_target_width = 9, .negative_target_height = 8}, "[\"negative-target-size\",\"9x8\"]"},
    };
    AtlModel *m = open_model(TEST_GOLDEN "/models/sdxl");
    AtlPicture plain = draw(m, (AtlSample){0});
    assert_non_null(strstr(plain.settings, "\"negative\":null"));
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        AtlPicture p = draw(m, CASES[i].s);
        if (!strstr(p.settings, CASES[i].says))
            fail_msg("%s is not in %s", CASES[i].says, p.settings);
        assert_memory_not_equal(p.rgb, plain.rgb, 3 * (size_t)plain.width * (size_t)plain.height);
        atl_picture_free(&p);
    }
    atl_picture_free(&plain);
    atl_model_close(m);
}

static void what_makes_no_size_is_refused(void **state)
{
    (void)state;
    AtlPicture none;
    AtlSample s = {.size = sizeof s, .prompt = "a cat", .steps = 1, .target_width = 64};
    AtlModel *m = open_model(TEST_GOLDEN "/models/sdxl");
    assert_int_equal(atl_sample(m, &s, &none), ATL_REFUSED); /* and no height */
    assert_non_null(strstr(atl_message(), "target_width"));
    s.target_height = -1;
    assert_int_equal(atl_sample(m, &s, &none), ATL_REFUSED);
    atl_model_close(m);
    m = open_model(TEST_GOLDEN "/models/sd1");
    s.target_height = 64;
    assert_int_equal(atl_sample(m, &s, &none), ATL_REFUSED);
    assert_non_null(strstr(atl_message(), "told to SDXL models alone"));
    atl_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_counts_and_is_kept),
        cmocka_unit_test(what_makes_no_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
