/* Whole runs on the GPU's device (tests/cuda: its kernels on the host) come to what the processor's come to:
 * gradients and weights within the tolerances of the same arithmetic in another order; and to the same bytes
 * as themselves, killed and gone on with. Breaks if a kernel, a copy or a recorded step computes something
 * else than the engine asked for. */
#include "runs.h"

#include "infer/files/tensor_file.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Kind {
    const char *name, *settings[8];
    const char *dtype; /* NULL: f32 */
    bool tf32;         /* f32 is multiplied in TF32 */
} Kind;

enum { LORA, DREAMBOOTH, FUSED, KILLED };
static const Kind kinds[] = {
    [LORA] = {"lora", {"method.kind=lora", "train.ema=0.9"}, NULL},
    [DREAMBOOTH] = {"dreambooth",
                    {"model.base=builtin:tiny", "method.kind=full", "prior.path=class", "prior.prompt=a dog",
                     "prior.pictures=2", "prior.steps=1", "train.batch=1"},
                    NULL},
    [FUSED] = {"fused",
               {"method.kind=full", "train.fused_backward=true", "train.offload=all",
                "train.checkpointing=on", "train.ema=0.9"},
               NULL},
    {"fused8",
     {"method.kind=full", "train.fused_backward=true", "train.max_grad_norm=0.01",
      "optimizer.kind=adamw8bit"},
     NULL},
    {"builtin", {"model.base=builtin:tiny", "method.kind=lora", "train.batch=1"}, NULL},
    {"text",
     {"method.kind=lora", "method.text_encoder=true", "train.cache_text=false", "train.checkpointing=on"},
     NULL},
    {"tf32", {"method.kind=lora", "model.tf32=true"}, NULL, .tf32 = true},
    {"bf16", {"method.kind=lora", "train.cache_latents=false"}, "model.dtype=bf16"},
    {"f16", {"method.kind=lora", "train.offload=all", "train.accumulate=2"}, "model.dtype=f16"},
    {"waiting", {"method.kind=full", "train.offload=all", "train.checkpointing=on"}, NULL},
    {"full", {"method.kind=full", "method.text_encoder=true", "train.cache_text=false"}, NULL},
    {"xl",
     {"model.base=" SDXL, "method.kind=lora", "method.text_encoder=true", "train.cache_text=false"},
     NULL},
};
#define KINDS (sizeof kinds / sizeof *kinds)
enum { STEPS = 4 };

static Config *config_of(const Kind *k, const char *dtype, const char *name)
{
    const char *const *s = k->settings;
    char *given[8];
    for (int i = 0; i < 8; i++)
        given[i] = s[i] ? (char *)s[i] : "train.seed=7";
    return config_for(name, SD1, given[0], given[1], given[2], given[3], given[4], given[5], given[6],
                      given[7], dtype ? (char *)dtype : "model.dtype=f32", "train.steps=4",
                      "validation.share=0.3", "validation.every=2", "preview.prompts=[a cat]",
                      "preview.steps=2", "preview.every=4", "output.keep=3", (char *)NULL);
}

static Status run_on(const Device *dev, const Kind *k, const char *dtype, const char *name,
                     const char *resume)
{
    char *trace = mem_printf("%s/%s/trace", work, name);
    Config *config = config_of(k, dtype, name);
    const Status s = trainer_run(
        config, &(TrainOptions){.device = dev, .resume = resume, .trace = trace, .trace_steps = STEPS});
    config_free(config);
    mem_free(trace);
    return s;
}

/* Numbers of a step's trace ----------------------------------------------------------------------------- */

static TensorFile *trace_of(const char *name, int step)
{
    char path[160];
    TensorFile *f;
    snprintf(path, sizeof path, "%s/%s/trace/step-%06d.safetensors", work, name, step);
    if (tensorfile_open(path, &f) != STATUS_OK)
        fail_msg("%s", status_message());
    return f;
}

static float *numbers(const TensorFile *f, const char *key, int64_t *n)
{
    const TensorEntry *e = tensorfile_find(f, key);
    assert_non_null(e);
    *n = tensor_entry_count(e);
    float *x = malloc(sizeof(float) * (size_t)*n);
    assert_non_null(x);
    assert_int_equal(tensor_entry_read(e, DTYPE_F32, x), STATUS_OK);
    return x;
}

typedef struct Gradient {
    double error, largest;
} Gradient;

static Gradient compare(const float *x, const float *y, int64_t n)
{
    Gradient g = {0};
    for (int64_t j = 0; j < n; j++) {
        g.error = fmax(g.error, fabs((double)x[j] - y[j]));
        g.largest = fmax(g.largest, fabs((double)x[j]));
    }
    assert_true(isfinite(g.error));
    return g;
}

#define SMALL 1e-4 /* of the largest of all: gradients that are 0 but for rounding, as a key's bias has */

/* The worst gradient of the first step: largest error by its largest value. Of fused updates, which leave
 * none to be seen, 0. */
static double gradient_error(const Kind *k, const char *a, const char *b)
{
    if (strncmp(k->name, "fused", 5) == 0)
        return 0;
    TensorFile *fa = trace_of(a, 1), *fb = trace_of(b, 1);
    Gradient all[1024];
    double worst = 0, largest = 0;
    int seen = 0;
    for (int i = 0; i < tensorfile_count(fa) && seen < 1024; i++) {
        const char *key = tensorfile_entry(fa, i)->name;
        int64_t n;
        if (strncmp(key, "grad.", 5) != 0)
            continue;
        float *x = numbers(fa, key, &n), *y = numbers(fb, key, &n);
        all[seen] = compare(x, y, n);
        largest = fmax(largest, all[seen++].largest);
        free(x), free(y);
    }
    assert_in_range(seen, 10, 1023);
    for (int i = 0; i < seen; i++)
        worst = fmax(worst, all[i].error / fmax(all[i].largest, SMALL * largest));
    tensorfile_close(fa), tensorfile_close(fb);
    return worst;
}

/* ‖a − b‖ / ‖a − start‖ over all weights after the last step. */
static double change_error(const char *a, const char *b)
{
    TensorFile *start = trace_of(a, 0), *fa = trace_of(a, STEPS), *fb = trace_of(b, STEPS);
    double apart = 0, moved = 0;
    for (int i = 0; i < tensorfile_count(fa); i++) {
        const char *key = tensorfile_entry(fa, i)->name;
        int64_t n;
        if (strncmp(key, "weight.", 7) != 0)
            continue;
        float *s = numbers(start, key, &n), *x = numbers(fa, key, &n), *y = numbers(fb, key, &n);
        for (int64_t j = 0; j < n; j++) {
            apart += ((double)x[j] - y[j]) * ((double)x[j] - y[j]);
            moved += ((double)x[j] - s[j]) * ((double)x[j] - s[j]);
        }
        free(s), free(x), free(y);
    }
    tensorfile_close(start), tensorfile_close(fa), tensorfile_close(fb);
    assert_true(moved > 0);
    return sqrt(apart / moved);
}

/* Tests ------------------------------------------------------------------------------------------------- */

static const Device *gpu(void)
{
    const Device *dev = device_cuda("cuda");
    if (!dev)
        fail_msg("%s", status_message());
    return dev;
}

/* In f32 as close as another order of sums makes it. In 16 bits what rounding does is measured: by how far
 * the processor's run in 16 bits is from its run in f32; the GPU's may be half as far again. */
static void every_kind_of_run_agrees_with_the_processors(void **state)
{
    const Kind *k = *state;
    char *there = mem_printf("%s-gpu", k->name), *rounded = mem_printf("%s-16", k->name);
    double gradient_most = 1e-4, change_most = 2e-3;
    if (run_on(device_cpu(), k, NULL, k->name, NULL) != STATUS_OK ||
        run_on(gpu(), k, k->dtype, there, NULL) != STATUS_OK ||
        (k->dtype && run_on(device_cpu(), k, k->dtype, rounded, NULL) != STATUS_OK))
        fail_msg("%s: %s", k->name, status_message());
    if (k->dtype) {
        gradient_most = 1.5 * gradient_error(k, k->name, rounded);
        change_most = 1.5 * change_error(k->name, rounded);
    }
    if (k->tf32)
        gradient_most = 2e-2, change_most = 0.1;
    const double gradient = gradient_error(k, k->name, there), change = change_error(k->name, there);
    print_message("%s: gradients within %.2g (of %.2g), weights within %.2g (of %.2g) of their change\n",
                  k->name, gradient, gradient_most, change, change_most);
    assert_true(gradient <= gradient_most && (!k->tf32 || gradient > 1e-4));
    assert_true(change <= change_most);
    const double a = number(k->name, STEPS - 1, "validation_loss"),
                 b = number(there, STEPS - 1, "validation_loss");
    assert_true(fabs(a - b) <= (k->dtype ? 0.02 : k->tf32 ? 2e-3 : 1e-4) * fabs(a));
    mem_free(there);
    mem_free(rounded);
}

/* The run that was killed in its last steps, and one that was not. */
static void a_killed_run_goes_on_to_the_same_bytes(void **state)
{
    const Kind *k = *state;
    char *whole = mem_printf("%s-gpu", k->name), *killed = mem_printf("%s-killed", k->name);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(run_on(gpu(), k, NULL, killed, NULL) == STATUS_OK ? 0 : 1);
    char *checkpoint = mem_printf("%s/%s/checkpoints/step-000002", work, killed);
    while (!file_exists(checkpoint) && waitpid(child, NULL, WNOHANG) == 0)
        usleep(2000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(file_exists(checkpoint));
    if (run_on(gpu(), k, NULL, killed, "auto") != STATUS_OK)
        fail_msg("%s", status_message());
    static const char *const files[] = {"samples/step-000004.png",
                                        "checkpoints/step-000004/weights.safetensors",
                                        "checkpoints/step-000004/optimizer.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_same_file(whole, killed, files[i]);
    if (k != &kinds[DREAMBOOTH])
        assert_same_file(whole, killed, "checkpoints/step-000004/ema.safetensors");
    assert_same_file(whole, killed,
                     k == &kinds[LORA] ? "lora.safetensors"
                                       : "model/unet/diffusion_pytorch_model.safetensors");
    mem_free(checkpoint);
    mem_free(whole);
    mem_free(killed);
}

/* In a process of its own, which ends as a program does whose GPU is gone. True: it failed by itself. */
static bool fails_at(int wait, const char *name)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char fail[64];
        snprintf(fail, sizeof fail, "cudaStreamSynchronize:%d:702", wait);
        setenv("ATELIER_STAND_IN_FAIL", fail, 1);
        const Status s = run_on(gpu(), &kinds[LORA], NULL, name, NULL);
        _exit(s == STATUS_OK ? 0 : s == STATUS_FAILED && strstr(status_message(), "watchdog") ? 1 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 1;
}

/* Whenever a wait ends with the watchdog's timeout, the checkpoint that is there is whole. */
static void a_run_whose_gpu_fails_can_be_gone_on_with(void **state)
{
    (void)state;
    char name[32], *checkpoint = NULL;
    bool there = false;
    int low = 0, high = 0; /* waits that come before the checkpoint; that the whole run does not have */
    while (!there) {
        const int wait = high ? (low + high) / 2 : low ? 2 * low : 256;
        assert_true(wait != low && wait != high);
        snprintf(name, sizeof name, "failed-%d", wait);
        mem_free(checkpoint);
        checkpoint = mem_printf("%s/%s/checkpoints/step-000002", work, name);
        if (!fails_at(wait, name))
            high = wait;
        else if (!(there = file_exists(checkpoint)))
            low = wait;
    }
    if (run_on(gpu(), &kinds[LORA], NULL, name, "auto") != STATUS_OK)
        fail_msg("%s", status_message());
    assert_same_file("lora-gpu", name, "lora.safetensors");
    mem_free(checkpoint);
}

int main(void)
{
    struct CMUnitTest tests[KINDS + KILLED + 1];
    for (size_t i = 0; i < KINDS; i++)
        tests[i] = (struct CMUnitTest){.name = kinds[i].name,
                                       .test_func = every_kind_of_run_agrees_with_the_processors,
                                       .initial_state = (void *)&kinds[i]};
    for (int i = 0; i < KILLED; i++)
        tests[KINDS + i] = (struct CMUnitTest){.name = "a_killed_run_goes_on_to_the_same_bytes",
                                               .test_func = a_killed_run_goes_on_to_the_same_bytes,
                                               .initial_state = (void *)&kinds[i]};
    tests[KINDS + KILLED] = (struct CMUnitTest)cmocka_unit_test(a_run_whose_gpu_fails_can_be_gone_on_with);
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
