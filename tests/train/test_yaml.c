/* YAML as nodes: what is read, where it stands, and what is refused. Breaks if a complaint would name the
 * wrong place, or if a file could make reading crash or run on for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "train/config/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static YamlDoc *doc;

static int new_doc(void **state)
{
    (void)state;
    return yaml_doc_new(&doc);
}

static int free_doc(void **state)
{
    (void)state;
    yaml_doc_free(doc);
    return 0;
}

static YamlNode *parse(const char *text)
{
    YamlNode *root;
    if (yaml_parse(doc, "a.yaml", text, strlen(text), &root) != STATUS_OK)
        fail_msg("%s", status_message());
    return root;
}

static void refused_bytes(const char *text, size_t size, const char *message)
{
    YamlNode *root;
    assert_int_equal(yaml_parse(doc, "a.yaml", text, size, &root), STATUS_REFUSED);
    if (!strstr(status_message(), message))
        fail_msg("\"%s\" is not in \"%s\"", message, status_message());
}

static void refused(const char *text, const char *message)
{
    refused_bytes(text, strlen(text), message);
}

static void values_stay_text_and_know_their_place(void **state)
{
    (void)state;
    const YamlNode *root = parse("a: no\nbé: {c: 1e-4, d: [x, 'y z', \"\"]}\ne:\n");
    assert_int_equal(root->kind, YAML_IS_MAP);
    assert_int_equal(root->count, 3);
    assert_string_equal(yaml_get(root, "a")->text, "no");
    const YamlNode *map = yaml_get(root, "bé"), *list = yaml_get(map, "d");
    assert_string_equal(yaml_get(map, "c")->text, "1e-4");
    assert_int_equal(map->pairs[0].line, 2);
    assert_int_equal(map->pairs[0].column, 6); /* in characters, from 1 */
    assert_int_equal(list->count, 3);
    assert_string_equal(list->items[1]->text, "y z");
    assert_true(list->items[1]->quoted);
    assert_int_equal(list->items[1]->column, 22);
    assert_false(yaml_is_empty(list->items[2]));
    assert_true(yaml_is_empty(yaml_get(root, "e")));
    assert_null(yaml_get(root, "nothing"));
}

static void aliases_share_their_anchors_node(void **state)
{
    (void)state;
    const YamlNode *root = parse("a: &x {b: 1}\nc: *x\nd: [*x, *x]\n");
    assert_ptr_equal(yaml_get(root, "a"), yaml_get(root, "c"));
    assert_ptr_equal(yaml_get(root, "d")->items[1], yaml_get(root, "c"));
}

static void what_is_not_allowed_is_refused_by_line_and_column(void **state)
{
    (void)state;
    refused("", "a.yaml:1:1: there is nothing in it");
    refused("# only words\n", "there is nothing in it");
    refused("a: 1\nb: 2\na: 3\n", "a.yaml:3:1: the key a is given twice (first in line 1)");
    refused("a:\n  b: {c: 1, c: 2}\n", "a.yaml:2:13: the key c is given twice");
    refused("a: &x {b: 1}\nc:\n  <<: *x\n", "a.yaml:3:3: merge keys (<<) are not supported");
    refused("a: 1\n---\nb: 2\n", "a.yaml:2:1: a second document begins");
    refused("a: !!str 1\n", "a.yaml:1:4: a tag");
    refused("a: !x [1]\n", "a.yaml:1:4: a tag");
    refused("a: !x {b: 1}\n", "a.yaml:1:4: a tag");
    refused("? [a, b]\n: 1\n", "a.yaml:1:3: a key has to be a word");
    refused("&k a: 1\n", "a.yaml:1:1: a key with an anchor");
    refused("a: *x\n", "a.yaml:1:4: *x names nothing");
    refused("a: &x [1, *x]\n", "a.yaml:1:11: *x stands inside of what it names");
    refused("a:\n\tb: 1\n", "a.yaml:2:1: a tab in the indentation");
    refused("a:\n  b: 1\n \tc: 2\n", "a.yaml:3:2: a tab in the indentation");
    refused("a: [1, 2\n", "not valid YAML");
    refused("a: b: c\n",
            "a.yaml:1:5: not valid YAML: mapping values are not allowed in this context; text that");
    refused("a: \"b\n", "not valid YAML");
    refused("a: @b\n", "a.yaml:1:4: not valid YAML");
    refused("a: \"x\\0y\"\n", "a.yaml:1:4: text with a 0 character in it");
}

static void bytes_that_are_no_text_are_refused(void **state)
{
    (void)state;
    refused("a: 1\nb: caf\xe9\n", "a.yaml:2:7: byte 0xE9 is not UTF-8");
    refused("\xff\xfe\x61\x00", "a.yaml:1:1: byte 0xFF is not UTF-8"); /* UTF-16 */
    refused_bytes("a: 1\nb: \0\n", 9, "a.yaml:2:4: a control character (0x00)");
    refused("a: \x01\n", "a.yaml:1:4: a control character (0x01)");
}

static void nesting_and_expansion_have_limits(void **state)
{
    (void)state;
    char text[4000] = "a: ";
    for (int i = 0; i < 100; i++)
        strcat(text, "[");
    refused(text, "nested more than 64 levels deep");

    strcpy(text, "a: &a [x,x,x,x,x,x,x,x,x,x]\n"); /* "billion laughs" */
    for (char c = 'b'; c < 'k'; c++)
        sprintf(text + strlen(text), "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c - 1,
                c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1);
    refused(text, "more than 10000 values once aliases are expanded");
}

static void ten_thousand_values_are_allowed(void **state)
{
    (void)state;
    char *text = calloc(1, 40000);
    strcpy(text, "a: ["); /* the map, its key, the list: 3 */
    for (int i = 0; i < YAML_MAX_NODES - 3; i++)
        strcat(text + 3 * (size_t)i, i ? ",xx" : "xx");
    strcat(text, "]");
    assert_int_equal(yaml_get(parse(text), "a")->count, YAML_MAX_NODES - 3);
    strcpy(strrchr(text, ']'), ",y]");
    refused(text, "more than 10000 values");
    free(text);
}

static YamlNode *set(YamlNode *root, const char *path, const char *value)
{
    YamlNode *n;
    assert_int_equal(yaml_scalar(doc, "--set", value, &n), STATUS_OK);
    if (yaml_set(doc, &root, path, n) != STATUS_OK)
        fail_msg("%s", status_message());
    return root;
}

static void setting_changes_one_place_only(void **state)
{
    (void)state;
    YamlNode *root = parse("a: &x {b: 1}\nc: *x\nd: [{e: 1}, {e: 2}]\nf: [{e: 3}]\n");
    YamlNode *after = set(root, "c.b", "9");
    assert_string_equal(yaml_get(yaml_get(after, "c"), "b")->text, "9");
    assert_string_equal(yaml_get(yaml_get(after, "a"), "b")->text, "1"); /* the same node before */
    assert_string_equal(yaml_get(yaml_get(root, "c"), "b")->text, "1");
    after = set(after, "d.1.e", "7");
    assert_string_equal(yaml_get(yaml_get(after, "d")->items[1], "e")->text, "7");
    assert_string_equal(yaml_get(yaml_get(after, "d")->items[0], "e")->text, "1");
    after = set(after, "f.e", "8"); /* a list of one needs no number */
    assert_string_equal(yaml_get(yaml_get(after, "f")->items[0], "e")->text, "8");
    after = set(after, "a.0.b", "6"); /* and a map stands for one */
    assert_string_equal(yaml_get(yaml_get(after, "a"), "b")->text, "6");
    after = set(after, "new.deep.key", "5");
    assert_string_equal(yaml_get(yaml_get(yaml_get(after, "new"), "deep"), "key")->text, "5");
}

static void setting_where_nothing_can_be_is_refused(void **state)
{
    (void)state;
    YamlNode *root = parse("a: 1\nd: [{e: 1}, {e: 2}]\n"), *n;
    assert_int_equal(yaml_scalar(doc, "--set x", "1", &n), STATUS_OK);
    assert_int_equal(yaml_set(doc, &root, "a.b", n), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "--set x: there is nothing named b below a text"));
    assert_int_equal(yaml_set(doc, &root, "d.e", n), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "has 2 items"));
    assert_int_equal(yaml_set(doc, &root, "d.2.e", n), STATUS_REFUSED);
    assert_int_equal(yaml_set(doc, &root, "d.-1.e", n), STATUS_REFUSED);
}

static int refuse_after(size_t bytes, void *left)
{
    (void)bytes;
    return (*(int *)left)-- <= 0;
}

static void running_out_of_memory_is_an_error_like_others(void **state)
{
    (void)state;
    const char *text = "a: &x {b: [1, 2, 3]}\nc: *x\nd: 'e'\n";
    Status s = STATUS_FAILED;
    for (int n = 0; s != STATUS_OK; n++) {
        YamlDoc *d = NULL;
        YamlNode *root, *value;
        int left = n;
        mem_set_hook(refuse_after, &left);
        s = yaml_doc_new(&d);
        if (s == STATUS_OK)
            s = yaml_parse(d, "a.yaml", text, strlen(text), &root);
        if (s == STATUS_OK)
            s = yaml_scalar(d, "--set", "5", &value);
        if (s == STATUS_OK)
            s = yaml_set(d, &root, "a.b.1", value);
        mem_set_hook(NULL, NULL);
        yaml_doc_free(d);
        assert_true(s == STATUS_OK || s == STATUS_FAILED);
        assert_true(n < 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_stay_text_and_know_their_place, new_doc, free_doc),
        cmocka_unit_test_setup_teardown(aliases_share_their_anchors_node, new_doc, free_doc),
        cmocka_unit_test_setup_teardown(what_is_not_allowed_is_refused_by_line_and_column, new_doc, free_doc),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_text_are_refused, new_doc, free_doc),
        cmocka_unit_test_setup_teardown(nesting_and_expansion_have_limits, new_doc, free_doc),
        cmocka_unit_test_setup_teardown(ten_thousand_values_are_allowed, new_doc, free_doc),
        cmocka_unit_test_setup_teardown(setting_changes_one_place_only, new_doc, free_doc),
        cmocka_unit_test_setup_teardown(setting_where_nothing_can_be_is_refused, new_doc, free_doc),
        cmocka_unit_test(running_out_of_memory_is_an_error_like_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
