#include "family.h"

#include "unet.h"

ModelFamily family_of(const UNetConfig *unet)
{
    return unet->addition_input ? FAMILY_SDXL : unet->linear_projection ? FAMILY_SD2 : FAMILY_SD1;
}

const char *family_name(ModelFamily f)
{
    static const char *const NAMES[FAMILY_COUNT] = {"SD1.x", "SD2.x", "SDXL"};
    return NAMES[f];
}
