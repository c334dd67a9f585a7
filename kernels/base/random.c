/* Random numbers (random.h).
 *
 * Both generators turn uniform numbers into normal ones by the same f32 Box-Muller, whose logarithm, sine and
 * cosine are the Cephes polynomials in the order and with the fused multiply-adds of PyTorch's vector code.
 * An fma is exact wherever it runs, in one instruction or in a library call, so the bits are the same on
 * every machine; what the compiler must not do is fuse more, which ISO C mode forbids it (the tests would
 * notice). */
#include "random.h"

#include <math.h>
#include <string.h>

/* Box-Muller, eight pairs at a time --------------------------------------------------------------------- */

static inline float float_of(uint32_t u)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = u};
    return v.f;
}

static inline uint32_t bits_of(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    return v.u;
}

/* ln x, 0 < x ≤ 1, normal: x = m 2^e with √½ ≤ m < √2, a polynomial in m - 1. */
static inline __attribute__((always_inline)) float log_of(float x)
{
    static const float p[] = {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                              -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f};
    const uint32_t bits = bits_of(x);
    float e = (float)((int32_t)(bits >> 23) - 126);
    float m = float_of((bits & 0x007fffffu) | 0x3f000000u); /* ½ ≤ m < 1 */
    const int below = m < 0.707106781186547524f;
    e = below ? e - 1 : e;
    m = below ? (m - 1) + m : m - 1;
    const float z = m * m;
    float y = 7.0376836292e-2f;
    for (int i = 0; i < 8; i++)
        y = fmaf(y, m, p[i]);
    y = y * m;
    y = fmaf(y, z, e * -2.12194440e-4f);
    y = fmaf(z, -0.5f, y);
    return fmaf(e, 0.693359375f, m + y);
}

/* Sine and cosine of x ≥ 0: x less j π/4, j even, in three steps; then one polynomial each, swapped and
 * signed by j. */
static inline __attribute__((always_inline)) void sincos_of(float x, float *sine, float *cosine)
{
    const uint32_t j = ((uint32_t)(int32_t)(x * 1.27323954473516f) + 1) & ~1u;
    const float n = (float)(int32_t)j;
    x = fmaf(n, -0.78515625f, x);
    x = fmaf(n, -2.4187564849853515625e-4f, x);
    x = fmaf(n, -3.77489497744594108e-8f, x);
    const float z = x * x;
    float c = fmaf(fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f) * z;
    c = fmaf(c, z, -(z * 0.5f)) + 1;
    float s = fmaf(fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f) * z;
    s = fmaf(s, x, x);
    const uint32_t swap = (j & 2) ? ~0u : 0; /* as masks, so that the compiler makes vectors of it */
    const uint32_t sine_bits = (bits_of(c) & swap) | (bits_of(s) & ~swap);
    const uint32_t cosine_bits = (bits_of(s) & swap) | (bits_of(c) & ~swap);
    *sine = float_of(sine_bits ^ ((j & 4) << 29));
    *cosine = float_of(cosine_bits ^ ((~(j - 2) & 4) << 29));
}

/* n pairs: c = √(-2 ln u1) cos 2π u2, s the same with sin. Adding 0 makes -0 a 0, as PyTorch's mean does. */
static inline __attribute__((always_inline)) void normal_pairs_body(const float *u1, const float *u2,
                                                                    float *c, float *s)
{
    for (int i = 0; i < 8; i++) {
        const float radius = sqrtf(-2.0f * log_of(u1[i]));
        float sine, cosine;
        sincos_of(6.283185307179586f * u2[i], &sine, &cosine);
        c[i] = radius * cosine + 0.0f;
        s[i] = radius * sine + 0.0f;
    }
}

#ifdef ATL_X86
__attribute__((target("avx2,fma"))) static void normal_pairs_fma(const float *u1, const float *u2, float *c,
                                                                 float *s)
{
    normal_pairs_body(u1, u2, c, s);
}
#endif

static void normal_pairs_plain(const float *u1, const float *u2, float *c, float *s)
{
    normal_pairs_body(u1, u2, c, s);
}

static void normal_pairs(const float *u1, const float *u2, float *c, float *s)
{
#ifdef ATL_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        normal_pairs_fma(u1, u2, c, s);
        return;
    }
#endif
    normal_pairs_plain(u1, u2, c, s);
}

/* Philox4x32-10 (Salmon et al. 2011) -------------------------------------------------------------------- */

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4], k[2] = {key[0], key[1]};
    memcpy(c, counter, sizeof c);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
        const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b,
                                  (uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

/* The block-th four numbers of the key's stream. */
static void key_block(RandomKey k, uint32_t block, uint32_t out[4])
{
    const uint32_t counter[4] = {k.step, k.sample, (uint32_t)k.purpose, block};
    const uint32_t key[2] = {(uint32_t)k.seed, (uint32_t)(k.seed >> 32)};
    philox4x32(counter, key, out);
}

uint32_t random_u32(RandomKey k, uint32_t index)
{
    uint32_t out[4];
    key_block(k, index / 4, out);
    return out[index % 4];
}

double random_uniform(RandomKey k, uint32_t index)
{
    return (double)random_u32(k, index) * 0x1p-32;
}

uint32_t random_below(RandomKey k, uint32_t index, uint32_t n)
{
    return (uint32_t)(((uint64_t)random_u32(k, index) * n) >> 32);
}

void random_normal(RandomKey k, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 16) { /* four blocks: eight pairs of uniforms */
        float u1[8], u2[8], c[8], s[8];
        for (uint32_t block = 0; block < 4; block++) {
            uint32_t x[4];
            key_block(k, (uint32_t)(i / 4) + block, x);
            for (int half = 0; half < 2; half++) {
                /* (0,1]: never 0, whose logarithm is infinite */
                u1[2 * block + half] = (float)x[2 * half] * 0x1p-32f + 0x1p-33f;
                u2[2 * block + half] = (float)x[2 * half + 1] * 0x1p-32f;
            }
        }
        normal_pairs(u1, u2, c, s);
        for (size_t j = 0; j < 16 && i + j < n; j++)
            out[i + j] = j % 2 ? s[j / 2] : c[j / 2];
    }
}

void random_permutation(RandomKey k, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = random_below(k, i - 1, i), kept = out[j];
        out[j] = out[i - 1];
        out[i - 1] = kept;
    }
}

/* PyTorch's CPU generator: mt19937 (Matsumoto & Nishimura 1998) ----------------------------------------- */

#define MT_N 624
#define MT_M 397

void torch_seed(TorchRandom *g, uint64_t seed)
{
    g->state[0] = (uint32_t)seed;
    for (uint32_t j = 1; j < MT_N; j++)
        g->state[j] = 1812433253u * (g->state[j - 1] ^ (g->state[j - 1] >> 30)) + j;
    g->next = MT_N;
    g->has_cached = 0;
    g->cached = 0;
}

static uint32_t twisted(uint32_t upper, uint32_t lower, uint32_t far)
{
    const uint32_t y = (upper & 0x80000000u) | (lower & 0x7fffffffu);
    return far ^ (y >> 1) ^ (lower & 1 ? 0x9908b0dfu : 0);
}

static void twist(TorchRandom *g)
{
    uint32_t *s = g->state;
    for (int j = 0; j < MT_N - MT_M; j++)
        s[j] = twisted(s[j], s[j + 1], s[j + MT_M]);
    for (int j = MT_N - MT_M; j < MT_N - 1; j++)
        s[j] = twisted(s[j], s[j + 1], s[j + MT_M - MT_N]);
    s[MT_N - 1] = twisted(s[MT_N - 1], s[0], s[MT_M - 1]);
    g->next = 0;
}

uint32_t torch_u32(TorchRandom *g)
{
    if (g->next >= MT_N)
        twist(g);
    uint32_t y = g->state[g->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* [0,1), 53 bits of two numbers, the first one the upper half */
static double torch_uniform(TorchRandom *g)
{
    const uint64_t upper = torch_u32(g), lower = torch_u32(g);
    return (double)(((upper << 32) | lower) & ((1ull << 53) - 1)) * 0x1p-53;
}

/* Fewer than 16 numbers: one by one in double, the second of a pair is kept for the next call. */
static double torch_normal(TorchRandom *g)
{
    if (g->has_cached) {
        g->has_cached = 0;
        return g->cached;
    }
    const double u1 = torch_uniform(g), u2 = torch_uniform(g);
    const double radius = sqrt(-2.0 * log1p(-u2)), angle = 2.0 * 3.14159265358979323846 * u1;
    g->cached = radius * sin(angle);
    g->has_cached = 1;
    return radius * cos(angle);
}

static void fill_uniform(TorchRandom *g, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(torch_u32(g) & 0xffffffu) * 0x1p-24f;
}

/* 16 uniforms to normals in place: the first eight are u1, the others u2. */
static void normal_16(float *d)
{
    float u1[8], c[8], s[8];
    for (int j = 0; j < 8; j++)
        u1[j] = 1 - d[j];
    normal_pairs(u1, d + 8, c, s);
    memcpy(d, c, sizeof c);
    memcpy(d + 8, s, sizeof s);
}

void torch_randn(TorchRandom *g, float *out, size_t n)
{
    if (n < 16) {
        for (size_t i = 0; i < n; i++)
            out[i] = (float)torch_normal(g);
        return;
    }
    fill_uniform(g, out, n);
    for (size_t i = 0; i + 16 <= n; i += 16)
        normal_16(out + i);
    if (n % 16) { /* the last 16 are drawn again, those in front of the rest too */
        fill_uniform(g, out + n - 16, 16);
        normal_16(out + n - 16);
    }
}
