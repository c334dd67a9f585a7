#include "families.h"

void ISA(linear_table)(Device *d)
{
    (void)d;
}
