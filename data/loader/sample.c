/* A sample's pixels (sample.h): decode, cut the window out of the picture scaled to cover it, mirror, floats.
 *
 * Augmentation scales the covering size by 1 ± scale and moves the window by up to ± shift of its sides;
 * where the window leaves the picture its edge is repeated. Draws: RANDOM_FLIP index 0; RANDOM_CROP 0 (x) and
 * 1 (y); RANDOM_AUGMENT 0 (x), 1 (y), 2 (scale). */
#include "sample.h"

#include "kernels/base/mem.h"
#include "kernels/base/random.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Drawing ---------------------------------------------------------------------------------------------- */

/* Uniform in ± range. */
static double draw_around(RandomKey key, uint32_t index, double range)
{
    return range > 0 ? range * (2 * random_uniform(key, index) - 1) : 0;
}

/* The middle, or anywhere that lies inside. */
static int draw_start(const LoaderSource *s, RandomKey key, uint32_t index, int side, int cut)
{
    if (side <= cut || !s->random_crop)
        return side >= cut ? (side - cut) / 2 : -((cut - side) / 2);
    return (int)random_below(key, index, (uint32_t)(side - cut + 1));
}

/* What of the picture the sample shows. */
static PictureWindow draw_window(const LoaderSource *s, const LoaderSample *sample, RandomKey key)
{
    const Size size = sample->size;
    PictureWindow w = {.size = size,
                       .whole = s->fits
                                    ? s->fits[sample->entry].scaled
                                    : picture_cover_size(dataset_size(s->dataset, sample->picture), size)};
    key.purpose = RANDOM_AUGMENT;
    const double scale = 1 + draw_around(key, 2, s->scale);
    const int dx = (int)lround(draw_around(key, 0, s->shift) * size.width);
    const int dy = (int)lround(draw_around(key, 1, s->shift) * size.height);
    w.whole.width = (int)fmax(1, round(w.whole.width * scale));
    w.whole.height = (int)fmax(1, round(w.whole.height * scale));
    key.purpose = RANDOM_CROP;
    w.x = draw_start(s, key, 0, w.whole.width, size.width) + dx;
    w.y = draw_start(s, key, 1, w.whole.height, size.height) + dy;
    return w;
}

static RandomKey key_of(uint64_t seed, int64_t step, int place)
{
    return (RandomKey){
        .seed = seed, .step = (uint32_t)step, .sample = (uint32_t)place, .purpose = RANDOM_FLIP};
}

void sample_choose(const LoaderSource *source, uint64_t seed, int64_t step, int place, LoaderSample *s)
{
    const RandomKey key = key_of(seed, step, place);
    const PictureWindow w = draw_window(source, s, key);
    s->flipped = source->flip && random_u32(key, 0) >> 31;
    s->window = w;
    s->pixels = s->mask = NULL;
}

/* Pictures kept ---------------------------------------------------------------------------------------- */

typedef struct Kept {
    Picture *pictures; /* rgb NULL: not kept (yet) */
    int *slots;        /* (the source's count): where each of its entries is; equal ones share a place */
    int count;
} Kept;

struct PixelCache {
    pthread_mutex_t lock;
    size_t bytes;
    Kept *kept; /* one a source: sources of one dataset may be cropped differently */
    int count;
};

/* The same picture, scaled and cut alike. */
static bool is_same(const LoaderSource *s, int a, int b)
{
    return s->pictures[a] == s->pictures[b] &&
           (!s->fits || (size_equal(s->fits[a].bucket, s->fits[b].bucket) &&
                         size_equal(s->fits[a].scaled, s->fits[b].scaled)));
}

static Status keep_source(Kept *k, const LoaderSource *s)
{
    k->slots = mem_alloc((size_t)s->count * sizeof *k->slots);
    if (!k->slots)
        return STATUS_FAILED;
    for (int i = 0; i < s->count; i++) /* one that is repeated stands next to itself */
        k->slots[i] = i && is_same(s, i, i - 1) ? k->slots[i - 1] : k->count++;
    k->pictures = mem_calloc((size_t)k->count, sizeof *k->pictures);
    return k->pictures ? STATUS_OK : STATUS_FAILED;
}

Status pixel_cache_new(const LoaderSource *sources, int source_count, PixelCache **out)
{
    PixelCache *c = *out = mem_calloc(1, sizeof *c);
    if (!c)
        return STATUS_FAILED;
    pthread_mutex_init(&c->lock, NULL);
    c->kept = mem_calloc((size_t)source_count, sizeof *c->kept);
    if (!c->kept)
        return STATUS_FAILED;
    c->count = source_count;
    for (int i = 0; i < source_count; i++)
        TRY(keep_source(&c->kept[i], &sources[i]));
    return STATUS_OK;
}

void pixel_cache_free(PixelCache *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        for (int k = 0; c->kept[i].pictures && k < c->kept[i].count; k++)
            picture_free(&c->kept[i].pictures[k]);
        mem_free(c->kept[i].pictures);
        mem_free(c->kept[i].slots);
    }
    pthread_mutex_destroy(&c->lock);
    mem_free(c->kept);
    mem_free(c);
}

/* The kept picture (the cache's own, never changed once it is there), or rgb NULL. */
static Picture cache_look(PixelCache *c, int source, int entry)
{
    const Kept *kept = &c->kept[source];
    pthread_mutex_lock(&c->lock);
    const Picture p = kept->pictures[kept->slots[entry]];
    pthread_mutex_unlock(&c->lock);
    return p;
}

/* Keeps p if there is room; true: p is the cache's now. */
static bool cache_keep(PixelCache *c, int source, int entry, const Picture *p)
{
    const Kept *kept = &c->kept[source];
    const size_t bytes = 3 * (size_t)size_area(p->size);
    pthread_mutex_lock(&c->lock);
    Picture *place = &kept->pictures[kept->slots[entry]];
    const bool keep = !place->rgb && c->bytes + bytes <= PIXEL_CACHE_BYTES;
    if (keep) {
        *place = *p;
        c->bytes += bytes;
    }
    pthread_mutex_unlock(&c->lock);
    return keep;
}

/* Pixels ----------------------------------------------------------------------------------------------- */

/* A PNG of which the whole is too large to be kept anyway; JPEGs are decoded smaller. */
static bool is_large_png(const Dataset *d, int i, const uint8_t *bytes, size_t size)
{
    return 3 * (size_t)size_area(dataset_size(d, i)) > PIXEL_CACHE_BYTES &&
           picture_format(bytes, size) == PICTURE_PNG;
}

/* What is cut out follows from the size that the dataset has written down. */
static Status check_size(const Dataset *d, int i, const uint8_t *bytes, size_t size)
{
    Size found;
    int orientation;
    const Size told = dataset_size(d, i);
    TRY(picture_info(bytes, size, &found, &orientation));
    return size_equal(found, told)
               ? STATUS_OK
               : status_fail("is %d x %d, but %d x %d is written down; build the dataset again", found.width,
                             found.height, told.width, told.height);
}

/* The window, or the decoded picture that windows are cut out of: *is_cut says which, and has to be true
 * where the window is wanted. The decoder is told the window's size and not the drawn one, so that a drawn
 * scale never decides how a JPEG is decoded. */
static Status read_picture(Dataset *d, int i, const PictureWindow *w, bool *is_cut, Picture *out)
{
    uint8_t *bytes;
    size_t size;
    *out = (Picture){0};
    TRY(dataset_bytes(d, i, &bytes, &size));
    *is_cut |= is_large_png(d, i, bytes, size);
    Status s = check_size(d, i, bytes, size);
    if (s == STATUS_OK)
        s = *is_cut ? picture_decode_window(bytes, size, w->size, w, out)
                    : picture_decode_for(bytes, size, w->size, out);
    mem_free(bytes);
    return s;
}

Status dataset_picture(Dataset *d, int i, const BucketFit *fit, Picture *out)
{
    const PictureWindow w = {.whole = fit->scaled, .x = fit->x, .y = fit->y, .size = fit->bucket};
    bool is_cut = true;
    return read_picture(d, i, &w, &is_cut, out);
}

/* Every sample of a picture has the same window: the cut one is kept, else the decoded picture. */
static bool is_fixed(const LoaderSource *s)
{
    return !s->random_crop && s->shift <= 0 && s->scale <= 0;
}

/* The kept picture, or one that is kept from now on; *owned true: there was no room, or it was cut
 * out for this sample alone, and is the caller's to free. *is_cut: it is the sample already. */
static Status get_base(const LoaderSource *s, const PictureWindow *w, PixelCache *cache,
                       const LoaderSample *sample, Picture *out, bool *is_cut, bool *owned)
{
    *owned = false;
    *is_cut = is_fixed(s);
    *out = cache_look(cache, sample->source, sample->entry);
    if (out->rgb)
        return STATUS_OK;
    TRY(read_picture(s->dataset, sample->picture, w, is_cut, out));
    *owned = *is_cut != is_fixed(s) || !cache_keep(cache, sample->source, sample->entry, out);
    return STATUS_OK;
}

/* Mirrored while they are written: the base stays as it is. */
static void write_floats(const Picture *cut, bool flipped, float *out)
{
    const int n = cut->size.width;
    for (int y = 0; y < cut->size.height; y++)
        for (int x = 0; x < n; x++) {
            const uint8_t *p = cut->rgb + 3 * ((size_t)y * (size_t)n + (size_t)(flipped ? n - 1 - x : x));
            for (int k = 0; k < 3; k++)
                *out++ = (float)p[k] / 127.5f - 1.0f;
        }
}

Status sample_pixels(const LoaderSource *source, uint64_t seed, int64_t step, int place, PixelCache *cache,
                     LoaderSample *s)
{
    const PictureWindow w = draw_window(source, s, key_of(seed, step, place));
    Picture base, cut = {0};
    bool is_cut, owned;
    TRY(get_base(source, &w, cache, s, &base, &is_cut, &owned));
    const Status status = is_cut ? STATUS_OK : picture_resize_window(&base, &w, &cut);
    if (status == STATUS_OK)
        write_floats(is_cut ? &base : &cut, s->flipped, s->pixels);
    picture_free(&cut);
    if (owned)
        picture_free(&base);
    return status;
}
