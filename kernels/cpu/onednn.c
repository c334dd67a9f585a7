#include "onednn.h"

#include <dnnl.h>

Status onednn_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *y, int64_t ldy)
{
    if (dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, y, ldy) !=
        dnnl_success)
        return status_fail("oneDNN could not multiply (%lld,%lld) by (%lld,%lld)", (long long)m, (long long)k,
                           (long long)k, (long long)n);
    return STATUS_OK;
}
