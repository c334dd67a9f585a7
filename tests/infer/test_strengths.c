/* Strengths of adapters: how they are written, what they come to for each layer, and the tags of prompts. */
#include "golden.h"

#include "infer/adapters/adapters.h"
#include "infer/adapters/find.h"
#include "infer/text/tags.h"

#define LOCON TEST_GOLDEN "/adapters/locon.safetensors"

static AdapterStrength parsed(const char *text)
{
    AdapterStrength s;
    if (adapter_strength_parse(text, &s) != STATUS_OK)
        fail_msg("%s: %s", text, status_message());
    return s;
}

static void each_layer_has_the_strength_of_its_part_and_block(void **state)
{
    (void)state;
    static const struct {
        const char *text, *layer;
        PartId part;
        double strength;
    } CASES[] = {
        {"0.8", "mid_block.attentions.0.proj_in", PART_UNET, 0.8},
        {"0.8", "text_model.encoder.layers.0.mlp.fc1", PART_TEXT, 0.8},
        {"0.8:te=0.5", "text_model.encoder.layers.0.mlp.fc1", PART_TEXT, 0.5},
        {"0.8:te=0.5", "conv_in", PART_UNET, 0.8},
        {"0.8:unet=0", "text_model.encoder.layers.0.mlp.fc1", PART_TEXT, 0.8},
        {"0.8:unet=0", "conv_in", PART_UNET, 0},
        {"te=0.5", "conv_in", PART_UNET, 1},
        {"0.5:0.8", "conv_in", PART_UNET, 0.8},
        {"0.5:0.8", "text_model.encoder.layers.0.mlp.fc1", PART_TEXT, 0.5},
        {"0.8,te=0.5,mid=0,down.1=0.5", "mid_block.resnets.0.conv1", PART_UNET, 0},
        {"0.8,te=0.5,mid=0,down.1=0.5", "down_blocks.1.resnets.0.conv1", PART_UNET, 0.4},
        {"0.8,te=0.5,mid=0,down.1=0.5", "down_blocks.10.resnets.0.conv1", PART_UNET, 0.8},
        {"2:down=0:down.1=1", "down_blocks.0.resnets.0.conv1", PART_UNET, 0},
        {"2:down.1=1:down=0", "down_blocks.1.resnets.0.conv1", PART_UNET, 2},
        {"1:up.2.attentions.0=0.25", "up_blocks.2.attentions.0.proj_in", PART_UNET, 0.25},
        {"1:te.1=0", "text_model.encoder.layers.1.mlp.fc1", PART_TEXT, 0},
        {"1:te.1=0", "text_model.encoder.layers.11.mlp.fc1", PART_TEXT, 1},
        {"1:conv_in=0.5", "conv_in", PART_UNET, 0.5},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const AdapterStrength s = parsed(CASES[i].text);
        const float got = adapter_strength_of(&s, CASES[i].part, CASES[i].layer);
        if (fabs((double)got - CASES[i].strength) > 1e-6)
            fail_msg("%s, %s: %g", CASES[i].text, CASES[i].layer, (double)got);
    }
}

/* BASE, IN01 02 04 05 07 08, MID, OUT03 … OUT11; and with all blocks. */
static void lists_name_the_blocks_of_the_original_files(void **state)
{
    (void)state;
    const AdapterStrength few =
        parsed("1:lbw=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,1.1,1.2,1.3,1.4,1.5,1.6,1.7");
    static const struct {
        const char *layer;
        PartId part;
        double strength;
    } CASES[] = {
        {"text_model.encoder.layers.3.mlp.fc1", PART_TEXT, 0.1},
        {"down_blocks.0.attentions.0.proj_in", PART_UNET, 0.2},
        {"down_blocks.0.resnets.1.conv1", PART_UNET, 0.3},
        {"down_blocks.2.attentions.1.proj_in", PART_UNET, 0.7},
        {"mid_block.attentions.0.proj_in", PART_UNET, 0.8},
        {"up_blocks.1.attentions.0.proj_in", PART_UNET, 0.9},
        {"up_blocks.3.attentions.2.proj_in", PART_UNET, 1.7},
        {"conv_in", PART_UNET, 1},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        if (fabs((double)adapter_strength_of(&few, CASES[i].part, CASES[i].layer) - CASES[i].strength) > 1e-6)
            fail_msg("%s", CASES[i].layer);
    const AdapterStrength all = parsed("1:lbw=0,2,1,1,3,1,1,1,1,1,1,1,1,1,1,1,4,1,1,1,1,1,1,1,1,1");
    assert_true(adapter_strength_of(&all, PART_UNET, "conv_in") == 2);
    assert_true(adapter_strength_of(&all, PART_UNET, "down_blocks.0.downsamplers.0.conv") == 3);
    assert_true(adapter_strength_of(&all, PART_UNET, "up_blocks.0.upsamplers.0.conv") == 4);
}

/* BASE, IN04 05 07 08, M00, OUT00 … OUT05; and with all blocks, IN00 … IN08, M00, OUT00 … OUT08. */
static void lists_of_sdxl_name_its_blocks(void **state)
{
    (void)state;
    const AdapterStrength few = parsed("1:lbw=1,2,3,4,5,6,7,8,9,10,11,12"),
                          all = parsed("1:lbw=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20");
    static const struct {
        PartId part;
        const char *layer;
        double few, all;
    } CASES[] = {
        {PART_TEXT, "text_model.encoder.layers.3.mlp.fc1", 1, 1},
        {PART_TEXT_2, "text_model.encoder.layers.3.mlp.fc1", 1, 1},
        {PART_UNET, "conv_in", 1, 2},
        {PART_UNET, "down_blocks.1.attentions.0.proj_in", 2, 6},
        {PART_UNET, "down_blocks.1.attentions.1.proj_in", 3, 7},
        {PART_UNET, "down_blocks.2.attentions.1.proj_in", 5, 10},
        {PART_UNET, "mid_block.attentions.0.proj_in", 6, 11},
        {PART_UNET, "up_blocks.0.attentions.0.proj_in", 7, 12},
        {PART_UNET, "up_blocks.1.attentions.2.proj_in", 12, 17},
        {PART_UNET, "up_blocks.2.resnets.2.conv1", 1, 20},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const double got[] = {(double)adapter_strength_of(&few, CASES[i].part, CASES[i].layer),
                              (double)adapter_strength_of(&all, CASES[i].part, CASES[i].layer)};
        if (got[0] != CASES[i].few || got[1] != CASES[i].all)
            fail_msg("%s: %g, %g", CASES[i].layer, got[0], got[1]);
    }
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {"",
                                        ":te=0.5",
                                        ":te=0.5:unet=1",
                                        ":down.1=0:mid=0.5:te.3=2",
                                        ":conv_in=0",
                                        ":lbw=1,1,1,1,1,1,1,1,0.5,1,1,1,1,1,1,1,1:mid=0"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        char full[256];
        snprintf(full, sizeof full, "0.8%s", TEXTS[i]);
        const AdapterStrength s = parsed(full);
        char *text = adapter_strength_text(&s);
        assert_string_equal(text, TEXTS[i]);
        mem_free(text);
    }
    const AdapterStrength a = parsed("0.8:te=0.5"), b = parsed("0.8"), c = parsed("0.8:mid=1");
    assert_true(adapter_strength_same(&a, &a));
    assert_false(adapter_strength_same(&a, &b));
    assert_false(adapter_strength_same(&b, &c));
}

static void what_is_no_strength_is_refused(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {
        "",        "x",         "0.8:",   "0.8:te",
        "0.8:te=", "0.8:te=x",  "=1",     "0.8:=1",
        "1:2:3",   "1:lbw=1,2", "1:lbw=", "1:lbw=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"};
    AdapterStrength s;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
        if (adapter_strength_parse(TEXTS[i], &s) != STATUS_REFUSED)
            fail_msg("`%s` is read", TEXTS[i]);
}

static float scale_at(Model *m, const char *layer)
{
    const Layer *l = layerset_find(unet_layers(m->unet), layer);
    assert_non_null(l);
    return l->adapters ? l->adapters->scale : 0;
}

static void blocks_reach_the_layers(void **state)
{
    (void)state;
    Model *m;
    LoraFile *f;
    AdapterStrength s = parsed("0.5:mid=2:down.0.resnets=0");
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_UNET | MODEL_TEXT, DTYPE_F32, &m));
    const AdapterStrength whole = adapter_strength(1);
    assert_ok(lora_attach_as(m, LOCON, &whole, &f));
    const float one = scale_at(m, "mid_block.attentions.0.proj_in");
    assert_true(one > 0);
    lora_detach(f);
    assert_ok(lora_attach_as(m, LOCON, &s, &f));
    assert_true(fabsf(scale_at(m, "mid_block.attentions.0.proj_in") - one) < 1e-6f);
    assert_true(fabsf(scale_at(m, "up_blocks.0.upsamplers.0.conv") - one / 2) < 1e-6f);
    assert_true(scale_at(m, "down_blocks.0.resnets.0.conv1") == 0);
    lora_detach(f);
    s = parsed("1:down.7=0");
    assert_int_equal(lora_attach_as(m, LOCON, &s, &f), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "no block `down_blocks.7`"));
    model_free(m);
}

static void tags_are_taken_out_of_prompts(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *text, *first, *strength;
        int count;
    } CASES[] = {
        {"a cat", "a cat", "", "", 0},
        {"a cat <lora:fur:0.8>", "a cat", "fur", "0.8", 1},
        {"<lora:fur> a cat", " a cat", "fur", "", 1},
        {"a <lyco:fur:0.5:unet=1>cat<lora:b:1>", "a cat", "fur", "0.5:unet=1", 2},
        {"a <lora:> <lora:x", "a <lora:> <lora:x", "", "", 0},
        {"1 < 2 > 0 <b>", "1 < 2 > 0 <b>", "", "", 0},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char *text;
        PromptTags tags;
        assert_ok(prompt_tags(CASES[i].prompt, &text, &tags));
        assert_string_equal(text, CASES[i].text);
        assert_int_equal(tags.count, CASES[i].count);
        if (tags.count) {
            assert_string_equal(tags.items[0].name, CASES[i].first);
            assert_string_equal(tags.items[0].strength, CASES[i].strength);
        }
        mem_free(text);
        prompt_tags_free(&tags);
    }
    char *text;
    PromptTags tags;
    assert_int_equal(prompt_tags("a <hypernet:x:1>", &text, &tags), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "<hypernet:x:1>"));
}

static void loras_are_found_by_name_in_folders(void **state)
{
    (void)state;
    char *path;
    assert_ok(adapter_find(TEST_GOLDEN "/adapters", "locon", &path));
    assert_string_equal(path, LOCON);
    mem_free(path);
    assert_ok(adapter_find(TEST_GOLDEN, "locon", &path));
    assert_string_equal(path, LOCON);
    mem_free(path);
    assert_ok(adapter_find(TEST_GOLDEN "/adapters", "peft", &path));
    assert_string_equal(path, TEST_GOLDEN "/adapters/peft");
    mem_free(path);
    assert_int_equal(adapter_find(TEST_GOLDEN "/adapters", "locom", &path), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "did you mean `locon`?"));
    assert_int_equal(adapter_find(TEST_GOLDEN "/nowhere", "locon", &path), STATUS_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_layer_has_the_strength_of_its_part_and_block),
        cmocka_unit_test(lists_name_the_blocks_of_the_original_files),
        cmocka_unit_test(lists_of_sdxl_name_its_blocks),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(what_is_no_strength_is_refused),
        cmocka_unit_test(blocks_reach_the_layers),
        cmocka_unit_test(tags_are_taken_out_of_prompts),
        cmocka_unit_test(loras_are_found_by_name_in_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
