/* One row of a table for each type that files hold.
 *
 * The 8-bit floats have 256 values each, so both are f16's numbers under another spelling: E5M2 is an f16's
 * upper byte; E4M3 has f16's layout with one bit of exponent less (bias 7, not 15) and, having given infinity
 * up, uses its highest exponent for numbers up to 448. (Micikevicius et al. 2022, "FP8 formats for deep
 * learning", table 1.) */
#include "element.h"

#include <string.h>

#define CHUNK 1024 /* numbers widened at a time */

static const struct {
    const char *name;
    size_t size;
    int dtype; /* DType of the same bytes, -1: none */
    bool is_float;
} TYPES[ELEMENT_TYPES] = {
    [ELEMENT_OTHER] = {"?", 0, -1, false},          [ELEMENT_F32] = {"f32", 4, DTYPE_F32, true},
    [ELEMENT_BF16] = {"bf16", 2, DTYPE_BF16, true}, [ELEMENT_F16] = {"f16", 2, DTYPE_F16, true},
    [ELEMENT_F64] = {"f64", 8, -1, true},           [ELEMENT_F8_E4M3] = {"f8_e4m3", 1, -1, true},
    [ELEMENT_F8_E5M2] = {"f8_e5m2", 1, -1, true},   [ELEMENT_I8] = {"i8", 1, DTYPE_I8, false},
    [ELEMENT_U8] = {"u8", 1, DTYPE_U8, false},      [ELEMENT_I16] = {"i16", 2, -1, false},
    [ELEMENT_U16] = {"u16", 2, -1, false},          [ELEMENT_I32] = {"i32", 4, DTYPE_I32, false},
    [ELEMENT_U32] = {"u32", 4, -1, false},          [ELEMENT_I64] = {"i64", 8, DTYPE_I64, false},
    [ELEMENT_U64] = {"u64", 8, -1, false},          [ELEMENT_BOOL] = {"bool", 1, -1, false},
};

const char *element_name(ElementType t)
{
    return TYPES[t].name;
}

size_t element_size(ElementType t)
{
    return TYPES[t].size;
}

bool element_is_float(ElementType t)
{
    return TYPES[t].is_float;
}

bool element_dtype(ElementType t, DType *out)
{
    if (TYPES[t].dtype < 0)
        return false;
    *out = (DType)TYPES[t].dtype;
    return true;
}

ElementType element_of_dtype(DType t)
{
    for (int i = 0; i < ELEMENT_TYPES; i++)
        if (TYPES[i].dtype == (int)t)
            return (ElementType)i;
    return ELEMENT_OTHER;
}

bool element_converts(ElementType from, DType to)
{
    DType same;
    if (element_dtype(from, &same) && same == to)
        return true;
    return TYPES[from].is_float && (to == DTYPE_F32 || to == DTYPE_BF16 || to == DTYPE_F16);
}

/* Values ----------------------------------------------------------------------------------------------- */

static float e5m2_to_f32(uint8_t b)
{
    return f16_to_f32((uint16_t)(b << 8));
}

/* seeee mmm: the 7 bits as an f16's exponent and mantissa are the number times 2^(7-15). */
static float e4m3_to_f32(uint8_t b)
{
    const uint16_t sign = (uint16_t)((b & 0x80) << 8);
    if ((b & 0x7f) == 0x7f)
        return f16_to_f32(sign | 0x7e00);
    return f16_to_f32((uint16_t)(sign | (b & 0x7f) << 7)) * 0x1p8f;
}

/* n numbers of a type that is no float of the engine's, as f32. */
static void widen(float *to, const uint8_t *from, ElementType type, int64_t n)
{
    if (type == ELEMENT_F64)
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)element_number(from + 8 * i, ELEMENT_F64);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = type == ELEMENT_F8_E4M3 ? e4m3_to_f32(from[i]) : e5m2_to_f32(from[i]);
}

static void convert_aligned(void *to, DType to_type, const void *from, ElementType from_type, int64_t n)
{
    DType same;
    float wide[CHUNK];
    if (element_dtype(from_type, &same)) {
        convert_floats(to, to_type, from, same, n);
        return;
    }
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t k = n - i < CHUNK ? n - i : CHUNK;
        widen(wide, (const uint8_t *)from + (size_t)i * TYPES[from_type].size, from_type, k);
        convert_floats((uint8_t *)to + (size_t)i * dtype_size(to_type), to_type, wide, DTYPE_F32, k);
    }
}

void element_convert(void *to, DType to_type, const void *from, ElementType from_type, int64_t n)
{
    const size_t size = TYPES[from_type].size;
    DType same;
    if (element_dtype(from_type, &same) && same == to_type)
        memcpy(to, from, (size_t)n * size);
    else if ((uintptr_t)from % size == 0)
        convert_aligned(to, to_type, from, from_type, n);
    else
        for (int64_t i = 0; i < n; i += CHUNK) {
            double piece[CHUNK]; /* of any type */
            const int64_t k = n - i < CHUNK ? n - i : CHUNK;
            memcpy(piece, (const uint8_t *)from + (size_t)i * size, (size_t)k * size);
            convert_aligned((uint8_t *)to + (size_t)i * dtype_size(to_type), to_type, piece, from_type, k);
        }
}

#define NUMBER(type)                                                                                         \
    {                                                                                                        \
        type value;                                                                                          \
        memcpy(&value, from, sizeof value); /* in a file it may lie anywhere */                              \
        return (double)value;                                                                                \
    }

double element_number(const void *from, ElementType type)
{
    float narrow = 0;
    switch (type) {
    case ELEMENT_F64:
        NUMBER(double)
    case ELEMENT_I8:
        NUMBER(int8_t)
    case ELEMENT_U8:
        NUMBER(uint8_t)
    case ELEMENT_BOOL:
        NUMBER(uint8_t)
    case ELEMENT_I16:
        NUMBER(int16_t)
    case ELEMENT_U16:
        NUMBER(uint16_t)
    case ELEMENT_I32:
        NUMBER(int32_t)
    case ELEMENT_U32:
        NUMBER(uint32_t)
    case ELEMENT_I64:
        NUMBER(int64_t)
    case ELEMENT_U64:
        NUMBER(uint64_t)
    default:
        element_convert(&narrow, DTYPE_F32, from, type, 1);
        return (double)narrow;
    }
}

/* Finite ----------------------------------------------------------------------------------------------- */

/* Of a float's bits without the sign, seen as a whole number: the least that is not finite in the type `to`.
 * An infinity's, or the least number that is rounded to one. */
static uint64_t limit_of(ElementType type, DType to)
{
    const bool f16 = to == DTYPE_F16, bf16 = to == DTYPE_BF16;
    switch (type) {
    case ELEMENT_F64:
        return f16 ? 0x40effdfff0000000 : bf16 ? 0x47efeffff0000000 : 0x47effffff0000000;
    case ELEMENT_F32:
        return f16 ? 0x477ff000 : bf16 ? 0x7f7f8000 : 0x7f800000;
    case ELEMENT_BF16:
        return f16 ? 0x4780 : 0x7f80;
    case ELEMENT_F16:
        return 0x7c00;
    case ELEMENT_F8_E5M2:
        return 0x7c;
    default: /* E4M3 has no infinity, and one NaN */
        return 0x7f;
    }
}

/* Whether one of the floats in 8 bytes reaches the limit. In each lane the sum of what it is and what the
 * limit lacks to the sign's bit reaches that bit, and no sum leaves its lane. */
typedef struct Lanes {
    uint64_t without_sign, lacking, signs;
} Lanes;

static Lanes lanes_of(size_t size, uint64_t limit)
{
    const uint64_t sign = (uint64_t)1 << (8 * size - 1);
    Lanes l = {0};
    for (size_t at = 0; at < 8; at += size) {
        l.signs |= sign << 8 * at;
        l.lacking |= (sign - limit) << 8 * at;
    }
    l.without_sign = ~l.signs;
    return l;
}

/* Bytes that are looked at before anything is decided. */
#define LOOKED_AT ((size_t)4096)

static bool reaches(const Lanes *l, const uint8_t *from, size_t bytes)
{
    uint64_t any = 0;
    size_t at = 0;
    for (; at + 8 <= bytes; at += 8) {
        uint64_t word;
        memcpy(&word, from + at, 8);
        any |= (word & l->without_sign) + l->lacking;
    }
    uint64_t rest = 0;
    memcpy(&rest, from + at, bytes - at);
    return ((any | ((rest & l->without_sign) + l->lacking)) & l->signs) != 0;
}

int64_t element_first_not_finite(const void *from, ElementType type, DType to, int64_t n)
{
    const size_t size = TYPES[type].size, bytes = (size_t)n * size;
    const Lanes l = lanes_of(size, limit_of(type, to));
    for (size_t at = 0; at < bytes; at += LOOKED_AT) {
        const uint8_t *part = (const uint8_t *)from + at;
        const size_t length = bytes - at < LOOKED_AT ? bytes - at : LOOKED_AT;
        if (!reaches(&l, part, length))
            continue;
        size_t k = 0;
        while (!reaches(&l, part + k, size))
            k += size;
        return (int64_t)((at + k) / size);
    }
    return -1;
}
