/* Types of numbers as files hold them: more than the engine computes with, and converted to its types where a
 * tensor is asked for. */
#ifndef ATL_ELEMENT_H
#define ATL_ELEMENT_H

#include "kernels/tensor.h"

typedef enum ElementType {
    ELEMENT_OTHER = 0, /* of a kind that nothing here can read; harmless as long as nobody asks for it */
    ELEMENT_F32,
    ELEMENT_BF16,
    ELEMENT_F16,
    ELEMENT_F64,
    ELEMENT_F8_E4M3, /* 4 bits of exponent, no infinity, NaN 0x7f and 0xff: PyTorch's float8_e4m3fn */
    ELEMENT_F8_E5M2, /* f16 without its lower byte: PyTorch's float8_e5m2 */
    ELEMENT_I8,
    ELEMENT_U8,
    ELEMENT_I16,
    ELEMENT_U16,
    ELEMENT_I32,
    ELEMENT_U32,
    ELEMENT_I64,
    ELEMENT_U64,
    ELEMENT_BOOL,
    ELEMENT_TYPES
} ElementType;

const char *element_name(ElementType t); /* as dtype_name: "f32", "f64", "f8_e4m3"; "?" for ELEMENT_OTHER */
size_t element_size(ElementType t);      /* bytes; 0: ELEMENT_OTHER */
bool element_is_float(ElementType t);
/* The engine's type of the same bytes, in *out; false: there is none. */
bool element_dtype(ElementType t, DType *out);
ElementType element_of_dtype(DType t);

/* Whether element_convert can do it: floats of every kind to f32, bf16 and f16, and each of the engine's
 * types to itself. */
bool element_converts(ElementType from, DType to);
/* n numbers one after another, at any address. f64 is rounded to f32 first, as PyTorch does. */
void element_convert(void *to, DType to_type, const void *from, ElementType from_type, int64_t n);
/* One number, of any type but ELEMENT_OTHER. */
double element_number(const void *from, ElementType type);
/* The first of n floats, at any address, that has no finite value in the engine's type `to`: NaN, infinity,
 * or beyond what it holds; -1: there is none. As fast as memory is. */
int64_t element_first_not_finite(const void *from, ElementType type, DType to, int64_t n);

#endif
