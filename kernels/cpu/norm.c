#include "families.h"

void ISA(norm_table)(Device *d)
{
    (void)d;
}
