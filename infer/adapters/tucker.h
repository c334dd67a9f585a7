/* Adapters with a middle part (a Tucker decomposition), as LyCORIS writes them for convolutions, as adapters
 * without one.
 *
 *     LoCon   ΔW[o,c,k] = Σ up[o,i] mid[i,j,k] down[j,c]
 *     LoHa    each of the two factors = Σ a[i,o] t[i,j,k] b[j,c]
 *     LoKr    w2[o,c,k] = Σ a[i,o] t2[i,j,k] b[j,c]
 *
 * Summed over j once, what is left is the ordinary pair: a (o,i), and b (i,c·k). */
#ifndef ATL_ADAPTER_TUCKER_H
#define ATL_ADAPTER_TUCKER_H

#include "kernels/adapter.h"

/* Roles that files have and adapters do not, behind the kinds' own. */
enum { LORA_MID = 2, LOHA_T1 = 4, LOHA_T2 = 5, LOKR_T2 = 6 };

/* Takes the middle parts out of a's tensors (in host memory, f32). Fails where shapes do not fit
 * the layer's weight w. */
Status tucker_expand(Adapter *a, const Tensor *w);

#endif
