/* What tests of maps begin with: a small SD1-like model on the test's device, the numbers that
 * scripts/reference/maps.py made, and a request. */
#ifndef ATL_TEST_MAPS_H
#define ATL_TEST_MAPS_H

#include "infer/pipeline/pipeline.h"
#include "infer/pipeline/stages.h"
#include "kernels/base/random.h"
#include "tests/far/far.h"
#include "golden.h"

typedef struct Fixture {
    Model *m;
    Ctx *c;
    Pipeline *p;
    Stages *stages;
    TensorFile *golden;
} Fixture;

static inline void open_fixture(Fixture *f)
{
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &f->m));
    f->c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_non_null(f->c);
    assert_ok(pipeline_new(f->c, f->m, &f->p));
    assert_ok(stages_new(f->c, f->m, &f->stages));
    f->golden = golden_open("maps.safetensors");
}

static inline void close_fixture(Fixture *f)
{
    tensorfile_close(f->golden);
    stages_free(f->stages);
    pipeline_free(f->p);
    ctx_free(f->c);
    model_free(f->m);
}

static inline float *drawn(uint64_t seed, size_t n)
{
    TorchRandom g;
    float *out = mem_alloc(n * sizeof *out);
    assert_non_null(out);
    torch_seed(&g, seed);
    torch_randn(&g, out, n);
    return out;
}

static inline SampleRequest heart(void)
{
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.prompt = "a red heart";
    r.guidance = 5;
    r.steps = 4;
    r.seed = 42;
    return r;
}

#endif
