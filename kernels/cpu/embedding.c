#include "families.h"

void ISA(embedding_table)(Device *d)
{
    (void)d;
}
