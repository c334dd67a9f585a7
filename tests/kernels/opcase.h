/* One case of an operation's test (gradcheck.h) made ready: its numbers in double with the result of its
 * twin, and the operation run on a device as a step of its own: inputs, the operation, and a scalar whose
 * gradient with respect to the result is a random cotangent. Failures fail the running CMocka test. */
#ifndef ATL_OPCASE_H
#define ATL_OPCASE_H

#include "gradcheck.h"

#define GRAD_BEFORE 0.25f /* what stands in a weight's gradient before: must be added to */

/* Inputs, the twin's result and the cotangent; work is as large as out. */
typedef struct Reference {
    const OpTest *test;
    const OpCase *k;
    double *in[OPTEST_MAX], *out, *cotangent, *work;
    int64_t count[OPTEST_MAX], out_count;
} Reference;

/* Inputs of 16-bit runs are rounded to 8 significant bits, which bf16 and f16 both hold. */
Reference reference_of(const OpTest *test, bool sixteen_bits);
void reference_free(Reference *r);

/* The same inputs as floats, and what the operation made of them. out_type is the result's storage. */
typedef struct Run {
    const Reference *r;
    DType dtype;
    int wrong; /* number of the input that is stored as i8, or -1 */
    Tensor *weight[OPTEST_MAX];
    float *in[OPTEST_MAX], *cotangent;
    int64_t out_count;
    DType out_type;
    float *out, *grad[OPTEST_MAX];
    bool has_grad[OPTEST_MAX];
} Run;

Run run_of(const Device *dev, const Reference *r, DType dtype);
Run run_with_wrong(const Device *dev, const Reference *r, DType dtype, int input);
void run_free(Run *run);
void opcase_step(Ctx *c, void *run); /* for ctx_run and ctx_rehearse */

bool opcase_wants_grad(const OpCase *k, int input);
void *opcase_checked(void *p);          /* p, which must not be NULL */
double opcase_uniform(uint64_t *state); /* U(-1, 1) from a small generator, the same in every run */

#endif
