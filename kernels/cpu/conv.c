#include "families.h"

void ISA(conv_table)(Device *d)
{
    (void)d;
}
