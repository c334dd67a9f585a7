/* Textual inversion: files of both kinds, words found in prompts, and the states that come of them against
 * transformers' CLIP with the vectors in its own table (scripts/reference/prompts.py). */
#include "golden.h"

#include "infer/pipeline/told.h"
#include "infer/text/embeddings.h"
#include "tests/far/far.h"

#define CORPUS TEST_GOLDEN "/../fuzz/corpus/embedding/"

static void files_of_every_kind_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *file, *name, *token;
        int vectors;
    } FILES[] = {
        {"a1111.safetensors", "a1111", NULL, 2},
        {"a1111.pt", "a1111", NULL, 0},
        {"diffusers.safetensors", "diffusers", "<cat-toy>", 1},
        {"diffusers.bin", "diffusers", "<cat-toy>", 1},
    };
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char path[512];
        Embedding e;
        snprintf(path, sizeof path, CORPUS "%s", FILES[i].file);
        assert_ok(embedding_read(path, &e));
        assert_string_equal(e.name, FILES[i].name);
        if (FILES[i].token)
            assert_string_equal(e.token, FILES[i].token);
        else
            assert_null(e.token);
        if (FILES[i].vectors) {
            assert_int_equal(e.vectors, FILES[i].vectors);
            assert_int_equal(e.width, 16);
        }
        embedding_free(&e);
    }
}

static void refuses(const char *path, const char *says)
{
    Embedding e;
    assert_int_equal(embedding_read(path, &e), STATUS_REFUSED);
    if (!strstr(status_message(), says))
        fail_msg("`%s` does not say `%s`", status_message(), says);
}

static void what_is_none_is_refused_by_what_it_is(void **state)
{
    (void)state;
    refuses(TEST_GOLDEN "/adapters/locon.safetensors", "is no textual-inversion embedding");
    refuses(CORPUS "nowhere.pt", "nowhere.pt");
    float values[1024] = {0};
    const Embedding e = {.name = "cat", .vectors = 1, .width = 1024, .values = values};
    assert_int_equal(embedding_check(&e, 768, 1280), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "vectors for one text encoder, the model has two"));
    assert_int_equal(embedding_check(&e, 768, 0), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "made for Stable Diffusion 2.x"));
    assert_non_null(strstr(status_message(), "takes 768, as Stable Diffusion 1.x"));
    assert_ok(embedding_check(&e, 1024, 0));
}

/* SDXL's files have vectors for each of its text encoders. */
static void a_file_of_sdxl_has_two_vectors_for_a_word(void **state)
{
    (void)state;
    Tokenizer *t;
    PromptChunks c;
    EmbeddingSet set = {0};
    assert_ok(tokenizer_builtin(&t));
    assert_ok(embeddings_add(&set, CORPUS "sdxl.safetensors"));
    const Embedding *e = &set.items[0];
    assert_true(e->width > 0 && e->width_2 > 0 && e->vectors > 0);
    assert_int_equal(embedding_check(e, e->width, 0), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "made for SDXL"));
    assert_int_equal(embedding_check(e, e->width, e->width_2 + 1), STATUS_REFUSED);
    assert_ok(embedding_check(e, e->width, e->width_2));
    for (int second = 0; second < 2; second++) {
        set.second = second;
        assert_ok(prompt_chunks(t, &set, (PromptReading){PROMPT_PLAIN, false}, "a sdxl", 77, &c));
        assert_null(c.vectors[1]);
        assert_ptr_equal(c.vectors[2], second ? e->values_2 : e->values);
        prompt_chunks_free(&c);
    }
    embeddings_free(&set);
    tokenizer_free(t);
}

/* 74 tokens, then two vectors: both go into the next chunk. */
static void an_embedding_is_never_split(void **state)
{
    (void)state;
    Tokenizer *t;
    PromptChunks c;
    char text[1024] = "";
    EmbeddingSet set = {0};
    assert_ok(tokenizer_builtin(&t));
    assert_ok(embeddings_add(&set, CORPUS "a1111.safetensors"));
    mem_free(set.items[0].name);
    set.items[0].name = mem_strdup("toy");
    for (int i = 0; i < 74; i++)
        strcat(text, "a ");
    strcat(text, "toy b");
    for (int syntax = PROMPT_PLAIN; syntax <= PROMPT_A1111; syntax++) {
        assert_ok(prompt_chunks(t, &set, (PromptReading){(PromptSyntax)syntax, true}, text, 77, &c));
        assert_int_equal(c.count, 2);
        assert_int_equal(c.tokens, 77);
        assert_null(c.vectors[75]);
        assert_ptr_equal(c.vectors[77 + 1], set.items[0].values);
        assert_ptr_equal(c.vectors[77 + 2], set.items[0].values + 16);
        assert_null(c.vectors[77 + 3]);
        prompt_chunks_free(&c);
    }
    set.width = 768;
    assert_int_equal(prompt_chunks(t, &set, (PromptReading){PROMPT_PLAIN, true}, "toy", 77, &c),
                     STATUS_REFUSED);
    assert_ok(prompt_chunks(t, &set, (PromptReading){PROMPT_PLAIN, true}, "cat", 77, &c));
    prompt_chunks_free(&c);
    set.width = 0;
    assert_ok(prompt_chunks(t, &set, (PromptReading){PROMPT_COMFY, true}, "a embedding:toy, b", 77, &c));
    assert_ptr_equal(c.vectors[2], set.items[0].values);
    assert_int_equal(c.tokens, 5);
    prompt_chunks_free(&c);
    assert_int_equal(prompt_chunks(t, &set, (PromptReading){PROMPT_COMFY, true}, "embedding:cat", 77, &c),
                     STATUS_REFUSED);
    embeddings_free(&set);
    tokenizer_free(t);
}

static void states_are_those_of_the_vectors_in_the_table(void **state)
{
    (void)state;
    Model *m;
    Stages *stages;
    Prompts *prompts;
    Told *t;
    EmbeddingSet set = {0};
    TensorFile *file = golden_open("prompts.safetensors");
    const TensorEntry *e = golden(file, "sd1.embedding");
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &m));
    Ctx *c = ctx_new(test_device(), &(CtxOptions){.threads = 2});
    assert_non_null(c);
    assert_ok(stages_new(c, m, &stages));
    assert_ok(prompts_new(m, stages, &prompts));
    assert_ok(embeddings_add(&set, CORPUS "a1111.safetensors"));
    mem_free(set.items[0].name);
    set.items[0].name = mem_strdup("toy");
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.prompt = "a toy heart, (toy:1.3) toy";
    r.guidance = 1;
    r.reading = (PromptReading){PROMPT_A1111, true};
    r.embeddings = &set;
    assert_ok(told_read(prompts, &r, (Size){0}, 20, &t));
    float *text = mem_calloc((size_t)tensor_entry_count(e), sizeof *text);
    assert_non_null(text);
    assert_ok(told_encode(t));
    told_at(t, 0, text);
    assert_close("embedding", text, e, MODULE_TOLERANCE);
    told_free(t);
    /* other vectors under the same name give other states: what is kept is known by them */
    set.items[0].values[0] += 4;
    assert_ok(told_read(prompts, &r, (Size){0}, 20, &t));
    float *other = mem_calloc((size_t)tensor_entry_count(e), sizeof *other);
    assert_non_null(other);
    assert_ok(told_encode(t));
    told_at(t, 0, other);
    assert_true(largest_error(other, text, tensor_entry_count(e)) > 1e-3);
    told_free(t);
    mem_free(other);
    mem_free(text);
    embeddings_free(&set);
    prompts_free(prompts);
    stages_free(stages);
    ctx_free(c);
    model_free(m);
    tensorfile_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_every_kind_are_read),
        cmocka_unit_test(what_is_none_is_refused_by_what_it_is),
        cmocka_unit_test(a_file_of_sdxl_has_two_vectors_for_a_word),
        cmocka_unit_test(an_embedding_is_never_split),
        cmocka_unit_test(states_are_those_of_the_vectors_in_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
