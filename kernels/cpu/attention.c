#include "families.h"

void ISA(attention_table)(Device *d)
{
    (void)d;
}
