/* `atelier train` with several processes and a GPU each (on tests/cuda: the stand-ins of GPU and NCCL) comes
 * to the bytes of one, also where a process is killed and the run gone on with by another number of them.
 * Breaks if blocks of gradients go astray between GPUs, are added in another order, or a GPU is taken twice.
 */
#include "runs.h"

#include "kernels/cuda/cuda.h"
#include "tests/kernels/processes.h"
#include "train/atelier.h"

/* The program itself with a configuration of its own; RANK and the others are in the environment. */
static char *own_path, *more;

static void run(int size, const char *name, const char *resume, const char *environment)
{
    char config[128], folder[256];
    snprintf(config, sizeof config, "%s/run.yaml", work);
    snprintf(folder, sizeof folder, "output.dir=%s/%s", work, name);
    char *const words[] = {own_path,       "train", config,  "--device", "cuda",
                           "--set",        folder,  "--set", more,       resume ? "--resume" : NULL,
                           (char *)resume, NULL};
    run_processes(size, -1, words, (const char *const[]){environment, NULL});
}

static void all_are_done(int size, const char *says)
{
    for (int r = 0; r < size; r++)
        ended(r, 0, r ? "" : says);
}

static const char *over(void)
{
    const char *why;
    return device_cuda_nccl(&why) ? "over nccl 2." : "over ";
}

static const char *const RESULTS[] = {"lora.safetensors", "checkpoints/step-000002/weights.safetensors",
                                      "checkpoints/step-000002/optimizer.safetensors"};

static void are_the_same(const char *a, const char *b)
{
    for (size_t i = 0; i < sizeof RESULTS / sizeof *RESULTS; i++)
        assert_same_file(a, b, RESULTS[i]);
}

static int most(void)
{
    const int gpus = device_cuda_count();
    return gpus < 3 ? gpus : 3;
}

/* state: a setting of the runs. */
static void the_number_of_gpus_does_not_change_the_result(void **state)
{
    char one[64], other[64];
    more = *state;
    snprintf(one, sizeof one, "%s-1", more);
    run(1, one, NULL, "A=");
    all_are_done(1, "");
    for (int size = 2; size <= most(); size++) {
        snprintf(other, sizeof other, "%s-%d", more, size);
        run(size, other, NULL, "A=");
        all_are_done(size, over());
        are_the_same(one, other);
    }
}

/* Beside the backward pass, the same bytes as behind it through the host's memory: each process adds the
 * others' numbers by rank. */
static void fast_sums_go_on_beside_the_backward_pass(void **state)
{
    (void)state;
    more = "train.reproducible=fast";
    if (most() < 2 || strcmp(over(), "over nccl 2.") != 0)
        skip();
    for (int size = 2; size <= most(); size++) {
        char beside[32], behind[32];
        snprintf(beside, sizeof beside, "beside-%d", size);
        snprintf(behind, sizeof behind, "behind-%d", size);
        run(size, beside, NULL, "A=");
        all_are_done(size, "over nccl 2.|sums fast");
        run(size, behind, NULL, "ATELIER_NCCL=/nowhere/libnccl.so.2");
        all_are_done(size, "over sockets|sums fast");
        are_the_same(beside, behind);
    }
}

/* Killed in the middle of what the GPUs exchange for the last step, and gone on with by one. */
static void a_killed_gpu_ends_all_and_the_run_goes_on(void **state)
{
    (void)state;
    more = "model.dtype=f32";
    if (!getenv("ATELIER_STAND_IN_CARDS"))
        skip();
    for (int group = 5;; group++) {
        char wish[64], checkpoint[128], name[32];
        snprintf(wish, sizeof wish, "ATELIER_STAND_IN_NCCL=dies:%d:1", group);
        snprintf(name, sizeof name, "killed-%d", group);
        snprintf(checkpoint, sizeof checkpoint, "%s/%s/checkpoints/step-000001", work, name);
        run(2, name, NULL, wish);
        ended(0, 1, "process 1 of 2|has ended without a word");
        if (file_exists(checkpoint)) {
            run(1, name, "auto", "A=");
            all_are_done(1, "");
            are_the_same("model.dtype=f32-1", name);
            return;
        }
    }
}

static int set_up(void **state)
{
    if (open_work(state) != 0)
        return -1;
    char path[128];
    snprintf(path, sizeof path, "%s/run.yaml", work);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "model: {base: %s}\n"
            "dataset: {path: %s/pictures}\n"
            "method: {kind: lora, rank: 2}\n"
            "train: {steps: 2, batch: 1, accumulate: 3, resolution: 32, threads: 1}\n"
            "output: {save_every: 1, keep: 3, dtype: f32}\n",
            SD1, work);
    return fclose(f);
}

int main(int count, char **words)
{
    if (count > 1) {
        atl_own_process();
        return atl_main(count, words);
    }
    own_path = words[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_number_of_gpus_does_not_change_the_result, "model.dtype=f32"),
        cmocka_unit_test_prestate(the_number_of_gpus_does_not_change_the_result, "model.dtype=bf16"),
        cmocka_unit_test(fast_sums_go_on_beside_the_backward_pass),
        cmocka_unit_test(a_killed_gpu_ends_all_and_the_run_goes_on),
    };
    return cmocka_run_group_tests(tests, set_up, remove_work);
}
