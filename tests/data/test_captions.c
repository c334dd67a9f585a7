/* Captions: what editors make of text files, metadata.jsonl, names for messages. */
#include "pictures.h"

#include "data/dataset/captions.h"
#include "kernels/base/text.h"

static void expect(const char *text, size_t size, const char *expected)
{
    char *caption;
    assert_ok(caption_clean(text, size, &caption));
    if (expected)
        assert_string_equal(caption, expected);
    else
        assert_null(caption);
    mem_free(caption);
}

static void refuse(const char *text, size_t size, const char *message)
{
    char *caption;
    assert_int_not_equal(caption_clean(text, size, &caption), STATUS_OK);
    assert_null(caption);
    assert_message(message);
}

static void every_editors_file_is_the_same_caption(void **state)
{
    (void)state;
    static const char *const files[] = {"a red cat",
                                        "a red cat\n",
                                        "a red cat\r\n",
                                        "\xEF\xBB\xBF"
                                        "a red cat\r\n",
                                        "  \t\n a red cat \n\n",
                                        "a\tred\t cat"};
    static const char *const lines[] = {"a red\r\ncat\r\n", "a\tred\n\n\ncat", "\na red \r\t\n cat"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        expect(files[i], strlen(files[i]), "a red cat");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        expect(lines[i], strlen(lines[i]), "a red\ncat");
    expect("Stra\xC3\x9F"
           "e  \xE7\x8C\xAB",
           12,
           "Stra\xC3\x9F"
           "e  \xE7\x8C\xAB"); /* inner spaces are kept */
}

static void empty_is_no_caption(void **state)
{
    (void)state;
    expect("", 0, NULL);
    expect(" \r\n\t", 4, NULL);
    expect("\xEF\xBB\xBF\n", 4, NULL);
}

static void other_encodings_are_never_guessed_at(void **state)
{
    (void)state;
    refuse("caf\xE9 noir", 9, "byte 3 is not UTF-8");
    refuse("\xFF\xFE"
           "a\0",
           4, "UTF-16");
    refuse("a\0b", 3, "byte 1 is zero");
    char *huge = mem_alloc(CAPTION_MAX_BYTES + 1);
    memset(huge, 'a', CAPTION_MAX_BYTES + 1);
    refuse(huge, CAPTION_MAX_BYTES + 1, "too long");
    mem_free(huge);
}

static void errors_name_the_file(void **state)
{
    (void)state;
    char folder[64], *caption;
    temporary_folder(folder);
    write_text(folder, "odd\nname.txt", "\xE9");
    char *path = path_join(folder, "odd\nname.txt");
    assert_int_not_equal(caption_read(path, &caption), STATUS_OK);
    assert_message("odd\\nname.txt: byte 0 is not UTF-8");
    mem_free(path);
    assert_ok(dir_remove(folder));
}

static Status read_metadata(const char *text, MetadataFile *m)
{
    char folder[64];
    temporary_folder(folder);
    write_text(folder, "metadata.jsonl", text);
    char *path = path_join(folder, "metadata.jsonl");
    const Status s = metadata_read(path, m);
    mem_free(path);
    assert_ok(dir_remove(folder));
    return s;
}

static void metadata_jsonl_is_read(void **state)
{
    (void)state;
    MetadataFile m;
    assert_ok(
        read_metadata("\xEF\xBB\xBF{\"file_name\": \"./a.jpg\", \"text\": \"A \\u00fc\\n b\", \"x\": [1]}\r\n"
                      "\n"
                      "{\"text\": \"\", \"file_name\": \"sub/b.png\"}",
                      &m));
    assert_int_equal(m.count, 2);
    assert_string_equal(m.entries[0].file_name, "a.jpg");
    assert_string_equal(m.entries[0].text, "A \xC3\xBC\nb");
    assert_int_equal(m.entries[1].line, 3);
    assert_null(m.entries[1].text);
    metadata_free(&m);
}

static void faults_in_metadata_name_the_line(void **state)
{
    (void)state;
    static const char *const faults[][2] = {
        {"{\"file_name\": \"a.jpg\", \"text\": \"x\"}\n{\"file_name\": }", "metadata.jsonl: line 2: "},
        {"{\"text\": \"x\"}", "line 1: needs \"file_name\""},
        {"{\"file_name\": \"a.jpg\"}", "line 1: needs \"text\""},
        {"{\"file_name\": \"a.jpg\", \"text\": 3}", "line 1: needs \"text\""},
        {"\n\n[1]", "line 3: needs \"file_name\""},
        {"{\"file_name\": \"a.jpg\", \"text\": \"\xE9\"}", "is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        MetadataFile m;
        assert_int_not_equal(read_metadata(faults[i][0], &m), STATUS_OK);
        assert_int_equal(m.count, 0);
        assert_message(faults[i][1]);
    }
}

static void names_are_fit_for_messages(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"cat 1.jpg", "cat 1.jpg"},     {"a\nb", "a\\nb"},
        {"\x1b[31m", "\\x1B[31m"},      {"a\\b", "a\\\\b"},
        {"caf\xC3\xA9", "caf\xC3\xA9"}, {"caf\xE9.jpg", "caf\\xE9.jpg"},
        {"\xE7\x8C", "\\xE7\\x8C"},     {"", ""},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *shown = text_escape(names[i][0]);
        assert_string_equal(shown, names[i][1]);
        mem_free(shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_editors_file_is_the_same_caption),
        cmocka_unit_test(empty_is_no_caption),
        cmocka_unit_test(other_encodings_are_never_guessed_at),
        cmocka_unit_test(errors_name_the_file),
        cmocka_unit_test(metadata_jsonl_is_read),
        cmocka_unit_test(faults_in_metadata_name_the_line),
        cmocka_unit_test(names_are_fit_for_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
