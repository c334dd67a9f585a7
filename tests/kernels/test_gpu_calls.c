/* The GPU's queue where its driver is awkward. Breaks if a thread that did not choose the GPU computed on
 * another, or if a step that cannot be captured as a graph were not computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cuda/cuda.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { N = 64 };

/* y = value, computed there, and its last number here. */
static Status fill(const Device *d, float *there, float value, float *here)
{
    Tensor t = {.data = there, .dtype = DTYPE_F32, .ndim = 1, .shape = {N}};
    TRY(d->fill(&t, value));
    return d->get(here, there + N - 1, sizeof *here);
}

typedef struct Work {
    const Device *d;
    float got;
    bool done;
} Work;

static void *work(void *arg)
{
    Work *w = arg;
    float *there = w->d->memory_new(N * sizeof *there);
    w->done =
        there && fill(w->d, there, 3, &w->got) == STATUS_OK && w->d->settle() == STATUS_OK && w->got == 3;
    w->d->memory_free(there, N * sizeof *there);
    return NULL;
}

/* CUDA has a current GPU for each thread, the first where none was set. */
static void a_thread_computes_on_the_gpu_that_another_chose(void **state)
{
    Work w = {.d = *state};
    pthread_t thread;
    work(&w);
    assert_true(w.done);
    w.done = false;
    assert_int_equal(pthread_create(&thread, NULL, work, &w), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(w.done);
}

static void a_step_that_cannot_be_captured_is_computed(void **state)
{
    static const char *const fails[] = {"", "cudaStreamBeginCapture:1:900", "cudaStreamEndCapture:1:901",
                                        "cudaGraphInstantiate:1:801"};
    const Device *d = *state;
    float *there = d->memory_new(N * sizeof *there);
    assert_non_null(there);
    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        void *recording = NULL;
        setenv("ATELIER_STAND_IN_FAIL", fails[i], 1);
        for (int step = 0; step < 3; step++) {
            float got = 0;
            bool again;
            assert_int_equal(d->record(&recording), STATUS_OK);
            assert_int_equal(fill(d, there, (float)i + 1, &got), STATUS_OK);
            assert_int_equal(d->recorded(&recording, &again), STATUS_OK);
            assert_int_equal(d->settle(), STATUS_OK);
            assert_true(got == (float)i + 1);
            assert_int_equal(again, step > (fails[i][0] ? 1 : 0));
        }
        d->forget(recording);
    }
    d->memory_free(there, N * sizeof *there);
}

/* The second of the stand-in's. */
static int choose(void **state)
{
    setenv("ATELIER_STAND_IN_CARDS", "2", 1);
    *state = (void *)device_cuda("cuda:1");
    return *state && strstr(((const Device *)*state)->chip, "Stand-in") ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_computes_on_the_gpu_that_another_chose),
        cmocka_unit_test(a_step_that_cannot_be_captured_is_computed),
    };
    CudaCardInfo card;
    if (!device_cuda_info(0, &card) || !strstr(card.name, "Stand-in")) /* a real one cannot be told to fail */
        return 0;
    return cmocka_run_group_tests(tests, choose, NULL);
}
