/* Adapter files of SDXL: three parts, and a UNet that has two names in them. Breaks if a file's tensor came
 * to another layer than its writer meant, or if what is for another family was taken or not called by its
 * name. */
#include "golden.h"

#include "infer/adapters/adapters.h"
#include "infer/adapters/keys.h"
#include "infer/files/safetensors.h"
#include "infer/models/parts.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/adapter.h"
#include "kernels/base/sha256.h"

#include <unistd.h>

enum { MOST = 256, MANY = 1024 };

/* Whose names a file has. */
typedef enum Names { SD_SCRIPTS, ONETRAINER, PEFT, NAMES } Names;

static Model *open_model(const char *name)
{
    Model *m;
    char path[512];
    snprintf(path, sizeof path, TEST_GOLDEN "/models/%s", name);
    assert_ok(model_load(path, MODEL_ALL, DTYPE_F32, &m));
    return m;
}

/* Layers that get an adapter. */
typedef struct Chosen {
    PartId part;
    const Layer *layer;
} Chosen;

static int choose(Model *m, Chosen *out)
{
    static const PartId PARTS_IN_ORDER[] = {PART_UNET, PART_TEXT, PART_TEXT_2};
    int count = 0;
    for (int p = 0; p < 3; p++) {
        Layer **layers;
        int n;
        if (PARTS_IN_ORDER[p] == PART_UNET)
            assert_ok(lora_unet_layers(m, LORA_ATTENTION_MLP, &layers, &n));
        else
            assert_ok(lora_text_layers(m, PARTS_IN_ORDER[p], &layers, &n));
        for (int i = 0; i < n; i++, count++) {
            assert_true(count < MANY);
            out[count] = (Chosen){PARTS_IN_ORDER[p], layers[i]};
        }
        mem_free(layers);
    }
    return count;
}

/* OneTrainer has kohya's endings behind diffusers' names. */
static char *key_of(Model *m, const Chosen *c, Names names, int role)
{
    static const char *const PREFIXES[PART_COUNT] = {
        [PART_UNET] = "lora_unet_", [PART_TEXT] = "lora_te1_", [PART_TEXT_2] = "lora_te2_"};
    const AdapterLayer layer = {m, c->part, c->layer->name};
    if (names != ONETRAINER)
        return adapter_key(names == PEFT ? SPELLED_PEFT : SPELLED_KOHYA, &layer, &adapter_lora, role);
    char path[256];
    snprintf(path, sizeof path, "%s", c->layer->name);
    for (char *p = path; *p; p++)
        *p = *p == '.' ? '_' : *p;
    return mem_printf("%s%s.lora_%s.weight", PREFIXES[c->part], path, role == LORA_DOWN ? "down" : "up");
}

static void write_file(const char *path, Model *m, const Chosen *chosen, int count, Names names)
{
    SafeItem items[2 * MOST] = {0};
    for (int i = 0; i < 2 * count; i++) {
        const Chosen *c = &chosen[i / 2];
        const Tensor *w = c->layer->weight;
        const int64_t down[] = {1, w->shape[1]}, up[] = {w->shape[0], 1};
        Tensor *t = tensor_new(DTYPE_F32, 2, i % 2 ? up : down);
        tensor_set_at(t, 0, i / 2 + 1); /* by which it is known again */
        items[i] = (SafeItem){.name = key_of(m, c, names, i % 2 ? LORA_UP : LORA_DOWN),
                              .tensor = t,
                              .dtype = DTYPE_F32,
                              .ndim = -1};
    }
    assert_ok(safetensors_write(path, items, 2 * count, NULL, 0));
    for (int i = 0; i < 2 * count; i++) {
        mem_free((char *)items[i].name);
        tensor_free((Tensor *)items[i].tensor);
    }
}

static void every_naming_finds_its_layers(void **state)
{
    (void)state;
    static const char *const FIRST[NAMES] = {
        "lora_unet_input_blocks_3_1_proj_in.lora_down.weight",
        "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight",
        "unet.down_blocks.1.attentions.0.proj_in.lora_A.weight",
    };
    static Chosen chosen[MOST];
    char path[] = "/tmp/atelier-lora-XXXXXX";
    close(mkstemp(path));
    Model *m = open_model("sdxl");
    const int count = choose(m, chosen);
    for (int names = 0; names < NAMES; names++) {
        char *first = key_of(m, &chosen[0], (Names)names, LORA_DOWN);
        assert_string_equal(first, FIRST[names]);
        mem_free(first);
        write_file(path, m, chosen, count, (Names)names);
        LoraFile *f;
        assert_ok(lora_attach(m, path, 1, &f));
        for (int i = 0; i < count; i++) {
            const Adapter *a = chosen[i].layer->adapters;
            assert_non_null(a);
            assert_null(a->next);
            assert_true(((const float *)a->tensors[LORA_DOWN]->data)[0] == (float)(i + 1));
            assert_true(((const float *)a->tensors[LORA_UP]->data)[0] == (float)(i + 1));
        }
        lora_detach(f);
    }
    unlink(path);
    model_free(m);
}

/* SDXL's own shapes, without weights ----------------------------------------------------------- */

#define UNET_JSON                                                                                            \
    "{\"sample_size\": 128, \"block_out_channels\": [320, 640, 1280], \"layers_per_block\": 2,"              \
    "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"],"           \
    "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"],"                   \
    "\"transformer_layers_per_block\": [1, 2, 10], \"attention_head_dim\": [5, 10, 20],"                     \
    "\"cross_attention_dim\": 2048, \"use_linear_projection\": true, \"addition_embed_type\": "              \
    "\"text_time\", \"addition_time_embed_dim\": 256, \"projection_class_embeddings_input_dim\": 2816}"
#define TEXT_JSON                                                                                            \
    "{\"hidden_size\": 768, \"intermediate_size\": 3072, \"num_hidden_layers\": 12, "                        \
    "\"num_attention_heads\": "                                                                              \
    "12, \"vocab_size\": 49408}"
#define TEXT_2_JSON                                                                                          \
    "{\"hidden_size\": 1280, \"intermediate_size\": 5120, \"num_hidden_layers\": 32, "                       \
    "\"num_attention_heads\": 20, \"projection_dim\": 1280, \"hidden_act\": \"gelu\", \"vocab_size\": "      \
    "49408}"

static void make_shapes(Model *m)
{
    static const char *const JSON[PART_COUNT] = {
        [PART_UNET] = UNET_JSON, [PART_TEXT] = TEXT_JSON, [PART_TEXT_2] = TEXT_2_JSON};
    ModelShapes shapes = {0};
    *m = (Model){.family = FAMILY_SDXL};
    for (int p = 0; p < PART_COUNT; p++) {
        void *network;
        Weights *w;
        if (!JSON[p])
            continue;
        assert_ok(PARTS[p].kind->parse(JSON[p], "here", part_config((PartId)p, &shapes)));
        assert_ok(weights_random(1, DTYPE_F16, &w));
        weights_describe(w);
        assert_ok(PARTS[p].kind->create(part_config((PartId)p, &shapes), w, &network));
        part_set_network((PartId)p, m, network);
        weights_close(w);
    }
    assert_int_equal(family_of(&shapes.unet), FAMILY_SDXL);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* scripts/reference/sdxl_names.py: a hash over the sorted lines "NAME OUT IN". */
static void check_names(const Model *m, const Chosen *chosen, int count, AdapterSpelling spelling)
{
    static char *lines[MANY];
    char name[32], wanted[SHA256_HEX_SIZE], hex[SHA256_HEX_SIZE];
    uint8_t hash[SHA256_SIZE];
    int expected;
    for (int i = 0; i < count; i++) {
        const AdapterLayer layer = {m, chosen[i].part, chosen[i].layer->name};
        char *key = adapter_key(spelling, &layer, &adapter_lora, LORA_DOWN);
        *strstr(key, ".lora_") = 0;
        lines[i] = mem_printf("%s %lld %lld\n", key, (long long)chosen[i].layer->weight->shape[0],
                              (long long)chosen[i].layer->weight->shape[1]);
        mem_free(key);
    }
    qsort(lines, (size_t)count, sizeof *lines, by_text);
    Sha256 s;
    sha256_init(&s);
    for (int i = 0; i < count; i++) {
        sha256_update(&s, lines[i], strlen(lines[i]));
        mem_free(lines[i]);
    }
    sha256_final(&s, hash);
    FILE *f = fopen(TEST_GOLDEN "/sdxl_names.txt", "r");
    assert_non_null(f);
    do
        assert_int_equal(fscanf(f, "%31s %d %64s", name, &expected, wanted), 3);
    while (strcmp(name, adapter_spelling_name(spelling)) != 0);
    fclose(f);
    assert_int_equal(count, expected);
    assert_string_equal(sha256_hex(hash, hex), wanted);
}

/* What a rank of 1 takes of these layers. */
static int64_t numbers_of(const Chosen *c, int count, PartId part, const char *within, int *layers)
{
    int64_t n = 0;
    *layers = 0;
    for (int i = 0; i < count; i++)
        if (c[i].part == part && strstr(c[i].layer->name, within)) {
            n += c[i].layer->weight->shape[0] + c[i].layer->weight->shape[1];
            ++*layers;
        }
    return n;
}

static void the_layers_of_sdxl_are_sd_scripts_and_diffusers(void **state)
{
    (void)state;
    static Chosen chosen[MANY];
    Model m;
    int layers;
    Layer **attention;
    make_shapes(&m);
    const int count = choose(&m, chosen);
    check_names(&m, chosen, count, SPELLED_KOHYA);
    check_names(&m, chosen, count, SPELLED_PEFT);
    assert_int_equal(numbers_of(chosen, count, PART_UNET, "", &layers), 2659840);
    assert_int_equal(layers, 722);
    assert_int_equal(numbers_of(chosen, count, PART_UNET, ".to_", &layers), 1451520);
    assert_int_equal(layers, 560);
    assert_int_equal(numbers_of(chosen, count, PART_TEXT, "", &layers), 165888);
    assert_int_equal(layers, 72);
    assert_int_equal(numbers_of(chosen, count, PART_TEXT_2, "", &layers), 737280);
    assert_int_equal(layers, 192);
    assert_ok(lora_unet_layers(&m, LORA_ATTENTION, &attention, &layers));
    assert_int_equal(layers, 560);
    mem_free(attention);
    for (int p = 0; p < PART_COUNT; p++)
        PARTS[p].kind->destroy(part_network((PartId)p, &m));
}

/* LyCORIS adapts these too, by sd-scripts' names. */
static void convolutions_and_embeddings_have_the_original_names(void **state)
{
    (void)state;
    static const char *const LAYERS[][2] = {
        {"down_blocks.1.resnets.0.conv1", "lora_unet_input_blocks_3_0_in_layers_2"},
        {"down_blocks.1.resnets.0.time_emb_proj", "lora_unet_input_blocks_3_0_emb_layers_1"},
        {"down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_2_0_op"},
        {"mid_block.resnets.1.conv2", "lora_unet_middle_block_2_out_layers_3"},
        {"up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_1_2_conv"},
        {"up_blocks.2.resnets.1.conv_shortcut", "lora_unet_output_blocks_5_0_skip_connection"},
        {"conv_in", "lora_unet_input_blocks_0_0"},
        {"conv_out", "lora_unet_out_2"},
        {"time_embedding.linear_1", "lora_unet_time_embed_0"},
        {"add_embedding.linear_2", "lora_unet_label_emb_0_2"},
    };
    Model *m = open_model("sdxl");
    for (size_t i = 0; i < sizeof LAYERS / sizeof *LAYERS; i++) {
        const AdapterLayer layer = {m, PART_UNET, LAYERS[i][0]};
        char names[ADAPTER_NAMES][ADAPTER_MODULE_SIZE];
        int count;
        assert_non_null(layerset_find(unet_layers(m->unet), LAYERS[i][0]));
        assert_ok(adapter_modules(&layer, names, &count));
        assert_int_equal(count, 2);
        assert_string_equal(names[0], LAYERS[i][1]);
    }
    model_free(m);
}

static void refused(Model *m, const char *path, const char *says)
{
    LoraFile *f;
    assert_int_equal(lora_attach(m, path, 1, &f), STATUS_REFUSED);
    if (!strstr(status_message(), says))
        fail_msg("`%s` does not say `%s`", status_message(), says);
}

static void another_family_is_called_by_its_name(void **state)
{
    (void)state;
    static Chosen chosen[MOST];
    char path[] = "/tmp/atelier-lora-XXXXXX";
    close(mkstemp(path));
    Model *xl = open_model("sdxl"), *sd1 = open_model("sd1");
    const int count = choose(xl, chosen);
    write_file(path, xl, chosen, count, SD_SCRIPTS);
    refused(sd1, path, "this LoRA is for SDXL, in ldm's names, as sd-scripts (kohya_ss) writes it");
    write_file(path, xl, chosen, count, PEFT);
    refused(sd1, path, "the model has no such layer");
    refused(xl, TEST_GOLDEN "/lora/kohya.safetensors", "the model has no such layer; was this LoRA made for");
    unlink(path);
    model_free(xl);
    model_free(sd1);
}

/* te counts for both text encoders, te1 and te2 for one. */
static void strengths_reach_either_text_encoder(void **state)
{
    (void)state;
    static Chosen chosen[MOST];
    char path[] = "/tmp/atelier-lora-XXXXXX";
    close(mkstemp(path));
    Model *m = open_model("sdxl"), *one = open_model("sd1");
    const int count = choose(m, chosen);
    write_file(path, m, chosen, count, SD_SCRIPTS);
    static const struct {
        const char *text;
        float of[PART_COUNT];
    } CASES[] = {
        {"0.5:te=0.25", {[PART_UNET] = 0.5f, [PART_TEXT] = 0.25f, [PART_TEXT_2] = 0.25f}},
        {"0.5:te2=0.25", {[PART_UNET] = 0.5f, [PART_TEXT] = 0.5f, [PART_TEXT_2] = 0.25f}},
        {"1:te=0.25:te1=2", {[PART_UNET] = 1, [PART_TEXT] = 2, [PART_TEXT_2] = 0.25f}},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        AdapterStrength s;
        LoraFile *f;
        assert_ok(adapter_strength_parse(CASES[i].text, &s));
        assert_ok(lora_attach_as(m, path, &s, &f));
        for (int k = 0; k < count; k++)
            assert_true(chosen[k].layer->adapters->scale == CASES[i].of[chosen[k].part]);
        lora_detach(f);
        char *written = adapter_strength_text(&s);
        AdapterStrength again;
        char *whole = mem_printf("%g%s", (double)s.whole, written);
        assert_ok(adapter_strength_parse(whole, &again));
        assert_true(adapter_strength_same(&s, &again));
        assert_int_equal(adapter_strength_check(&s, one), i == 0 ? STATUS_OK : STATUS_REFUSED);
        mem_free(written);
        mem_free(whole);
    }
    unlink(path);
    model_free(m);
    model_free(one);
}

static int refuse_at(size_t bytes, void *arg)
{
    (void)bytes;
    return --*(int *)arg == 0;
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    static Chosen chosen[MOST];
    Model *m = open_model("sdxl");
    const int count = choose(m, chosen);
    Status s = STATUS_FAILED;
    for (int n = 1; s != STATUS_OK; n += n < 100 ? 1 : 17) { /* each adapter asks alike */
        int left = n;
        LoraFile *f = NULL;
        mem_set_hook(refuse_at, &left);
        s = lora_attach(m, TEST_GOLDEN "/lora/sdxl.safetensors", 1, &f);
        mem_set_hook(NULL, NULL);
        for (int i = 0; i < count; i++)
            assert_true((chosen[i].layer->adapters != NULL) == (s == STATUS_OK));
        lora_detach(f);
        assert_true(n < 20000);
    }
    model_free(m);
}

/* What is drawn with the file at a strength of 0.75 against the reference's latents. */
static void compare_picture(const char *path, const TensorEntry *latents)
{
    Model *m = open_model("sdxl");
    LoraFile *f;
    Pipeline *p;
    SampleResult result;
    SampleRequest r = sample_request_default();
    r.prompt = "a red heart";
    r.negative = "blue";
    r.sampler = "euler";
    r.steps = 8;
    r.guidance = 5;
    r.seed = 11;
    assert_ok(lora_attach(m, path, 0.75f, &f));
    Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_ok(pipeline_new(c, m, &p));
    assert_ok(pipeline_sample(p, &r, NULL, NULL, &result));
    assert_close(path, result.latents->data, latents, 1e-3);
    sample_result_free(&result);
    pipeline_free(p);
    ctx_free(c);
    lora_detach(f);
    model_free(m);
}

/* sd-scripts' names against what diffusers draws with the same file (scripts/reference/sdxl_lora.py). */
static void the_picture_is_diffusers(void **state)
{
    (void)state;
    TensorFile *file = golden_open("sdxl_lora.safetensors");
    compare_picture(TEST_GOLDEN "/lora/sdxl.safetensors", golden(file, "latents"));
    tensorfile_close(file);
}

/* LyCORIS's files, on both text encoders too (scripts/reference/sdxl_adapters.py). */
static void every_kind_gives_the_picture_of_lycoris(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"loha", "lokr", "locon-dora", "loha-dora", "lokr-dora"};
    TensorFile *file = golden_open("sdxl_adapters/results.safetensors");
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        char path[512];
        snprintf(path, sizeof path, TEST_GOLDEN "/sdxl_adapters/%s.safetensors", KINDS[i]);
        compare_picture(path, golden(file, "%s", KINDS[i]));
    }
    tensorfile_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_naming_finds_its_layers),
        cmocka_unit_test(the_layers_of_sdxl_are_sd_scripts_and_diffusers),
        cmocka_unit_test(convolutions_and_embeddings_have_the_original_names),
        cmocka_unit_test(another_family_is_called_by_its_name),
        cmocka_unit_test(strengths_reach_either_text_encoder),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(the_picture_is_diffusers),
        cmocka_unit_test(every_kind_gives_the_picture_of_lycoris),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
