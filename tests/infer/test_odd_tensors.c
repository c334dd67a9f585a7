/* Tensors of types that the engine does not compute with, in models and LoRAs: one that nobody asks for never
 * matters, one that is asked for is converted, or named where it cannot be. */
#include "infer/adapters/adapters.h"
#include "infer/models/model.h"
#include "kernels/base/file.h"
#include "tests/infer/formats/formats.h"
#include "golden.h"

#include <unistd.h>

#define SD1 TEST_GOLDEN "/models/sd1"
#define UNET "/unet/diffusion_pytorch_model.safetensors"
#define MOST 1000

static char root[] = "/tmp/atelier-test-odd-XXXXXX";
static char *model_path, *unet_path, *lora_path;

static const int64_t ONES[] = {1, 1, 1, 1, 1, 1, 1, 1}, HUGE_NONE[] = {INT64_MAX, 0, INT64_MAX};
static const uint8_t zeros[64];

#define ODD(name_, type_, ndim_, shape_, bytes_)                                                             \
    {                                                                                                        \
        .name = name_, .type = type_, .type_name = "X9", .ndim = ndim_, .shape = shape_, .data = zeros,      \
        .bytes = bytes_                                                                                      \
    }
static const TensorEntry ODD_ONES[] = {
    ODD("odd.f64", ELEMENT_F64, 1, ONES, 8),       ODD("odd.bool", ELEMENT_BOOL, 1, ONES, 1),
    ODD("odd.i16", ELEMENT_I16, 1, ONES, 2),       ODD("odd.u16", ELEMENT_U16, 1, ONES, 2),
    ODD("odd.u64", ELEMENT_U64, 0, NULL, 8),       ODD("odd.f8", ELEMENT_F8_E4M3, 1, ONES, 1),
    ODD("odd.eight", ELEMENT_F32, 8, ONES, 4),     ODD("odd.none", ELEMENT_F32, 3, HUGE_NONE, 0),
    ODD("odd.unknown", ELEMENT_OTHER, 1, ONES, 7),
};
#define ODD_COUNT ((int)(sizeof ODD_ONES / sizeof *ODD_ONES))

/* The model again, with these tensors besides its UNet's own, or in the place of those of the same name. */
static void write_model(const TensorEntry *others, int count)
{
    TensorFile *f;
    TensorEntry *all = mem_calloc(MOST, sizeof *all);
    assert_non_null(all);
    assert_ok(tensorfile_open(SD1 UNET, &f));
    int n = tensorfile_count(f);
    assert_true(n + count <= MOST);
    for (int i = 0; i < n; i++)
        all[i] = *tensorfile_entry(f, i);
    for (int k = 0; k < count; k++) {
        int at = 0;
        while (at < n && strcmp(all[at].name, others[k].name) != 0)
            at++;
        all[at] = others[k];
        n += at == n;
    }
    format_test_safetensors.write(unet_path, all, n, NULL, 0);
    tensorfile_close(f);
    mem_free(all);
}

static Model *load(const char *path, DType dtype)
{
    Model *m;
    assert_ok(model_load(path, MODEL_ALL, dtype, &m));
    return m;
}

static void unused_tensors_of_any_kind_do_not_matter(void **state)
{
    (void)state;
    write_model(ODD_ONES, ODD_COUNT);
    Model *m = load(model_path, DTYPE_F32), *plain = load(SD1, DTYPE_F32);
    const LayerSet *a = unet_layers(m->unet), *b = unet_layers(plain->unet);
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++)
        assert_memory_equal(a->items[i]->weight->data, b->items[i]->weight->data,
                            tensor_bytes(b->items[i]->weight));
    model_free(m);
    model_free(plain);
}

/* conv_in.weight stored as this type, whose numbers the engine then has. */
static void check_stored_as(ElementType type)
{
    Model *plain = load(SD1, DTYPE_F32);
    const Tensor *w = layerset_find(unet_layers(plain->unet), "conv_in")->weight;
    const int64_t n = tensor_count(w);
    const size_t size = element_size(type);
    uint8_t *stored = mem_calloc((size_t)n, size);
    for (int64_t i = 0; i < n; i++) {
        const double value = ((const float *)w->data)[i];
        if (type == ELEMENT_F64)
            memcpy(stored + i * 8, &value, 8);
        else
            stored[i] = (uint8_t)(i % 124 | (i & 1) << 7);
    }
    const TensorEntry e = {.name = "conv_in.weight",
                           .type = type,
                           .ndim = w->ndim,
                           .shape = w->shape,
                           .data = stored,
                           .bytes = (size_t)n * size};
    write_model(&e, 1);
    for (int k = 0; k < 2; k++) {
        Model *m = load(model_path, k ? DTYPE_BF16 : DTYPE_F32);
        const Tensor *got = layerset_find(unet_layers(m->unet), "conv_in")->weight;
        assert_int_equal(got->dtype, k ? DTYPE_BF16 : DTYPE_F32);
        for (int64_t i = 0; i < n; i++) {
            const double want = element_number(stored + (size_t)i * size, type);
            assert_true(tensor_at(got, i) == (k ? bf16_to_f32(f32_to_bf16((float)want)) : want));
        }
        model_free(m);
    }
    mem_free(stored);
    model_free(plain);
}

static void weights_are_converted_from_every_kind_of_float(void **state)
{
    (void)state;
    check_stored_as(ELEMENT_F64);
    check_stored_as(ELEMENT_F8_E4M3);
    check_stored_as(ELEMENT_F8_E5M2);
}

static void weights_that_are_no_floats_are_named(void **state)
{
    (void)state;
    static const ElementType TYPES[] = {ELEMENT_I16, ELEMENT_OTHER};
    const Tensor *w;
    Model *plain = load(SD1, DTYPE_F32), *m;
    w = layerset_find(unet_layers(plain->unet), "conv_in")->bias;
    for (int i = 0; i < 2; i++) {
        const TensorEntry e = {.name = "conv_in.bias",
                               .type = TYPES[i],
                               .type_name = "X9",
                               .ndim = 1,
                               .shape = w->shape,
                               .data = zeros,
                               .bytes = 2 * (size_t)w->shape[0]};
        assert_true(e.bytes <= sizeof zeros);
        write_model(&e, 1);
        assert_int_equal(model_load(model_path, MODEL_ALL, DTYPE_F32, &m), STATUS_FAILED);
        assert_non_null(strstr(status_message(), "conv_in.bias"));
        assert_non_null(strstr(status_message(), i ? "X9" : "I16"));
        assert_ok(model_load(model_path, MODEL_ALL & ~MODEL_UNET, DTYPE_F32, &m)); /* nobody asked for it */
        model_free(m);
    }
    model_free(plain);
}

/* The UNet's conv_in.weight with this number in the place of one of its own: refused by its name. */
static void check_bad_number(const char *name, float number, DType dtype, const char *says)
{
    Model *plain = load(SD1, DTYPE_F32), *m;
    char layer[128];
    snprintf(layer, sizeof layer, "%.*s", (int)(strrchr(name, '.') - name), name);
    const Tensor *w = layerset_find(unet_layers(plain->unet), layer)->weight;
    const int64_t n = tensor_count(w);
    float *stored = mem_calloc((size_t)n, sizeof *stored);
    memcpy(stored, w->data, (size_t)n * sizeof *stored);
    stored[n / 2] = number;
    const TensorEntry e = {.name = name,
                           .type = ELEMENT_F32,
                           .ndim = w->ndim,
                           .shape = w->shape,
                           .data = stored,
                           .bytes = (size_t)n * sizeof *stored};
    write_model(&e, 1);
    assert_int_equal(model_load(model_path, MODEL_ALL, dtype, &m), STATUS_FAILED);
    assert_non_null(strstr(status_message(), name));
    assert_non_null(strstr(status_message(), unet_path));
    assert_non_null(strstr(status_message(), says));
    assert_ok(model_load(model_path, MODEL_ALL & ~MODEL_UNET, dtype, &m)); /* nobody asked for it */
    model_free(m);
    mem_free(stored);
    model_free(plain);
}

static void weights_that_are_not_finite_are_named(void **state)
{
    (void)state;
    check_bad_number("conv_in.weight", NAN, DTYPE_F32, "is NaN");
    check_bad_number("conv_in.weight", -INFINITY, DTYPE_F32, "is infinite");
    check_bad_number("mid_block.resnets.0.conv1.weight", NAN, DTYPE_BF16, "is NaN");
    check_bad_number("conv_in.weight", 1e5F, DTYPE_F16, "100000, more than f16 holds; use bf16 or f32");
}

/* So large, and of the type that is asked for, that it is used where it lies in the file. */
static void mapped_weights_that_are_not_finite_are_named(void **state)
{
    (void)state;
    static const int64_t SHAPE[] = {256, 128};
    static uint16_t stored[256 * 128];
    const TensorEntry e = {.name = "large.weight",
                           .type = ELEMENT_BF16,
                           .ndim = 2,
                           .shape = SHAPE,
                           .data = stored,
                           .bytes = sizeof stored};
    for (int bad = 0; bad < 2; bad++) {
        stored[200 * 128 + 7] = bad ? 0xff80 : 0;
        format_test_safetensors.write(lora_path, &e, 1, NULL, 0);
        Weights *w;
        Layer layer;
        LayerSet set = {0};
        assert_ok(weights_open_file(lora_path, DTYPE_BF16, &w));
        weights_layer(w, &set, &layer, LAYER_LINEAR, false, 2, SHAPE, "large");
        assert_int_equal(weights_status(w), bad ? STATUS_FAILED : STATUS_OK);
        if (bad)
            assert_non_null(strstr(status_message(), "tensor large.weight: number 25607 is infinite"));
        else
            assert_false(layer.weight->owned);
        weights_close(w);
        layerset_free(&set);
    }
}

/* LoRAs -------------------------------------------------------------------------------------------------- */

#define Q "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"

/* Alpha over rank where the file's alpha, 8, is one number of this type in so many dimensions. */
static float scale_of(Model *m, ElementType type, int ndim, const void *eight)
{
    static const int64_t DOWN[] = {4, 16}, UP[] = {16, 4};
    static float ones[64];
    const TensorEntry tensors[] = {
        {.name = Q ".lora_down.weight",
         .type = ELEMENT_F32,
         .ndim = 2,
         .shape = DOWN,
         .data = ones,
         .bytes = 256},
        {.name = Q ".lora_up.weight",
         .type = ELEMENT_F32,
         .ndim = 2,
         .shape = UP,
         .data = ones,
         .bytes = 256},
        {.name = Q ".alpha",
         .type = type,
         .ndim = ndim,
         .shape = ONES,
         .data = eight,
         .bytes = element_size(type)},
    };
    format_test_safetensors.write(lora_path, tensors, 3, NULL, 0);
    LoraFile *f;
    assert_ok(lora_attach(m, lora_path, 1, &f));
    const float scale =
        layerset_find(unet_layers(m->unet), "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
            ->adapters->scale;
    lora_detach(f);
    return scale;
}

static void alpha_is_a_number_of_any_type(void **state)
{
    (void)state;
    Model *m = load(SD1, DTYPE_F32);
    const double wide = 8;
    const float f = 8;
    const int64_t whole = 8;
    const uint16_t half = f32_to_f16(8);
    const uint8_t e4m3 = 0x50; /* 2^(10-7) */
    static const int DIMS[] = {0, 1, 2};
    for (int i = 0; i < 3; i++) {
        assert_true(scale_of(m, ELEMENT_F32, DIMS[i], &f) == 2);
        assert_true(scale_of(m, ELEMENT_F64, DIMS[i], &wide) == 2);
        assert_true(scale_of(m, ELEMENT_F16, DIMS[i], &half) == 2);
        assert_true(scale_of(m, ELEMENT_I64, DIMS[i], &whole) == 2);
        assert_true(scale_of(m, ELEMENT_I32, DIMS[i], &whole) == 2); /* little-endian */
        assert_true(scale_of(m, ELEMENT_U8, DIMS[i], &whole) == 2);
        assert_true(scale_of(m, ELEMENT_F8_E4M3, DIMS[i], &e4m3) == 2);
    }
    model_free(m);
}

static void loras_that_are_not_finite_are_named(void **state)
{
    (void)state;
    static const int64_t DOWN[] = {4, 16}, UP[] = {16, 4};
    float down[64] = {0}, up[64] = {0};
    Model *m = load(SD1, DTYPE_F32);
    const TensorEntry tensors[] = {
        {.name = Q ".lora_down.weight",
         .type = ELEMENT_F32,
         .ndim = 2,
         .shape = DOWN,
         .data = down,
         .bytes = 256},
        {.name = Q ".lora_up.weight", .type = ELEMENT_F32, .ndim = 2, .shape = UP, .data = up, .bytes = 256},
    };
    up[63] = NAN;
    format_test_safetensors.write(lora_path, tensors, 2, NULL, 0);
    LoraFile *f;
    assert_int_equal(lora_attach(m, lora_path, 1, &f), STATUS_FAILED);
    assert_non_null(strstr(status_message(), Q ".lora_up.weight"));
    assert_non_null(strstr(status_message(), "NaN"));
    assert_ptr_equal(strstr(status_message(), lora_path), status_message());
    assert_null(strstr(status_message() + 1, lora_path)); /* once */
    model_free(m);
}

/* The golden model's parts beside a UNet of our own. */
static int set_up(void **state)
{
    (void)state;
    static const char *const parts[] = {"vae", "text_encoder", "tokenizer", "scheduler", "unet/config.json"};
    if (!mkdtemp(root))
        return -1;
    model_path = mem_strdup(root);
    unet_path = mem_printf("%s%s", root, UNET);
    lora_path = path_join(root, "lora.safetensors");
    char *unet = path_join(root, "unet");
    Status s = dir_make(unet);
    mem_free(unet);
    for (int i = 0; i < 5 && s == STATUS_OK; i++) {
        char *there = path_join(SD1, parts[i]), *here = path_join(root, parts[i]);
        if (symlink(there, here) != 0)
            s = STATUS_FAILED;
        mem_free(there);
        mem_free(here);
    }
    return s == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(model_path);
    mem_free(unet_path);
    mem_free(lora_path);
    return dir_remove(root) == STATUS_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unused_tensors_of_any_kind_do_not_matter),
        cmocka_unit_test(weights_are_converted_from_every_kind_of_float),
        cmocka_unit_test(weights_that_are_no_floats_are_named),
        cmocka_unit_test(weights_that_are_not_finite_are_named),
        cmocka_unit_test(mapped_weights_that_are_not_finite_are_named),
        cmocka_unit_test(alpha_is_a_number_of_any_type),
        cmocka_unit_test(loras_that_are_not_finite_are_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
