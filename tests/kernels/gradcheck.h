/* How an operation is tested: against a plain double-precision twin of its forward (a loop as in the formula)
 * and finite differences of that twin, in every storage dtype and on every instruction set the processor has.
 *
 * A test of operation NAME is `const OpTest *optest_NAME(int *count)`; test_ops.c builds its table from
 * ATL_OPS, so a missing one does not link. */
#ifndef ATL_GRADCHECK_H
#define ATL_GRADCHECK_H

#include "kernels/device.h"

#define OPTEST_MAX 6
#define PLAIN .range = 0 /* for macros of cases: nothing beyond the usual */

typedef struct OpCase OpCase;
struct OpCase {
    const char *what; /* "tails: C=5, groups=1" */
    int inputs;       /* differentiable float inputs first, in the order of `in` */
    int ndim[OPTEST_MAX];
    int64_t shape[OPTEST_MAX][TENSOR_MAX_DIMS];
    bool weight[OPTEST_MAX]; /* input is a trained weight (f32, requires_grad) rather than an activation */
    bool no_grad[OPTEST_MAX];
    int64_t i[8];
    float f[4];
    double range; /* inputs are drawn from U(-range, range); 0: 1 */
};
typedef struct OpTest {
    OpCase c;
    /* Calls the operation on tensors (weights wrapped into layers by the test itself). */
    Tensor *(*run)(Ctx *c, const OpCase *k, Tensor **in);
    /* The twin: in as doubles; writes out, returns the number of elements. out is large enough for run's
     * result. */
    int64_t (*twin)(const OpCase *k, const double *const *in, double *out);
} OpTest;

/* A weight of a case is a trained one (f32 storage, its gradient added to what is there); together with
 * no_grad it is a frozen one, stored as the context stores activations. Inputs of a case with more than
 * OPTEST_SAMPLED elements are not differentiated one by one, but at samples and in one random direction, so
 * that a case may be large enough for the parallel code.
 *
 * Checks all cases of operation `name`, and fails the running CMocka test with a message that names the
 * instruction set, storage type, case, tensor and element. */
#define OPTEST_SAMPLED 400
void optest_check(const char *name, const OpTest *tests, int count);

/* The same cases with NaN and infinities among their inputs and in the result's gradient (not_finite.c). */
void optest_check_not_finite(const char *name, const OpTest *tests, int count);

/* The same cases with one of their inputs stored in a type that arithmetic does not read: refused by name in
 * at least one of them, for every input (wrong_type.c). */
void optest_check_wrong_type(const char *name, const OpTest *tests, int count);

/* For twins: elements of a case's input, and of its first `dims` dimensions. */
int64_t optest_elements(const OpCase *k, int input);

#endif
