/* What a kernel reads and writes are floats, unless it says otherwise. Devices take any other type for f16,
 * so a table's function looks at its tensors first:
 *
 *     FLOATS_ONLY(x, y);    // returns a failure that names the first that is neither f32, bf16 nor f16 */
#ifndef ATL_FLOATS_H
#define ATL_FLOATS_H

#include "tensor.h"

/* NULL: a tensor that may be absent. */
static inline Status floats_only(int n, const Tensor *const t[])
{
    char text[80];
    for (int i = 0; i < n; i++)
        if (t[i] && !dtype_is_float(t[i]->dtype))
            return status_fail("computes with f32, bf16 and f16, not with %s",
                               tensor_describe(t[i], text, sizeof text));
    return STATUS_OK;
}

#define FLOATS_ONLY(...)                                                                                     \
    do {                                                                                                     \
        const Tensor *const tensors_[] = {__VA_ARGS__};                                                      \
        TRY(floats_only((int)(sizeof tensors_ / sizeof *tensors_), tensors_));                               \
    } while (0)

#endif
