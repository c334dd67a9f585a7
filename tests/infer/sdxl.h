/* The tiny random SDXL of tests/golden, and what diffusers makes with it (scripts/reference/sdxl.py). */
#ifndef TESTS_SDXL_H
#define TESTS_SDXL_H

#include "infer/pipeline/pipeline.h"
#include "tests/far/far.h"
#include "golden.h"

#define SDXL TEST_GOLDEN "/models/sdxl"

typedef struct Fixture {
    Model *m;
    Ctx *c;
    TensorFile *golden;
    Pipeline *p;
} Fixture;

static inline void fixture_open(Fixture *f, const char *golden, DType dtype)
{
    assert_ok(model_load(SDXL, MODEL_ALL, dtype, &f->m));
    f->c = ctx_new(test_device(), &(CtxOptions){.dtype = dtype, .threads = 2});
    assert_non_null(f->c);
    f->golden = golden_open(golden);
    assert_ok(pipeline_new(f->c, f->m, &f->p)); /* places the model, too */
}

static inline void fixture_close(Fixture *f)
{
    pipeline_free(f->p);
    ctx_free(f->c);
    model_free(f->m);
    tensorfile_close(f->golden);
}

#endif
