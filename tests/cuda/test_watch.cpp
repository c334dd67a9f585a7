/* Mistakes of kernels that are seen where they are compiled with -fsanitize=thread, as this file is: races,
 * and accesses a little outside of what there is. */
#include "planted.h"

/* Races of a block ------------------------------------------------------------------------------------- */

__global__ static void no_barrier_kernel(float *y, int wait)
{
    SHARED(float, room);
    room[threadIdx.x] = (float)threadIdx.x;
    if (wait == 2)
        __syncthreads();
    else if (wait == 1)
        __syncwarp();
    y[blockIdx.x * blockDim.x + threadIdx.x] = room[blockDim.x - 1 - threadIdx.x];
}
static void no_barrier()
{
    RUN(dim3(1), dim3(64), 256, no_barrier_kernel, on_device<float>(NULL, 64), 0);
}
static void warp_is_too_little()
{
    RUN(dim3(1), dim3(64), 256, no_barrier_kernel, on_device<float>(NULL, 64), 1);
}
static void test_no_barrier(void **)
{
    fails_with(no_barrier,
               "no_barrier_kernel, block (0,0,0), thread (|race on byte|of shared memory|cuda/test_watch.cpp:"
               "|(no_barrier_kernel)|nothing orders the two");
    fails_with(warp_is_too_little, "race on byte|of shared memory");
    RUN(dim3(3), dim3(64), 256, no_barrier_kernel, on_device<float>(NULL, 192), 2);
    RUN(dim3(1), dim3(32), 256, no_barrier_kernel, on_device<float>(NULL, 32), 1); /* one warp */
}

/* What is read again and again is written over: the barrier at the end of the loop is missing, or not. */
__global__ static void loop_kernel(float *y, bool wait)
{
    SHARED(float, room);
    float s = 0;
    for (int i = 0; i < 4; i++) {
        room[threadIdx.x] = (float)i;
        __syncthreads();
        s += room[(threadIdx.x + 32) % 64];
        if (wait)
            __syncthreads();
    }
    y[blockIdx.x * 64 + threadIdx.x] = s;
}
static void loop()
{
    RUN(dim3(1), dim3(64), 256, loop_kernel, on_device<float>(NULL, 64), false);
}
static void test_loop(void **)
{
    fails_with(loop, "loop_kernel|race on byte|(loop_kernel)");
    RUN(dim3(2), dim3(64), 256, loop_kernel, on_device<float>(NULL, 128), true);
}

/* Lanes of a warp need __syncwarp() too; of some lanes, where only these exchange. A shuffle is none. */
__global__ static void lanes_kernel(float *all, int how)
{
    float *y = &all[blockIdx.x * blockDim.x];
    SHARED(float, room);
    const int lane = threadIdx.x % WARP;
    room[threadIdx.x] = (float)lane;
    if (how == 0)
        y[threadIdx.x] = __shfl_xor_sync(EVERY_LANE, 1.0f, 1);
    else if (how == 1)
        __syncwarp();
    else
        __syncwarp(lane < 16 ? 0x0000ffffu : 0xffff0000u);
    y[threadIdx.x] = room[how == 3 ? threadIdx.x ^ 16 : threadIdx.x ^ 1];
}
static void only_a_shuffle()
{
    RUN(dim3(1), dim3(32), 128, lanes_kernel, on_device<float>(NULL, 32), 0);
}
static void other_half()
{
    RUN(dim3(1), dim3(32), 128, lanes_kernel, on_device<float>(NULL, 32), 3);
}
static void test_lanes(void **)
{
    fails_with(only_a_shuffle, "lanes_kernel|race on byte");
    fails_with(other_half, "lanes_kernel|race on byte");
    RUN(dim3(2), dim3(64), 256, lanes_kernel, on_device<float>(NULL, 128), 1);
    RUN(dim3(2), dim3(64), 256, lanes_kernel, on_device<float>(NULL, 128), 2);
}

/* Neighbouring halves are not the same memory; the two halves of a register are. */
__global__ static void halves_kernel(f16 *y, bool both)
{
    SHARED(f16, room);
    room[threadIdx.x] = from_float<f16>((float)threadIdx.x);
    if (both)
        *(unsigned *)&room[threadIdx.x / 2 * 2] = 0;
    __syncthreads();
    y[threadIdx.x] = room[threadIdx.x ^ 1];
}
static void both_halves()
{
    RUN(dim3(1), dim3(64), 256, halves_kernel, on_device<f16>(NULL, 64), true);
}
static void test_halves(void **)
{
    fails_with(both_halves, "halves_kernel|race on byte");
    RUN(dim3(1), dim3(64), 256, halves_kernel, on_device<f16>(NULL, 64), false);
}

/* Whatever sizes the two accesses have, and those before them had: 16 bytes or 2 of them. */
enum { WRITES_ALL = 1, READS_ALL = 2, PARTED = 4, NEIGHBOUR = 8, WAITS = 16 };
__global__ static void sizes_kernel(float *y, int how)
{
    SHARED(f16, room);
    if (how & PARTED) {
        if (threadIdx.x < 8)
            room[threadIdx.x] = from_float<f16>(0);
        __syncthreads();
    }
    if (threadIdx.x == 0 && how & WRITES_ALL)
        *(float4 *)room = make_float4(0, 0, 0, 0);
    else if (threadIdx.x == 0)
        room[5] = from_float<f16>(1);
    if (how & WAITS)
        __syncthreads();
    if (threadIdx.x == 32 && how & READS_ALL) {
        const float4 all = *(const float4 *)room;
        y[0] = all.x + all.y + all.z + all.w;
    } else if (threadIdx.x == 32)
        y[0] = to_float(room[how & NEIGHBOUR ? 4 : 5]);
}
static int sizes;
static void of_sizes()
{
    RUN(dim3(1), dim3(64), 16, sizes_kernel, on_device<float>(NULL, 1), sizes);
}
static void test_sizes(void **)
{
    for (sizes = 0; sizes < 2 * WAITS; sizes++)
        if (sizes & WAITS || (sizes & NEIGHBOUR && !(sizes & (READS_ALL | WRITES_ALL))))
            of_sizes();
        else
            fails_with(of_sizes, "sizes_kernel|race on byte");
}

/* Twins take part: ldmatrix reads, copies behind the arithmetic write, when they are begun and when they are
 * waited for. */
__global__ static void staged_kernel(const f16 *x, float *y, int how)
{
    SHARED(f16, room);
    const int lane = threadIdx.x;
    unsigned r[4];
    for (int i = 0; i < 2; i++) {
        copy_async_16(&room[lane * 8], &x[lane * 8], true);
        copy_async_commit();
        copy_async_wait<0>();
        if (how != 0)
            __syncwarp();
        ldmatrix_x4(r, &room[(lane ^ 1) * 8]);
        if (how != 1)
            __syncwarp();
    }
    y[lane] = (float)r[0];
}
static void reads_too_early()
{
    RUN(dim3(1), dim3(32), 512, staged_kernel, on_device<f16>(NULL, 256), on_device<float>(NULL, 32), 0);
}
static void writes_too_early()
{
    RUN(dim3(1), dim3(32), 512, staged_kernel, on_device<f16>(NULL, 256), on_device<float>(NULL, 32), 1);
}
static void test_staged(void **)
{
    fails_with(reads_too_early, "staged_kernel|race on byte");
    fails_with(writes_too_early, "staged_kernel|race on byte|this thread writes it|read it");
    RUN(dim3(1), dim3(32), 512, staged_kernel, on_device<f16>(NULL, 256), on_device<float>(NULL, 32), 2);
}

/* Races of blocks --------------------------------------------------------------------------------------- */

__global__ static void same_place_kernel(float *y)
{
    y[threadIdx.x] = (float)blockIdx.x;
}
static void same_place()
{
    RUN(dim3(2), dim3(32), 0, same_place_kernel, on_device<float>(NULL, 32));
}
__global__ static void neighbours_kernel(float *y)
{
    y[blockIdx.x * 32 + threadIdx.x] = 1;
    if (blockIdx.x > 0)
        y[blockIdx.x * 32 + threadIdx.x] += y[blockIdx.x * 32 - 32 + threadIdx.x];
}
static void neighbours()
{
    RUN(dim3(2), dim3(32), 0, neighbours_kernel, on_device<float>(NULL, 64));
}
/* Blocks read what a later one writes. */
__global__ static void in_place_kernel(float *y)
{
    const int i = blockIdx.x * 32 + threadIdx.x;
    const float next = y[(i + 32) % 64];
    y[i] = next;
}
static void in_place()
{
    RUN(dim3(2), dim3(32), 0, in_place_kernel, on_device<float>(NULL, 64));
}
static void test_blocks(void **)
{
    fails_with(
        same_place,
        "same_place_kernel, block (1,0,0)|race on byte|device memory of 128 bytes|block (0,0,0), thread (");
    fails_with(neighbours, "neighbours_kernel, block (1,0,0)|this thread reads it|block (0,0,0)|wrote");
    fails_with(in_place, "in_place_kernel, block (1,0,0)|race on byte|block (0,0,0)|(in_place_kernel)");
    float *y = on_device<float>(NULL, 64);
    RUN(dim3(1), dim3(32), 0, same_place_kernel, y);
    RUN(dim3(1), dim3(32), 0, same_place_kernel, y); /* another launch */
}

/* The last block adds up what the others have left; who that is an atomic counter tells. */
__global__ static void last_block_kernel(float *parts, unsigned *count, float *y, bool counted)
{
    parts[blockIdx.x] = 1;
    __threadfence();
    const unsigned before = counted ? atomicAdd(count, 1u) : blockIdx.x;
    if (before == gridDim.x - 1) {
        float s = 0;
        for (unsigned i = 0; i < gridDim.x; i++)
            s += parts[i];
        *y = s;
    }
}
static void not_counted()
{
    const unsigned zero = 0;
    RUN(dim3(8), dim3(1), 0, last_block_kernel, on_device<float>(NULL, 8), on_device(&zero, 1),
        on_device<float>(NULL, 1), false);
}
static void test_last_block(void **)
{
    const unsigned zero = 0;
    float s, *y = on_device<float>(NULL, 1);
    fails_with(not_counted, "last_block_kernel, block (7,0,0)|race on byte|block (0,0,0)");
    RUN(dim3(8), dim3(1), 0, last_block_kernel, on_device<float>(NULL, 8), on_device(&zero, 1), y, true);
    to_host(&s, y, 1);
    assert_true(s == 8);
}

/* Outside, and crooked ---------------------------------------------------------------------------------- */

__global__ static void reads_kernel(const float *x, float *y, int64_t at)
{
    y[threadIdx.x] = x[at];
}
static void just_past()
{
    /* the block's memory goes on to a multiple of 256 bytes */
    RUN(dim3(1), dim3(1), 0, reads_kernel, on_device<float>(NULL, 10), on_device<float>(NULL, 1), 10);
}
static void just_before()
{
    RUN(dim3(1), dim3(1), 0, reads_kernel, on_device<float>(NULL, 10), on_device<float>(NULL, 1), -1);
}
__global__ static void shared_kernel(float *y, int at)
{
    SHARED(float, room);
    y[threadIdx.x] = room[at];
}
static void shared_before()
{
    RUN(dim3(1), dim3(1), 16, shared_kernel, on_device<float>(NULL, 1), -1);
}
static void shared_past()
{
    RUN(dim3(1), dim3(1), 4, shared_kernel, on_device<float>(NULL, 1), 1);
}
static void test_outside(void **)
{
    fails_with(just_past, "reads 4 bytes|test_watch.cpp|byte 40 of device memory of 40 bytes");
    fails_with(just_before, "reads 4 bytes|test_watch.cpp");
    fails_with(shared_before, "reads 4 bytes|test_watch.cpp|byte -4 of shared memory, which has 16");
    fails_with(shared_past, "reads 4 bytes|byte 4 of shared memory, which has 4");
}

static void of_the_host()
{
    static float x[4];
    float *heap = (float *)calloc(4, sizeof *heap);
    RUN(dim3(1), dim3(1), 0, reads_kernel, x, on_device<float>(NULL, 1),
        0); /* the program's own tables are code */
    RUN(dim3(1), dim3(1), 0, reads_kernel, heap, on_device<float>(NULL, 1), 0);
}
static void test_of_the_host(void **)
{
    float x[4] = {1, 2, 3, 4}, *pinned, *y = on_device<float>(NULL, 1);
    fails_with(of_the_host, "reads_kernel|reads 4 bytes|the host's memory, which is not pinned");
    assert_int_equal(cudaMallocHost((void **)&pinned, sizeof x), cudaSuccess);
    memcpy(pinned, x, sizeof x);
    RUN(dim3(1), dim3(1), 0, reads_kernel, pinned, y, 2);
    to_host(x, y, 1);
    assert_true(x[0] == 3);
}

__global__ static void crooked_kernel(const float *x, float4 *y)
{
    y[threadIdx.x] = *(const float4 *)&x[threadIdx.x * 4 + 1];
}
static void crooked()
{
    RUN(dim3(1), dim3(4), 0, crooked_kernel, on_device<float>(NULL, 32), on_device<float4>(NULL, 4));
}
static void test_crooked(void **)
{
    fails_with(crooked, "crooked_kernel|reads 16 bytes at|test_watch.cpp|is not aligned");
}

/* Banks and sectors ------------------------------------------------------------------------------------- */

/* Rows of `width` floats: lanes read down a column. */
__global__ static void column_kernel(const float *x, float *y, int width)
{
    SHARED(float, room);
    for (int i = threadIdx.x; i < 32 * width; i += 32)
        room[i] = x[i];
    __syncwarp();
    y[threadIdx.x * width] = room[threadIdx.x * width];
}
/* 16 bytes a lane: row after row of 64 bytes conflicts, in a row it does not. */
__global__ static void wide_kernel(float4 *y, int apart)
{
    SHARED(float4, room);
    room[threadIdx.x * apart % 128] = make_float4(0, 0, 0, 0);
    __syncwarp();
    y[threadIdx.x] = room[threadIdx.x * apart % 128];
}
__global__ static void matrix_kernel(float *y, int width)
{
    SHARED(f16, room);
    unsigned r[4];
    ldmatrix_x4(r, &room[threadIdx.x * width]);
    y[threadIdx.x] = (float)r[0];
}

/* What the report says of one run, in a process of its own. */
static void reported(void (*what)(), char *text, size_t size)
{
    char file[] = "/tmp/stand_in_report_XXXXXX";
    const int fd = mkstemp(file);
    int status;
    assert_true(fd >= 0);
    const pid_t child = fork();
    if (child == 0) {
        setenv("ATELIER_STAND_IN_REPORT", file, 1);
        what();
        exit(0);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    const ssize_t n = read(fd, text, size - 1);
    text[n > 0 ? n : 0] = 0;
    close(fd);
    unlink(file);
}
static void reports(void (*what)(), const char *words)
{
    char text[8192], word[256];
    reported(what, text, sizeof text);
    if (getenv("ATELIER_TEST_VERBOSE"))
        fprintf(stderr, "%s", text);
    for (const char *at = words; *at;) {
        const size_t length = strcspn(at, "|");
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        if (!strstr(text, word))
            fail_msg("the report has no %s: %s", word, text);
        at += length + (at[length] != 0);
    }
}
static void column_32()
{
    RUN(dim3(1), dim3(32), 32 * 32 * 4, column_kernel, on_device<float>(NULL, 1024),
        on_device<float>(NULL, 1024), 32);
}
static void column_33()
{
    RUN(dim3(1), dim3(32), 32 * 33 * 4, column_kernel, on_device<float>(NULL, 1056),
        on_device<float>(NULL, 1056), 33);
}
static void wide_1()
{
    RUN(dim3(1), dim3(32), 2048, wide_kernel, on_device<float4>(NULL, 32), 1);
}
static void wide_4()
{
    RUN(dim3(1), dim3(32), 2048, wide_kernel, on_device<float4>(NULL, 32), 4);
}
static void matrix_64()
{
    RUN(dim3(1), dim3(32), 32 * 64 * 2, matrix_kernel, on_device<float>(NULL, 32), 64);
}
static void matrix_72()
{
    RUN(dim3(1), dim3(32), 32 * 72 * 2, matrix_kernel, on_device<float>(NULL, 32), 72);
}
static void test_banks(void **)
{
    reports(column_32,
            "\"kernel\":\"column_kernel\",\"launches\":1,\"grid\":[1,1,1],\"block\":[32,1,1]|"
            "\"shared_loads\":{\"mean\":32.000,\"worst\":32},\"shared_stores\":{\"mean\":1.000,\"worst\":1}|"
            "(column_kernel)\",\"what\":\"shared load\",\"bytes\":4,\"times\":1|"
            "\"what\":\"device store\",\"bytes\":4,\"times\":1,\"sectors_of_needed\":8.000");
    reports(column_33, "\"shared_loads\":{\"mean\":1.000,\"worst\":1}");
    reports(wide_1,
            "\"shared_loads\":{\"mean\":1.000,\"worst\":1},\"shared_stores\":{\"mean\":1.000,\"worst\":1}|"
            "\"sectors_of_needed\":1.000,\"places\":[]");
    reports(wide_4,
            "\"shared_loads\":{\"mean\":4.000,\"worst\":4},\"shared_stores\":{\"mean\":4.000,\"worst\":4}");
    reports(matrix_64, "\"shared_loads\":{\"mean\":8.000,\"worst\":8}");
    reports(matrix_72, "\"shared_loads\":{\"mean\":1.000,\"worst\":1}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_barrier), cmocka_unit_test(test_loop),    cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_halves),     cmocka_unit_test(test_staged),  cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_last_block), cmocka_unit_test(test_outside), cmocka_unit_test(test_of_the_host),
        cmocka_unit_test(test_crooked),    cmocka_unit_test(test_banks),   cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
