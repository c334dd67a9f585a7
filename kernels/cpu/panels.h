/* Products in f32 from operands of any storage, packed into panels: with AVX2 (panels.c). */
#ifndef ATL_CPU_PANELS_H
#define ATL_CPU_PANELS_H

#include "gemm.h"

/* Whether the product goes this way: by its sizes alone. */
bool ISA(panels_take)(const Gemm *g);
/* Bytes of scratch memory; data is not looked at. */
size_t ISA(panels_scratch)(const Gemm *g);
void ISA(panels_run)(const Gemm *g, void *scratch);

#endif
