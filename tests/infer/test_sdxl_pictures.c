/* SDXL's pictures against diffusers, with a tiny random model (scripts/reference/sdxl.py). */
#include "sdxl.h"

#include "infer/files/safetensors.h"
#include "infer/models/parts.h"
#include "infer/samplers/sampler.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/random.h"

#include <unistd.h>

static bool begins(const char *name, const char *beginning)
{
    return !strncmp(name, beginning, strlen(beginning));
}

static int number_at(json_t *list, size_t i)
{
    return (int)json_integer_value(json_array_get(list, i));
}

/* Lists of a height and a width; NULL: not given. */
static SizeNumbers sizes_of(json_t *original, json_t *crop, json_t *target)
{
    return (SizeNumbers){.original = {number_at(original, 1), number_at(original, 0)},
                         .top = number_at(crop, 0),
                         .left = number_at(crop, 1),
                         .target = {number_at(target, 1), number_at(target, 0)}};
}

static SampleRequest request_of(json_t *j)
{
    SampleRequest r = sample_request_default();
    r.prompt = json_string_value(json_object_get(j, "prompt"));
    r.negative = json_string_value(json_object_get(j, "negative")); /* null: there is none */
    r.prompt_2 = json_string_value(json_object_get(j, "prompt_2"));
    r.negative_2 = json_string_value(json_object_get(j, "negative_prompt_2"));
    r.seed = (uint64_t)json_integer_value(json_object_get(j, "seed"));
    r.sampler = json_string_value(json_object_get(j, "sampler"));
    r.schedule = json_string_value(json_object_get(j, "schedule"));
    r.steps = (int)json_integer_value(json_object_get(j, "num_inference_steps"));
    r.guidance = (float)json_number_value(json_object_get(j, "guidance_scale"));
    r.clip_skip = (int)json_integer_value(json_object_get(j, "clip_skip"));
    r.size.width = (int)json_integer_value(json_object_get(j, "width"));
    r.size.height = (int)json_integer_value(json_object_get(j, "height"));
    r.sizes = sizes_of(json_object_get(j, "original_size"), json_object_get(j, "crops_coords_top_left"),
                       json_object_get(j, "target_size"));
    r.negative_sizes = sizes_of(json_object_get(j, "negative_original_size"),
                                json_object_get(j, "negative_crops_coords_top_left"),
                                json_object_get(j, "negative_target_size"));
    return r;
}

/* As scripts/reference/pipelines.py makes them. */
static Picture made_picture(void)
{
    Picture p;
    assert_ok(picture_new(size_square(32), &p));
    for (int i = 0; i < 3 * 32 * 32; i++) {
        const int x = i / 3 % 32, y = i / 3 / 32;
        p.rgb[i] = (uint8_t)(7 * x + 11 * y + 53 * (i % 3) + x * y);
    }
    return p;
}

static Picture made_mask(void)
{
    Picture p;
    assert_ok(picture_new(size_square(32), &p));
    for (int i = 0; i < 3 * 32 * 32; i++) {
        const int x = i / 3 % 32, y = i / 3 / 32;
        p.rgb[i] = y < 5 || y >= 24 || x < 3 || x > 23 ? 0 : x == 23 ? 100 : 255;
    }
    return p;
}

static void check_latents(const Fixture *f, const TensorEntry *e)
{
    json_t *j = json_parse(tensorfile_metadata(f->golden, e->name), 0, NULL);
    assert_non_null(j);
    SampleRequest r = request_of(j);
    SampleResult result;
    Picture picture = made_picture(), mask = made_mask();
    const bool painted = begins(e->name, "inpaint.") || begins(e->name, "nine.");
    r.begin.picture = painted || begins(e->name, "img2img.") ? &picture : NULL;
    r.begin.mask = painted ? &mask : NULL;
    r.begin.strength = json_number_value(json_object_get(j, "strength"));
    assert_ok(pipeline_sample(f->p, &r, NULL, NULL, &result));
    assert_int_equal(tensor_count(result.latents), tensor_entry_count(e));
    assert_close(e->name, result.latents->data, e, 1e-3);
    sample_result_free(&result);
    picture_free(&picture);
    picture_free(&mask);
    json_decref(j);
}

static void latents_are_diffusers(void **state)
{
    (void)state;
    Fixture f;
    int samplers;
    fixture_open(&f, "sdxl.safetensors", DTYPE_F32);
    const SamplerKind *kinds = sampler_kinds(&samplers);
    for (int i = 0; i < samplers; i++)
        for (int k = 0; k < 2; k++)
            golden(f.golden, "%s.%d", kinds[i].name, k); /* none of them is forgotten */
    for (int i = 0; i < tensorfile_count(f.golden); i++)
        if (!begins(tensorfile_entry(f.golden, i)->name, "told.") &&
            !begins(tensorfile_entry(f.golden, i)->name, "nine."))
            check_latents(&f, tensorfile_entry(f.golden, i));
    fixture_close(&f);
}

/* The UNet in place of the model's, random, and told its guidance scale beside the sizes. */
static void tell_guidance(Model *m)
{
    UNetConfig k;
    Weights *w;
    assert_ok(unet_config_parse(m->config_json[PART_UNET], "unet", &k));
    k.guidance_channels = 8;
    assert_ok(weights_random(1, DTYPE_F32, &w));
    unet_free(m->unet);
    assert_ok(unet_new(&k, w, &m->unet));
    weights_close(w);
}

/* As the UNets of latent consistency models of SDXL are. */
static void guidance_is_told_beside_sizes(void **state)
{
    (void)state;
    Fixture f = {0};
    SampleRequest r[3];
    SampleResult results[3];
    assert_ok(model_load(SDXL, MODEL_ALL, DTYPE_F32, &f.m));
    tell_guidance(f.m);
    f.c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 2});
    assert_ok(pipeline_new(f.c, f.m, &f.p));
    for (int i = 0; i < 3; i++) {
        r[i] = sample_request_default();
        r[i].sampler = "lcm";
        r[i].steps = 2;
        r[i].prompt = "a cat";
    }
    r[1].guidance = 2;
    r[2].sizes.top = 700;
    for (int i = 0; i < 3; i++) {
        assert_ok(pipeline_sample(f.p, &r[i], NULL, NULL, &results[i]));
        const size_t bytes = tensor_bytes(results[0].latents);
        if (i)
            assert_memory_not_equal(results[0].latents->data, results[i].latents->data, bytes);
    }
    for (int i = 0; i < 3; i++)
        sample_result_free(&results[i]);
    pipeline_free(f.p);
    ctx_free(f.c);
    model_free(f.m);
}

/* diffusers computes the VAE in f32 where SDXL's says that it overflows in f16: the picture is what f32
 * gives.
 */
static void a_vae_that_overflows_is_computed_in_f32(void **state)
{
    (void)state;
    static const DType TYPES[] = {DTYPE_F32, DTYPE_F16};
    Picture pictures[2];
    float latents[4 * 16 * 16];
    random_normal((RandomKey){.seed = 3, .purpose = RANDOM_NOISE}, latents, 4 * 16 * 16);
    for (int i = 0; i < 2; i++) {
        Fixture f;
        fixture_open(&f, "sdxl.safetensors", TYPES[i]);
        assert_ok(pipeline_decode(f.p, latents, size_square(16), &pictures[i]));
        fixture_close(&f);
    }
    const int rounding = test_device() == device_cpu() ? 0 : 1; /* other kernels take weights of 16 bits */
    for (int i = 0; i < 3 * 32 * 32; i++)
        assert_in_range(pictures[1].rgb[i] - pictures[0].rgb[i] + rounding, 0, 2 * rounding);
    picture_free(&pictures[0]);
    picture_free(&pictures[1]);
}

/* Inpainting models ----------------------------------------------------------------------------------------
 */

/* The UNet's file with five more channels into it, as the reference has them. */
static void write_wide_unet(const char *path)
{
    enum { C = 8, IN = 9 };
    TensorFile *f;
    TorchRandom g;
    float all[C * IN * 9], own[C * 4 * 9], more[C * 5 * 9];
    SafeItem items[1024];
    assert_ok(tensorfile_open(SDXL "/unet/diffusion_pytorch_model.safetensors", &f));
    const int count = tensorfile_count(f);
    assert_in_range(count, 1, 1024);
    torch_seed(&g, 90);
    torch_randn(&g, more, C * 5 * 9);
    assert_ok(tensor_entry_read(tensorfile_find(f, "conv_in.weight"), DTYPE_F32, own));
    for (int k = 0; k < C * IN * 9; k++) {
        const int c = k / (IN * 9), in = k / 9 % IN, at = k % 9;
        all[k] = in < 4 ? own[(c * 4 + in) * 9 + at] : more[(c * 5 + in - 4) * 9 + at] / 10;
    }
    Tensor *wide = tensor_over(all, DTYPE_F32, 4, (int64_t[]){C, IN, 3, 3});
    for (int i = 0; i < count; i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        items[i] = (SafeItem){.name = e->name,
                              .ndim = e->ndim,
                              .pieces = {{e, 0, tensor_entry_count(e)}},
                              .piece_count = 1,
                              .type = e->type};
        memcpy(items[i].shape, e->shape, (size_t)e->ndim * sizeof *e->shape);
        if (!strcmp(e->name, "conv_in.weight"))
            items[i] = (SafeItem){.name = e->name, .tensor = wide, .dtype = DTYPE_F16, .ndim = -1};
    }
    assert_ok(safetensors_write(path, items, count, NULL, 0));
    tensor_free(wide);
    tensorfile_close(f);
}

static void link_to(const char *folder, const char *name)
{
    char *to = path_join(folder, name);
    char from[1024];
    snprintf(from, sizeof from, SDXL "/%s", name);
    assert_int_equal(symlink(from, to), 0);
    mem_free(to);
}

static void make_inpainting_folder(char *folder)
{
    static const char *const PARTS_OF_IT[] = {"scheduler",   "text_encoder", "text_encoder_2",  "tokenizer",
                                              "tokenizer_2", "vae",          "model_index.json"};
    static const char four[] = "\"in_channels\": 4";
    char path[1024], *config;
    size_t size;
    strcpy(folder, "/tmp/atelier-sdxl-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof PARTS_OF_IT / sizeof *PARTS_OF_IT; i++)
        link_to(folder, PARTS_OF_IT[i]);
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", folder);
    write_wide_unet(path);
    assert_ok(file_read(SDXL "/unet/config.json", 1 << 20, &config, &size));
    assert_non_null(strstr(config, four));
    strstr(config, four)[sizeof four - 2] = '9';
    snprintf(path, sizeof path, "%s/unet/config.json", folder);
    assert_ok(file_write_atomic(path, config, size));
    mem_free(config);
}

/* Nine channels into the UNet. */
static void an_inpainting_model_draws_as_diffusers_does(void **state)
{
    (void)state;
    Fixture f = {.golden = golden_open("sdxl.safetensors")};
    char folder[64];
    int checked = 0;
    make_inpainting_folder(folder);
    assert_ok(model_load(folder, MODEL_ALL, DTYPE_F32, &f.m));
    assert_ok(dir_remove(folder));
    assert_true(f.m->inpainting);
    f.c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 2});
    assert_ok(pipeline_new(f.c, f.m, &f.p));
    for (int i = 0; i < tensorfile_count(f.golden); i++)
        if (begins(tensorfile_entry(f.golden, i)->name, "nine.")) {
            check_latents(&f, tensorfile_entry(f.golden, i));
            checked++;
        }
    assert_int_equal(checked, 6);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_are_diffusers),
        cmocka_unit_test(guidance_is_told_beside_sizes),
        cmocka_unit_test(a_vae_that_overflows_is_computed_in_f32),
        cmocka_unit_test(an_inpainting_model_draws_as_diffusers_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
