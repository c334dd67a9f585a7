/* Errors of the CUDA runtime: their names, the last one, those that stay, and those that a test asks for.
 *
 * ATELIER_STAND_IN_FAIL="NAME:N[:CODE],…" makes the N-th call of the function NAME fail, with the error of
 * that number; without one, it is out of memory where memory is asked for, a failure of the system for NCCL,
 * and else the launch failure that a kernel of before has left. Counting begins anew when the variable
 * changes. After an error that takes the device's context with it, what was queued is gone and every call
 * fails, until cudaDeviceReset(). */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WANTED 16 /* most failures asked for at once */

static cudaError_t last, sticky;

/* Failures that are asked for --------------------------------------------------------------------------- */

static struct {
    char name[128];
    long left; /* calls until it fails */
    int code;
} wanted[WANTED];
static int wanted_count;

static int usual_code(const char *name)
{
    if (strncmp(name, "nccl", 4) == 0)
        return 2; /* ncclSystemError */
    return strstr(name, "Malloc") || strstr(name, "Alloc") ? cudaErrorMemoryAllocation
                                                           : cudaErrorLaunchFailure;
}

static void read_wanted(const char *text)
{
    wanted_count = 0;
    for (const char *at = text; *at && wanted_count < WANTED; at += strspn(at, ",")) {
        char word[128];
        const size_t length = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        at += length;
        char *n = strchr(word, ':'), *code = n ? strchr(n + 1, ':') : NULL;
        if (!n || atol(n + 1) < 1) {
            fprintf(stderr, "stand-in: ATELIER_STAND_IN_FAIL has NAME:N or NAME:N:CODE, not %s\n", word);
            abort();
        }
        *n = 0;
        snprintf(wanted[wanted_count].name, sizeof wanted->name, "%s", word);
        wanted[wanted_count].left = atol(n + 1);
        wanted[wanted_count].code = code ? atoi(code + 1) : usual_code(word);
        wanted_count++;
    }
}

int runtime_wanted(const char *name)
{
    static char *known;
    const char *text = getenv("ATELIER_STAND_IN_FAIL");
    if (!text)
        text = "";
    if (!known || strcmp(known, text) != 0) {
        free(known);
        known = strdup(text);
        read_wanted(text);
    }
    for (int i = 0; i < wanted_count; i++)
        if (strcmp(wanted[i].name, name) == 0 && --wanted[i].left == 0)
            return wanted[i].code;
    return 0;
}

/* Errors ------------------------------------------------------------------------------------------------ */

/* The context is lost with these. */
static bool stays(cudaError_t e)
{
    return e == cudaErrorIllegalAddress || e == cudaErrorLaunchTimeout || e == cudaErrorMisalignedAddress ||
           e == cudaErrorLaunchFailure || e == cudaErrorECCUncorrectable || e == cudaErrorUnknown;
}

cudaError_t runtime_enter(const char *name)
{
    if (sticky != cudaSuccess)
        return last = sticky;
    const cudaError_t e = (cudaError_t)runtime_wanted(name);
    if (stays(e)) {
        sticky = e;
        queue_drop_all();
    }
    return runtime_error(e);
}

bool runtime_lost(void)
{
    return sticky != cudaSuccess;
}

void runtime_reset(void)
{
    sticky = last = cudaSuccess;
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
    const cudaError_t e = sticky != cudaSuccess ? sticky : last;
    last = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return sticky != cudaSuccess ? sticky : last;
}
