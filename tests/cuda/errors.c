/* Errors of the CUDA runtime: their names, the last one. */
#include "runtime.h"

static cudaError_t last;

cudaError_t runtime_enter(const char *name)
{
    (void)name;
    return cudaSuccess;
}

cudaError_t runtime_error(cudaError_t e)
{
    if (e != cudaSuccess)
        last = e;
    return e;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(name, value, text)                                                                              \
    case name:                                                                                               \
        return #name;
        STAND_IN_ERRORS(NAME)
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define TEXT(name, value, text)                                                                              \
    case name:                                                                                               \
        return text;
        STAND_IN_ERRORS(TEXT)
    }
    return "unrecognized error code";
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last;
    last = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last;
}
