/* The one place that knows oneDNN: everything else calls these functions and never sees dnnl.h. */
#ifndef ATL_CPU_ONEDNN_H
#define ATL_CPU_ONEDNN_H

#include "../tensor.h"

/* y = alpha op(a) op(b) + beta y in f32, row-major with leading dimensions; op(a) (m,k), op(b) (k,n), y (m,n).
 * Inside a parallel region it runs on the calling thread alone. */
Status onednn_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *y, int64_t ldy);

#endif
