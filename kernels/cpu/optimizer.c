#include "families.h"

void ISA(optimizer_table)(Device *d)
{
    (void)d;
}
