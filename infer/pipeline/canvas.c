#include "canvas.h"

#include "fill.h"
#include "mask.h"

#include <math.h>
#include <string.h>

/* What of a picture of size `in`, scaled as the fit says, is the canvas. */
static PictureWindow fit_window(PictureFit fit, Size in, Size size)
{
    PictureWindow w = {.whole = size, .size = size};
    if (fit == FIT_CROP)
        w.whole = picture_cover_size(in, size);
    if (fit == FIT_PAD) {
        const double scale = fmin((double)size.width / in.width, (double)size.height / in.height);
        w.whole = (Size){(int)fmax(1, rint(in.width * scale)), (int)fmax(1, rint(in.height * scale))};
    }
    w.x = (w.whole.width - size.width) / 2;
    w.y = (w.whole.height - size.height) / 2;
    return w;
}

/* Only the masked part ---------------------------------------------------------------------------------- */

/* Lengthens [*at, *at + *length) to `wanted` on both sides, and moves it back into [0, whole) where it fits
 * there; else the middle of it is. */
static void widen(int *at, int *length, int wanted, int whole)
{
    *at -= (wanted - *length) / 2;
    *length = wanted;
    if (wanted > whole)
        *at = -((wanted - whole) / 2);
    else if (*at + wanted > whole)
        *at = whole - wanted;
    else if (*at < 0)
        *at = 0;
}

static void pad_side(int *at, int *length, int padding, int whole)
{
    const int from = *at > padding ? *at - padding : 0;
    const int64_t end = (int64_t)*at + *length + padding;
    *length = (int)(end < whole ? end : whole) - from;
    *at = from;
}

/* The mask's surroundings in the shape of the size worked at, as A1111 and diffusers choose them. */
static void choose_cut(Canvas *k, Size size)
{
    const Size whole = k->mask.size;
    Size *cut = &k->cut;
    pad_side(&k->x, &cut->width, k->from->padding, whole.width);
    pad_side(&k->y, &cut->height, k->from->padding, whole.height);
    const double shape = (double)size.width / size.height;
    if ((double)cut->width / cut->height > shape)
        widen(&k->y, &cut->height, (int)fmax(cut->width / shape, 1), whole.height);
    else
        widen(&k->x, &cut->width, (int)fmax(cut->height * shape, 1), whole.width);
}

static Status cut_and_scale(const Canvas *k, const Picture *whole, Size size, Picture *out)
{
    Picture part;
    TRY(picture_crop(whole, k->x, k->y, k->cut, &part));
    const Status s = picture_resize(&part, size, out);
    picture_free(&part);
    return s;
}

/* The canvas --------------------------------------------------------------------------------------------- */

static Status masked_canvas(Canvas *k, Size size)
{
    const SampleBegin *from = k->from;
    TRY(mask_of(from->mask, from->picture->size, &k->mask));
    if (!mask_bounds(&k->mask, &k->x, &k->y, &k->cut))
        return status_refuse("the mask is black all over: nothing of the picture would be painted anew");
    choose_cut(k, size);
    TRY(mask_blur(&k->mask, from->blur));
    if (from->padding != NO_PADDING) {
        TRY(cut_and_scale(k, from->picture, size, &k->work));
        return cut_and_scale(k, &k->mask, size, &k->work_mask);
    }
    const PictureWindow w = fit_window(from->fit, from->picture->size, size);
    TRY(picture_resize_window(from->picture, &w, &k->work));
    return picture_resize_window(&k->mask, &w, &k->work_mask);
}

Status canvas_new(const SampleBegin *from, Size size, Canvas *out)
{
    *out = (Canvas){.from = from};
    if (from->mask) {
        TRY(masked_canvas(out, size));
        return from->content == CONTENT_FILL ? fill_masked(&out->work, &out->work_mask, &out->filled)
                                             : STATUS_OK;
    }
    const PictureWindow w = fit_window(from->fit, from->picture->size, size);
    return picture_resize_window(from->picture, &w, &out->work);
}

void canvas_free(Canvas *k)
{
    picture_free(&k->work);
    picture_free(&k->filled);
    picture_free(&k->work_mask);
    picture_free(&k->mask);
}

/* Putting it back ---------------------------------------------------------------------------------------- */

/* to = mask ? made : to, in shares of the mask's grey; made's pixel (0,0) lies at (x,y) of to. */
static void lay_over(const Picture *made, const Picture *mask, int x, int y, Picture *to)
{
    for (int j = 0; j < made->size.height; j++)
        for (int i = 0; i < made->size.width; i++) {
            if (x + i < 0 || y + j < 0 || x + i >= to->size.width || y + j >= to->size.height)
                continue;
            const size_t at = 3 * ((size_t)(y + j) * (size_t)to->size.width + (size_t)(x + i));
            const uint8_t *v = made->rgb + 3 * ((size_t)j * (size_t)made->size.width + (size_t)i);
            for (size_t c = 0; c < 3; c++)
                to->rgb[at + c] =
                    (uint8_t)((v[c] * mask->rgb[at] + to->rgb[at + c] * (255 - mask->rgb[at]) + 127) / 255);
        }
}

Status canvas_paste(const Canvas *k, Picture *made)
{
    const bool part = k->from->padding != NO_PADDING;
    const Picture *under = part ? k->from->picture : &k->work;
    Picture whole, scaled = {0};
    TRY(picture_crop(under, 0, 0, under->size, &whole));
    Status s = part ? picture_resize(made, k->cut, &scaled) : STATUS_OK;
    if (s == STATUS_OK) {
        lay_over(part ? &scaled : made, part ? &k->mask : &k->work_mask, part ? k->x : 0, part ? k->y : 0,
                 &whole);
        picture_free(made);
        *made = whole;
    } else {
        picture_free(&whole);
    }
    picture_free(&scaled);
    return s;
}
