#include "families.h"

void ISA(loss_table)(Device *d)
{
    (void)d;
}
