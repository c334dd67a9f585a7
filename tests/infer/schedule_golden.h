/* tests/golden/schedule.safetensors, as scripts/reference/schedule.py makes it: for the tests of schedules
 * and of samplers. */
#ifndef TESTS_SCHEDULE_GOLDEN_H
#define TESTS_SCHEDULE_GOLDEN_H

#include "infer/files/safetensors.h"
#include "infer/samplers/schedule.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static TensorFile *golden;

static const TensorEntry *entry(const char *format, ...)
{
    char name[128];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return tensorfile_find(golden, name);
}

static float value(const TensorEntry *e, int64_t i)
{
    float f;
    memcpy(&f, (const char *)e->data + 4 * i, 4);
    return f;
}

static void schedule_of(const char *name, NoiseSchedule *s)
{
    const char *json = tensorfile_metadata(golden, name);
    assert_non_null(json);
    assert_int_equal(schedule_parse(json, name, s), STATUS_OK);
}

#endif
