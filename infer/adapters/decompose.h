/* DoRA (Liu et al. 2024): the changed weight keeps its direction, and has lengths of its own.
 *
 *     W' = m (W + ΔW) / |W + ΔW|        lengths of rows, or of an input channel's columns
 *
 * While nothing of it is trained the lengths do not change, so they are computed once, when the adapter is
 * attached. */
#ifndef ATL_ADAPTER_DECOMPOSE_H
#define ATL_ADAPTER_DECOMPOSE_H

#include "kernels/adapter.h"

/* Makes a's factors of the lengths m: (out,1[,1,1]) or PEFT's (out), or (1,in[,1,1]). `share` of the way is
 * gone from W to W', as ComfyUI and A1111 take a strength. */
Status adapter_decompose(Adapter *a, const Layer *l, const Tensor *m, float share);

#endif
