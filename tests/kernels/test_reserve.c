/* oneDNN without memory. Breaks if a product were begun where oneDNN has no room for its own small objects:
 * it does not look whether it got them, and the process would end in a signal. */
#include "kernels/cpu/onednn/onednn.h"

#include "kernels/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

/* Memory runs out --------------------------------------------------------------------------------------- */

/* Every block of the heap that could be had; the next one's address stands in each. */
static void *filled;
static struct rlimit before;

/* The process gets no more from the system, and no hole of the heap is left. False: this system has no such
 * limit, or memory comes from somewhere else (a sanitizer's allocator). */
static bool run_out(void)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmData: %zu", &kib) != 1)
        ;
    if (f)
        fclose(f);
    getrlimit(RLIMIT_DATA, &before);
    const struct rlimit now = {kib << 10, before.rlim_max};
    if (kib == 0 || setrlimit(RLIMIT_DATA, &now) != 0)
        return false;
    void *more = mem_pages((size_t)64 << 20);
    mem_pages_free(more, (size_t)64 << 20);
    if (more)
        return false;
    for (size_t bytes = (size_t)1 << 24; bytes >= sizeof filled; bytes /= 2)
        for (void **block; (block = malloc(bytes));) {
            *block = filled;
            filled = block;
        }
    return true;
}

static void come_back(void)
{
    for (void **block; (block = filled);) {
        filled = *block;
        free(block);
    }
    setrlimit(RLIMIT_DATA, &before);
}

/* What is computed ------------------------------------------------------------------------------------- */

enum { B = 2, SIDE = 16, C = 32, K = 64, PRODUCTS = 4 };
static float x[B * SIDE * SIDE * C], y[B * SIDE * SIDE * K], w[K * C * 9], packed[4 * K * C * 9];

/* Product i: the three of a convolution, and the packing of its weight. */
static Status compute(OnePrimitive *const p[3], int i, void *scratch)
{
    if (i == 3)
        return onednn_pack(p[0], w, DTYPE_F32, packed);
    return onednn_run(p[i], x, packed, NULL, y, scratch);
}

static void nothing_is_begun_where_there_is_no_room(void **state)
{
    (void)state;
    OnePrimitive *p[3];
    size_t most = 1;
    for (int i = 0; i < 3; i++) {
        const OneConv d = {.kind = (OneConvKind)i,
                           .b = B,
                           .h = SIDE,
                           .w = SIDE,
                           .c = C,
                           .k = K,
                           .kh = 3,
                           .kw = 3,
                           .oh = SIDE,
                           .ow = SIDE,
                           .stride = 1,
                           .pad_top = 1,
                           .pad_left = 1,
                           .pad_bottom = 1,
                           .pad_right = 1,
                           .type = DTYPE_F32};
        assert_int_equal(onednn_conv(&d, &p[i]), STATUS_OK);
        assert_true(onednn_weight_bytes(p[i]) <= sizeof packed);
        most = onednn_scratch_bytes(p[i]) > most ? onednn_scratch_bytes(p[i]) : most;
    }
    void *scratch = mem_alloc(most);
    assert_non_null(scratch);
    for (int i = 0; i < PRODUCTS; i++)
        assert_int_equal(compute(p, i, scratch), STATUS_OK);

    Status without[PRODUCTS] = {0};
    char message[PRODUCTS][128] = {0};
    const bool out = run_out();
    for (int i = 0; i < PRODUCTS && out; i++) {
        without[i] = compute(p, i, scratch);
        snprintf(message[i], sizeof message[i], "%s", status_message());
    }
    come_back();
    for (int i = 0; i < PRODUCTS && out; i++) {
        assert_int_equal(without[i], STATUS_FAILED);
        assert_string_equal(message[i], "out of memory for oneDNN");
    }
    for (int i = 0; i < PRODUCTS; i++)
        assert_int_equal(compute(p, i, scratch), STATUS_OK);
    mem_free(scratch);
    if (!out)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_begun_where_there_is_no_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
