#include "families.h"

void ISA(shape_table)(Device *d)
{
    (void)d;
}
