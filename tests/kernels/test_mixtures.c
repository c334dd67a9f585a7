/* Functions of a device on tensors whose storage types differ, and on views that begin anywhere: every one
 * gives what the plain processor gives in f32. Breaks where a kernel takes its tensors to be stored alike, to
 * begin at a multiple of 16 bytes, or to have rows of whole packs. Operations' own tests have the formulas,
 * and tensors that are alike. */
#include "isa_devices.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TENSORS 6
#define TURNS 6 /* choices of types and beginnings */

/* A tensor of a case. */
typedef struct Part {
    int ndim;
    int64_t shape[4];
    enum { IN, OUT, ADDED } use; /* ADDED: out, and what it held counts */
    bool f32;                    /* always stored so */
} Part;

typedef struct Case {
    const char *name;
    Status (*run)(const Device *d, Tensor *const t[], void *scratch);
    size_t (*scratch)(const Device *d, Tensor *const t[]);
    Part part[TENSORS];
} Case;

static int parts_of(const Case *k)
{
    int n = 0;
    while (n < TENSORS && k->part[n].ndim)
        n++;
    return n;
}

/* The functions ----------------------------------------------------------------------------------------- */

#define RUNS(name, call)                                                                                     \
    static Status run_##name(const Device *d, Tensor *const t[], void *scratch)                              \
    {                                                                                                        \
        (void)scratch;                                                                                       \
        return d->call;                                                                                      \
    }
RUNS(copy, copy(t[0], t[1]))
RUNS(fill, fill(t[0], 0.625f))
RUNS(silu, silu(t[0], t[1]))
RUNS(gelu_backward, gelu_backward(t[0], t[1], t[2]))
RUNS(add, add(t[0], t[1], t[2]))
RUNS(geglu, geglu(t[0], t[1]))
RUNS(geglu_backward, geglu_backward(t[0], t[1], t[2]))
RUNS(add_rows, add_rows(t[0], t[1], t[2]))
RUNS(sum_rows, sum_rows(t[0], t[1]))
RUNS(sum_per_channel, sum_per_channel(t[0], t[1]))
RUNS(column_sum, column_sum(t[0], t[1], true))
RUNS(concat, concat(t[0], t[1], t[2]))
RUNS(slice_channels, slice_channels(t[0], t[0]->shape[1] - t[1]->shape[1], t[1]))
RUNS(from_nchw, from_nchw(t[0], t[1]))
RUNS(to_nchw, to_nchw(t[0], t[1]))
RUNS(timestep_embedding, timestep_embedding(t[0], true, 0, t[1]))
RUNS(mse_loss, mse_loss(t[0], t[1], t[2], t[3], t[4]))
RUNS(mse_loss_backward, mse_loss_backward(t[0], t[1], t[2], t[3], t[4]))
RUNS(kronecker, kronecker(0.5f, t[0], t[1], t[2]))
RUNS(kronecker_backward, kronecker_backward(0.5f, t[0], t[1], t[2], t[3], t[4]))

/* x, w, b, y, mean, rstd */
static Norm forward_of(Tensor *const t[], int groups)
{
    return (Norm){.groups = groups,
                  .eps = 1e-5f,
                  .silu = true,
                  .x = t[0],
                  .w = t[1],
                  .b = t[2],
                  .y = t[3],
                  .mean = t[4],
                  .rstd = t[5]};
}

static size_t group_norm_scratch(const Device *d, Tensor *const t[])
{
    size_t bytes;
    const Norm n = forward_of(t, 4);
    assert_int_equal(d->group_norm_scratch(&n, &bytes), STATUS_OK);
    return bytes;
}

static Status run_group_norm(const Device *d, Tensor *const t[], void *scratch)
{
    const Norm n = forward_of(t, 4);
    return d->group_norm(&n, scratch);
}

static Status run_layer_norm(const Device *d, Tensor *const t[], void *scratch)
{
    (void)scratch;
    const Norm n = forward_of(t, 0);
    return d->layer_norm(&n);
}

/* The cases --------------------------------------------------------------------------------------------- */

#define F(use, ...)                                                                                          \
    {                                                                                                        \
        1, {__VA_ARGS__}, use, false                                                                         \
    }
#define FF(use, ...)                                                                                         \
    {                                                                                                        \
        2, {__VA_ARGS__}, use, false                                                                         \
    }
#define FFF(use, ...)                                                                                        \
    {                                                                                                        \
        3, {__VA_ARGS__}, use, false                                                                         \
    }
#define FFFF(use, ...)                                                                                       \
    {                                                                                                        \
        4, {__VA_ARGS__}, use, false                                                                         \
    }
#define S(use, ...)                                                                                          \
    {                                                                                                        \
        1, {__VA_ARGS__}, use, true                                                                          \
    } /* stored as f32 */
#define SS(use, ...)                                                                                         \
    {                                                                                                        \
        2, {__VA_ARGS__}, use, true                                                                          \
    }
#define SSSS(use, ...)                                                                                       \
    {                                                                                                        \
        4, {__VA_ARGS__}, use, true                                                                          \
    }

#define CASE(name, ...)                                                                                      \
    {                                                                                                        \
#name, run_##name, NULL,                                                                             \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
/* Rows of whole packs, and of an odd number. */
#define OF_WIDTH(C)                                                                                          \
    CASE(copy, FF(IN, 3, C), FF(OUT, 3, C)), CASE(fill, FF(OUT, 3, C)),                                      \
        CASE(silu, FF(IN, 3, C), FF(OUT, 3, C)),                                                             \
        CASE(gelu_backward, FF(IN, 3, C), FF(IN, 3, C), FF(OUT, 3, C)),                                      \
        CASE(add, FF(IN, 3, C), FF(IN, 3, C), FF(OUT, 3, C)), CASE(geglu, FF(IN, 3, 2 * C), FF(OUT, 3, C)),  \
        CASE(geglu_backward, FF(IN, 3, 2 * C), FF(IN, 3, C), FF(OUT, 3, 2 * C)),                             \
        CASE(add_rows, FFF(IN, 2, 3, C), FF(IN, 4, C), FFF(OUT, 2, 3, C)),                                   \
        CASE(sum_rows, FFF(IN, 2, 3, C), SS(ADDED, 4, C)),                                                   \
        CASE(sum_per_channel, FFF(IN, 2, 150, C), FF(OUT, 2, C)),                                            \
        CASE(column_sum, FF(IN, 300, C), S(ADDED, C)),                                                       \
        CASE(concat, FF(IN, 5, C), FF(IN, 5, 16), FF(OUT, 5, C + 16)),                                       \
        CASE(slice_channels, FF(IN, 5, C), FF(OUT, 5, 24)),                                                  \
        CASE(from_nchw, SSSS(IN, 2, C, 9, 11), FFFF(OUT, 2, 9, 11, C)),                                      \
        CASE(to_nchw, FFFF(IN, 2, 9, 11, C), SSSS(OUT, 2, C, 9, 11)),                                        \
        CASE(timestep_embedding, S(IN, 3), FF(OUT, 3, C)),                                                   \
        CASE(mse_loss, FF(IN, 3, C), FF(IN, 3, C), S(IN, 3), S(OUT, 1), S(OUT, 3)),                          \
        CASE(mse_loss_backward, FF(IN, 3, C), FF(IN, 3, C), S(IN, 3), S(IN, 1), FF(OUT, 3, C)),              \
        CASE(kronecker, SS(IN, 3, 2), SS(IN, 5, C), SS(OUT, 15, 2 * C)),                                     \
        CASE(kronecker_backward, SS(IN, 3, 2), SS(IN, 5, C), SS(IN, 15, 2 * C), SS(ADDED, 3, 2),             \
             SS(ADDED, 5, C)),                                                                               \
        {"group_norm",                                                                                       \
         run_group_norm,                                                                                     \
         group_norm_scratch,                                                                                 \
         {FFF(IN, 2, 700, 4 * C), F(IN, 4 * C), F(IN, 4 * C), FFF(OUT, 2, 700, 4 * C), SS(OUT, 2, 4),        \
          SS(OUT, 2, 4)}},                                                                                   \
        CASE(layer_norm, FF(IN, 9, C), F(IN, C), F(IN, C), FF(OUT, 9, C), S(OUT, 9), S(OUT, 9)),             \
        CASE(layer_norm, FF(IN, 3, 30 * C), F(IN, 30 * C), F(IN, 30 * C), FF(OUT, 3, 30 * C), S(OUT, 3),     \
             S(OUT, 3)),

static const Case cases[] = {OF_WIDTH(48) OF_WIDTH(37)};

/* Running them ------------------------------------------------------------------------------------------ */

static unsigned random_below(unsigned n)
{
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* The whole that a part is a view into, and the view. */
typedef struct Placed {
    Tensor *whole, *part;
} Placed;

static int64_t count_of(const Part *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->ndim; i++)
        n *= p->shape[i];
    return n;
}

static Placed place(const Device *d, const Part *p, DType type, int64_t begin, const float *values)
{
    Placed t = {tensor_new_on(d, type, 1, (const int64_t[]){begin + count_of(p)}), NULL};
    assert_non_null(t.whole);
    t.part = tensor_view(t.whole, begin, p->ndim, p->shape);
    assert_non_null(t.part);
    assert_int_equal(tensor_put(t.part, values, DTYPE_F32), STATUS_OK);
    return t;
}

/* Runs the case on values, which are then what it left. */
static void run_case(const Device *d, const Case *k, const DType *type, const int64_t *begin, float **values)
{
    Placed t[TENSORS] = {{0}};
    Tensor *parts[TENSORS] = {0};
    const int n = parts_of(k);
    for (int i = 0; i < n; i++) {
        t[i] = place(d, &k->part[i], type[i], begin[i], values[i]);
        parts[i] = t[i].part;
    }
    const size_t bytes = k->scratch ? k->scratch(d, parts) : 0;
    void *scratch = d->memory_new(bytes + 1);
    if (k->run(d, parts, scratch) != STATUS_OK)
        fail_msg("%s, %s: %s", d->name, k->name, status_message());
    for (int i = 0; i < n; i++) {
        assert_int_equal(tensor_get(t[i].part, values[i], DTYPE_F32), STATUS_OK);
        tensor_free(t[i].part);
        tensor_free(t[i].whole);
    }
    d->memory_free(scratch, bytes + 1);
}

/* What f32 and 16 bits hold alike. */
static float **values_of(const Case *k)
{
    float **values = calloc(TENSORS, sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < parts_of(k); i++) {
        const int64_t n = count_of(&k->part[i]);
        assert_non_null(values[i] = malloc((size_t)n * sizeof **values));
        for (int64_t j = 0; j < n; j++)
            values[i][j] = (float)((int)random_below(257) - 128) / 64;
    }
    return values;
}

static float **copy_of(const Case *k, float **values)
{
    float **copy = calloc(TENSORS, sizeof *copy);
    assert_non_null(copy);
    for (int i = 0; i < parts_of(k); i++) {
        const size_t bytes = (size_t)count_of(&k->part[i]) * sizeof **values;
        assert_non_null(copy[i] = malloc(bytes));
        memcpy(copy[i], values[i], bytes);
    }
    return copy;
}

static void free_values(float **values)
{
    for (int i = 0; i < TENSORS; i++)
        free(values[i]);
    free(values);
}

static void compare(const Device *d, const Case *k, const DType *type, float **got, float **want)
{
    static const double tolerance[] = {[DTYPE_F32] = 2e-5, [DTYPE_BF16] = 6e-3, [DTYPE_F16] = 8e-4};
    for (int i = 0; i < parts_of(k); i++) {
        double largest = 1e-6;
        const int64_t n = count_of(&k->part[i]);
        for (int64_t j = 0; j < n; j++)
            largest = fmax(largest, fabs((double)want[i][j]));
        for (int64_t j = 0; j < n; j++)
            if (!(fabs((double)got[i][j] - (double)want[i][j]) <= tolerance[type[i]] * largest))
                fail_msg("%s, %s of %lld: tensor %d, %s, [%lld] is %g, should be %g", d->name, k->name,
                         (long long)count_of(&k->part[0]), i, dtype_name(type[i]), (long long)j,
                         (double)got[i][j], (double)want[i][j]);
    }
}

static void mixed_types_and_views_give_what_f32_gives(void **state)
{
    (void)state;
    Device table[ALL_DEVICES_MAX], plain;
    const int devices = all_devices(table);
    memset(&plain, 0, sizeof plain);
    cpu_table_baseline(&plain);
    plain.name = "baseline";
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int turn = 0; turn < TURNS; turn++) {
            DType f32[TENSORS] = {DTYPE_F32}, type[TENSORS] = {DTYPE_F32};
            int64_t none[TENSORS] = {0}, begin[TENSORS] = {0};
            float **values = values_of(&cases[c]), **want = copy_of(&cases[c], values);
            for (int i = 0; i < TENSORS; i++) {
                type[i] = cases[c].part[i].f32 ? DTYPE_F32 : (DType)random_below(3);
                begin[i] = turn % 2 ? 0 : (int64_t)random_below(9);
            }
            run_case(&plain, &cases[c], f32, none, want);
            for (int d = 0; d < devices; d++) {
                float **got = copy_of(&cases[c], values);
                run_case(&table[d], &cases[c], type, begin, got);
                compare(&table[d], &cases[c], type, got, want);
                free_values(got);
            }
            free_values(values);
            free_values(want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mixed_types_and_views_give_what_f32_gives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
