/* One picture format through everything that reads pictures. */
#ifndef ATL_FUZZ_PICTURE_H
#define ATL_FUZZ_PICTURE_H

#include "fuzz.h"

#include "data/pictures/picture.h"
#include "kernels/base/mem.h"

#include <string.h>

/* Bytes of another format do nothing, so that each target stays with its own decoder. */
static inline int fuzz_picture(const uint8_t *data, size_t size, PictureFormat format)
{
    Size seen = {0};
    int orientation = 0;
    PictureFacts facts;
    if (picture_format(data, size) != format)
        return 0;
    const Status info = picture_info(data, size, &seen, &orientation);
    fuzz_check(info);
    if (info == STATUS_OK && size_area(seen) > FUZZ_MAX_PIXELS)
        return 0;
    Picture whole, small, cut;
    const Status s = picture_decode(data, size, &whole);
    fuzz_check(s);
    if (s == STATUS_OK && (info != STATUS_OK || !size_equal(whole.size, seen)))
        fuzz_fail("picture_info and picture_decode disagree");
    if (s == STATUS_OK && (orientation < 1 || orientation > 8))
        fuzz_fail("an impossible orientation");
    fuzz_check(picture_decode_for(data, size, size_square(8), &small));
    fuzz_check(
        picture_decode_window(data, size, size_square(8), &(PictureWindow){{12, 9}, 1, -1, {8, 8}}, &cut));
    fuzz_check(picture_check(data, size, &facts));
    char *text;
    fuzz_check(picture_text(data, size, PICTURE_COMMENT, &text));
    mem_free(text);
    picture_free(&whole);
    picture_free(&small);
    picture_free(&cut);
    return 0;
}

#endif
