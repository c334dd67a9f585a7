/* How the tests of the stand-ins launch a kernel, and how they see one fail. */
#ifndef TESTS_CUDA_PLANTED_H
#define TESTS_CUDA_PLANTED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "kernels/cuda/base/kernel.h"
#include "kernels/cuda/base/mma.h"

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs kernel<<<grid, block, shared>>>(arguments…) to its end. */
template <typename... P>
static void planted_run(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                        typename SameType<P>::type... arguments)
{
    void *list[] = {(void *)&arguments..., NULL};
    stand_in_kernel(name, kernel);
    assert_int_equal(cudaLaunchKernel((const void *)kernel, grid, block, list, shared, NULL), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}
#define RUN(grid, block, shared, kernel, ...) planted_run(#kernel, kernel, grid, block, shared, __VA_ARGS__)

/* Device memory with what the host has there. */
template <typename T> static T *on_device(const T *from, size_t count)
{
    T *p;
    assert_int_equal(cudaMalloc((void **)&p, count * sizeof(T)), cudaSuccess);
    if (from)
        assert_int_equal(cudaMemcpy(p, from, count * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return p;
}
template <typename T> static void to_host(T *to, const T *from, size_t count)
{
    assert_int_equal(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
}

/* Runs `what` in a process of its own, and fails unless that ends itself with a message that has all of the
 * words, which are separated by '|'. */
static inline void fails_with(void (*what)(), const char *words)
{
    int ends[2];
    char said[4096], word[256];
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        what();
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], said + n, sizeof said - 1 - n)) > 0;)
        n += (size_t)got;
    said[n] = 0;
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        fail_msg("was not caught (status %x): %s", (unsigned)status, said);
    for (const char *at = words; *at;) {
        const size_t length = strcspn(at, "|");
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        if (!strstr(said, word))
            fail_msg("the message has no \"%s\": %s", word, said);
        at += length + (at[length] != 0);
    }
    if (getenv("ATELIER_TEST_VERBOSE"))
        fprintf(stderr, "%s", said);
}

#endif
