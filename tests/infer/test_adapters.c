/* Adapter files onto models: every kind and every spelling of the keys, against diffusers' latents with the
 * same adapter (scripts/reference/lora.py, adapters.py), and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/adapters/adapters.h"
#include "infer/adapters/keys.h"
#include "infer/adapters/tucker.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/adapter.h"
#include "kernels/base/mem.h"
#include "tests/far/far.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LORA_GOLDEN TEST_GOLDEN "/lora/"
#define ADAPTER_GOLDEN TEST_GOLDEN "/adapters/"

static Model *open_model(void)
{
    Model *m;
    if (model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &m) != STATUS_OK)
        fail_msg("%s", status_message());
    return m;
}

static int count_adapters(Model *m)
{
    int n = 0;
    const LayerSet *sets[] = {unet_layers(m->unet), clip_layers(m->clip)};
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < sets[s]->count; i++)
            for (const Adapter *a = sets[s]->items[i]->adapters; a; a = a->next)
                n++;
    return n;
}

/* Names ---------------------------------------------------------------------------------------- */

static void every_spelling_of_a_key_is_read(void **state)
{
    (void)state;
    enum {
        TENSOR = ADAPTER_KEY_TENSOR,
        ALPHA = ADAPTER_KEY_ALPHA,
        OTHER = ADAPTER_KEY_OTHER,
        LENGTHS = ADAPTER_KEY_MAGNITUDE
    };
    static const struct {
        const char *key, *module;
        int type;
        const AdapterKind *kind;
        int role;
        AdapterSpelling spelling;
    } cases[] = {
        {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
         "lora_unet_mid_block_attentions_0_proj_in", TENSOR, &adapter_lora, LORA_DOWN, SPELLED_KOHYA},
        {"lora_te_text_model_encoder_layers_3_mlp_fc1.lora_up.weight",
         "lora_te_text_model_encoder_layers_3_mlp_fc1", TENSOR, &adapter_lora, LORA_UP, SPELLED_KOHYA},
        {"lora_te1_text_model_encoder_layers_3_mlp_fc1.lora_up.weight",
         "lora_te1_text_model_encoder_layers_3_mlp_fc1", TENSOR, &adapter_lora, LORA_UP, SPELLED_KOHYA},
        {"text_encoder_2.text_model.encoder.layers.3.mlp.fc1.lora_A.weight",
         "lora_te2_text_model_encoder_layers_3_mlp_fc1", TENSOR, &adapter_lora, LORA_DOWN, SPELLED_PEFT},
        {"text_encoder_2.encoder.layers.3.mlp.fc1.lora_linear_layer.down.weight",
         "lora_te2_text_model_encoder_layers_3_mlp_fc1", TENSOR, &adapter_lora, LORA_DOWN, SPELLED_DIFFUSERS},
        {"lora_unet_x.alpha", "lora_unet_x", ALPHA, NULL, 0, SPELLED_KOHYA},
        {"unet.mid_block.attentions.0.proj_in.lora_A.weight", "lora_unet_mid_block_attentions_0_proj_in",
         TENSOR, &adapter_lora, LORA_DOWN, SPELLED_PEFT},
        {"base_model.model.mid_block.attentions.0.proj_in.lora_B.weight",
         "lora_unet_mid_block_attentions_0_proj_in", TENSOR, &adapter_lora, LORA_UP, SPELLED_PEFT},
        {"base_model.model.unet.a.b.lora_A.default.weight", "lora_unet_a_b", TENSOR, &adapter_lora, LORA_DOWN,
         SPELLED_PEFT},
        {"unet.a.attn1.to_q.lora.down.weight", "lora_unet_a_attn1_to_q", TENSOR, &adapter_lora, LORA_DOWN,
         SPELLED_DIFFUSERS},
        {"unet.a.attn1.processor.to_out_lora.up.weight", "lora_unet_a_attn1_to_out_0", TENSOR, &adapter_lora,
         LORA_UP, SPELLED_DIFFUSERS},
        {"unet.a.attn2.processor.to_k_lora.down.weight", "lora_unet_a_attn2_to_k", TENSOR, &adapter_lora,
         LORA_DOWN, SPELLED_DIFFUSERS},
        {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight",
         "lora_te_text_model_encoder_layers_0_self_attn_q_proj", TENSOR, &adapter_lora, LORA_UP,
         SPELLED_DIFFUSERS},
        {"text_encoder.encoder.layers.0.mlp.fc2.lora_A.weight", "lora_te_text_model_encoder_layers_0_mlp_fc2",
         TENSOR, &adapter_lora, LORA_DOWN, SPELLED_PEFT},
        {"unet.a.to_q.alpha", "lora_unet_a_to_q", ALPHA, NULL, 0, SPELLED_PEFT},
        {"lora_unet_x.hada_w1_a", "lora_unet_x", TENSOR, &adapter_loha, LOHA_W1_A, SPELLED_KOHYA},
        {"base_model.model.a.to_q.hada_w2_b.default", "lora_unet_a_to_q", TENSOR, &adapter_loha, LOHA_W2_B,
         SPELLED_PEFT},
        {"lora_unet_x.lokr_w1", "lora_unet_x", TENSOR, &adapter_lokr, LOKR_W1, SPELLED_KOHYA},
        {"lora_unet_x.lokr_w1_a", "lora_unet_x", TENSOR, &adapter_lokr, LOKR_W1_A, SPELLED_KOHYA},
        {"lora_unet_x.hada_t1", "lora_unet_x", TENSOR, &adapter_loha, LOHA_T1, SPELLED_KOHYA},
        {"lora_unet_x.lokr_t2", "lora_unet_x", TENSOR, &adapter_lokr, LOKR_T2, SPELLED_KOHYA},
        {"lora_unet_x.lora_mid.weight", "lora_unet_x", TENSOR, &adapter_lora, LORA_MID, SPELLED_KOHYA},
        {"lora_unet_x.dora_scale", "lora_unet_x", LENGTHS, NULL, 0, SPELLED_KOHYA},
        {"unet.a.to_q.lora_magnitude_vector", "lora_unet_a_to_q", LENGTHS, NULL, 0, SPELLED_PEFT},
        {"unet.a.to_q.lora_magnitude_vector.default.weight", "lora_unet_a_to_q", LENGTHS, NULL, 0,
         SPELLED_PEFT},
        {"lora_unet_x.oft_blocks", "", OTHER, NULL, 0, SPELLED_KOHYA},
        {"lora_unet_x.diff", "", OTHER, NULL, 0, SPELLED_KOHYA},
        {"conv_in.weight", "", ADAPTER_KEY_UNKNOWN, NULL, 0, SPELLED_KOHYA},
        {".alpha", "", ADAPTER_KEY_UNKNOWN, NULL, 0, SPELLED_KOHYA},
        {"", "", ADAPTER_KEY_UNKNOWN, NULL, 0, SPELLED_KOHYA},
    };
    AdapterKey k;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adapter_key_parse(cases[i].key, &k);
        if ((int)k.type != cases[i].type || strcmp(k.module, cases[i].module) != 0 ||
            k.kind != cases[i].kind || k.role != cases[i].role || k.spelling != cases[i].spelling)
            fail_msg("%s: type %d, module `%s`, role %d, spelling %d", cases[i].key, (int)k.type, k.module,
                     k.role, (int)k.spelling);
    }
    char longest[600];
    memset(longest, 'a', sizeof longest);
    memcpy(longest + sizeof longest - 7, ".alpha", 7);
    adapter_key_parse(longest, &k);
    assert_int_equal(k.type, ADAPTER_KEY_UNKNOWN);
}

/* A kind without names in kohya's and PEFT's files, or one that is written and not read, fails here. */
static void what_is_written_of_every_kind_is_read(void **state)
{
    (void)state;
#define KIND(name) &adapter_##name,
    static const AdapterKind *const KINDS[] = {ATL_ADAPTERS(KIND)};
    static const struct {
        PartId part;
        const char *name;
    } LAYERS[] = {{PART_UNET, "down_blocks.0.resnets.0.conv1"},
                  {PART_TEXT, "text_model.encoder.layers.0.mlp.fc1"}};
    Model *m = open_model();
    AdapterKey k;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        for (int s = SPELLED_KOHYA; s <= SPELLED_PEFT; s++)
            for (int p = 0; p < 2; p++)
                for (int r = 0; r < ADAPTER_TENSORS && KINDS[i]->roles[r]; r++) {
                    const AdapterLayer layer = {m, LAYERS[p].part, LAYERS[p].name};
                    char module[ADAPTER_NAMES][ADAPTER_MODULE_SIZE];
                    int names;
                    char *key = adapter_key((AdapterSpelling)s, &layer, KINDS[i], r);
                    if (!key)
                        fail_msg("%s", status_message());
                    adapter_key_parse(key, &k);
                    assert_int_equal(adapter_modules(&layer, module, &names), STATUS_OK);
                    assert_int_equal(names, 1);
                    if (k.type != ADAPTER_KEY_TENSOR || k.kind != KINDS[i] || k.role != r ||
                        (int)k.spelling != s || k.part != LAYERS[p].part || strcmp(k.module, module[0]) != 0)
                        fail_msg("`%s` is read as something else", key);
                    mem_free(key);
                }
    const AdapterLayer x = {m, PART_UNET, "x"};
    assert_null(adapter_key(SPELLED_DIFFUSERS, &x, &adapter_loha, LOHA_W1_A));
    assert_string_equal(status_message(), "diffusers's files have no name for a LoHa's w1_a");
    assert_null(adapter_alpha_key(SPELLED_PEFT, &x));
    model_free(m);
}

static void targets_are_the_layers_that_others_train(void **state)
{
    (void)state;
    Model *m = open_model();
    Layer **layers;
    int count;
    char name[ADAPTER_NAMES][ADAPTER_MODULE_SIZE];
    int names;
    /* 4 transformers (down 1, mid 1, up 2) of two attentions with four layers each */
    assert_int_equal(lora_unet_layers(m, LORA_ATTENTION, &layers, &count), STATUS_OK);
    assert_int_equal(count, 4 * 8);
    mem_free(layers);
    assert_int_equal(lora_unet_layers(m, LORA_ATTENTION_MLP, &layers, &count), STATUS_OK);
    assert_int_equal(count, 4 * 12);
    assert_int_equal(adapter_modules(&(AdapterLayer){m, PART_UNET, layers[0]->name}, name, &names),
                     STATUS_OK);
    assert_string_equal(name[0], "lora_unet_down_blocks_0_attentions_0_proj_in");
    mem_free(layers);
    assert_int_equal(lora_text_layers(m, PART_TEXT, &layers, &count), STATUS_OK);
    assert_int_equal(count, 3 * 6);
    assert_int_equal(adapter_modules(&(AdapterLayer){m, PART_TEXT, layers[0]->name}, name, &names),
                     STATUS_OK);
    assert_memory_equal(name[0], "lora_te_text_model_encoder_layers_0_", 36);
    mem_free(layers);
    model_free(m);
}

/* Against diffusers ---------------------------------------------------------------------------- */

static SampleResult sample(Model *m)
{
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    SampleResult result;
    Pipeline *p;
    r.prompt = "a red heart";
    r.negative = "blue";
    r.seed = 11;
    Ctx *c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_int_equal(pipeline_new(c, m, &p), STATUS_OK);
    if (pipeline_sample(p, &r, NULL, NULL, &result) != STATUS_OK)
        fail_msg("%s", status_message());
    pipeline_free(p);
    ctx_free(c);
    return result;
}

static void compare_with(const char *file, const SampleResult *r, const char *key)
{
    TensorFile *golden;
    assert_int_equal(tensorfile_open(file, &golden), STATUS_OK);
    const TensorEntry *e = tensorfile_find(golden, key);
    const float *ours = r->latents->data;
    double worst = 0, largest = 0;
    assert_int_equal(e->bytes, tensor_bytes(r->latents));
    for (size_t i = 0; i < e->bytes / 4; i++) {
        float theirs;
        memcpy(&theirs, (const char *)e->data + 4 * i, 4);
        worst = fmax(worst, fabs((double)ours[i] - (double)theirs));
        largest = fmax(largest, fabs((double)theirs));
    }
    print_message("%s: %.2g\n", key, worst / largest);
    assert_true(worst <= 1e-3 * largest);
    tensorfile_close(golden);
}

static void compare(const SampleResult *r, const char *key)
{
    compare_with(LORA_GOLDEN "latents.safetensors", r, key);
}

static void files_of_all_kinds_give_diffusers_latents(void **state)
{
    (void)state;
    static const char *const FILES[] = {"kohya", "peft", "diffusers"};
    Model *m = open_model();
    SampleResult r = sample(m);
    compare(&r, "plain");
    sample_result_free(&r);
    for (int i = 0; i < (test_device_slow() ? 1 : 3); i++) {
        char path[512];
        LoraFile *f;
        snprintf(path, sizeof path, "%s%s.safetensors", LORA_GOLDEN, FILES[i]);
        if (lora_attach(m, path, 0.75f, &f) != STATUS_OK)
            fail_msg("%s", status_message());
        assert_int_equal(count_adapters(m), 4 * 12 + 3 * 6);
        r = sample(m);
        compare(&r, "latents");
        sample_result_free(&r);
        lora_detach(f);
        assert_int_equal(count_adapters(m), 0);
    }
    r = sample(m); /* detached: as before */
    compare(&r, "plain");
    sample_result_free(&r);
    model_free(m);
}

/* peft's folders, whose alpha stands beside the tensors; convolutions; LoHa and LoKr. */
static void every_kind_gives_the_latents_of_peft_and_lycoris(void **state)
{
    (void)state;
    static const struct {
        const char *name, *file;
        int layers;
    } CASES[] = {
        {"peft", "peft", 4 * 4},
        {"peft", "peft/adapter_model.safetensors", 4 * 4},
        {"peft-loha", "peft-loha", 4 * 2},
        {"locon", "locon.safetensors", 8},
        {"loha", "loha.safetensors", 8},
        {"lokr", "lokr.safetensors", 8},
        {"locon-tucker", "locon-tucker.safetensors", 8},
        {"loha-tucker", "loha-tucker.safetensors", 8},
        {"lokr-tucker", "lokr-tucker.safetensors", 8},
        {"peft-dora", "peft-dora", 4 + 1 + 1},
        {"locon-dora", "locon-dora.safetensors", 8},
        {"loha-dora", "loha-dora.safetensors", 8},
        {"lokr-dora", "lokr-dora.safetensors", 8},
    };
    Model *m = open_model();
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char path[512];
        LoraFile *f;
        snprintf(path, sizeof path, "%s%s", ADAPTER_GOLDEN, CASES[i].file);
        if (lora_attach(m, path, 0.75f, &f) != STATUS_OK)
            fail_msg("%s", status_message());
        assert_int_equal(count_adapters(m), CASES[i].layers);
        SampleResult r = sample(m);
        compare_with(ADAPTER_GOLDEN "latents.safetensors", &r, CASES[i].name);
        sample_result_free(&r);
        lora_detach(f);
    }
    model_free(m);
}

/* Where the device's memory is not the host's: all of them in the device's. */
static void check_places(const Layer *l, const Device *dev)
{
    const Device *home = dev->host_memory ? NULL : dev;
    const Adapter *a = l->adapters;
    assert_non_null(a->weight_factor);
    assert_ptr_equal(l->weight->home, home);
    assert_ptr_equal(a->weight_factor->home, home);
    assert_ptr_equal(a->delta_factor->home, home);
    for (int k = 0; k < ADAPTER_TENSORS; k++)
        if (a->tensors[k])
            assert_ptr_equal(a->tensors[k]->home, home);
}

/* A GPU keeps a frozen convolution in its own order alone, and the weight in the host's memory; but DoRA adds
 * a part of the weight, so that has to lie where the device reads it, also where it was placed without. */
static void what_dora_multiplies_is_where_the_device_reads_it(void **state)
{
    (void)state;
    enum { PLACED = 1, HALF = 2, QUANTISED = 4, ALL = 8 };
    const Device *dev = test_device();
    for (int how = 0; how < ALL; how++) {
        const ModelRequest r = {.name = TEST_GOLDEN "/models/sd1",
                                .parts = MODEL_UNET,
                                .dtype = how & HALF ? DTYPE_F16 : DTYPE_F32,
                                .quantised = how & QUANTISED ? MODEL_UNET : 0};
        Model *m;
        LoraFile *f;
        int convolutions = 0;
        assert_int_equal(model_open(&r, &m), STATUS_OK);
        assert_int_equal(how & PLACED ? model_place(m, dev) : STATUS_OK, STATUS_OK);
        assert_int_equal(lora_attach(m, ADAPTER_GOLDEN "locon-dora.safetensors", 1, &f), STATUS_OK);
        assert_int_equal(model_place(m, dev), STATUS_OK);
        const LayerSet *set = unet_layers(m->unet);
        for (int i = 0; i < set->count; i++)
            if (set->items[i]->adapters) {
                check_places(set->items[i], dev);
                convolutions += set->items[i]->weight->ndim == 4;
            }
        assert_true(convolutions >= 3);
        lora_detach(f);
        model_free(m);
    }
}

static void two_halves_make_a_whole(void **state)
{
    (void)state;
    Model *m = open_model();
    LoraFile *a, *b;
    assert_int_equal(lora_attach(m, LORA_GOLDEN "kohya.safetensors", 0.5f, &a), STATUS_OK);
    assert_int_equal(lora_attach(m, LORA_GOLDEN "peft.safetensors", 0.25f, &b), STATUS_OK);
    assert_int_equal(count_adapters(m), 2 * (4 * 12 + 3 * 6));
    SampleResult r = sample(m);
    compare(&r, "latents");
    sample_result_free(&r);
    lora_detach(a); /* in the order of attaching: the list closes around it */
    assert_int_equal(count_adapters(m), 4 * 12 + 3 * 6);
    lora_detach(b);
    assert_int_equal(count_adapters(m), 0);
    lora_detach(NULL);
    model_free(m);
}

/* What is refused ------------------------------------------------------------------------------ */

#define Q "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
typedef struct Item {
    const char *name;
    int ndim;
    int64_t shape[4];
} Item;

/* A file of ones with these tensors; attaches it and gives the status. */
static Status attach_items(Model *m, const Item *list, int count, const char *metadata, LoraFile **f)
{
    char path[] = "/tmp/atelier-lora-XXXXXX";
    SafeItem items[8];
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int i = 0; i < count; i++) {
        Tensor *t = tensor_new(DTYPE_F32, list[i].ndim, list[i].shape);
        for (int64_t k = 0; k < tensor_count(t); k++)
            tensor_set_at(t, k, 1);
        items[i] = (SafeItem){.name = list[i].name, .tensor = t, .dtype = DTYPE_F32, .ndim = -1};
    }
    const TensorMeta meta = {"lora_adapter_metadata", metadata};
    assert_int_equal(safetensors_write(path, items, count, &meta, metadata ? 1 : 0), STATUS_OK);
    const Status s = lora_attach(m, path, 1, f);
    for (int i = 0; i < count; i++)
        tensor_free((Tensor *)items[i].tensor);
    unlink(path);
    return s;
}

static void wrong_files_are_refused_by_key_and_leave_the_model_alone(void **state)
{
    (void)state;
    const struct {
        Item items[3];
        int count;
        const char *says;
        bool wrong; /* another model's, or none */
    } cases[] = {
        {{{Q ".lora_down.weight", 2, {2, 16}},
          {Q ".lora_up.weight", 2, {16, 2}},
          {"lora_unet_nowhere.alpha", 0, {0}}},
         3,
         "`lora_unet_nowhere.alpha`: the model has no such layer",
         true},
        {{{"a.weight", 1, {1}}, {"b.weight", 1, {1}}},
         2,
         "is not a LoRA: no key names a low-rank pair (`a.weight`, …)",
         true},
        {{{"lora_unet_nowhere.alpha", 0, {0}}, {"lora_unet_neither.alpha", 0, {0}}},
         2,
         "and 1 other key)",
         true},
        {{{Q ".oft_blocks", 2, {16, 1}}}, 1, "OFT is not supported", true},
        {{{Q ".dora_scale", 2, {16, 1}}}, 1, "dora_scale` is there, but nothing else", false},
        {{{Q ".lora_down.weight", 2, {2, 16}},
          {Q ".lora_up.weight", 2, {16, 2}},
          {Q ".dora_scale", 2, {15, 1}}},
         3,
         "the lengths (15,1) f32 do not fit",
         false},
        {{{Q ".lora_down.weight", 2, {2, 16}},
          {Q ".lora_up.weight", 2, {16, 2}},
          {Q ".lora_mid.weight", 2, {2, 3}}},
         3,
         "the middle part",
         false},

        {{{Q ".hada_w1_a", 2, {16, 2}}}, 1, "hada_w1_a`: there is no w1_b part", false},
        {{{Q ".lokr_w1", 2, {2, 2}}, {Q ".lokr_w2_a", 2, {8, 2}}},
         2,
         "w2 is wanted whole or as w2_a and w2_b",
         false},
        {{{Q ".lokr_w1", 2, {2, 2}}, {Q ".lokr_w2", 2, {8, 7}}},
         2,
         "w1 (2,2) and w2 (8,7) do not make",
         false},
        {{{Q ".lokr_w1", 2, {2, 2}}, {Q ".hada_w1_a", 2, {16, 2}}}, 2, "of two kinds of adapters", false},
        {{{"lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", 0, {0}}}, 1, "for SDXL", true},
        {{{Q ".lora_down.weight", 2, {2, 16}}}, 1, "there is no up part", false},
        {{{Q ".alpha", 0, {0}}}, 1, "nothing else of the same layer", false},
        {{{Q ".lora_down.weight", 2, {2, 16}}, {Q ".lora_up.weight", 2, {16, 3}}},
         2,
         "down (2,16) f32 and up (16,3) f32 do not fit the model's weight of (16,16)",
         false},
        {{{Q ".lora_down.weight", 2, {2, 20}}, {Q ".lora_up.weight", 2, {20, 2}}},
         2,
         "do not fit the model's weight of (16,16)",
         false},
        {{{Q ".lora_down.weight", 1, {2}}, {Q ".lora_up.weight", 2, {16, 2}}},
         2,
         "a matrix is expected",
         false},
        {{{Q ".lora_down.weight", 2, {2, 16}}, {Q ".lora_up.weight", 2, {16, 2}}, {Q ".alpha", 1, {2}}},
         3,
         "one number is expected",
         false},
        {{{"lora_unet_mid_block_resnets_0_conv1.lora_down.weight", 4, {2, 16, 1, 1}},
          {"lora_unet_mid_block_resnets_0_conv1.lora_up.weight", 4, {16, 2, 1, 1}}},
         2,
         "do not fit the model's weight of (16,144)",
         false},
        {{{Q ".lora_down.weight", 2, {2, 16}},
          {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", 2, {2, 16}}},
         2,
         "are for the same layer",
         false},
        {{{"lora_te_text_model_embeddings_token_embedding.lora_down.weight", 2, {2, 16}}},
         1,
         "no such layer",
         true},
    };
    Model *m = open_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LoraFile *f;
        assert_int_equal(attach_items(m, cases[i].items, cases[i].count, NULL, &f),
                         cases[i].wrong ? STATUS_REFUSED : STATUS_FAILED);
        assert_null(f);
        assert_int_equal(count_adapters(m), 0);
        if (!strstr(status_message(), cases[i].says))
            fail_msg("`%s` does not say `%s`", status_message(), cases[i].says);
    }
    model_free(m);
}

static float scale_of(Model *m, int ndim, const char *metadata, bool alpha)
{
    const Item items[] = {{Q ".lora_down.weight", ndim, {4, 16, 1, 1}},
                          {Q ".lora_up.weight", ndim, {16, 4, 1, 1}},
                          {Q ".alpha", 0, {0}}};
    LoraFile *f;
    if (attach_items(m, items, alpha ? 3 : 2, metadata, &f) != STATUS_OK)
        fail_msg("%s", status_message());
    const Layer *l =
        layerset_find(unet_layers(m->unet), "mid_block.attentions.0.transformer_blocks.0.attn1.to_q");
    const float scale = l->adapters->scale;
    assert_int_equal(l->adapters->tensors[LORA_DOWN]->ndim, ndim);
    lora_detach(f);
    return scale;
}

static void alpha_comes_from_where_the_file_has_it(void **state)
{
    (void)state;
    Model *m = open_model();
    assert_true(scale_of(m, 2, NULL, false) == 1); /* nothing said: alpha is the rank, 4 */
    assert_true(scale_of(m, 4, NULL, true) ==
                0.25f); /* a tensor of 1; shapes of convolutions are matrices too */
    assert_true(scale_of(m, 2, "{\"unet.lora_alpha\": 8}", false) == 2);
    assert_true(scale_of(m, 2, "{\"lora_alpha\": 8, \"use_rslora\": true}", false) == 4);
    assert_true(scale_of(m, 2, "{\"text_encoder.lora_alpha\": 8}", false) == 1);
    assert_true(scale_of(m, 2, "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"attn1.to_q\": 2}}",
                         false) == 0.5f);
    assert_true(scale_of(m, 2, "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"n1.to_q\": 2}}", false) ==
                2);
    assert_true(
        scale_of(m, 2, "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"^attn1.to_q\": 2}}", false) == 2);
    model_free(m);
}

static int refuse_at(size_t bytes, void *arg)
{
    (void)bytes;
    return --*(int *)arg == 0;
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int adapters;
    } FILES[] = {{LORA_GOLDEN "kohya.safetensors", 4 * 12 + 3 * 6}, {ADAPTER_GOLDEN "peft", 4 * 4}};
    Model *m = open_model();
    for (int i = 0; i < 2; i++) {
        Status s = STATUS_FAILED;
        for (int n = 1; s != STATUS_OK; n++) {
            int left = n;
            LoraFile *f = NULL;
            mem_set_hook(refuse_at, &left);
            s = lora_attach(m, FILES[i].file, 1, &f);
            mem_set_hook(NULL, NULL);
            assert_int_equal(count_adapters(m), s == STATUS_OK ? FILES[i].adapters : 0);
            lora_detach(f);
            assert_true(n < 3000);
        }
    }
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_of_a_key_is_read),
        cmocka_unit_test(what_is_written_of_every_kind_is_read),
        cmocka_unit_test(targets_are_the_layers_that_others_train),
        cmocka_unit_test(files_of_all_kinds_give_diffusers_latents),
        cmocka_unit_test(every_kind_gives_the_latents_of_peft_and_lycoris),
        cmocka_unit_test(what_dora_multiplies_is_where_the_device_reads_it),
        cmocka_unit_test(two_halves_make_a_whole),
        cmocka_unit_test(wrong_files_are_refused_by_key_and_leave_the_model_alone),
        cmocka_unit_test(alpha_comes_from_where_the_file_has_it),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
