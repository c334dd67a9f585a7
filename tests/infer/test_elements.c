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

/* One number among zeros, wherever it stands and at whatever address: found exactly where its conversion is
 * not finite. */
static void check_finite_of(ElementType type, DType to, uint64_t bits)
{
    enum { N = 1100 }; /* more than one part of the search */
    static uint8_t memory[8 * N + 1];
    const size_t size = element_size(type);
    float got = 0;
    uint16_t narrow;
    element_convert(to == DTYPE_F32 ? (void *)&got : (void *)&narrow, to, &bits, type, 1);
    if (to != DTYPE_F32)
        got = to == DTYPE_F16 ? f16_to_f32(narrow) : bf16_to_f32(narrow);
    static const int64_t PLACES[] = {0, 1, 7, 1023, N - 1};
    for (int i = 0; i < 5; i++)
        for (int odd = 0; odd < 2; odd++) {
            memset(memory, 0, sizeof memory);
            memcpy(memory + odd + (size_t)PLACES[i] * size, &bits, size);
            const int64_t found = element_first_not_finite(memory + odd, type, to, N);
            if (found != (isfinite(got) ? -1 : PLACES[i]))
                fail_msg("%s %llx as %s is %g, found at %lld", element_name(type), (unsigned long long)bits,
                         dtype_name(to), (double)got, (long long)found);
        }
}

static void what_is_not_finite_is_found(void **state)
{
    (void)state;
    static const DType TO[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const float EDGES[] = {0,        1,          65504,         65519,    65520, 1e5F,
                                  3.38e38F, 3.3961e38F, 3.4028234e38F, INFINITY, NAN};
    for (int k = 0; k < 3; k++) {
        for (uint64_t b = 0; b < 256; b++) {
            check_finite_of(ELEMENT_F8_E4M3, TO[k], b);
            check_finite_of(ELEMENT_F8_E5M2, TO[k], b);
            check_finite_of(ELEMENT_F16, TO[k], b << 8 | 0xff);
            check_finite_of(ELEMENT_F16, TO[k], b << 8);
            check_finite_of(ELEMENT_BF16, TO[k], b << 8 | 0x7f);
            check_finite_of(ELEMENT_BF16, TO[k], b << 8 | 0x80);
        }
        for (int i = 0; i < 11; i++)
            for (int around = -2; around <= 2; around++) {
                uint32_t bits;
                uint64_t wide;
                memcpy(&bits, &EDGES[i], 4);
                const double value = (double)EDGES[i];
                memcpy(&wide, &value, 8);
                check_finite_of(ELEMENT_F32, TO[k], bits + (uint32_t)around);
                check_finite_of(ELEMENT_F32, TO[k], (bits + (uint32_t)around) | 0x80000000);
                check_finite_of(ELEMENT_F64, TO[k], wide + (uint64_t)(int64_t)around);
                check_finite_of(ELEMENT_F64, TO[k], wide + (uint64_t)(int64_t)around * 0x8000000);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_bits_with_four_of_exponent),
        cmocka_unit_test(eight_bits_with_five_of_exponent),
        cmocka_unit_test(sixty_four_bits),
        cmocka_unit_test(every_type_says_one_number),
        cmocka_unit_test(what_is_not_finite_is_found),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
