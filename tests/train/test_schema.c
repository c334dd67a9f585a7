/* What follows from the configuration's schema: explanations, the schema for editors, rules, choices. Breaks
 * if a key would be missing there, or if a file in configs/ does not fit it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/samplers/sampler.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/config/config.h"
#include "train/config/schema.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static void every_key_is_explained_and_in_the_editors_schema(void **state)
{
    (void)state;
    int count;
    char *text;
    const SchemaKey *keys = schema_keys(&count);
    assert_int_equal(config_json_schema(&text), STATUS_OK);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    mem_free(text);
    for (int i = 0; i < count; i++) {
        assert_int_equal(config_explain(keys[i].path, &text), STATUS_OK);
        assert_non_null(strstr(text, keys[i].path));
        mem_free(text);
        char copy[100], *rest = copy;
        strcpy(copy, keys[i].path);
        const json_t *at = root;
        for (char *part; (part = strsep(&rest, ".")) != NULL;) {
            at = json_object_get(json_object_get(at, "properties"), part);
            if (strcmp(part, "dataset") == 0)
                at = json_array_get(json_object_get(at, "anyOf"), 1);
        }
        if (!json_object_get(at, "description"))
            fail_msg("%s is not in the schema for editors", keys[i].path);
    }
    json_decref(root);
    assert_int_equal(config_explain("train.stps", &text), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "did you mean train.steps?"));
    assert_int_equal(config_explain(NULL, &text), STATUS_OK);
    mem_free(text);
}

static void rules_name_keys_that_there_are(void **state)
{
    (void)state;
    int count;
    const SchemaRule *rules = schema_rules(&count);
    for (int i = 0; i < count; i++) {
        assert_true(schema_find(rules[i].other) >= 0);
        assert_true(strchr(rules[i].key, '*') || schema_find(rules[i].key) >= 0);
    }
}

static void samplers_are_those_of_the_sampler(void **state)
{
    (void)state;
    int keys;
    const char *const paths[] = {"preview.sampler", "prior.sampler"};
    for (int i = 0; i < 2; i++)
        assert_string_equal(schema_keys(&keys)[schema_find(paths[i])].choices, SAMPLER_WORDS);
}

static void the_files_in_configs_are_right(void **state)
{
    (void)state;
    char **names, file[300];
    int count, seen = 0;
    assert_int_equal(dir_list(ATELIER_SOURCE_DIR "/configs", &names, &count), STATUS_OK);
    for (int i = 0; i < count; i++) {
        Config *c;
        const char *dot = strrchr(names[i], '.');
        if (!dot || strcmp(dot, ".yaml") != 0)
            continue;
        snprintf(file, sizeof file, "%s/configs/%s", ATELIER_SOURCE_DIR, names[i]);
        if (config_read(file, NULL, 0, &c) != STATUS_OK)
            fail_msg("%s", status_message());
        config_free(c);
        seen++;
    }
    dir_list_free(names, count);
    assert_true(seen >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_explained_and_in_the_editors_schema),
        cmocka_unit_test(rules_name_keys_that_there_are),
        cmocka_unit_test(samplers_are_those_of_the_sampler),
        cmocka_unit_test(the_files_in_configs_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
