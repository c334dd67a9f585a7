/* The tokenizer against transformers' ids (scripts/reference/tokenizer.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/files/safetensors.h"
#include "infer/text/tokenizer.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TINY ATELIER_SOURCE_DIR "/data/builtin/tiny/tokenizer"

static void expect_ids(const Tokenizer *t, const char *text, const int32_t *expected, int n)
{
    int32_t *ids;
    int count;
    assert_int_equal(tokenizer_encode(t, text, &ids, &count), STATUS_OK);
    assert_int_equal(count, n);
    assert_memory_equal(ids, expected, (size_t)n * sizeof *ids);
    mem_free(ids);
}
#define EXPECT_IDS(t, text, ...)                                                                             \
    expect_ids(t, text, (const int32_t[]){__VA_ARGS__}, (int)(sizeof(int32_t[]){__VA_ARGS__} / 4))

/* The script's fold(): FNV-1a over little-endian 32-bit ids, folded. */
static uint32_t fold(const int32_t *ids, int count)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < count; i++)
        for (int shift = 0; shift < 32; shift += 8)
            h = (h ^ ((uint32_t)ids[i] >> shift & 0xff)) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

static void compare_golden(const Tokenizer *t, const char *name)
{
    TensorFile *f;
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/tokenizer.safetensors", &f), STATUS_OK);
    const TensorEntry *text = tensorfile_find(f, "text"), *hashes = tensorfile_find(f, name);
    assert_non_null(text);
    assert_non_null(hashes);
    assert_int_equal(hashes->shape[0], 10000);
    const char *p = text->data;
    int wrong = 0;
    for (int64_t i = 0; i < hashes->shape[0]; i++) {
        int32_t *ids, expected;
        int count;
        memcpy(&expected, (const char *)hashes->data + 4 * i, 4);
        assert_int_equal(tokenizer_encode(t, p, &ids, &count), STATUS_OK);
        if (fold(ids, count) != (uint32_t)expected && wrong++ < 20) {
            print_message("%s: string %d `%s` gives other ids:", name, (int)i, p);
            for (int k = 0; k < count && k < 40; k++)
                print_message(" %d", ids[k]);
            print_message("\n");
        }
        mem_free(ids);
        p += strlen(p) + 1;
    }
    assert_true(p == (const char *)text->data + text->bytes);
    assert_int_equal(wrong, 0);
    tensorfile_close(f);
}

static void builtin_vocabulary_agrees_on_10000_strings(void **state)
{
    (void)state;
    Tokenizer *t;
    assert_int_equal(tokenizer_builtin(&t), STATUS_OK);
    assert_int_equal(tokenizer_vocab_size(t), 49408);
    compare_golden(t, "clip");
    tokenizer_free(t);
}

static void pad_token_of_sd2_is_special_in_10000_strings(void **state)
{
    (void)state;
    Tokenizer *t;
    assert_int_equal(tokenizer_builtin(&t), STATUS_OK);
    assert_int_equal(tokenizer_set_pad(t, "!", 0), STATUS_OK);
    compare_golden(t, "sd2");
    tokenizer_free(t);
}

static void small_vocabulary_agrees_on_10000_strings(void **state)
{
    (void)state;
    Tokenizer *t;
    assert_int_equal(tokenizer_open(TINY, &t), STATUS_OK);
    compare_golden(t, "tiny");
    tokenizer_free(t);
}

static void known_ids(void **state)
{
    (void)state;
    Tokenizer *t;
    assert_int_equal(tokenizer_builtin(&t), STATUS_OK);
    EXPECT_IDS(t, "a photo of a cat, 3d It's", 320, 1125, 539, 320, 2368, 267, 274, 323, 585, 568);
    EXPECT_IDS(t, "isn't It'LL 1234", 2923, 713, 585, 1342, 272, 273, 274, 275);
    tokenizer_free(t);
}

static void padding_and_cutting(void **state)
{
    (void)state;
    Tokenizer *t;
    int32_t ids[6];
    int used;
    assert_int_equal(tokenizer_builtin(&t), STATUS_OK);
    assert_int_equal(tokenizer_encode_padded(t, "a cat", 6, ids, &used), STATUS_OK);
    assert_int_equal(used, 2);
    assert_memory_equal(ids, ((int32_t[]){49406, 320, 2368, 49407, 49407, 49407}), sizeof ids);
    assert_int_equal(tokenizer_encode_padded(t, "a cat a cat a cat", 6, ids, &used), STATUS_OK);
    assert_int_equal(used, 6);
    assert_memory_equal(ids, ((int32_t[]){49406, 320, 2368, 320, 2368, 49407}), sizeof ids);
    assert_int_equal(tokenizer_set_pad(t, "!", 0), STATUS_OK);
    assert_int_equal(tokenizer_encode_padded(t, "", 6, ids, NULL), STATUS_OK);
    assert_memory_equal(ids, ((int32_t[]){49406, 49407, 0, 0, 0, 0}), sizeof ids);
    tokenizer_free(t);
}

static void invalid_utf8_is_refused_by_byte(void **state)
{
    (void)state;
    Tokenizer *t;
    int32_t *ids;
    int count;
    assert_int_equal(tokenizer_builtin(&t), STATUS_OK);
    assert_int_equal(tokenizer_encode(t, "caf\xe9 au lait", &ids, &count), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "0xe9 at offset 3"));
    tokenizer_free(t);
}

/* A folder with these files (NULL: none); its path stays valid until the next call. */
static const char *folder_with(const char *vocab, const char *merges, const char *config, const char *map,
                               const char *all)
{
    static char folder[64];
    const char *names[] = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
                           "tokenizer.json"};
    const char *texts[] = {vocab, merges, config, map, all};
    snprintf(folder, sizeof folder, "/tmp/atelier-tokenizer-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 5; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (texts[i])
            assert_int_equal(file_write_atomic(path, texts[i], strlen(texts[i])), STATUS_OK);
    }
    return folder;
}

#define SMALL                                                                                                \
    "{\"a\":0,\"b\":1,\"a</w>\":2,\"b</w>\":3,\"ab</"                                                        \
    "w>\":4,\"ab\":5,\"<|startoftext|>\":6,\"<|endoftext|>\":7}"

static void tokenizer_json_and_merges_txt_mean_the_same(void **state)
{
    (void)state;
    Tokenizer *t;
    const char *sources[][2] = {
        {SMALL, NULL},
        {NULL, "{\"model\":{\"vocab\":" SMALL ",\"merges\":[\"a b</w>\",\"a b\"]}}"},
        {NULL, "{\"model\":{\"vocab\":" SMALL ",\"merges\":[[\"a\",\"b</w>\"],[\"a\",\"b\"]]}}"}};
    for (int i = 0; i < 3; i++) {
        const char *folder =
            folder_with(sources[i][0], "#version: 0.2\r\na b</w>\r\na b\r\n", NULL, NULL, sources[i][1]);
        assert_int_equal(tokenizer_open(folder, &t), STATUS_OK);
        EXPECT_IDS(t, "AB aba abc", 4, 5, 2, 5, 7); /* c is unknown: unk, which is <|endoftext|> */
        EXPECT_IDS(t, "a<|endoftext|>b", 2, 7, 3);
        tokenizer_free(t);
        assert_int_equal(dir_remove(folder), STATUS_OK);
    }
}

static void special_tokens_follow_the_configuration(void **state)
{
    (void)state;
    Tokenizer *t;
    /* "normalized" tokens are found in any case; a plain string of the same text (pad) takes that back */
    const char *config =
        "{\"bos_token\":{\"content\":\"<|startoftext|>\",\"normalized\":true},"
        "\"eos_token\":{\"content\":\"<|endoftext|>\",\"normalized\":true},\"pad_token\":\"<|endoftext|>\"}";
    const char *folder = folder_with(SMALL, "", config, NULL, NULL);
    assert_int_equal(tokenizer_open(folder, &t), STATUS_OK);
    EXPECT_IDS(t, "<|STARTOFTEXT|>a", 6, 2);
    EXPECT_IDS(t, "<|endoftext|>", 7);
    int32_t *ids;
    int count;
    assert_int_equal(tokenizer_encode(t, "<|ENDOFTEXT|>", &ids, &count), STATUS_OK);
    assert_true(count > 1);
    mem_free(ids);
    tokenizer_free(t);
    assert_int_equal(dir_remove(folder), STATUS_OK);

    folder = folder_with(
        SMALL, "", config,
        "{\"pad_token\":\"a</w>\",\"unk_token\":{\"content\":\"<|endoftext|>\",\"normalized\":true}}", NULL);
    assert_int_equal(tokenizer_open(folder, &t), STATUS_OK);
    EXPECT_IDS(t, "<|ENDOFTEXT|>", 7);
    int32_t padded[4];
    assert_int_equal(tokenizer_encode_padded(t, "b", 4, padded, NULL), STATUS_OK);
    assert_memory_equal(padded, ((int32_t[]){6, 3, 7, 2}), sizeof padded);
    tokenizer_free(t);
    assert_int_equal(dir_remove(folder), STATUS_OK);

    /* a token that the vocabulary lacks gets a new id after the others */
    folder = folder_with(SMALL, "", "{\"pad_token\":\"<pad>\"}", NULL, NULL);
    assert_int_equal(tokenizer_open(folder, &t), STATUS_OK);
    EXPECT_IDS(t, "a<pad>b", 2, 8, 3);
    assert_int_equal(tokenizer_vocab_size(t), 9);
    tokenizer_free(t);
    assert_int_equal(dir_remove(folder), STATUS_OK);
}

static void broken_folders_are_refused_with_the_reason(void **state)
{
    (void)state;
    const struct {
        const char *vocab, *merges, *config, *says;
    } cases[] = {
        {NULL, "", NULL, "vocab.json"},
        {"{\"a\":", "", NULL, "vocab.json:1"},
        {"[1]", "", NULL, "a JSON object"},
        {"{\"a\":-1}", "", NULL, "no valid id"},
        {SMALL, NULL, NULL, "merges.txt"},
        {SMALL, "a b\nabc\n", NULL, "merge 2"},
        {SMALL, "b a\n", NULL, "`ba` is not in the vocabulary"},
        {SMALL, "", "{\"bos_token\":{\"content\":\"<|startoftext|>\",\"lstrip\":true}}", "lstrip"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Tokenizer *t;
        const char *folder = folder_with(cases[i].vocab, cases[i].merges, cases[i].config, NULL, NULL);
        assert_int_not_equal(tokenizer_open(folder, &t), STATUS_OK);
        assert_null(t);
        if (!strstr(status_message(), cases[i].says))
            fail_msg("`%s` does not say `%s`", status_message(), cases[i].says);
        assert_int_equal(dir_remove(folder), STATUS_OK);
    }
}

static int refuse_at(size_t bytes, void *arg)
{
    (void)bytes;
    return --*(int *)arg == 0;
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    Status s = STATUS_FAILED;
    for (int n = 1; s != STATUS_OK; n++) {
        int left = n;
        Tokenizer *t = NULL;
        int32_t *ids = NULL;
        int count;
        mem_set_hook(refuse_at, &left);
        s = tokenizer_open(TINY, &t);
        if (s == STATUS_OK)
            s = tokenizer_encode(t, "Aa <|endoftext|> ŵ", &ids, &count);
        mem_set_hook(NULL, NULL);
        mem_free(ids);
        tokenizer_free(t);
        assert_true(n < 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_ids),
        cmocka_unit_test(builtin_vocabulary_agrees_on_10000_strings),
        cmocka_unit_test(pad_token_of_sd2_is_special_in_10000_strings),
        cmocka_unit_test(small_vocabulary_agrees_on_10000_strings),
        cmocka_unit_test(padding_and_cutting),
        cmocka_unit_test(invalid_utf8_is_refused_by_byte),
        cmocka_unit_test(tokenizer_json_and_merges_txt_mean_the_same),
        cmocka_unit_test(special_tokens_follow_the_configuration),
        cmocka_unit_test(broken_folders_are_refused_with_the_reason),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
