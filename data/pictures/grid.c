/* Several pictures of one size on one sheet: columns × as many rows as are needed, 2 white pixels between. */
#include "picture.h"

#include <string.h>

#define GAP PICTURE_GRID_GAP

Status picture_grid(const Picture *pictures, int count, int columns, Picture *out)
{
    *out = (Picture){0};
    Size each = {0};
    for (int i = 0; i < count; i++) {
        const Picture *p = &pictures[i];
        if (!p->rgb)
            continue;
        if (each.width && !size_equal(p->size, each))
            return status_fail("pictures of a grid differ in size: %dx%d and %dx%d", each.width, each.height,
                               p->size.width, p->size.height);
        each = p->size;
    }
    const int w = each.width, h = each.height;
    if (!w || columns < 1)
        return status_fail("a grid needs at least one picture and one column");
    if (columns > count)
        columns = count;
    const int rows = (count + columns - 1) / columns;
    if ((int64_t)columns * (w + GAP) > PICTURE_MAX_SIDE || (int64_t)rows * (h + GAP) > PICTURE_MAX_SIDE)
        return status_fail("a grid of %d x %d pictures of %dx%d is too large", columns, rows, w, h);
    TRY(picture_new((Size){columns * (w + GAP) - GAP, rows * (h + GAP) - GAP}, out));
    memset(out->rgb, 255, 3 * (size_t)size_area(out->size));
    for (int i = 0; i < count; i++) {
        if (!pictures[i].rgb)
            continue;
        const int left = i % columns * (w + GAP), top = i / columns * (h + GAP);
        for (int y = 0; y < h; y++)
            memcpy(out->rgb + 3 * ((size_t)(top + y) * (size_t)out->size.width + (size_t)left),
                   pictures[i].rgb + 3 * (size_t)w * (size_t)y, 3 * (size_t)w);
    }
    return STATUS_OK;
}
