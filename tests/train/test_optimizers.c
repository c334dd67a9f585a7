/* Every optimizer of the table against PyTorch's steps (tests/golden/ops.safetensors), on every instruction
 * set. Breaks if one came without its steps there, took others, kept a block that has no name, or were not
 * offered where a configuration's words are. */
#include "infer/files/tensor_file.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
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

static TensorFile *golden;

/* "NAME.PART" of the golden file. */
static Tensor *golden_tensor(const Optimizer *o, const char *part)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", o->name, part);
    const TensorEntry *e = tensorfile_find(golden, name);
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

/* Five steps; the golden gradients count half, as if they had been scaled by two. */
static void take_steps(const Device *d, const Optimizer *o)
{
    const Segment whole = {0, N, 0};
    Tensor *w = golden_tensor(o, "before"), *states[UPDATE_STATES] = {0};
    for (int i = 0; i < optimizer_states(o); i++)
        states[i] = tensor_new(DTYPE_F32, 1, w->shape);
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
        check_close(states[i], o, o->states[i], d->name);
        tensor_free(states[i]);
    }
    tensor_free(w);
}

static void every_optimizer_takes_pytorchs_steps(void **state)
{
    (void)state;
    Device table[ISA_DEVICES_MAX];
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/ops.safetensors", &golden), STATUS_OK);
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int i = 0; optimizer_at(i); i++)
            take_steps(&table[d], optimizer_at(i));
    tensorfile_close(golden);
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
        cmocka_unit_test(every_optimizer_can_be_asked_for_and_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
