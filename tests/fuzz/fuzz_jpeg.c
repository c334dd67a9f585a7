/* JPEG pictures, their EXIF orientation included. */
#include "picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_picture(data, size, PICTURE_JPEG);
}
