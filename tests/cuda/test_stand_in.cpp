/* Mistakes of kernels that the stand-ins must see: each is planted here, and its message looked at. And what
 * is right must be computed. */
#include "planted.h"

/* What is right ---------------------------------------------------------------------------------------- */

__global__ static void sums_kernel(const float *x, float *y)
{
    SHARED(float, room);
    const float s = block_sum(x[threadIdx.x], room);
    y[threadIdx.x] = s + 1000 * warp_max(x[threadIdx.x]);
}

static void test_sums(void **)
{
    float x[128], y[128];
    for (int i = 0; i < 128; i++)
        x[i] = (float)(i * 37 % 128);
    const float *from = on_device(x, 128);
    float *to = on_device<float>(NULL, 128);
    RUN(dim3(1), dim3(128), 16, sums_kernel, from, to);
    to_host(y, to, 128);
    for (int i = 0; i < 128; i++) {
        float most = 0;
        for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
            most = fmaxf(most, x[j]);
        assert_true(y[i] == 128 * 127 / 2 + 1000 * most);
    }
}

/* C (16,8) = A (16,16) B (16,8) by one warp, through shared memory. `deep`: in one step of 16, or two of 8.
 */
template <typename T> __global__ static void product_kernel(const T *a, const T *b, float *c, bool deep)
{
    SHARED(T, at);
    T *const bt = at + 256;
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4 * 2;
    copy_async_16(&at[lane * 8], &a[lane * 8], true);
    if (lane < 16)
        copy_async_16(&bt[lane * 8], &b[lane * 8], true);
    copy_async_commit();
    copy_async_wait<0>();
    __syncwarp();
    unsigned ra[4], rb[2];
    float d[4] = {0, 0, 0, 0};
    ldmatrix_x4(ra, &at[lane % 16 * 16 + lane / 16 * 8]);
    ldmatrix_x2_transposed(rb, &bt[lane % 16 * 8]);
    if (deep)
        mma_16x8x16<T>(d, ra, rb);
    else {
        mma_16x8x8<T>(d, ra, rb[0]);
        mma_16x8x8<T>(d, ra + 2, rb[1]);
    }
    c[g * 8 + t] = d[0];
    c[g * 8 + t + 1] = d[1];
    c[(g + 8) * 8 + t] = d[2];
    c[(g + 8) * 8 + t + 1] = d[3];
}

template <typename T> static void check_product(bool deep)
{
    T a[256], b[128];
    float c[128];
    for (int i = 0; i < 256; i++)
        a[i] = from_float<T>((float)(i * 7 % 15 - 7));
    for (int i = 0; i < 128; i++)
        b[i] = from_float<T>((float)(i * 5 % 13 - 6));
    const T *da = on_device(a, 256), *db = on_device(b, 128);
    float *dc = on_device<float>(NULL, 128);
    RUN(dim3(1), dim3(32), 768, product_kernel<T>, da, db, dc, deep);
    to_host(c, dc, 128);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float s = 0;
            for (int k = 0; k < 16; k++)
                s += to_float(a[m * 16 + k]) * to_float(b[k * 8 + n]);
            assert_true(c[m * 8 + n] == s);
        }
}

static void test_products(void **)
{
    check_product<f16>(true);
    check_product<f16>(false);
    check_product<bf16>(true);
    check_product<bf16>(false);
}

/* C (16,8) = A (16,8) B (8,8)^T in TF32 by one warp; rows of both lie side by side in shared memory. */
__global__ static void tf32_kernel(const float *a, const float *b, float *c, bool rounds)
{
    SHARED(float, at);
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4 * 2;
    for (int i = lane; i < 192; i += WARP)
        at[i] = i < 128 ? a[i] : b[i - 128];
    __syncwarp();
    unsigned ra[4], rb[2];
    float d[4] = {0, 0, 0, 0};
    ldmatrix_x4(ra, &at[lane % 16 * 8 + lane / 16 * 4]);
    ldmatrix_x2(rb, &at[128 + lane % 8 * 8 + lane / 8 % 2 * 4]);
    if (rounds) {
        to_operand<float>(ra);
        to_operand<float>(rb);
    }
    mma_16x8x8_tf32(d, ra, rb);
    for (int i = 0; i < 4; i++)
        c[(g + i / 2 * 8) * 8 + t + i % 2] = d[i];
}

static void run_tf32(float *a, float *b, float *c, bool rounds)
{
    for (int i = 0; i < 128; i++)
        a[i] = 1 + (float)(i * 37 % 128) * 0x1p-13f;
    for (int i = 0; i < 64; i++)
        b[i] = (float)(i * 5 % 13 - 6);
    const float *da = on_device(a, 128), *db = on_device(b, 64);
    float *dc = on_device<float>(NULL, 128);
    RUN(dim3(1), dim3(32), 768, tf32_kernel, da, db, dc, rounds);
    to_host(c, dc, 128);
}

static void test_tf32(void **)
{
    float a[128], b[64], c[128];
    run_tf32(a, b, c, true);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float s = 0;
            for (int k = 0; k < 8; k++)
                s += (1 + roundf((a[m * 8 + k] - 1) * 0x1p10f) * 0x1p-10f) * b[n * 8 + k];
            assert_true(c[m * 8 + n] == s);
        }
}

static void not_rounded()
{
    float a[128], b[64], c[128];
    run_tf32(a, b, c, false);
}
static void test_not_rounded(void **)
{
    fails_with(not_rounded, "tf32_kernel|mma_16x8x8_tf32|not rounded to TF32");
}

static void test_halves(void **)
{
    for (unsigned i = 0; i < 65536; i++) {
        const f16 h = __ushort_as_half((unsigned short)i);
        const float f = to_float(h);
        assert_true(f != f || __half_as_ushort(from_float<f16>(f)) == i);
    }
    assert_int_equal(__half_as_ushort(from_float<f16>(65519)), 0x7bff);
    assert_int_equal(__half_as_ushort(from_float<f16>(65520)), 0x7c00);
    assert_int_equal(__half_as_ushort(from_float<f16>(0x1p-25f)), 0);
    assert_int_equal(__half_as_ushort(from_float<f16>(0x1.8p-24f)), 2);
    assert_int_equal(__half_as_ushort(from_float<f16>(1 + 0x1p-11f)), 0x3c00);
    assert_int_equal(__half_as_ushort(from_float<f16>(1 + 0x3p-11f)), 0x3c02);
    assert_true(to_float(from_float<bf16>(1 + 0x1p-8f)) == 1);
    assert_true(to_float(from_float<bf16>(1 + 0x3p-8f)) == 1 + 0x4p-8f);
    assert_true(isinf(to_float(from_float<bf16>(3.4e38f))));
}

/* Barriers ---------------------------------------------------------------------------------------------- */

__global__ static void returns_early_kernel(int n)
{
    if ((int)threadIdx.x >= n)
        return;
    __syncthreads();
}
static void returns_early()
{
    RUN(dim3(2), dim3(64), 0, returns_early_kernel, 40);
}
static void test_returns_early(void **)
{
    fails_with(returns_early,
               "returns_early_kernel, block (0,0,0), thread (40,0,0)|is not reached|has returned");
}

__global__ static void two_barriers_kernel(int n)
{
    if ((int)threadIdx.x < n)
        __syncthreads();
    else
        __syncthreads();
}
static void two_barriers()
{
    RUN(dim3(1), dim3(64), 0, two_barriers_kernel, 32);
}
static void test_two_barriers(void **)
{
    fails_with(two_barriers, "two_barriers_kernel|test_stand_in.cpp|__syncthreads() here, while thread");
}

/* Warps ------------------------------------------------------------------------------------------------- */

__global__ static void half_a_warp_kernel(float *y)
{
    if (threadIdx.x % WARP < 16)
        y[threadIdx.x] = warp_sum(1.0f);
}
static void half_a_warp()
{
    RUN(dim3(1), dim3(32), 0, half_a_warp_kernel, on_device<float>(NULL, 32));
}
static void test_half_a_warp(void **)
{
    fails_with(half_a_warp,
               "half_a_warp_kernel|__shfl_xor_sync|waits for lanes ffff0000, which have returned");
}

__global__ static void shuffle_at_barrier_kernel(float *y)
{
    if (threadIdx.x < 8)
        y[threadIdx.x] = __shfl_sync(EVERY_LANE, 1.0f, 0);
    __syncthreads();
}
static void shuffle_at_barrier()
{
    RUN(dim3(1), dim3(32), 0, shuffle_at_barrier_kernel, on_device<float>(NULL, 32));
}
static void test_shuffle_at_barrier(void **)
{
    fails_with(shuffle_at_barrier, "__shfl_sync|waits for lanes ffffff00, which wait at __syncthreads()");
}

__global__ static void parted_kernel(float *y)
{
    float d[4] = {0, 0, 0, 0};
    const unsigned a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    if (threadIdx.x < 16)
        mma_16x8x16<f16>(d, a, b);
    else
        d[0] = __shfl_sync(EVERY_LANE, 1.0f, 0);
    y[threadIdx.x] = d[0];
}
static void parted()
{
    RUN(dim3(1), dim3(32), 0, parted_kernel, on_device<float>(NULL, 32));
}
static void test_parted(void **)
{
    fails_with(parted, "parted_kernel|the warp has parted|mma_16x8x16|__shfl_sync");
}

__global__ static void not_in_the_mask_kernel(float *y)
{
    y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 0);
}
static void not_in_the_mask()
{
    RUN(dim3(1), dim3(32), 0, not_in_the_mask_kernel, on_device<float>(NULL, 32));
}
static void test_not_in_the_mask(void **)
{
    fails_with(not_in_the_mask, "the mask 0000ffff is without lane");
}

__global__ static void asks_outside_kernel(float *y)
{
    if (threadIdx.x < 16)
        y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}
static void asks_outside()
{
    RUN(dim3(1), dim3(32), 0, asks_outside_kernel, on_device<float>(NULL, 32));
}
static void test_asks_outside(void **)
{
    fails_with(asks_outside, "asks lane 20 for its value, which is not in the mask 0000ffff");
}

__global__ static void part_of_a_warp_kernel(float *y)
{
    y[threadIdx.x] = warp_sum(1.0f);
}
static void part_of_a_warp()
{
    RUN(dim3(1), dim3(48), 0, part_of_a_warp_kernel, on_device<float>(NULL, 48));
}
static void test_part_of_a_warp(void **)
{
    fails_with(part_of_a_warp, "lanes that the block has not: its warp has 0000ffff");
}

/* Order ------------------------------------------------------------------------------------------------- */

enum { ROUNDS = 100 };

/* Writes down as the how manieth each thread comes, in every round before and after a meeting of its warp. */
__global__ static void turns_kernel(int *next, int *turns)
{
    for (int i = 0; i < ROUNDS; i++) {
        turns[(i * 2) * 64 + threadIdx.x] = (*next)++;
        __syncwarp();
        turns[(i * 2 + 1) * 64 + threadIdx.x] = (*next)++;
        __syncthreads();
    }
}
/* No order of warps, or of lanes, is to be relied on. */
static void test_turns(void **)
{
    static int turns[ROUNDS * 2 * 64];
    const int zero = 0;
    int warps = 0, lanes = 0, changes = 0;
    int *to = on_device<int>(NULL, ROUNDS * 2 * 64);
    RUN(dim3(1), dim3(64), 0, turns_kernel, on_device(&zero, 1), to);
    to_host(turns, to, ROUNDS * 2 * 64);
    for (int i = 0; i < ROUNDS; i++) {
        const int *before = &turns[i * 2 * 64], *after = before + 64;
        warps += before[0] < before[32];
        lanes += before[0] < before[1];
        changes += (before[0] < before[1]) != (after[0] < after[1]);
    }
    assert_in_range(warps, 10, 90);
    assert_in_range(lanes, 10, 90);
    assert_in_range(changes, 10, 90);
}

/* A barrier that is missing: of many blocks some have what the other warp writes, and some have NaN. */
__global__ static void lucky_kernel(float *y, bool wait)
{
    SHARED(float, room);
    room[threadIdx.x] = 1;
    if (wait)
        __syncthreads();
    if (threadIdx.x == 0)
        y[blockIdx.x] = room[32];
}
static int lucky(bool wait)
{
    float y[ROUNDS], *to = on_device<float>(NULL, ROUNDS);
    int right = 0;
    RUN(dim3(ROUNDS), dim3(64), 256, lucky_kernel, to, wait);
    to_host(y, to, ROUNDS);
    for (int i = 0; i < ROUNDS; i++)
        right += y[i] == 1;
    return right;
}
static void test_lucky(void **)
{
    assert_int_equal(lucky(true), ROUNDS);
    assert_in_range(lucky(false), 10, 90);
}

/* Alignment and places ---------------------------------------------------------------------------------- */

__global__ static void crooked_rows_kernel(float *y)
{
    SHARED(f16, rows);
    unsigned r[4];
    ldmatrix_x4(r, &rows[threadIdx.x * 12]);
    y[threadIdx.x] = (float)r[0];
}
static void crooked_rows()
{
    RUN(dim3(1), dim3(32), 1024, crooked_rows_kernel, on_device<float>(NULL, 32));
}
static void test_crooked_rows(void **)
{
    fails_with(crooked_rows, "crooked_rows_kernel|ldmatrix_x4|is not aligned to 16 bytes");
}

__global__ static void rows_outside_kernel(float *y)
{
    SHARED(f16, rows);
    unsigned r[2];
    ldmatrix_x2(r, &rows[threadIdx.x * 8]);
    y[threadIdx.x] = (float)r[0];
}
static void rows_outside()
{
    RUN(dim3(1), dim3(32), 256, rows_outside_kernel, on_device<float>(NULL, 32));
}
static void test_rows_outside(void **)
{
    fails_with(rows_outside, "ldmatrix_x2|is not in the block's 256 bytes of shared memory");
}

__global__ static void crooked_copy_kernel(const float *x)
{
    SHARED(float, room);
    copy_async_16(&room[threadIdx.x * 4], &x[threadIdx.x * 3], true);
}
static void crooked_copy()
{
    RUN(dim3(1), dim3(32), 512, crooked_copy_kernel, on_device<float>(NULL, 128));
}
static void test_crooked_copy(void **)
{
    fails_with(crooked_copy, "copy_async_16, where from|is not aligned to 16 bytes");
}

/* What nobody has written, or nobody has ---------------------------------------------------------------- */

__global__ static void unwritten_kernel(float *y)
{
    SHARED(float, room);
    y[threadIdx.x] = room[threadIdx.x];
}
static void test_unwritten(void **)
{
    float y[32];
    float *to = on_device<float>(NULL, 32);
    to_host(y, to, 32);
    assert_true(isnan(y[7])); /* new memory */
    RUN(dim3(1), dim3(32), 128, unwritten_kernel, to);
    to_host(y, to, 32);
    for (int i = 0; i < 32; i++)
        assert_true(isnan(y[i]));
}

/* Copies to shared memory that nobody waits for are not there. */
__global__ static void early_kernel(const float *x, float *y, int wait)
{
    SHARED(float, room);
    for (int i = 0; i < 2; i++) {
        copy_async_16(&room[(i * 32 + threadIdx.x) * 4], &x[(i * 32 + threadIdx.x) * 4], true);
        copy_async_commit();
    }
    if (wait == 1)
        copy_async_wait<1>();
    else if (wait == 0)
        copy_async_wait<0>();
    y[threadIdx.x] = room[threadIdx.x * 4];
    y[threadIdx.x + 32] = room[threadIdx.x * 4 + 128];
}
static void test_early(void **)
{
    float x[256], y[64];
    for (int i = 0; i < 256; i++)
        x[i] = (float)i;
    const float *from = on_device(x, 256);
    float *to = on_device<float>(NULL, 64);
    for (int wait = 0; wait <= 2; wait++) {
        RUN(dim3(1), dim3(32), 1024, early_kernel, from, to, wait);
        to_host(y, to, 64);
        for (int i = 0; i < 32; i++) {
            assert_true(wait <= 1 ? y[i] == x[i * 4] : isnan(y[i]));
            assert_true(wait == 0 ? y[i + 32] == x[i * 4 + 128] : isnan(y[i + 32]));
        }
    }
}

__global__ static void writes_kernel(float *y, int64_t at)
{
    if (threadIdx.x == 3)
        y[at] = 1;
}
static void past_the_end()
{
    RUN(dim3(1), dim3(32), 0, writes_kernel, on_device<float>(NULL, 64), 64);
}
static void long_freed()
{
    float *y = on_device<float>(NULL, 64);
    cudaFree(y);
    RUN(dim3(1), dim3(32), 0, writes_kernel, y, 5);
}
static void test_outside(void **)
{
    fails_with(past_the_end,
               "writes_kernel, block (0,0,0), thread (3,0,0)|byte 256 of device memory of 256 bytes");
    fails_with(long_freed, "thread (3,0,0)|byte 20 of device memory of 256 bytes, which has been freed");
}

template <typename T, int N> __global__ static void shared_outside_kernel(int at)
{
    SHARED(T, room);
    room[at + threadIdx.x] = N;
}
template <typename T> static void launch_outside()
{
    RUN(dim3(1), dim3(32), 32 * sizeof(T), (shared_outside_kernel<T, 5>), 1);
}
static void shared_outside()
{
    launch_outside<float>();
}
static void test_shared_outside(void **)
{
    fails_with(shared_outside,
               "shared_outside_kernel<float, 5>|thread (31,0,0)|byte 128 of shared memory, which has 128");
}

#if defined(__SANITIZE_ADDRESS__) /* exact ends; elsewhere they are test_watch.cpp's */
static void just_past()
{
    RUN(dim3(1), dim3(32), 0, writes_kernel, on_device<float>(NULL, 10), 10);
}
static void just_before()
{
    RUN(dim3(1), dim3(32), 0, writes_kernel, on_device<float>(NULL, 10), -1);
}
static void shared_just_past()
{
    RUN(dim3(1), dim3(1), 4, (shared_outside_kernel<float, 5>), 1);
}
__global__ static void own_outside_kernel(float *y, int at)
{
    float mine[4] = {0, 1, 2, 3};
    float *any = mine;
    __asm__("" : "+r"(any)); /* the compiler does not know what it points to */
    y[threadIdx.x] = any[at];
}
static void own_outside()
{
    RUN(dim3(1), dim3(32), 0, own_outside_kernel, on_device<float>(NULL, 32), 4);
}
static void test_exact_ends(void **)
{
    fails_with(just_past, "writes_kernel|thread (3,0,0)|byte 40 of device memory of 40 bytes");
    fails_with(just_before, "writes_kernel|thread (3,0,0)|AddressSanitizer");
    fails_with(shared_just_past, "shared_outside_kernel|byte 4 of shared memory, which has 4");
    fails_with(own_outside, "own_outside_kernel|outside of the thread's arrays");
}
#endif

static void host_reads()
{
    const volatile float *y = on_device<float>(NULL, 64);
    printf("%g\n", (double)y[3]);
}
static void test_host_reads(void **)
{
    fails_with(host_reads, "the host|touched the device's memory itself|byte 12 of device memory");
}

__global__ static void deep_kernel(float *y, int depth)
{
    volatile float much[4096];
    for (int i = 0; i < 4096; i++)
        much[i] = (float)i;
    if (depth > 0)
        deep_kernel(y, depth - 1);
    y[threadIdx.x] = much[depth];
}
static void deep()
{
    RUN(dim3(1), dim3(32), 0, deep_kernel, on_device<float>(NULL, 32), 100);
}
static void test_deep(void **)
{
    fails_with(deep, "deep_kernel|the thread's stack is full");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_tf32),
        cmocka_unit_test(test_not_rounded),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_returns_early),
        cmocka_unit_test(test_two_barriers),
        cmocka_unit_test(test_half_a_warp),
        cmocka_unit_test(test_shuffle_at_barrier),
        cmocka_unit_test(test_parted),
        cmocka_unit_test(test_not_in_the_mask),
        cmocka_unit_test(test_asks_outside),
        cmocka_unit_test(test_part_of_a_warp),
        cmocka_unit_test(test_crooked_rows),
        cmocka_unit_test(test_rows_outside),
        cmocka_unit_test(test_crooked_copy),
        cmocka_unit_test(test_unwritten),
        cmocka_unit_test(test_early),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_shared_outside),
        cmocka_unit_test(test_host_reads),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_lucky),
#if defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(test_exact_ends),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
