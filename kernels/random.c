#include "random.h"

#include <math.h>
#include <string.h>

/* Keyed: Philox4x32-10
 * ---------------------------------------------------------------------------------------- */

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)c0 * 0xD2511F53u, b = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* Numbers 4 block … 4 block + 3 of the key's stream. */
static void stream_block(RandomKey k, uint32_t block, uint32_t out[4])
{
    const uint32_t counter[4] = {k.step, k.sample, (uint32_t)k.purpose, block};
    const uint32_t key[2] = {(uint32_t)k.seed, (uint32_t)(k.seed >> 32)};
    philox4x32(counter, key, out);
}

uint32_t random_u32(RandomKey k, uint32_t index)
{
    uint32_t out[4];
    stream_block(k, index / 4, out);
    return out[index % 4];
}

double random_uniform(RandomKey k, uint32_t index)
{
    return random_u32(k, index) * 0x1p-32;
}

uint32_t random_below(RandomKey k, uint32_t index, uint32_t n)
{
    return (uint32_t)(((uint64_t)random_u32(k, index) * n) >> 32);
}

void random_permutation(RandomKey k, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = random_below(k, n - i, i), swap = out[i - 1];
        out[i - 1] = out[j];
        out[j] = swap;
    }
}

/* Logarithm, sine and cosine: Cephes' single-precision polynomials (S. Moshier) as PyTorch's vector code has
 * them. Every fused multiply-add is written out, so that the bits are the same with and without FMA hardware.
 * --------- */

#define INLINE static inline __attribute__((always_inline))

INLINE float fma_(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}

/* ln x, x a normal number in (0,1]. */
INLINE float cephes_log(float x)
{
    static const float p[] = {7.0376836292E-2f,  -1.1514610310E-1f, 1.1676998740E-1f,
                              -1.2420140846E-1f, 1.4249322787E-1f,  -1.6668057665E-1f,
                              2.0000714765E-1f,  -2.4999993993E-1f, 3.3333331174E-1f};
    union {
        float f;
        uint32_t u;
    } v = {.f = x};
    float e = (float)((int32_t)(v.u >> 23) - 126);
    v.u = (v.u & 0x007fffffu) | 0x3f000000u;
    x = v.f;
    const int small = x < 0.707106781186547524f;
    e = small ? e - 1.0f : e;
    x = small ? (x - 1.0f) + x : x - 1.0f;
    const float z = x * x, low = e * -2.12194440e-4f;
    float y = p[0];
    for (int i = 1; i < 9; i++)
        y = fma_(y, x, p[i]);
    y = y * x;
    y = fma_(y, z, low);
    y = fma_(z, -0.5f, y);
    x = x + y;
    return fma_(e, 0.693359375f, x);
}

/* sin and cos of x ≥ 0. */
INLINE void cephes_sincos(float x, float *sine, float *cosine)
{
    const int32_t j = ((int32_t)(x * 1.27323954473516f) + 1) & ~1;
    const float n = (float)j;
    x = fma_(n, -0.78515625f, x);
    x = fma_(n, -2.4187564849853515625e-4f, x);
    x = fma_(n, -3.77489497744594108e-8f, x);
    const float z = x * x, half = z * 0.5f;
    float c = fma_(2.443315711809948E-005f, z, -1.388731625493765E-003f);
    c = fma_(c, z, 4.166664568298827E-002f) * z;
    c = fma_(c, z, -half) + 1.0f;
    float s = fma_(-1.9515295891E-4f, z, 8.3321608736E-3f);
    s = fma_(s, z, -1.6666654611E-1f) * z;
    s = fma_(s, x, x);
    const float a = j & 2 ? c : s, b = j & 2 ? s : c;
    *sine = j & 4 ? -a : a;
    *cosine = (~(j - 2)) & 4 ? -b : b;
}

/* Box–Muller on two rows of eight: u1 in (0,1], u2 in [0,1); the result replaces them. */
INLINE void box_muller(float *a, float *b, int n)
{
    for (int i = 0; i < n; i++) {
        const float radius = sqrtf(-2.0f * cephes_log(a[i])), theta = 6.283185307179586f * b[i];
        float s, c;
        cephes_sincos(theta, &s, &c);
        a[i] = radius * c;
        b[i] = radius * s;
    }
}

static void box_muller_plain(float *a, float *b)
{
    box_muller(a, b, 8);
}

#ifdef ATL_X86
__attribute__((target("avx2,fma"))) static void box_muller_fma(float *a, float *b)
{
    box_muller(a, b, 8);
}
#endif

typedef void (*BoxMuller)(float *a, float *b);

static BoxMuller choose_box_muller(void)
{
#ifdef ATL_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return box_muller_fma;
#endif
    return box_muller_plain;
}

void random_normal(RandomKey k, float *out, size_t n)
{
    const BoxMuller transform = choose_box_muller();
    for (size_t i = 0; i < n; i += 16) {
        float v[16];
        for (uint32_t block = 0; block < 4; block++) {
            uint32_t r[4];
            stream_block(k, (uint32_t)(i / 4) + block, r);
            for (int j = 0; j < 4; j++)
                v[block * 4 + j] = (float)(r[j] >> 8) * 0x1p-24f;
        }
        for (int j = 0; j < 8; j++)
            v[j] = 1.0f - v[j];
        transform(v, v + 8);
        memcpy(out + i, v, sizeof *v * (n - i < 16 ? n - i : 16));
    }
}

/* PyTorch's: mt19937 (Matsumoto & Nishimura 1998)
 * ------------------------------------------------------------- */

void torch_seed(TorchRandom *g, uint64_t seed)
{
    g->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < 624; i++)
        g->state[i] = 1812433253u * (g->state[i - 1] ^ (g->state[i - 1] >> 30)) + i;
    g->next = 624;
    g->has_cached = 0;
    g->cached = 0;
}

static void twist(TorchRandom *g)
{
    uint32_t *s = g->state;
    for (int i = 0; i < 624; i++) {
        const uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
        s[i] = s[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    g->next = 0;
}

uint32_t torch_u32(TorchRandom *g)
{
    if (g->next >= 624)
        twist(g);
    uint32_t y = g->state[g->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static float uniform24(TorchRandom *g)
{
    return (float)(torch_u32(g) & 0xffffffu) * 0x1p-24f;
}

static double uniform53(TorchRandom *g)
{
    const uint64_t high = torch_u32(g), low = torch_u32(g);
    return (double)(((high << 32) | low) & ((1ull << 53) - 1)) * 0x1p-53;
}

/* Fewer than 16 numbers: one at a time in double precision; the second of a pair waits for the next call. */
static float normal_one(TorchRandom *g)
{
    if (g->has_cached) {
        g->has_cached = 0;
        return (float)g->cached;
    }
    const double u1 = uniform53(g), u2 = uniform53(g);
    const double radius = sqrt(-2.0 * log1p(-u2)), theta = 6.283185307179586476925286766559 * u1;
    g->cached = radius * sin(theta);
    g->has_cached = 1;
    return (float)(radius * cos(theta));
}

static void transform_16(BoxMuller transform, float *v)
{
    for (int j = 0; j < 8; j++)
        v[j] = 1.0f - v[j];
    transform(v, v + 8);
}

void torch_randn(TorchRandom *g, float *out, size_t n)
{
    if (n < 16) {
        for (size_t i = 0; i < n; i++)
            out[i] = normal_one(g);
        return;
    }
    const BoxMuller transform = choose_box_muller();
    for (size_t i = 0; i < n; i++)
        out[i] = uniform24(g);
    for (size_t i = 0; i + 16 <= n; i += 16)
        transform_16(transform, out + i);
    if (n % 16) { /* the last 16 are drawn anew, over what overlaps */
        float *last = out + n - 16;
        for (int i = 0; i < 16; i++)
            last[i] = uniform24(g);
        transform_16(transform, last);
    }
}
