/* Types of numbers that only files hold: the same values as PyTorch's (scripts/reference/elements.py). */
#include "golden.h"

static TensorFile *numbers;

/* Every number of NAME as each of the engine's floats, bit for bit but for the kind of NaN. */
static void check_type(const char *name, int64_t least)
{
    static const DType WANTED[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    const TensorEntry *e = golden(numbers, "%s", name);
    const int64_t n = tensor_entry_count(e);
    assert_string_equal(element_name(e->type), name);
    assert_true(n >= least);
    for (int k = 0; k < 3; k++) {
        const TensorEntry *want = golden(numbers, "%s.%s", name, dtype_name(WANTED[k]));
        const size_t size = dtype_size(WANTED[k]);
        char *got = mem_calloc((size_t)n, size);
        assert_ok(tensor_entry_read(e, WANTED[k], got));
        for (int64_t i = 0; i < n; i++) {
            const char *w = (const char *)want->data + (size_t)i * size;
            const double a = element_number(got + (size_t)i * size, element_of_dtype(WANTED[k])),
                         b = element_number(w, element_of_dtype(WANTED[k]));
            if (isnan(a) != isnan(b) || (!isnan(b) && memcmp(got + (size_t)i * size, w, size) != 0))
                fail_msg("%s %d as %s is %.9g, not %.9g", name, (int)i, dtype_name(WANTED[k]), a, b);
        }
        mem_free(got);
    }
}

static void eight_bits_with_four_of_exponent(void **state)
{
    (void)state;
    check_type("f8_e4m3", 256);
}

static void eight_bits_with_five_of_exponent(void **state)
{
    (void)state;
    check_type("f8_e5m2", 256);
}

static void sixty_four_bits(void **state)
{
    (void)state;
    check_type("f64", 20);
}

/* From an odd address, as they may lie in a file. */
static void every_type_says_one_number(void **state)
{
    (void)state;
    uint8_t bytes[9] = {0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const struct {
        ElementType type;
        double value;
    } rows[] = {
        {ELEMENT_I8, -2},     {ELEMENT_U8, 254},     {ELEMENT_I16, -2},
        {ELEMENT_U16, 65534}, {ELEMENT_I32, -2},     {ELEMENT_U32, 4294967294.0},
        {ELEMENT_I64, -2},    {ELEMENT_U64, 0x1p64}, {ELEMENT_F8_E4M3, -448},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (element_number(bytes + 1, rows[i].type) != rows[i].value)
            fail_msg("%s is %.17g", element_name(rows[i].type), element_number(bytes + 1, rows[i].type));
    bytes[1] = 1;
    assert_true(element_number(bytes + 1, ELEMENT_BOOL) == 1);
    const double third = 1.0 / 3;
    memcpy(bytes + 1, &third, sizeof third);
    assert_true(element_number(bytes + 1, ELEMENT_F64) == third);
}

static int open_golden(void **state)
{
    (void)state;
    numbers = golden_open("elements.safetensors");
    return 0;
}

static int close_golden(void **state)
{
    (void)state;
    tensorfile_close(numbers);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_bits_with_four_of_exponent),
        cmocka_unit_test(eight_bits_with_five_of_exponent),
        cmocka_unit_test(sixty_four_bits),
        cmocka_unit_test(every_type_says_one_number),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
