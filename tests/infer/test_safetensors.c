/* safetensors: what is written is read back, and no wrong header gets past the check. What all formats share
 * is in test_tensor_files.c. */
#include "infer/files/safetensors.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "one_file.h"

static void write_bytes(const void *data, size_t size)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, size, out), size);
    fclose(out);
}

/* A file of this header (its true length in front unless length >= 0) and `data` bytes after it. */
static void write_file(const char *header, int64_t length, size_t data)
{
    const size_t n = strlen(header);
    char *bytes = mem_calloc(1, 8 + n + data);
    const uint64_t told = length >= 0 ? (uint64_t)length : n;
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(told >> (8 * i));
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < data; i++)
        bytes[8 + n + i] = (char)i;
    write_bytes(bytes, 8 + n + data);
    mem_free(bytes);
}

/* Opens `path`; if that succeeds, touches all it tells. */
static Status open_and_touch(void)
{
    TensorFile *f = NULL;
    TRY(tensorfile_open(path, &f));
    volatile unsigned sum = 0;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        for (size_t k = 0; k < e->bytes; k++)
            sum += ((const uint8_t *)e->data)[k];
        assert_ptr_equal(tensorfile_find(f, e->name), e);
    }
    for (int i = 0; i < tensorfile_metadata_count(f); i++) {
        const TensorMeta m = tensorfile_metadata_entry(f, i);
        assert_string_equal(tensorfile_metadata(f, m.key), m.value);
    }
    tensorfile_close(f);
    return STATUS_OK;
}

static void assert_refused(const char *why)
{
    assert_int_not_equal(open_and_touch(), STATUS_OK);
    if (!strstr(status_message(), why) || !strstr(status_message(), path))
        fail_msg("message \"%s\" lacks \"%s\" or the path", status_message(), why);
}

static void test_written_tensors_are_read_back(void **state)
{
    (void)state;
    float values[6] = {1, -2, 0.5f, 3.25f, 65504, -0.0f}, alpha = 8;
    int64_t ids[2] = {49406, -7};
    Tensor *a = tensor_over(values, DTYPE_F32, 2, (int64_t[]){2, 3});
    Tensor *b = tensor_over(ids, DTYPE_I64, 1, (int64_t[]){2});
    Tensor *c = tensor_over(&alpha, DTYPE_F32, 1, (int64_t[]){1});
    const SafeItem items[] = {
        {.name = "z.weight", .tensor = a, .dtype = DTYPE_F16, .ndim = -1},
        {.name = "a \"quoted\"", .tensor = b, .dtype = DTYPE_I64, .ndim = -1},
        {.name = "alpha", .tensor = c, .dtype = DTYPE_F32, .ndim = 0},
        {.name = "again", .tensor = a, .dtype = DTYPE_BF16, .ndim = 4, .shape = {3, 2, 1, 1}},
    };
    const TensorMeta meta[] = {{"format", "pt"}, {"ss_name", "K\xc3\xa4tzchen"}};
    assert_int_equal(safetensors_write(path, items, 4, meta, 2), STATUS_OK);

    TensorFile *f = NULL;
    assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
    assert_int_equal(tensorfile_count(f), 4);
    for (int i = 0; i < 4; i++) /* in the order given */
        assert_string_equal(tensorfile_entry(f, i)->name, items[i].name);
    const TensorEntry *e = tensorfile_find(f, "z.weight");
    assert_int_equal(e->type, ELEMENT_F16);
    float back[6];
    convert_floats(back, DTYPE_F32, e->data, DTYPE_F16, 6);
    assert_memory_equal(back, values, sizeof back);
    assert_memory_equal(tensorfile_find(f, "a \"quoted\"")->data, ids, sizeof ids);
    assert_int_equal(tensorfile_find(f, "alpha")->ndim, 0);
    assert_int_equal(tensorfile_find(f, "again")->shape[0], 3);
    assert_int_equal(tensorfile_find(f, "again")->ndim, 4);
    assert_null(tensorfile_find(f, "z"));
    assert_string_equal(tensorfile_metadata(f, "ss_name"), "K\xc3\xa4tzchen");
    assert_null(tensorfile_metadata(f, "none"));
    assert_int_equal(tensorfile_metadata_count(f), 2);

    tensorfile_close(f);

    char *bytes = NULL;
    size_t size = 0;
    assert_int_equal(file_read(path, 1 << 20, &bytes, &size), STATUS_OK);
    assert_int_equal((unsigned char)bytes[0] % 8, 0); /* the header is padded */
    mem_free(bytes);
    tensor_free(a);
    tensor_free(b);
    tensor_free(c);
}

static void test_wrong_items_are_not_written(void **state)
{
    (void)state;
    float value[2] = {1, 2};
    Tensor *a = tensor_over(value, DTYPE_F32, 1, (int64_t[]){2});
    const SafeItem twice[] = {{.name = "a", .tensor = a, .ndim = -1}, {.name = "a", .tensor = a, .ndim = -1}};
    const SafeItem reserved[] = {{.name = "__metadata__", .tensor = a, .ndim = -1}};
    const SafeItem shape[] = {{.name = "a", .tensor = a, .ndim = 1, .shape = {3}}};
    const SafeItem integer[] = {{.name = "a", .tensor = a, .dtype = DTYPE_I32, .ndim = -1}};
    const SafeItem utf8[] = {{.name = "a\xff", .tensor = a, .ndim = -1}};
    remove(path);
    assert_int_not_equal(safetensors_write(path, twice, 2, NULL, 0), STATUS_OK);
    assert_int_not_equal(safetensors_write(path, reserved, 1, NULL, 0), STATUS_OK);
    assert_int_not_equal(safetensors_write(path, shape, 1, NULL, 0), STATUS_OK);
    assert_int_not_equal(safetensors_write(path, integer, 1, NULL, 0), STATUS_OK);
    assert_int_not_equal(safetensors_write(path, utf8, 1, NULL, 0), STATUS_OK);
    assert_non_null(strstr(status_message(), path));
    assert_false(file_exists(path));
    assert_int_equal(safetensors_write(path, NULL, 0, NULL, 0), STATUS_OK); /* no tensors: "{}" */
    assert_int_equal(open_and_touch(), STATUS_OK);
    tensor_free(a);
}

static void test_empty_and_unordered_tensors_are_read(void **state)
{
    (void)state;
    write_file("{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]},"
               "\"a\":{\"dtype\":\"I8\",\"shape\":[2,1],\"data_offsets\":[0,2]},"
               "\"e\":{\"data_offsets\":[2,2],\"dtype\":\"F32\",\"shape\":[0,3]}}   ",
               -1, 6);
    TensorFile *f = NULL;
    assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
    assert_string_equal(tensorfile_entry(f, 0)->name, "a");
    assert_string_equal(tensorfile_entry(f, 1)->name, "e");
    assert_string_equal(tensorfile_entry(f, 2)->name, "b");
    assert_int_equal(*(const uint8_t *)tensorfile_find(f, "b")->data, 2);
    tensorfile_close(f);
}

/* One tensor "w" with this entry text. */
static void write_entry(const char *entry, size_t data)
{
    char header[512];
    snprintf(header, sizeof header, "{\"w\":%s}", entry);
    write_file(header, -1, data);
}

static void test_wrong_headers_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *entry;
        size_t data;
        const char *why;
    } entries[] = {
        {"{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,4]}", 4, "w: 4 bytes"},
        {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}", 4, "w: 4 bytes"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 2, "w: data_offsets [0,4]"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}", 8, "leaves a gap"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 8, "belong to no tensor"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}", 8, "w: data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}", 8, "w: data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}", 4, "w: data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}", 4, "w: data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{}}", 4, "w: data_offsets"},
        {"{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}", 4, "w: its shape"},
        {"{\"dtype\":\"F32\",\"shape\":\"1\",\"data_offsets\":[0,4]}", 4, "w: its shape"},
        {"{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}", 0, "w: its shape"},
        {"{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}", 0, "w: its shape"},
        {"{\"dtype\":\"X9\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}", 0, "w: its shape"},
        {"{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}", 4, "w: needs dtype"},
        {"{\"shape\":[1],\"data_offsets\":[0,4]}", 4, "w: needs dtype"},
        {"{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}", 1, "w: needs dtype"},
        {"[]", 0, "w: needs dtype"},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,99999999999999999999]}", 4, "byte"},
    };
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        write_entry(entries[i].entry, entries[i].data);
        assert_refused(entries[i].why);
    }
    static const struct {
        const char *header;
        int64_t length;
        const char *why;
    } headers[] = {
        {"", -1, "is not a safetensors file"},
        {" {}", -1, "is not a safetensors file"},
        {"{}", 3, "truncated"},
        {"{}", 100000001, "is not a safetensors file"},
        {"{}x", -1, "byte 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         -1, "duplicate"},
        {"{\"__metadata__\":[]}", -1, "__metadata__"},
        {"{\"__metadata__\":{\"a\":1}}", -1, "__metadata__: a"},
        {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", -1, "duplicate"},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        write_file(headers[i].header, headers[i].length, 0);
        assert_refused(headers[i].why);
    }
    write_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
               "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
               -1, 6);
    assert_refused("b at byte");
    assert_refused("overlaps");
    remove(path);
    assert_refused("there is no such .safetensors file");
}

/* So many numbers that all threads take part: each arrives, and of two that are none the first is told. */
static void test_large_tensors_are_read_by_all(void **state)
{
    (void)state;
    enum { N = 300001 };
    const int64_t n = N;
    Tensor *x = tensor_new(DTYPE_F32, 1, &n), *back = tensor_new(DTYPE_BF16, 1, &n);
    assert_true(x && back);
    for (int64_t i = 0; i < n; i++)
        ((float *)x->data)[i] = (float)(i * 7 % 65521) - 32000;
    for (int bad = 0; bad < 3; bad++) {
        TensorFile *f;
        const SafeItem item = {.name = "large", .tensor = x, .dtype = DTYPE_F32, .ndim = -1};
        if (bad)
            ((float *)x->data)[bad == 1 ? 123456 : 299999] = bad == 1 ? NAN : INFINITY;
        assert_int_equal(safetensors_write(path, &item, 1, NULL, 0), STATUS_OK);
        assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
        const TensorEntry *e = tensorfile_find(f, "large");
        assert_int_equal(tensor_entry_check_finite(e, 0, n, DTYPE_BF16) == STATUS_OK, !bad);
        assert_true(!bad || strstr(status_message(), "number 123456 is NaN"));
        assert_int_equal(tensor_entry_load(e, 0, back), STATUS_OK);
        for (int64_t i = 0; i < n && !bad; i++)
            assert_int_equal(((uint16_t *)back->data)[i], f32_to_bf16(((float *)x->data)[i]));
        tensorfile_close(f);
    }
    tensor_free(x), tensor_free(back);
}

/* Nested 3,000 deep, so that a recursive reader would run out of stack or patience. */
static void test_deep_nesting_is_an_error(void **state)
{
    (void)state;
    char *deep = mem_calloc(1, 20000);
    strcpy(deep, "{\"w\":");
    memset(deep + strlen(deep), '[', 19000);
    write_file(deep, -1, 0);
    assert_refused("byte");
    mem_free(deep);
}

static int set_up(void **state)
{
    (void)state;
    return one_file_open("a.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_tensors_are_read_back),
        cmocka_unit_test(test_wrong_items_are_not_written),
        cmocka_unit_test(test_empty_and_unordered_tensors_are_read),
        cmocka_unit_test(test_wrong_headers_are_named),
        cmocka_unit_test(test_large_tensors_are_read_by_all),
        cmocka_unit_test(test_deep_nesting_is_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, one_file_close);
}
