/* Files of tensors, every format alike: what is in one is found by name and read as the engine's types, what
 * nobody asks for does not matter, and no damaged file gets past the check or crashes it. */
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "tests/infer/formats/formats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "one_file.h"

#define CASE(name) {&format_##name, &format_test_##name},
static const struct Case {
    const TensorFormat *format;
    const FormatTest *test;
} CASES[] = {TENSOR_FORMATS(CASE)};
#define CASE_COUNT (sizeof CASES / sizeof *CASES)

static void ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
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
        const int64_t count = tensor_entry_count(e);
        float *numbers = mem_alloc((size_t)count * sizeof *numbers);
        if (e->type != ELEMENT_OTHER && tensor_entry_read(e, DTYPE_F32, numbers) != STATUS_OK)
            assert_non_null(strstr(status_message(), e->name));
        mem_free(numbers);
    }
    for (int i = 0; i < tensorfile_metadata_count(f); i++) {
        const TensorMeta m = tensorfile_metadata_entry(f, i);
        assert_string_equal(tensorfile_metadata(f, m.key), m.value);
    }
    tensorfile_close(f);
    return STATUS_OK;
}

/* What files are made of --------------------------------------------------------------------------------- */

static const int64_t MATRIX[] = {2, 3}, NUMBER[] = {1}, EIGHT[] = {1, 2, 1, 1, 1, 1, 1, 1}, NONE[] = {4, 0};
static uint8_t wide[6 * 8]; /* of any type */

/* One tensor of each type, named after it, and two of odd shapes. */
static int all_types(const FormatTest *t, TensorEntry *out)
{
    int n = 0;
    for (int type = 0; type < ELEMENT_TYPES; type++)
        if (t->holds((ElementType)type))
            out[n++] = (TensorEntry){.name = element_name((ElementType)type),
                                     .type = (ElementType)type,
                                     .type_name = "X9",
                                     .ndim = 2,
                                     .shape = MATRIX,
                                     .data = wide,
                                     .bytes = type ? 6 * element_size((ElementType)type) : 5};
    out[n++] = (TensorEntry){
        .name = "eight", .type = ELEMENT_F16, .ndim = 8, .shape = EIGHT, .data = wide, .bytes = 4};
    out[n++] = (TensorEntry){.name = "none", .type = ELEMENT_F32, .ndim = 2, .shape = NONE, .data = wide};
    return n;
}

static const TensorMeta META[] = {{"format", "pt"}, {"ss_name", "K\xc3\xa4tzchen"}};

static const TensorEntry *found(const TensorFile *f, const char *name)
{
    const TensorEntry *e = tensorfile_find(f, name);
    if (!e)
        fail_msg("%s is not there", name);
    return e;
}

/* Tests ------------------------------------------------------------------------------------------------- */

static void test_a_format_is_told_by_its_first_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        TensorEntry tensors[ELEMENT_TYPES + 2];
        const int count = all_types(CASES[i].test, tensors);
        CASES[i].test->write(path, tensors, count, NULL, 0);
        TensorFile *f;
        ok(tensorfile_open(path, &f));
        assert_string_equal(tensorfile_format(f), CASES[i].format->name);
        for (size_t k = 0; k < CASE_COUNT; k++)
            assert_int_equal(
                CASES[k].format->recognises(f->map, f->size < TENSOR_HEAD ? f->size : TENSOR_HEAD), k == i);
        tensorfile_close(f);
    }
}

static void test_tensors_of_every_type_and_shape_are_listed(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const FormatTest *t = CASES[i].test;
        TensorEntry tensors[ELEMENT_TYPES + 2];
        const int count = all_types(t, tensors);
        t->write(path, tensors, count, META, 2);
        TensorFile *f;
        ok(tensorfile_open(path, &f));
        assert_int_equal(tensorfile_count(f), count);
        for (int k = 0; k < count; k++) {
            const TensorEntry *e = found(f, tensors[k].name);
            assert_int_equal(e->type, tensors[k].type);
            assert_true(tensor_entry_is_shaped(e, tensors[k].ndim, tensors[k].shape));
            assert_int_equal(e->bytes, tensors[k].bytes);
            assert_memory_equal(e->data, wide, e->bytes);
        }
        assert_int_equal(tensor_entry_count(found(f, "eight")), 2);
        assert_int_equal(tensor_entry_count(found(f, "none")), 0);
        assert_null(tensorfile_find(f, "f3"));
        assert_int_equal(tensorfile_metadata_count(f), t->has_metadata ? 2 : 0);
        if (t->has_metadata)
            assert_string_equal(tensorfile_metadata(f, "ss_name"), META[1].value);
        assert_null(tensorfile_metadata(f, "none"));
        tensorfile_close(f);
    }
}

static void test_numbers_are_read_as_they_are_asked_for(void **state)
{
    (void)state;
    const double sixteen = 16.5, pi = 3.141592653589793;
    const float minus = -2.5f;
    const int64_t big = 875000;
    const uint16_t half = f32_to_f16(0.75f);
    const TensorEntry tensors[] = {
        {.name = "d", .type = ELEMENT_F64, .ndim = 1, .shape = NUMBER, .data = &pi, .bytes = 8},
        {.name = "alpha", .type = ELEMENT_F64, .ndim = 0, .data = &sixteen, .bytes = 8},
        {.name = "f", .type = ELEMENT_F32, .ndim = 1, .shape = NUMBER, .data = &minus, .bytes = 4},
        {.name = "i", .type = ELEMENT_I64, .ndim = 1, .shape = NUMBER, .data = &big, .bytes = 8},
        {.name = "h", .type = ELEMENT_F16, .ndim = 1, .shape = NUMBER, .data = &half, .bytes = 2},
    };
    for (size_t i = 0; i < CASE_COUNT; i++) {
        CASES[i].test->write(path, tensors, 5, NULL, 0);
        TensorFile *f;
        ok(tensorfile_open(path, &f));
        float value = 0;
        int64_t whole = 0;
        double number = 0;
        ok(tensor_entry_read(found(f, "d"), DTYPE_F32, &value));
        assert_true(value == (float)pi);
        ok(tensor_entry_read(found(f, "h"), DTYPE_F32, &value));
        assert_true(value == 0.75f);
        ok(tensor_entry_read(found(f, "i"), DTYPE_I64, &whole));
        assert_int_equal(whole, big);
        ok(tensor_entry_number(found(f, "alpha"), &number));
        assert_true(number == sixteen);
        ok(tensor_entry_number(found(f, "i"), &number));
        assert_true(number == 875000);
        assert_ptr_equal(tensor_entry_mapped(found(f, "f"), DTYPE_F32), found(f, "f")->data);
        assert_null(tensor_entry_mapped(found(f, "f"), DTYPE_BF16));
        assert_null(tensor_entry_mapped(found(f, "d"), DTYPE_F32));
        tensorfile_close(f);
    }
}

static void test_what_cannot_be_read_is_named_when_it_is_asked_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        TensorEntry tensors[ELEMENT_TYPES + 2];
        const int count = all_types(CASES[i].test, tensors);
        CASES[i].test->write(path, tensors, count, NULL, 0);
        TensorFile *f;
        float six[6];
        double number;
        ok(tensorfile_open(path, &f));
        for (int k = 0; k < count; k++) {
            const TensorEntry *e = found(f, tensors[k].name);
            if (element_is_float(e->type)) {
                ok(tensor_entry_read(e, DTYPE_F32, six));
                continue;
            }
            assert_int_not_equal(tensor_entry_read(e, DTYPE_F32, six), STATUS_OK);
            assert_non_null(strstr(status_message(), e->name));
            assert_non_null(strstr(status_message(), path));
            assert_int_not_equal(tensor_entry_number(e, &number), STATUS_OK);
            assert_non_null(strstr(status_message(), e->name));
        }
        tensorfile_close(f);
    }
}

/* Stored by columns, as PyTorch saves a transposed matrix. */
static void test_strides_are_followed(void **state)
{
    (void)state;
    const float columns[] = {1, 4, 2, 5, 3, 6}, rows[] = {1, 2, 3, 4, 5, 6};
    const int64_t strides[] = {1, 2};
    const TensorEntry e = {.name = "t",
                           .type = ELEMENT_F32,
                           .ndim = 2,
                           .shape = MATRIX,
                           .strides = strides,
                           .data = columns,
                           .bytes = sizeof columns};
    float out[6], two[2];
    ok(tensor_entry_read(&e, DTYPE_F32, out));
    assert_memory_equal(out, rows, sizeof rows);
    ok(tensor_entry_read_part(&e, 3, 2, DTYPE_F32, two));
    assert_memory_equal(two, rows + 3, sizeof two);
    assert_null(tensor_entry_mapped(&e, DTYPE_F32));
}

static void test_a_shared_file_stays_mapped(void **state)
{
    (void)state;
    TensorEntry tensors[ELEMENT_TYPES + 2];
    CASES[0].test->write(path, tensors, all_types(CASES[0].test, tensors), NULL, 0);
    TensorFile *f;
    TensorFiles kept = {0};
    ok(tensorfile_open(path, &f));
    ok(tensorfiles_keep(&kept, f));
    ok(tensorfiles_keep(&kept, f));
    assert_int_equal(kept.count, 1);
    tensorfile_release(f);
    tensorfile_close(f);
    assert_memory_equal(found(kept.items[0], "f64")->data, wide, 48);
    tensorfiles_close(&kept);
}

/* Damage ------------------------------------------------------------------------------------------------- */

/* Two small tensors and metadata. */
static void small_file(const FormatTest *t, char **bytes, size_t *size)
{
    const TensorEntry tensors[] = {
        {.name = "model.a", .type = ELEMENT_F32, .ndim = 2, .shape = MATRIX, .data = wide, .bytes = 24},
        {.name = "b", .type = ELEMENT_F16, .ndim = 8, .shape = EIGHT, .data = wide, .bytes = 4}};
    t->write(path, tensors, 2, META, 1);
    ok(file_read(path, 1 << 20, bytes, size));
}

static void write_bytes(const void *data, size_t size)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, size, out), size);
    fclose(out);
}

static void test_every_changed_byte_is_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char *bytes = NULL;
        size_t size = 0;
        small_file(CASES[i].test, &bytes, &size);
        int opened = 0, refused = 0;
        for (size_t at = 0; at + 28 < size; at++)
            for (int flip = 1; flip < 256; flip = flip < 128 ? 2 * flip : flip + 127) {
                bytes[at] ^= (char)flip;
                write_bytes(bytes, size);
                bytes[at] ^= (char)flip;
                if (open_and_touch() == STATUS_OK)
                    opened++; /* a letter of a name or of the metadata */
                else
                    refused++;
            }
        assert_true(refused > opened);
        mem_free(bytes);
    }
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char *bytes = NULL;
        size_t size = 0;
        small_file(CASES[i].test, &bytes, &size);
        for (size_t n = 0; n < size; n++) {
            write_bytes(bytes, n);
            assert_int_not_equal(open_and_touch(), STATUS_OK);
            assert_non_null(strstr(status_message(), path));
        }
        write_bytes(bytes, size);
        ok(open_and_touch());
        mem_free(bytes);
    }
}

static int refuse_nth(size_t bytes, void *arg)
{
    (void)bytes;
    return (*(int *)arg)-- == 0;
}

static void test_every_failing_allocation_is_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char *bytes = NULL;
        size_t size = 0;
        small_file(CASES[i].test, &bytes, &size);
        mem_free(bytes);
        bool opened = false;
        for (int n = 0; n < 100 && !opened; n++) {
            int left = n;
            TensorFile *f = NULL;
            mem_set_hook(refuse_nth, &left);
            opened = tensorfile_open(path, &f) == STATUS_OK;
            mem_set_hook(NULL, NULL);
            tensorfile_close(f);
        }
        assert_true(opened);
    }
}

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wide; i++)
        wide[i] = (uint8_t)i;
    return one_file_open("a.tensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_format_is_told_by_its_first_bytes),
        cmocka_unit_test(test_tensors_of_every_type_and_shape_are_listed),
        cmocka_unit_test(test_numbers_are_read_as_they_are_asked_for),
        cmocka_unit_test(test_what_cannot_be_read_is_named_when_it_is_asked_for),
        cmocka_unit_test(test_strides_are_followed),
        cmocka_unit_test(test_a_shared_file_stays_mapped),
        cmocka_unit_test(test_every_changed_byte_is_survived),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, set_up, one_file_close);
}
