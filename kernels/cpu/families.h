/* The functions of each family in this instruction set's copy, as table.c puts them into the Device. */
#ifndef ATL_CPU_FAMILIES_H
#define ATL_CPU_FAMILIES_H

#include "isa.h"

/* Each family's file defines one function that fills in its part of the table. */
void ISA(linear_table)(Device *d);
void ISA(kronecker_table)(Device *d);
void ISA(conv_table)(Device *d);
void ISA(norm_table)(Device *d);
void ISA(pointwise_table)(Device *d);
void ISA(attention_table)(Device *d);
void ISA(attention_backward_table)(Device *d);
void ISA(shape_table)(Device *d);
void ISA(embedding_table)(Device *d);
void ISA(loss_table)(Device *d);
void ISA(optimizer_table)(Device *d);

#endif
