/* Every optimizer of the table against PyTorch's steps (tests/golden/ops.safetensors; bitsandbytes':
 * adamw8bit.safetensors), on every instruction set. Breaks if one came without its steps there, took others,
 * kept a block that has no name, or were not offered where a configuration's words are. */
#include "infer/files/tensor_file.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/state8.h"
#include "tests/kernels/isa_devices.h"
#include "train/config/schema.h"
#include "train/optimizers/optimizers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 37
#define STEPS 5

/* Those of scripts/reference/ops.py. */
static const OptimizerSettings settings = {.weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
#define RATE 3e-3

static TensorFile *golden, *golden8;

/* "NAME.PART" of the golden file. */
static Tensor *golden_tensor(const Optimizer *o, const char *part)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", o->name, part);
    const TensorEntry *e = tensorfile_find(o->codes ? golden8 : golden, name);
    if (!e)
        fail_msg("ops.safetensors has no %s: add PyTorch's steps to scripts/reference/ops.py", name);
    assert_int_equal(e->bytes, N * sizeof(float));
    Tensor *t = tensor_new(DTYPE_F32, 1, (const int64_t[]){N});
    assert_non_null(t);
    memcpy(t->data, e->data, e->bytes);
    return t;
}

/* Each value within 1e-6 of itself and 1e-7 of the largest: a few roundings. */
static void check_close(const Tensor *got, const Optimizer *o, const char *part, const char *isa)
{
    Tensor *want = golden_tensor(o, part);
    double largest = 0;
    for (int64_t i = 0; i < N; i++)
        largest = fmax(largest, fabs(tensor_at(want, i)));
    for (int64_t i = 0; i < N; i++) {
        const double x = tensor_at(got, i), y = tensor_at(want, i);
        if (!(fabs(x - y) <= 1e-6 * fabs(y) + 1e-7 * largest))
            fail_msg("%s, %s.%s[%lld] is %.9g, PyTorch has %.9g", isa, o->name, part, (long long)i, x, y);
    }
    tensor_free(want);
}

/* What is kept of N numbers: f32, whichever way. */
static Tensor *state_of(const Optimizer *o)
{
    const int64_t n = N, bytes = state8_room(N);
    Tensor *t = o->codes ? tensor_new(DTYPE_U8, 1, &bytes) : tensor_new(DTYPE_F32, 1, &n);
    assert_non_null(t);
    return t;
}

/* Five steps; the golden gradients count half, as if they had been scaled by two. */
static void take_steps(const Device *d, const Optimizer *o)
{
    const Segment whole = {0, N, 0};
    Tensor *w = golden_tensor(o, "before"), *states[UPDATE_STATES] = {0};
    for (int i = 0; i < optimizer_states(o); i++)
        states[i] = state_of(o);
    Update u = {.segments = &whole, .count = 1, .rates = {RATE}, .unscale = 0.5};
    o->set(&settings, &u);
    for (u.step = 1; u.step <= STEPS; u.step++) {
        char part[32];
        StepNumbers numbers = {0};
        snprintf(part, sizeof part, "grad%d", (int)u.step);
        Tensor *g = golden_tensor(o, part);
        assert_int_equal(d->update(&u, w, g, states[0], states[1], NULL, &numbers, NULL), STATUS_OK);
        snprintf(part, sizeof part, "after%d", (int)u.step);
        check_close(w, o, part, d->name);
        tensor_free(g);
    }
    for (int i = 0; i < optimizer_states(o); i++) {
        Tensor *floats = tensor_over(states[i]->data, DTYPE_F32, 1, w->shape);
        assert_non_null(floats);
        check_close(floats, o, o->states[i], d->name);
        tensor_free(floats);
        tensor_free(states[i]);
    }
    tensor_free(w);
}

static void every_optimizer_takes_pytorchs_steps(void **state)
{
    (void)state;
    Device table[ISA_DEVICES_MAX];
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/ops.safetensors", &golden), STATUS_OK);
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/adamw8bit.safetensors", &golden8), STATUS_OK);
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int i = 0; optimizer_at(i); i++)
            take_steps(&table[d], optimizer_at(i));
    tensorfile_close(golden);
    tensorfile_close(golden8);
}

/* Codes ------------------------------------------------------------------------------------------------- */

#define LARGE 4500

static const void *large(const char *part, size_t bytes)
{
    char name[32];
    snprintf(name, sizeof name, "large.%s", part);
    const TensorEntry *e = tensorfile_find(golden8, name);
    assert_non_null(e);
    assert_int_equal(e->bytes, bytes);
    return e->data;
}

/* A number that lies halfway between two codes, but for a rounding, gets either, and its weight goes by
 * another share of the rate from then on: at most so many. */
static void check_weights(const Tensor *w, const char *part, int others)
{
    const char *want = large(part, LARGE * sizeof(float));
    for (int i = 0; i < LARGE; i++) {
        float x;
        memcpy(&x, want + sizeof x * (size_t)i, sizeof x);
        const double away = fabs(tensor_at(w, i) - (double)x);
        others -= away > 2e-6;
        assert_true(away <= RATE);
    }
    assert_true(others >= 0);
}

/* The map is bitsandbytes', and so are the codes, but for those of numbers that lie halfway. */
static void check_codes(const Tensor *state, const char *name, bool with_sign)
{
    float map[STATE8_CODES], theirs[STATE8_CODES];
    char part[16];
    int others = 0;
    snprintf(part, sizeof part, "%s_map", name);
    memcpy(theirs, large(part, sizeof theirs), sizeof theirs);
    state8_map(with_sign, map);
    for (int i = 0; i < STATE8_CODES; i++)
        assert_true(fabsf(map[i] - theirs[i]) <= 2e-7f * fabsf(theirs[i]));
    const uint8_t *got = state->data, *want = large(name, LARGE);
    for (int i = 0; i < LARGE; i++) {
        others += got[i] != want[i];
        assert_true(abs(got[i] - want[i]) <= 2);
    }
    assert_true(others <= LARGE / 200);
    snprintf(part, sizeof part, "%s_most", name);
    const size_t blocks = (LARGE + STATE8_BLOCK - 1) / STATE8_BLOCK;
    const char *most = large(part, blocks * sizeof(float));
    for (size_t i = 0; i < blocks; i++) {
        float x, y;
        memcpy(&x, got + state8_aligned(LARGE) + i * sizeof x, sizeof x);
        memcpy(&y, most + i * sizeof y, sizeof y);
        assert_true(fabsf(x - y) <= 1e-5f * y);
    }
}

/* Weights and gradients by the formulas of scripts/reference/adamw8bit.py. */
static void codes_are_those_of_bitsandbytes(void **state)
{
    (void)state;
    Device table[ISA_DEVICES_MAX];
    const Segment whole = {0, LARGE, 0};
    const int64_t n = LARGE, bytes = state8_room(LARGE);
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/adamw8bit.safetensors", &golden8), STATUS_OK);
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Tensor *w = tensor_new(DTYPE_F32, 1, &n), *g = tensor_new(DTYPE_F32, 1, &n);
        Tensor *m = tensor_new(DTYPE_U8, 1, &bytes), *v = tensor_new(DTYPE_U8, 1, &bytes);
        assert_true(w && g && m && v);
        for (int i = 0; i < LARGE; i++)
            tensor_set_at(w, i, (i * 7919 % 2003 - 1001) / 1024.0);
        Update u = {.segments = &whole, .count = 1, .rates = {RATE}, .unscale = 1};
        optimizer_adamw8bit.set(&settings, &u);
        for (u.step = 1; u.step <= STEPS; u.step++) {
            StepNumbers numbers = {0};
            for (int i = 0; i < LARGE; i++)
                tensor_set_at(g, i,
                              (i * (4001 + 2 * u.step) % 1999 - 999) / 1024.0 * pow(2, (double)u.step - 4));
            assert_int_equal(table[d].update(&u, w, g, m, v, NULL, &numbers, NULL), STATUS_OK);
            if (u.step == 1)
                check_weights(w, "after1", 0);
        }
        check_weights(w, "after5", LARGE / 80);
        check_codes(m, "m", true);
        check_codes(v, "v", false);
        tensor_free(w);
        tensor_free(g);
        tensor_free(m);
        tensor_free(v);
    }
    tensorfile_close(golden8);
}

/* The word at the same place in the schema, a sentence in its help, a line in the reference page. */
static void every_optimizer_can_be_asked_for_and_is_explained(void **state)
{
    (void)state;
    int count, kinds = 0;
    const SchemaKey *k = &schema_keys(&count)[schema_find("optimizer.kind")];
    char word[SCHEMA_NAME], *page;
    assert_int_equal(file_read(ATELIER_SOURCE_DIR "/docs/configuration.md", 1 << 20, &page, &(size_t){0}),
                     STATUS_OK);
    for (; optimizer_at(kinds); kinds++) {
        const Optimizer *o = optimizer_at(kinds);
        assert_true(schema_choice(k->choices, kinds, word));
        assert_string_equal(word, o->name);
        char *sentence = mem_printf("%s: ", o->name), *made = o->describe(&settings);
        assert_non_null(strstr(k->more, sentence));
        assert_non_null(strstr(page, sentence));
        assert_non_null(strstr(made, "0.1"));
        for (int i = 0; i < optimizer_states(o); i++)
            for (int j = 0; j < i; j++)
                assert_string_not_equal(o->states[i], o->states[j]);
        mem_free(sentence);
        mem_free(made);
    }
    assert_false(schema_choice(k->choices, kinds, word));
    mem_free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_optimizer_takes_pytorchs_steps),
        cmocka_unit_test(codes_are_those_of_bitsandbytes),
        cmocka_unit_test(every_optimizer_can_be_asked_for_and_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
