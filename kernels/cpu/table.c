/* This instruction set's table: every family fills in its own functions. */
#include "families.h"

void ISA(cpu_table)(Device *d)
{
    device_cpu_memory(d);
    ISA(linear_table)(d);
    ISA(kronecker_table)(d);
    ISA(conv_table)(d);
    ISA(norm_table)(d);
    ISA(pointwise_table)(d);
    ISA(attention_table)(d);
    ISA(attention_backward_table)(d);
    ISA(shape_table)(d);
    ISA(embedding_table)(d);
    ISA(loss_table)(d);
    ISA(optimizer_table)(d);
}
