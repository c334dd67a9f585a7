#include "sizes.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <stdlib.h>

/* Entries ------------------------------------------------------------------------------------------------ */

Status size_rule(const Config *config, const ConfigDataset *d, int r, const SizeModel *m, FrameRule *out)
{
    const int side = config_resolutions(config, d)->sides[r], multiple = m->multiple;
    const char *key = d->resolution.count ? "dataset.resolution" : "train.resolution";
    const int below = side / multiple * multiple;
    if (below == 0)
        return status_refuse("%s %d: this model takes multiples of %d; the smallest is %d", key, side,
                             multiple, multiple);
    if (side != below)
        return status_refuse("%s %d: this model takes multiples of %d; the nearest are %d and %d", key, side,
                             multiple, below, below + multiple);
    *out = (FrameRule){.side = side,
                       .buckets = d->buckets,
                       .enlarge = d->enlarge,
                       .whole = d->crop == CROP_NONE,
                       .step = d->bucket_step,
                       .least = d->bucket_min,
                       .most = d->bucket_max};
    return status_in(frame_settle(out, multiple, m->made_for), "dataset %s", d->path);
}

static Status add_resolution(const Config *config, const ConfigDataset *d, int r, const SizeModel *m,
                             const Dataset *dataset, const int *pictures, int count, Entries *out)
{
    FrameRule rule;
    Framer *framer;
    TRY(size_rule(config, d, r, m, &rule));
    TRY(status_in(framer_new(&rule, &framer), "dataset %s", d->path));
    const int every = config_resolutions(config, d)->count;
    Status s = STATUS_OK;
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        const int at = i * every + r;
        out->pictures[at] = pictures[i];
        s = framer_fit(framer, dataset_size(dataset, pictures[i]), &out->fits[at]);
        if (s == STATUS_FAILED)
            s = status_refuse("%s: %s: %s", d->path, dataset_name(dataset, pictures[i]), status_message());
    }
    framer_free(framer);
    return s;
}

static Status entries_room(Entries *e, size_t count)
{
    e->pictures = mem_alloc((count + 1) * sizeof *e->pictures);
    e->fits = mem_alloc((count + 1) * sizeof *e->fits);
    return e->pictures && e->fits ? STATUS_OK : STATUS_FAILED;
}

Status entries_make(const Config *config, const ConfigDataset *d, const SizeModel *m, const Dataset *dataset,
                    const int *pictures, int count, Entries *out)
{
    const int every = config_resolutions(config, d)->count;
    *out = (Entries){0};
    if ((int64_t)count * every > INT32_MAX)
        return status_refuse("%s: %lld samples an epoch are too many; use fewer repeats or resolutions",
                             d->path, (long long)count * every);
    TRY(entries_room(out, (size_t)count * (size_t)every));
    out->count = count * every;
    for (int r = 0; r < every; r++)
        TRY(add_resolution(config, d, r, m, dataset, pictures, count, out));
    return STATUS_OK;
}

void entries_free(Entries *e)
{
    mem_free(e->pictures);
    mem_free(e->fits);
    *e = (Entries){0};
}

/* Sizes -------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    const Size *p = &((const RunSize *)a)->size, *q = &((const RunSize *)b)->size;
    return p->width != q->width ? p->width - q->width : p->height - q->height;
}

void sizes_free(RunSizes *s)
{
    mem_free(s->items);
    *s = (RunSizes){0};
}

/* The size's, which is new at the end. NULL: out of memory. */
static RunSize *size_at(RunSizes *s, Size size)
{
    for (int i = 0; i < s->count; i++)
        if (size_equal(s->items[i].size, size))
            return &s->items[i];
    RunSize *more = mem_realloc(s->items, ((size_t)s->count + 1) * sizeof *more);
    if (!more)
        return NULL;
    s->items = more;
    more[s->count] = (RunSize){.size = size};
    return &more[s->count++];
}

Status sizes_add(RunSizes *s, const Entries *e, int repeats)
{
    for (int i = 0; i < e->count; i++) {
        RunSize *size = size_at(s, e->fits[i].bucket);
        if (!size)
            return STATUS_FAILED;
        size->samples += repeats;
        size->entries += repeats > 0;
        size->held += repeats == 0;
        size->lost += repeats > 0 ? bucket_fit_loss(&e->fits[i]) : 0;
    }
    qsort(s->items, (size_t)s->count, sizeof *s->items, by_size);
    return STATUS_OK;
}

Size sizes_largest(const RunSizes *s)
{
    Size most = {0};
    for (int i = 0; i < s->count; i++)
        if (size_area(s->items[i].size) > size_area(most))
            most = s->items[i].size;
    return most;
}

/* Class pictures ----------------------------------------------------------------------------------------- */

typedef struct Shape {
    double ratio; /* width over height */
    int64_t area;
    int number;
} Shape;

static Shape shape_of(Size s, int number)
{
    return (Shape){(double)s.width / s.height, size_area(s), number};
}

static int by_shape(const void *a, const void *b)
{
    const Shape *p = a, *q = b;
    return p->ratio != q->ratio ? (p->ratio > q->ratio) - (p->ratio < q->ratio)
           : p->area != q->area ? (p->area > q->area) - (p->area < q->area)
                                : p->number - q->number;
}

/* The size that is trained and that most of its share of `count` pictures is missing of. While there is one
 * that has none yet, only those count. */
static int furthest_behind(const RunSizes *s, double samples, int count, const int *shares)
{
    bool all_have = true;
    for (int i = 0; i < s->count; i++)
        all_have &= s->items[i].samples == 0 || shares[i] > 0;
    int best = 0;
    double most = -INFINITY;
    for (int i = 0; i < s->count; i++) {
        const double missing = (double)s->items[i].samples / samples * count - shares[i];
        if (s->items[i].samples > 0 && (all_have || shares[i] == 0) && missing > most) {
            most = missing;
            best = i;
        }
    }
    return best;
}

/* shares (s->count): how many of `count` pictures each size has, or of as many as there are sizes; sequence
 * (count), or NULL: the size of each. */
static void divide(const RunSizes *s, int count, int *shares, Size *sequence)
{
    double samples = 0;
    int trained = 0;
    for (int i = 0; i < s->count; i++) {
        shares[i] = 0;
        samples += (double)s->items[i].samples;
        trained += s->items[i].samples > 0;
    }
    const int all = count > trained ? count : trained;
    for (int n = 0; n < all; n++) {
        const int size = furthest_behind(s, samples, n + 1, shares);
        shares[size]++;
        if (sequence && n < count)
            sequence[n] = s->items[size].size;
    }
}

Status sizes_sequence(const RunSizes *s, int count, Size *out)
{
    int *shares = mem_alloc((size_t)s->count * sizeof *shares);
    if (!shares)
        return STATUS_FAILED;
    divide(s, count, shares, out);
    mem_free(shares);
    return STATUS_OK;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Pictures in the order of their shapes to sizes in the order of theirs. With fewer pictures than sizes a
 * picture goes to several. */
static void hand_out(const RunSizes *s, const Shape *sizes, const int *shares, const Shape *pictures,
                     const Dataset *dataset, int count, Entries *out)
{
    for (int k = 0; k < s->count; k++) {
        const int first = out->count, n = shares[sizes[k].number];
        for (int i = 0; i < n; i++)
            out->pictures[out->count++] = pictures[(first + i) % count].number;
        qsort(out->pictures + first, (size_t)n, sizeof *out->pictures, by_number);
        for (int i = first; i < out->count; i++)
            out->fits[i] =
                bucket_fit_size(dataset_size(dataset, out->pictures[i]), s->items[sizes[k].number].size);
    }
}

Status sizes_share(const RunSizes *s, const Dataset *dataset, int count, Entries *out)
{
    const size_t m = (size_t)s->count, n = (size_t)count;
    Shape *pictures = mem_alloc(n * sizeof *pictures), *sizes = mem_alloc(m * sizeof *sizes);
    int *shares = mem_alloc(m * sizeof *shares);
    *out = (Entries){0};
    Status status = pictures && sizes && shares ? entries_room(out, n + m) : STATUS_FAILED;
    if (status == STATUS_OK) {
        for (int i = 0; i < count; i++)
            pictures[i] = shape_of(dataset_size(dataset, i), i);
        for (int i = 0; i < s->count; i++)
            sizes[i] = shape_of(s->items[i].size, i);
        qsort(pictures, n, sizeof *pictures, by_shape);
        qsort(sizes, m, sizeof *sizes, by_shape);
        divide(s, count, shares, NULL);
        hand_out(s, sizes, shares, pictures, dataset, count, out);
    }
    mem_free(pictures);
    mem_free(sizes);
    mem_free(shares);
    return status;
}
