/* Guidance otherwise than by two evaluations alone, against diffusers' latents
 * (scripts/reference/guidance.py): told to the model as a number, as latent consistency models have it, and
 * rescaled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/files/safetensors.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "tests/far/far.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SD1 TEST_GOLDEN "/models/sd1"
#define COND "time_embedding.cond_proj.weight"
#define MOST_TENSORS 256

static TensorFile *golden;
static char folder[] = "/tmp/atelier-guidance-XXXXXX";

static void assert_ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
}

/* Draws the first of models.py's prompts and compares the latents. */
static void compare(const char *path, const SampleRequest *settings, const char *key)
{
    Model *m;
    Pipeline *p;
    SampleResult result;
    assert_ok(model_load(path, MODEL_ALL, DTYPE_F32, &m));
    Ctx *c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_non_null(c);
    assert_ok(pipeline_new(c, m, &p));
    SampleRequest r = *settings;
    r.prompt = "a red heart on a blue background";
    r.negative = "ugly";
    r.seed = 42;
    assert_ok(pipeline_sample(p, &r, NULL, NULL, &result));
    const TensorEntry *e = tensorfile_find(golden, key);
    assert_non_null(e);
    const int64_t n = tensor_count(result.latents);
    assert_int_equal(tensor_entry_count(e), n);
    float *theirs = mem_alloc((size_t)n * sizeof *theirs), *ours = result.latents->data;
    assert_ok(tensor_entry_read(e, DTYPE_F32, theirs));
    double worst = 0, largest = 0;
    for (int64_t k = 0; k < n; k++) {
        worst = fmax(worst, fabs((double)ours[k] - (double)theirs[k]));
        largest = fmax(largest, fabs((double)theirs[k]));
    }
    if (!(worst <= 1e-4 * largest))
        fail_msg("%s: %g of the largest off", key, worst / largest);
    mem_free(theirs);
    sample_result_free(&result);
    pipeline_free(p);
    ctx_free(c);
    model_free(m);
}

static Tensor *tensor_of(const TensorEntry *e)
{
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < e->ndim; i++)
        shape[i] = e->shape[i];
    Tensor *t = tensor_new(DTYPE_F32, e->ndim, shape);
    assert_non_null(t);
    assert_ok(tensor_entry_read(e, DTYPE_F32, t->data));
    return t;
}

/* SD1's UNet and a layer for guidance. */
static void write_unet(void)
{
    static SafeItem items[MOST_TENSORS];
    TensorFile *f;
    char path[128], *config;
    size_t size;
    assert_ok(tensorfile_open(SD1 "/unet/diffusion_pytorch_model.safetensors", &f));
    const int count = tensorfile_count(f);
    assert_true(count < MOST_TENSORS);
    for (int i = 0; i <= count; i++) {
        const TensorEntry *e = i < count ? tensorfile_entry(f, i) : tensorfile_find(golden, "cond_proj");
        items[i] = (SafeItem){.name = i < count ? e->name : COND, .tensor = tensor_of(e), .ndim = -1};
    }
    snprintf(path, sizeof path, "%s/unet", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", folder);
    assert_ok(safetensors_write(path, items, count + 1, NULL, 0));
    for (int i = 0; i <= count; i++)
        tensor_free((Tensor *)items[i].tensor);
    tensorfile_close(f);
    assert_ok(file_read(SD1 "/unet/config.json", 1 << 16, &config, &size));
    static const char key[] = "\"time_cond_proj_dim\": ";
    char *at = strstr(config, key);
    assert_non_null(at);
    memcpy(at + strlen(key), "   4", 4); /* for null */
    snprintf(path, sizeof path, "%s/unet/config.json", folder);
    assert_ok(file_write_atomic(path, config, strlen(config)));
    mem_free(config);
}

static void a_model_is_told_its_guidance(void **state)
{
    (void)state;
    SampleRequest r = sample_request_default();
    r.sampler = "lcm";
    r.steps = 4;
    r.guidance = 2.5f;
    compare(folder, &r, "lcm.latents");
}

static void guidance_is_rescaled(void **state)
{
    (void)state;
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.guidance_rescale = 0.7;
    compare(TEST_GOLDEN "/models/sd2", &r, "rescaled");
}

static int set_up(void **state)
{
    (void)state;
    static const char *const parts[] = {"text_encoder", "vae", "tokenizer", "scheduler", "model_index.json"};
    if (!mkdtemp(folder) || tensorfile_open(TEST_GOLDEN "/guidance.safetensors", &golden) != STATUS_OK)
        return -1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char there[512], here[128];
        snprintf(there, sizeof there, "%s/%s", SD1, parts[i]);
        snprintf(here, sizeof here, "%s/%s", folder, parts[i]);
        if (symlink(there, here) != 0)
            return -1;
    }
    write_unet();
    return 0;
}

static int clear_up(void **state)
{
    (void)state;
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "unet/config.json",
                                        "text_encoder",
                                        "vae",
                                        "tokenizer",
                                        "scheduler",
                                        "model_index.json"};
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/unet", folder);
    rmdir(path);
    rmdir(folder);
    tensorfile_close(golden);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_told_its_guidance),
        cmocka_unit_test(guidance_is_rescaled),
    };
    return cmocka_run_group_tests(tests, set_up, clear_up);
}
