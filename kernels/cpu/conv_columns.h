/* Convolutions as products of matrices (conv_columns.c). */
#ifndef ATL_CPU_CONV_COLUMNS_H
#define ATL_CPU_CONV_COLUMNS_H

#include "isa.h"

/* Bytes of scratch memory of the forward; of the gradient of the input. */
Status ISA(columns_scratch)(const Conv *a, size_t *bytes);
Status ISA(columns_backward_scratch)(const Conv *a, size_t *bytes);
/* The forward writes y, all that is added included; the gradient of the input reads y and writes x. */
Status ISA(columns_run)(const Conv *a, void *scratch);
Status ISA(columns_backward_run)(const Conv *a, void *scratch);

#endif
