/* Files of torch.save: what PyTorch wrote is what PyTorch reads, of both layouts; what wants something run is
 * refused by its name; and pickles made to take memory or time for ever are refused before they do. */
#include "infer/files/tensor_file.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "tests/infer/formats/zip_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "one_file.h"

static void ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
}

static TensorFile *golden(const char *name)
{
    char whole[512];
    TensorFile *f = NULL;
    snprintf(whole, sizeof whole, TEST_GOLDEN "/torch/%s", name);
    ok(tensorfile_open(whole, &f));
    return f;
}

/* PyTorch's own ------------------------------------------------------------------------------------------ */

static void same_tensor(const TensorEntry *a, const TensorEntry *b)
{
    DType type = DTYPE_F32;
    uint8_t x[256], y[256];
    if (a->type != b->type || !tensor_entry_is_shaped(a, b->ndim, b->shape))
        fail_msg("%s: another type or shape", a->name);
    element_dtype(a->type, &type);
    if (!element_converts(a->type, type)) { /* integers that the engine has not */
        assert_null(a->strides);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
        return;
    }
    const size_t bytes = (size_t)tensor_entry_count(a) * dtype_size(type);
    assert_true(bytes <= sizeof x);
    ok(tensor_entry_read(a, type, x));
    ok(tensor_entry_read(b, type, y));
    if (memcmp(x, y, bytes) != 0)
        fail_msg("%s: other numbers", a->name);
}

static void test_what_torch_saved_is_read(void **state)
{
    (void)state;
    static const char *const FILES[][2] = {{"flat.bin", "weights.safetensors"},
                                           {"protocol4.bin", "weights.safetensors"},
                                           {"checkpoint.ckpt", "weights.safetensors"},
                                           {"old.ckpt", "few.safetensors"},
                                           {"embedding.pt", "embedding.safetensors"}};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        TensorFile *f = golden(FILES[i][0]), *wanted = golden(FILES[i][1]);
        assert_int_equal(tensorfile_count(f), tensorfile_count(wanted));
        for (int k = 0; k < tensorfile_count(wanted); k++) {
            const TensorEntry *e = tensorfile_entry(wanted, k), *found = tensorfile_find(f, e->name);
            if (!found)
                fail_msg("%s: %s is not there", FILES[i][0], e->name);
            same_tensor(found, e);
        }
        tensorfile_close(f);
        tensorfile_close(wanted);
    }
}

static void test_numbers_beside_the_weights_are_metadata(void **state)
{
    (void)state;
    TensorFile *f = golden("checkpoint.ckpt");
    assert_string_equal(tensorfile_metadata(f, "global_step"), "470000");
    assert_string_equal(tensorfile_metadata(f, "pytorch-lightning_version"), "1.4.2");
    assert_null(tensorfile_metadata(f, "big"));
    assert_null(tensorfile_find(f, "optimizer_states.0.state.0.exp_avg"));
    tensorfile_close(f);
    f = golden("embedding.pt");
    assert_string_equal(tensorfile_metadata(f, "name"), "sketch");
    tensorfile_close(f);
}

static void refused(const char *file, const char *what)
{
    TensorFile *f = NULL;
    if (tensorfile_open(file, &f) == STATUS_OK || !strstr(status_message(), what) ||
        !strstr(status_message(), file))
        fail_msg("%s: not told that %s, but: %s", file, what, status_message());
    assert_null(f);
}

static void test_what_would_be_run_is_named(void **state)
{
    (void)state;
    static const char *const FILES[][2] = {
        {"runs.ckpt", "asks for posix.system"},
        {"runs-old.ckpt", "asks for posix.system"},
        {"module.pt", "asks for torch.nn.modules.linear.Linear"},
        {"tensor.pt", "holds one tensor without a name"},
        {"plain.pkl", "a pickle that torch.save did not write"},
    };
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char file[512];
        snprintf(file, sizeof file, TEST_GOLDEN "/torch/%s", FILES[i][0]);
        refused(file, FILES[i][1]);
    }
}

/* Made by hand --------------------------------------------------------------------------------------------
 */

static void write_pickle(const void *pickle, size_t bytes, uint16_t method)
{
    ZipFile files[] = {{.name = "a/data.pkl", .data = pickle, .bytes = bytes, .method = method},
                       {.name = "a/data/0", .data = "0123456789abcdef", .bytes = 16}};
    zip_write(path, files, 2);
}

#define TENSOR(shape, strides)                                                                               \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                   \
    "0X\3\0\0\0cpuK\4tQ"                                                                                     \
    "K\0" shape strides "\x89N"                                                                              \
    "tR"
#define PICKLE(text) text, sizeof text - 1
#define DEEP8 "]]]]]]]]"
#define FILL8 "aaaaaaaa"

static void test_faulty_pickles_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *what;
    } FILES[] = {
        {PICKLE("\x80\2}X\1\0\0\0a" TENSOR("(K\2K\3t", "(K\3K\1t") "s."), "tensor a: 6 numbers"},
        {PICKLE("\x80\2}X\1\0\0\0a" TENSOR("(K\4t", "(K\2t") "s."), "tensor a: 7 numbers"},
        {PICKLE("\x80\2}X\1\0\0\0a" TENSOR("(J\0\0\0\x7fJ\0\0\0\x7ft", "(K\0K\0t") "s."),
         "more numbers than the file"},
        {PICKLE("\x80\2}X\1\0\0\0a" TENSOR("(J\xff\xff\xff\xfft", "(K\1t") "s."), "a shape that is none"},
        {PICKLE("\x80\2}X\1\0\0\0a" TENSOR("(K\1t", "(K\1K\1t") "s."), "a shape that is none"},
        {PICKLE("\x80\2}(X\1\0\0\0a" TENSOR("(K\1t", "(K\1t") "X\1\0\0\0a" TENSOR("(K\1t", "(K\1t") "u."),
         "two tensors have the name a"},
        {PICKLE("\x80\2]q\0(h\0h\0e."), "dicts in each other"},
        {PICKLE("\x80\2]q\0h\0a."), "dicts in each other"},
        {PICKLE("\x80\2" DEEP8 DEEP8 DEEP8 FILL8 FILL8 "aaaaaaa."), "dicts in each other"},
        {PICKLE("\x80\2]r\xff\xff\xff\x6f."), "takes more memory"},
        {PICKLE("\x80\2]r\xff\xff\xff\xff."), "two billion"},
        {PICKLE("\x80\2]j\1\0\0\0a."), "from the memo"},
        {PICKLE("\x80\2}X\xff\xff\xff\x7f"
                "a."),
         "in the middle"},
        {PICKLE("\x80\2}"), "in the middle"},
        {PICKLE("\x80\2."), "where there is none"},
        {PICKLE("\x80\2(."), "where there is none"},
        {PICKLE("\x80\2}(K\1u."), "a key without a value"},
        {PICKLE("\x80\2K\1K\2a."), "no container"},
        {PICKLE("\x80\2t."), "up to a mark"},
        {PICKLE("\x80\2K\1)R."), "no function"},
        {PICKLE("\x80\2cos\nsystem\nX\2\0\0\0lstR."), "asks for os.system"},
        {PICKLE("\x80\4\x8c\2os\x8c\6system\x93X\2\0\0\0ls\x85R."), "asks for os.system"},
        {PICKLE("\x80\2I1\n."), "instruction 0x49"},
        {PICKLE("\x80\2K\1."), "no tensors"},
    };
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        write_pickle(FILES[i].bytes, FILES[i].size, 0);
        refused(path, FILES[i].what);
    }
}

/* A list of two lists of two lists …: 2^n of them, in 12 bytes each. */
static void test_lists_in_lists_end(void **state)
{
    (void)state;
    char bytes[400] = "\x80\2]q\0";
    size_t n = 5;
    for (int i = 0; i < 14; i++) {
        const char more[] = {']', 'q', (char)(i + 1), '(', 'h', (char)i, 'h', (char)i, 'h', (char)i, 'e'};
        memcpy(bytes + n, more, sizeof more);
        n += sizeof more;
    }
    bytes[n++] = '.';
    write_pickle(bytes, n, 0);
    refused(path, "over and over");
}

static void test_memory_follows_from_the_size(void **state)
{
    (void)state;
    static char bytes[1 << 20];
    const size_t before = mem_in_use();
    memset(bytes, '}', sizeof bytes); /* a dict a byte */
    write_pickle(bytes, sizeof bytes, 0);
    refused(path, "takes more memory");
    assert_int_equal(mem_in_use(), before);
}

static size_t largest;
static int note_size(size_t bytes, void *arg)
{
    (void)arg;
    largest = bytes > largest ? bytes : largest;
    return 0;
}

static void test_no_number_in_a_file_is_believed(void **state)
{
    (void)state;
    static const char pickle[] = "\x80\2]r\xff\xff\xff\x6f.";
    write_pickle(pickle, sizeof pickle - 1, 0);
    largest = 0;
    mem_set_hook(note_size, NULL);
    TensorFile *f = NULL;
    assert_int_not_equal(tensorfile_open(path, &f), STATUS_OK);
    mem_set_hook(NULL, NULL);
    assert_true(largest < 65536);
}

/* Archives ------------------------------------------------------------------------------------------------
 */

static void test_archives_that_torch_never_writes_are_named(void **state)
{
    (void)state;
    static const char pickle[] = "\x80\2}.";
    write_pickle(pickle, sizeof pickle - 1, 8);
    refused(path, "a/data.pkl in the zip archive is compressed");
    zip_write(path, (ZipFile[]){{.name = "model.safetensors", .data = "x", .bytes = 1}}, 1);
    refused(path, "without a data.pkl");
    zip_write(path,
              (ZipFile[]){{.name = "a/data.pkl", .data = "x", .bytes = 1},
                          {.name = "a/constants.pkl", .data = "x", .bytes = 1}},
              2);
    refused(path, "TorchScript");
    zip_write(path,
              (ZipFile[]){{.name = "a/data.pkl", .data = "x", .bytes = 1},
                          {.name = "a/byteorder", .data = "big", .bytes = 3}},
              2);
    refused(path, "highest byte first");
    static const char lacking[] = "\x80\2}X\1\0\0\0a" TENSOR("(K\1t", "(K\1t") "s.";
    zip_write(path, (ZipFile[]){{.name = "a/data.pkl", .data = lacking, .bytes = sizeof lacking - 1}}, 1);
    refused(path, "data/0 is missing");
    zip_write(path,
              (ZipFile[]){{.name = "data.pkl", .data = lacking, .bytes = sizeof lacking - 1},
                          {.name = "data/0", .data = "0123", .bytes = 4}},
              2);
    TensorFile *f;
    ok(tensorfile_open(path, &f));
    assert_memory_equal(tensorfile_find(f, "a")->data, "0123", 4);
    tensorfile_close(f);
}

/* The end of a small archive, rewritten as that of one above 4 GB is: ones in the places, the numbers in the
 * records of "zip64". */
static void test_zip64_is_read(void **state)
{
    (void)state;
    static const char pickle[] = "\x80\2}X\1\0\0\0a" TENSOR("(K\4t", "(K\1t") "s.";
    char *bytes;
    size_t size;
    write_pickle(pickle, sizeof pickle - 1, 0);
    ok(file_read(path, 1 << 20, &bytes, &size));
    uint8_t *end = (uint8_t *)bytes + size - 22;
    uint64_t directory = 0, length = 0;
    memcpy(&length, end + 12, 4);
    memcpy(&directory, end + 16, 4);
    uint8_t *line = (uint8_t *)bytes + directory; /* data.pkl's */
    uint64_t wide[2] = {0};
    memcpy(&wide[0], line + 24, 4);
    FILE *out = fopen(path, "wb");
    fwrite(bytes, 1, directory, out);
    const uint16_t name = 10, extra = 20, field[2] = {1, 16};
    memset(line + 20, 0xff, 8);
    memcpy(line + 30, &extra, 2);
    fwrite(line, 1, 46u + name, out);
    fwrite(field, 1, 4, out);
    fwrite((uint64_t[]){wide[0], wide[0]}, 8, 2, out);
    fwrite(line + 46 + name, 1, length - 46 - name, out);
    const uint64_t at = (uint64_t)ftell(out);
    const uint64_t record[] = {44, 0, 0, 2, 2, length + 20, directory};
    fwrite("PK\6\6", 1, 4, out);
    fwrite(&record[0], 8, 1, out);
    fwrite(&record[1], 4, 1, out);
    fwrite(&record[2], 8, 1, out);
    fwrite(&record[3], 8, 4, out);
    fwrite("PK\6\7\0\0\0\0", 1, 8, out);
    fwrite(&at, 8, 1, out);
    fwrite("\1\0\0\0", 1, 4, out);
    memset(end + 8, 0xff, 12);
    fwrite(end, 1, 22, out);
    fclose(out);
    mem_free(bytes);
    TensorFile *f;
    ok(tensorfile_open(path, &f));
    assert_memory_equal(tensorfile_find(f, "a")->data, "0123456789abcdef", 16);
    tensorfile_close(f);
}

static int set_up(void **state)
{
    (void)state;
    return one_file_open("a.ckpt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_torch_saved_is_read),
        cmocka_unit_test(test_numbers_beside_the_weights_are_metadata),
        cmocka_unit_test(test_what_would_be_run_is_named),
        cmocka_unit_test(test_faulty_pickles_are_refused),
        cmocka_unit_test(test_lists_in_lists_end),
        cmocka_unit_test(test_memory_follows_from_the_size),
        cmocka_unit_test(test_no_number_in_a_file_is_believed),
        cmocka_unit_test(test_archives_that_torch_never_writes_are_named),
        cmocka_unit_test(test_zip64_is_read),
    };
    return cmocka_run_group_tests(tests, set_up, one_file_close);
}
