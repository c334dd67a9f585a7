/* A file of tests/golden, as the scripts in scripts/reference make it: for the tests of schedules, of
 * samplers and of noise. */
#ifndef TESTS_NUMBERS_GOLDEN_H
#define TESTS_NUMBERS_GOLDEN_H

#include "infer/files/safetensors.h"
#include "infer/schedules/schedule.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static TensorFile *golden;

static inline const TensorEntry *entry(const char *format, ...)
{
    char name[128];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return tensorfile_find(golden, name);
}

static inline float value(const TensorEntry *e, int64_t i)
{
    float f;
    memcpy(&f, (const char *)e->data + 4 * i, 4);
    return f;
}

#endif
