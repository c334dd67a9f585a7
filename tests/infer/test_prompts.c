/* Prompts as A1111 and ComfyUI read them, against tests/golden/prompts.json (scripts/reference/prompts.py):
 * weights, schedules, chunks; and the states that come of them, against transformers' CLIP and numpy. */
#include "golden.h"

#include "infer/pipeline/told.h"
#include "infer/text/chunks.h"
#include "infer/text/schedule.h"
#include "kernels/base/json.h"
#include "tests/far/far.h"

static json_t *read_golden(void)
{
    json_error_t error;
    json_t *json = json_load_file(TEST_GOLDEN "/prompts.json", 0, &error);
    if (!json)
        fail_msg("prompts.json: %s", error.text);
    return json;
}

static const char *text_of(const json_t *item, const char *key)
{
    const char *text = json_string_value(json_object_get(item, key));
    assert_non_null(text);
    return text;
}

static int int_of(const json_t *item, const char *key)
{
    return (int)json_integer_value(json_object_get(item, key));
}

/* Weights ------------------------------------------------------------------------------------------------ */

static void compare_runs(const json_t *item, PromptSyntax syntax)
{
    const char *text = text_of(item, "text");
    const json_t *want = json_object_get(item, "runs");
    PromptRuns runs;
    assert_ok(prompt_runs(syntax, text, &runs));
    if (runs.count != (int)json_array_size(want))
        fail_msg("`%s` has %d parts, not %zu", text, runs.count, json_array_size(want));
    for (int i = 0; i < runs.count; i++) {
        const json_t *run = json_array_get(want, (size_t)i);
        const double weight = json_number_value(json_array_get(run, 1));
        const char *words = json_string_value(json_array_get(run, 0));
        if (strcmp(runs.items[i].text, words) != 0)
            fail_msg("`%s`, part %d: `%s`, not `%s`", text, i, runs.items[i].text, words);
        if (!(fabs(runs.items[i].weight - weight) <= 1e-12 * fabs(weight)))
            fail_msg("`%s`: `%s` weighs %.17g, not %.17g", text, words, runs.items[i].weight, weight);
    }
    prompt_runs_free(&runs);
}

static void weights_are_those_of_each_program(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        PromptSyntax syntax;
    } PROGRAMS[] = {{"a1111", PROMPT_A1111}, {"comfy", PROMPT_COMFY}};
    json_t *golden = read_golden();
    for (int p = 0; p < 2; p++) {
        const json_t *list = json_object_get(golden, PROGRAMS[p].key);
        assert_true(json_array_size(list) > 100);
        for (size_t i = 0; i < json_array_size(list); i++)
            compare_runs(json_array_get(list, i), PROGRAMS[p].syntax);
    }
    json_decref(golden);
}

static void what_is_no_weight_is_refused_or_text(void **state)
{
    (void)state;
    PromptRuns runs;
    assert_int_equal(prompt_runs(PROMPT_A1111, "a (b:1.2.3) c", &runs), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "1.2.3"));
    prompt_runs_free(&runs);
    char deep[601];
    memset(deep, '(', 300);
    memset(deep + 300, ')', 300);
    deep[600] = 0;
    assert_int_equal(prompt_runs(PROMPT_COMFY, deep, &runs), STATUS_REFUSED);
    prompt_runs_free(&runs);
    assert_ok(prompt_runs(PROMPT_PLAIN, "a (b:1.2) [c]", &runs));
    assert_string_equal(runs.items[0].text, "a (b:1.2) [c]");
    prompt_runs_free(&runs);
}

/* Schedules ---------------------------------------------------------------------------------------------- */

static void schedules_are_a1111s(void **state)
{
    (void)state;
    json_t *golden = read_golden();
    const json_t *list = json_object_get(golden, "schedules");
    assert_true(json_array_size(list) > 100);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *want = json_object_get(item, "parts");
        const char *text = text_of(item, "text");
        PromptSchedule s;
        assert_ok(prompt_schedule(text, int_of(item, "steps"), 0, &s));
        if (s.count != (int)json_array_size(want))
            fail_msg("`%s` has %d parts, not %zu", text, s.count, json_array_size(want));
        for (int k = 0; k < s.count; k++) {
            const json_t *part = json_array_get(want, (size_t)k);
            assert_int_equal(s.items[k].end, json_integer_value(json_array_get(part, 0)));
            if (strcmp(s.items[k].text, json_string_value(json_array_get(part, 1))) != 0)
                fail_msg("`%s` up to step %d: `%s`, not `%s`", text, s.items[k].end, s.items[k].text,
                         json_string_value(json_array_get(part, 1)));
        }
        prompt_schedule_free(&s);
    }
    json_decref(golden);
}

/* A1111's own examples of its hires fix, ten steps after ten. */
static void a_second_pass_goes_on_from_the_first(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int count, end;
        const char *first, *last;
    } CASES[] = {{"a [b:.5] c", 1, 10, "a b c", "a b c"},
                 {"a [b:1.5] c", 2, 5, "a  c", "a b c"},
                 {"a [b:15] c", 2, 5, "a  c", "a b c"},
                 {"a [b:5] c", 1, 10, "a b c", "a b c"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        PromptSchedule s;
        assert_ok(prompt_schedule(CASES[i].text, 10, 10, &s));
        assert_int_equal(s.count, CASES[i].count);
        assert_int_equal(s.items[0].end, CASES[i].end);
        assert_string_equal(s.items[0].text, CASES[i].first);
        assert_string_equal(s.items[s.count - 1].text, CASES[i].last);
        prompt_schedule_free(&s);
    }
}

static void a_schedule_of_a_million_brackets_is_read_at_once(void **state)
{
    (void)state;
    static const char *const SIGNS[] = {"[", "(", "[a:", "(a:", "[a|", "[a:b:"};
    for (int i = 0; i < 6; i++) {
        const size_t n = strlen(SIGNS[i]), count = 200000;
        char *text = malloc(n * count + 1);
        assert_non_null(text);
        for (size_t k = 0; k < count; k++)
            memcpy(text + k * n, SIGNS[i], n);
        text[n * count] = 0;
        PromptSchedule s;
        assert_ok(prompt_schedule(text, 20, 0, &s));
        assert_int_equal(s.count, 1);
        assert_string_equal(s.items[0].text, text);
        prompt_schedule_free(&s);
        free(text);
    }
}

/* Chunks ------------------------------------------------------------------------------------------------- */

static void compare_chunks(const Tokenizer *t, const json_t *item)
{
    const char *text = text_of(item, "text"), *syntax = text_of(item, "syntax");
    const json_t *ids = json_object_get(item, "ids"), *weights = json_object_get(item, "weights");
    PromptChunks c;
    assert_ok(prompt_chunks(t, NULL, (PromptReading){prompt_syntax_of(syntax), true}, text, 77, &c));
    if (c.count != (int)json_array_size(ids))
        fail_msg("%s: `%s` has %d chunks, not %zu", syntax, text, c.count, json_array_size(ids));
    for (int i = 0; i < c.count * 77; i++) {
        const json_t *row = json_array_get(ids, (size_t)i / 77), *w = json_array_get(weights, (size_t)i / 77);
        if (c.ids[i] != json_integer_value(json_array_get(row, (size_t)i % 77)))
            fail_msg("%s: `%s`, chunk %d, token %d: %d", syntax, text, i / 77, i % 77, (int)c.ids[i]);
        if (c.weights[i] != (float)json_number_value(json_array_get(w, (size_t)i % 77)))
            fail_msg("%s: `%s`, chunk %d, token %d weighs %g", syntax, text, i / 77, i % 77,
                     (double)c.weights[i]);
    }
    prompt_chunks_free(&c);
}

static void chunks_end_where_each_program_ends_them(void **state)
{
    (void)state;
    json_t *golden = read_golden();
    const json_t *list = json_object_get(golden, "chunks");
    assert_true(json_array_size(list) > 50);
    for (int k = 1; k <= 2; k++) {
        char kind[8], path[512];
        Model *m;
        snprintf(kind, sizeof kind, "sd%d", k);
        snprintf(path, sizeof path, TEST_GOLDEN "/models/%s", kind);
        assert_ok(model_load(path, MODEL_ALL, DTYPE_F32, &m));
        for (size_t i = 0; i < json_array_size(list); i++)
            if (!strcmp(text_of(json_array_get(list, i), "model"), kind))
                compare_chunks(m->tokenizer, json_array_get(list, i));
        model_free(m);
    }
    json_decref(golden);
}

static void what_does_not_go_into_one_chunk_is_cut(void **state)
{
    (void)state;
    Tokenizer *t;
    PromptChunks c;
    char text[1024] = "";
    for (int i = 0; i < 100; i++)
        strcat(text, "a ");
    assert_ok(tokenizer_builtin(&t));
    assert_ok(prompt_chunks(t, NULL, (PromptReading){PROMPT_PLAIN, false}, text, 77, &c));
    assert_int_equal(c.count, 1);
    assert_int_equal(c.tokens, 100);
    int32_t ids[77];
    assert_ok(tokenizer_encode_padded(t, text, 77, ids, NULL));
    assert_memory_equal(ids, c.ids, sizeof ids);
    prompt_chunks_free(&c);
    tokenizer_free(t);
}

/* States ------------------------------------------------------------------------------------------------- */

typedef struct Fixture {
    Model *m;
    Ctx *c;
    Stages *stages;
    Prompts *prompts;
} Fixture;

static void fixture_open(Fixture *f, const char *kind)
{
    char path[512];
    snprintf(path, sizeof path, TEST_GOLDEN "/models/%s", kind);
    assert_ok(model_load(path, MODEL_ALL, DTYPE_F32, &f->m));
    f->c = ctx_new(test_device(), &(CtxOptions){.threads = 2});
    assert_non_null(f->c);
    assert_ok(stages_new(f->c, f->m, &f->stages));
    assert_ok(prompts_new(f->m, f->stages, &f->prompts));
}

static void fixture_close(Fixture *f)
{
    prompts_free(f->prompts);
    stages_free(f->stages);
    ctx_free(f->c);
    model_free(f->m);
}

static SampleRequest request_of(const json_t *item)
{
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.prompt = text_of(item, "text");
    r.guidance = 1;
    r.clip_skip = int_of(item, "clip_skip");
    r.reading = (PromptReading){prompt_syntax_of(text_of(item, "syntax")), true};
    return r;
}

static void compare_states(Fixture *f, const TensorFile *golden_file, const json_t *item)
{
    const SampleRequest r = request_of(item);
    Told *t;
    assert_ok(told_read(f->prompts, &r, (Size){0}, int_of(item, "steps"), &t));
    const ConditioningShape shape = told_shape(t);
    const TensorEntry *e = golden(golden_file, "%s", text_of(item, "key"));
    assert_int_equal(conditioning_size(&shape, 1), tensor_entry_count(e));
    float *text = mem_calloc((size_t)conditioning_size(&shape, 1), sizeof *text);
    assert_non_null(text);
    assert_ok(told_encode(t));
    for (int i = 0; i <= int_of(item, "step"); i++)
        told_at(t, i, text);
    assert_close(text_of(item, "key"), text, e, MODULE_TOLERANCE);
    mem_free(text);
    told_free(t);
}

static void states_are_those_of_each_program(void **state)
{
    (void)state;
    json_t *golden_list = read_golden();
    TensorFile *file = golden_open("prompts.safetensors");
    const json_t *list = json_object_get(golden_list, "states");
    for (int k = 1; k <= 2; k++) {
        char kind[8];
        Fixture f;
        snprintf(kind, sizeof kind, "sd%d", k);
        fixture_open(&f, kind);
        for (size_t i = 0; i < json_array_size(list); i++)
            if (!strcmp(text_of(json_array_get(list, i), "model"), kind))
                compare_states(&f, file, json_array_get(list, i));
        fixture_close(&f);
    }
    tensorfile_close(file);
    json_decref(golden_list);
}

/* Two chunks beside three: both six, the first three times and the second twice. */
static void prompts_of_unequal_length_are_repeated(void **state)
{
    (void)state;
    Fixture f;
    Told *t;
    fixture_open(&f, "sd1");
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.prompt = "a BREAK b BREAK c";
    r.negative = "d BREAK e";
    r.reading = (PromptReading){PROMPT_A1111, true};
    assert_ok(told_read(f.prompts, &r, (Size){0}, 20, &t));
    const ConditioningShape shape = told_shape(t);
    assert_int_equal(shape.tokens, 6 * 77);
    const size_t n = (size_t)77 * (size_t)shape.width;
    float *text = mem_calloc((size_t)conditioning_size(&shape, 2), sizeof *text);
    assert_non_null(text);
    assert_ok(told_encode(t));
    told_at(t, 0, text);
    assert_memory_equal(text, text + 2 * n, 2 * n * sizeof *text);
    assert_memory_equal(text + 6 * n, text + 9 * n, 3 * n * sizeof *text);
    assert_memory_not_equal(text, text + n, n * sizeof *text);
    mem_free(text);
    told_free(t);
    r.prompt = "a cat AND a dog";
    assert_int_equal(told_read(f.prompts, &r, (Size){0}, 20, &t), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "AND"));
    fixture_close(&f);
}

static void each_program_reads_prompts_its_own_way(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        PromptSyntax prompts;
        int clip_skip_none;
    } ROWS[] = {{"diffusers", PROMPT_PLAIN, 0}, {"a1111", PROMPT_A1111, 1}, {"comfy", PROMPT_COMFY, 1}};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        const Compat *c = compat_find(ROWS[i].name);
        assert_non_null(c);
        assert_int_equal(c->prompts, ROWS[i].prompts);
        assert_int_equal(c->clip_skip_none, ROWS[i].clip_skip_none);
        assert_ptr_equal(compat_of(c), c);
    }
    assert_ptr_equal(compat_of(NULL), compat_find(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_program_reads_prompts_its_own_way),
        cmocka_unit_test(weights_are_those_of_each_program),
        cmocka_unit_test(what_is_no_weight_is_refused_or_text),
        cmocka_unit_test(schedules_are_a1111s),
        cmocka_unit_test(a_second_pass_goes_on_from_the_first),
        cmocka_unit_test(a_schedule_of_a_million_brackets_is_read_at_once),
        cmocka_unit_test(chunks_end_where_each_program_ends_them),
        cmocka_unit_test(what_does_not_go_into_one_chunk_is_cut),
        cmocka_unit_test(states_are_those_of_each_program),
        cmocka_unit_test(prompts_of_unequal_length_are_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
