/* How an operation is tested: against a plain double-precision twin of its forward (a loop as in the formula) and
 * finite differences of that twin, in every storage dtype and on every instruction set the processor has.
 *
 * A test of operation NAME is `const OpTest *optest_NAME(int *count)`; test_ops.c builds its table from ATL_OPS, so a
 * missing one does not link. */
#ifndef ATL_GRADCHECK_H
#define ATL_GRADCHECK_H

#include "kernels/device.h"

#define OPTEST_MAX 6

typedef struct OpCase OpCase;
struct OpCase {
    const char *what;                       /* "tails: C=5, groups=1" */
    int inputs;                             /* differentiable float inputs first, in the order of `in` */
    int ndim[OPTEST_MAX];
    int64_t shape[OPTEST_MAX][TENSOR_MAX_DIMS];
    bool weight[OPTEST_MAX];                /* input is a trained weight (f32, requires_grad) rather than an activation */
    bool no_grad[OPTEST_MAX];
    int64_t i[8];
    float f[4];
    double range;                           /* inputs are drawn from U(-range, range); 0: 1 */
};
typedef struct OpTest {
    OpCase c;
    /* Calls the operation on tensors (weights wrapped into layers by the test itself). */
    Tensor *(*run)(Ctx *c, const OpCase *k, Tensor **in);
    /* The twin: in as doubles; writes out, returns the number of elements. out is large enough for run's result. */
    int64_t (*twin)(const OpCase *k, const double *const *in, double *out);
} OpTest;

#endif
