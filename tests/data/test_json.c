/* JSON with too little memory: a text is whole or there is none, whatever the filling of its object
 * overlooked. */
#include "kernels/base/json.h"
#include "kernels/base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_malloc_t real_malloc;
static json_free_t real_free;
static long left;

static void *starving(size_t bytes)
{
    return real_malloc(--left == 0 ? (size_t)PTRDIFF_MAX : bytes); /* never to be had */
}

/* As the code does it everywhere: nobody looks whether it worked. */
static char *make(void)
{
    json_t *object = json_object(), *list = json_array();
    for (int i = 0; i < 20; i++) {
        char key[32];
        snprintf(key, sizeof key, "key %d", i);
        json_object_set_new(object, key, json_real(0.5 * i));
        json_array_append_new(list, json_pack("{s:s}", "name", key));
    }
    json_object_set_new(object, "list", list);
    return json_text(object, JSON_INDENT(1));
}

static void a_text_is_whole_or_there_is_none(void **state)
{
    (void)state;
    left = 0;
    char *whole = make();
    assert_non_null(whole);
    long failures = 0;
    for (long at = 1;; at++) {
        left = at;
        char *text = make();
        if (left > 0) {
            assert_string_equal(text, whole);
            free(text);
            break;
        }
        failures++;
        if (text)
            fail_msg("allocation %ld of %zu bytes of text: %s", at, strlen(whole), text);
        assert_non_null(strstr(status_message(), "out of memory"));
        assert_true(status_is_memory());
        text = make(); /* and is forgotten */
        assert_string_equal(text, whole);
        free(text);
    }
    assert_true(failures > 60);
    free(whole);
}

static void reading_says_that_memory_ran_out(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, 2.5, \"text\"], \"b\": {\"c\": null}}";
    json_error_t error;
    for (long at = 1;; at++) {
        left = at;
        json_t *object = json_parse(text, 0, &error);
        if (left > 0) {
            assert_int_equal(json_object_size(object), 2);
            json_decref(object);
            break;
        }
        assert_null(object);
        assert_string_equal(error.text, "out of memory");
        json_object_set_new(object, "more", json_true());
        assert_null(json_text(object, 0));
        assert_non_null(strstr(status_message(), "out of memory"));
    }
    left = 0;
    assert_null(json_parse("{", 0, &error));
    assert_null(strstr(error.text, "memory"));
    assert_null(json_parse(NULL, 0, NULL));
}

static void text_that_is_not_utf8_is_told_from_no_memory(void **state)
{
    (void)state;
    left = 0;
    assert_null(json_text(json_pack("{s:s}", "name", "caf\xE9"), 0));
    assert_non_null(strstr(status_message(), "UTF-8"));
    assert_false(status_is_memory());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_whole_or_there_is_none),
        cmocka_unit_test(reading_says_that_memory_ran_out),
        cmocka_unit_test(text_that_is_not_utf8_is_told_from_no_memory),
    };
    json_own_process();
    json_get_alloc_funcs(&real_malloc, &real_free);
    json_set_alloc_funcs(starving, real_free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
