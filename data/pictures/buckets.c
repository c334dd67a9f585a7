/* Buckets (buckets.h), after sd-scripts' make_bucket_resolutions() and BucketManager.select_bucket(), read in
 * 2026. All ratios and roundings are Python's: doubles, width over height, and int(x + 0.5). */
#include "buckets.h"

#include "kernels/base/mem.h"
#include "picture.h"

#include <math.h>
#include <stdlib.h>

struct Buckets {
    BucketRule rule;
    Size *sizes;
    int count;
};

static double shape(Size s)
{
    return (double)s.width / (double)s.height;
}

static int round_half_up(double x)
{
    return (int)(x + 0.5);
}

/* The sizes --------------------------------------------------------------------------------------------- */

static Status check_rule(const BucketRule *r)
{
    const int least = r->resolution.width < r->resolution.height ? r->resolution.width : r->resolution.height;
    const int most = r->resolution.width + r->resolution.height - least;
    if (r->step < 1 || r->min_side < r->step || r->min_side % r->step || r->max_side % r->step)
        return status_refuse("buckets: sides from %d to %d are no multiples of the step, %d", r->min_side,
                             r->max_side, r->step);
    if (least < r->min_side || most > r->max_side)
        return status_refuse(
            "buckets: the resolution, %d x %d, does not lie between the smallest side, %d, and "
            "the largest, %d",
            r->resolution.width, r->resolution.height, r->min_side, r->max_side);
    return STATUS_OK;
}

static int by_width(const void *a, const void *b)
{
    const Size *p = a, *q = b;
    return p->width != q->width ? p->width - q->width : p->height - q->height;
}

static void remove_equal(Buckets *b)
{
    int kept = 0;
    for (int i = 0; i < b->count; i++)
        if (i == 0 || !size_equal(b->sizes[i], b->sizes[kept - 1]))
            b->sizes[kept++] = b->sizes[i];
    b->count = kept;
}

/* The square, and for each width the greatest height that keeps inside of the area, both ways round. */
static void make_sizes(Buckets *b)
{
    const BucketRule *r = &b->rule;
    const int64_t area = size_area(r->resolution);
    b->sizes[b->count++] = size_square((int)(sqrt((double)area) / r->step) * r->step);
    for (int width = r->min_side; width <= r->max_side; width += r->step) {
        const int64_t whole = area / width / r->step * r->step;
        const int height = whole < r->max_side ? (int)whole : r->max_side;
        if (height < r->min_side)
            continue;
        b->sizes[b->count++] = (Size){width, height};
        b->sizes[b->count++] = (Size){height, width};
    }
    qsort(b->sizes, (size_t)b->count, sizeof *b->sizes, by_width);
    remove_equal(b);
}

Status buckets_new(const BucketRule *rule, Buckets **out)
{
    *out = NULL;
    TRY(check_rule(rule));
    const size_t most = 1 + 2 * (size_t)((rule->max_side - rule->min_side) / rule->step + 1);
    Buckets *b = mem_calloc(1, sizeof *b);
    if (!b || !(b->sizes = mem_alloc(most * sizeof *b->sizes))) {
        buckets_free(b);
        return STATUS_FAILED;
    }
    b->rule = *rule;
    make_sizes(b);
    *out = b;
    return STATUS_OK;
}

void buckets_free(Buckets *b)
{
    if (!b)
        return;
    mem_free(b->sizes);
    mem_free(b);
}

int buckets_count(const Buckets *b)
{
    return b->count;
}

/* A picture's ------------------------------------------------------------------------------------------- */

/* The picture's own size if it is one of them, else the first of the nearest shape. */
static Size nearest(const Buckets *b, Size picture)
{
    Size best = b->sizes[0];
    for (int i = 0; i < b->count; i++) {
        if (size_equal(b->sizes[i], picture))
            return picture;
        if (fabs(shape(b->sizes[i]) - shape(picture)) < fabs(shape(best) - shape(picture)))
            best = b->sizes[i];
    }
    return best;
}

/* To the bucket's height where the picture is the wider of the two, else to its width. */
static void fit_nearest(const Buckets *b, Size picture, BucketFit *out)
{
    out->bucket = nearest(b, picture);
    const double scale = shape(picture) > shape(out->bucket) ? (double)out->bucket.height / picture.height
                                                             : (double)out->bucket.width / picture.width;
    out->scaled = (Size){round_half_up(picture.width * scale), round_half_up(picture.height * scale)};
}

static int round_to_step(const BucketRule *r, double x)
{
    const int whole = round_half_up(x);
    return whole - whole % r->step;
}

/* Reduced to the area with one side a multiple of step: the side for which the other one comes nearest to the
 * picture's shape. False: one is less than a step. */
static bool reduce(const BucketRule *r, Size picture, Size *out)
{
    const double ratio = shape(picture), area = (double)size_area(r->resolution);
    const double width = sqrt(area * ratio), height = area / width;
    const int by_w = round_to_step(r, width), its_height = round_to_step(r, by_w / ratio);
    const int by_h = round_to_step(r, height), its_width = round_to_step(r, by_h * ratio);
    if (its_height == 0 || by_h == 0)
        return false;
    if (fabs((double)by_w / its_height - ratio) < fabs((double)its_width / by_h - ratio))
        *out = (Size){by_w, round_half_up(by_w / ratio)};
    else
        *out = (Size){round_half_up(by_h * ratio), by_h};
    return true;
}

static Status fit_own(const Buckets *b, Size picture, BucketFit *out)
{
    const BucketRule *r = &b->rule;
    out->scaled = picture;
    const bool fits = size_area(picture) <= size_area(r->resolution) || reduce(r, picture, &out->scaled);
    out->bucket = (Size){out->scaled.width - out->scaled.width % r->step,
                         out->scaled.height - out->scaled.height % r->step};
    if (fits && out->bucket.width && out->bucket.height)
        return STATUS_OK;
    return status_fail(
        "a picture of %d x %d has a side of less than %d pixels at its bucket's size; enlarge small "
        "pictures, or leave it out",
        picture.width, picture.height, r->step);
}

Status buckets_fit(const Buckets *b, Size picture, BucketFit *out)
{
    *out = (BucketFit){0};
    if (b->rule.enlarge)
        fit_nearest(b, picture, out);
    else
        TRY(fit_own(b, picture, out));
    out->x = (out->scaled.width - out->bucket.width) / 2;
    out->y = (out->scaled.height - out->bucket.height) / 2;
    return STATUS_OK;
}

BucketFit bucket_fit_size(Size picture, Size size)
{
    const Size scaled = picture_cover_size(picture, size);
    return (BucketFit){size, scaled, (scaled.width - size.width) / 2, (scaled.height - size.height) / 2};
}

BucketFit bucket_fit_whole(BucketFit fit)
{
    return (BucketFit){.bucket = fit.bucket, .scaled = fit.bucket};
}

/* BucketManager.get_crop_ltrb(), and what follows from it in __getitem__(); halves are floored, as Python's
 * // does, and the mirrored side cut off, as its int(). */
BucketCorner bucket_corner(Size picture, Size bucket, bool mirrored)
{
    double width = bucket.width, height = bucket.height;
    if (shape(bucket) > shape(picture))
        width = bucket.height * shape(picture);
    else
        height = bucket.width / shape(picture);
    const double left = floor((bucket.width - width) / 2), top = floor((bucket.height - height) / 2);
    return (BucketCorner){(int)top, (int)(mirrored ? bucket.width - (left + width) : left)};
}

double bucket_fit_loss(const BucketFit *fit)
{
    return 1 - (double)size_area(fit->bucket) / (double)size_area(fit->scaled);
}
