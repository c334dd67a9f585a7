/* Powers of two as bf16, by whole numbers of 16 bits, two to each lane of 32: what attention's weights are
 * made of where products are of bf16.
 *
 *     z = 256 x + 127 · 256 + 64                whole, x ≤ 0
 *     p = (z + correction[z / 4 mod 64]) / 2    the bits of 2^x as a bf16
 *
 * A bf16's bits, read as a whole number, are (exponent + 127 + fraction) 128: 2^x's, but that its fraction is
 * 2^f where x has f. The correction is the difference, for 64 values of f (Schraudolph 1999, with a table),
 * less z's own 64, which are there so that a NaN, whose low bits are 0, becomes one again. p is within 0.7 %
 * of 2^x and 0.2 % in quadratic mean, where the nearest bf16 is within 0.4 and 0.17 %; below 2^-126 it is 0
 * or next to it. */
#ifndef ATL_CPU_POWERS_H
#define ATL_CPU_POWERS_H

#include "kernels/cpu/vec.h"

enum { POWER_UNIT = 256, POWER_FRACTIONS = 64, POWER_LEAST = 64 };

/* 1.5 · 2^23: adding it to a float rounds, and the low 16 bits are the whole number's. */
#define POWER_MAGIC 12582912.0f
#define POWER_ONE (POWER_MAGIC + (float)(127 * POWER_UNIT + POWER_LEAST))

#if VL == 16
/* 256 (2^f - 1 - f) - POWER_LEAST in the middle of each, and 1/2 for the rounding of half; f of the first is
 * 3/4. */
static const int16_t power_corrections[POWER_FRACTIONS] = {
    -81, -80, -79, -78, -77, -77, -76, -75, -73, -72, -71, -70, -69, -67, -66, -64,
    -64, -65, -66, -68, -69, -70, -71, -72, -73, -74, -75, -76, -76, -77, -78, -79,
    -79, -80, -81, -81, -82, -82, -83, -83, -84, -84, -84, -85, -85, -85, -85, -85,
    -85, -86, -86, -85, -85, -85, -85, -85, -85, -84, -84, -83, -83, -82, -82, -81};
#endif

/* 2^x of two vectors as pairs, a's in the low half. a and b are 256 x + POWER_ONE, x up to 1/2. NaN stays
 * NaN.
 */
VEC vf power_pair(vf a, vf b)
{
#if VL == 16
    static const uint16_t low_words[32] = {0,  32, 2,  34, 4,  36, 6,  38, 8,  40, 10, 42, 12, 44, 14, 46,
                                           16, 48, 18, 50, 20, 52, 22, 54, 24, 56, 26, 58, 28, 60, 30, 62};
    const vf least = vec_set(POWER_MAGIC + POWER_LEAST);
    const __m512i z = _mm512_permutex2var_epi16((__m512i)vec_max(least, a), _mm512_loadu_si512(low_words),
                                                (__m512i)vec_max(least, b)),
                  correction = _mm512_permutex2var_epi16(
                      _mm512_loadu_si512(power_corrections), _mm512_srli_epi16(z, 2),
                      _mm512_loadu_si512(power_corrections + POWER_FRACTIONS / 2));
    return (vf)_mm512_srai_epi16(_mm512_add_epi16(z, correction), 1);
#else
    (void)b; /* pairs are of processors with bf16 */
    return a;
#endif
}

#endif
