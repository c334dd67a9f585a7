/* A sample's pixels (sample.h): decode, cut the square out of the picture scaled to cover it, mirror, floats.
 *
 * Augmentation scales the covering size by 1 ± scale and moves the window by up to ± shift of the side; where
 * the window leaves the picture its edge is repeated. Draws: RANDOM_FLIP index 0; RANDOM_CROP 0 (x) and 1
 * (y); RANDOM_AUGMENT 0 (x), 1 (y), 2 (scale). */
#include "sample.h"

#include "kernels/base/mem.h"
#include "kernels/base/random.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Drawing ---------------------------------------------------------------------------------------------- */

/* Where the square lies in the picture after it was scaled to (width,height). */
typedef struct Window {
    int width, height, x, y;
} Window;

/* Uniform in ± range. */
static double draw_around(RandomKey key, uint32_t index, double range)
{
    return range > 0 ? range * (2 * random_uniform(key, index) - 1) : 0;
}

/* The middle, or anywhere that lies inside. */
static int draw_start(const LoaderSource *s, RandomKey key, uint32_t index, int side, int resolution)
{
    if (side <= resolution || !s->random_crop)
        return side >= resolution ? (side - resolution) / 2 : -((resolution - side) / 2);
    return (int)random_below(key, index, (uint32_t)(side - resolution + 1));
}

static Window draw_window(const LoaderSource *s, int picture, int resolution, RandomKey key)
{
    Window w;
    Picture size = {0};
    dataset_size(s->dataset, picture, &size.width, &size.height);
    picture_cover_size(&size, resolution, resolution, &w.width, &w.height);
    key.purpose = RANDOM_AUGMENT;
    const double scale = 1 + draw_around(key, 2, s->scale);
    const int dx = (int)lround(draw_around(key, 0, s->shift) * resolution);
    const int dy = (int)lround(draw_around(key, 1, s->shift) * resolution);
    w.width = (int)fmax(1, round(w.width * scale));
    w.height = (int)fmax(1, round(w.height * scale));
    key.purpose = RANDOM_CROP;
    w.x = draw_start(s, key, 0, w.width, resolution) + dx;
    w.y = draw_start(s, key, 1, w.height, resolution) + dy;
    return w;
}

static RandomKey key_of(uint64_t seed, int64_t step, int place)
{
    return (RandomKey){
        .seed = seed, .step = (uint32_t)step, .sample = (uint32_t)place, .purpose = RANDOM_FLIP};
}

void sample_choose(const LoaderSource *source, int resolution, uint64_t seed, int64_t step, int place,
                   LoaderSample *s)
{
    const RandomKey key = key_of(seed, step, place);
    const Window w = draw_window(source, s->picture, resolution, key);
    s->flipped = source->flip && random_u32(key, 0) >> 31;
    s->crop_x = w.x;
    s->crop_y = w.y;
    s->pixels = NULL;
}

/* Pictures kept ---------------------------------------------------------------------------------------- */

typedef struct Kept {
    Picture *pictures; /* by number; rgb NULL: not kept (yet) */
    int count;
} Kept;

struct PixelCache {
    pthread_mutex_t lock;
    size_t bytes;
    Kept *kept; /* one a source: sources of one dataset may be cropped differently */
    int count;
};

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
    for (int i = 0; i < source_count; i++) {
        const int n = dataset_count(sources[i].dataset);
        c->kept[i].pictures = mem_calloc((size_t)n, sizeof *c->kept[i].pictures);
        if (!c->kept[i].pictures)
            return STATUS_FAILED;
        c->kept[i].count = n;
    }
    return STATUS_OK;
}

void pixel_cache_free(PixelCache *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        for (int k = 0; k < c->kept[i].count; k++)
            picture_free(&c->kept[i].pictures[k]);
        mem_free(c->kept[i].pictures);
    }
    pthread_mutex_destroy(&c->lock);
    mem_free(c->kept);
    mem_free(c);
}

/* The kept picture (the cache's own, never changed once it is there), or rgb NULL. */
static Picture cache_look(PixelCache *c, int source, int picture)
{
    pthread_mutex_lock(&c->lock);
    const Picture p = c->kept[source].pictures[picture];
    pthread_mutex_unlock(&c->lock);
    return p;
}

/* Keeps p if there is room; true: p is the cache's now. */
static bool cache_keep(PixelCache *c, int source, int picture, const Picture *p)
{
    const size_t bytes = 3 * (size_t)p->width * (size_t)p->height;
    pthread_mutex_lock(&c->lock);
    Picture *place = &c->kept[source].pictures[picture];
    const bool keep = !place->rgb && c->bytes + bytes <= PIXEL_CACHE_BYTES;
    if (keep) {
        *place = *p;
        c->bytes += bytes;
    }
    pthread_mutex_unlock(&c->lock);
    return keep;
}

/* Pixels ----------------------------------------------------------------------------------------------- */

static PictureWindow square_of(const Window *w, int resolution)
{
    return (PictureWindow){w->width, w->height, w->x, w->y, resolution, resolution};
}

/* A PNG of which the whole is too large to be kept anyway; JPEGs are decoded smaller. */
static bool is_large_png(const Dataset *d, int i, const uint8_t *bytes, size_t size)
{
    int width, height;
    dataset_size(d, i, &width, &height);
    return 3 * (size_t)width * (size_t)height > PIXEL_CACHE_BYTES &&
           picture_format(bytes, size) == PICTURE_PNG;
}

/* The square, or the decoded picture that squares are cut out of: *is_square says which, and has to be true
 * where the square is wanted. The decoder is told the side of the square and not the drawn size, so that a
 * drawn scale never decides how a JPEG is decoded. */
static Status read_picture(Dataset *d, int i, int resolution, const Window *w, bool *is_square, Picture *out)
{
    uint8_t *bytes;
    size_t size;
    const PictureWindow window = square_of(w, resolution);
    *out = (Picture){0};
    TRY(dataset_bytes(d, i, &bytes, &size));
    *is_square |= is_large_png(d, i, bytes, size);
    const Status s = *is_square ? picture_decode_window(bytes, size, resolution, resolution, &window, out)
                                : picture_decode_for(bytes, size, resolution, resolution, out);
    mem_free(bytes);
    return s;
}

Status dataset_square(Dataset *d, int i, int resolution, Picture *out)
{
    const LoaderSource plain = {.dataset = d};
    const Window w = draw_window(&plain, i, resolution, (RandomKey){0});
    bool is_square = true;
    return read_picture(d, i, resolution, &w, &is_square, out);
}

/* Every sample of a picture has the same window: the square is kept, else the decoded picture. */
static bool is_fixed(const LoaderSource *s)
{
    return !s->random_crop && s->shift <= 0 && s->scale <= 0;
}

/* The kept picture, or one that is kept from now on; *owned true: there was no room, or it is a square drawn
 * for this sample alone, and is the caller's to free. *is_square: it is the sample already. */
static Status get_base(const LoaderSource *s, int resolution, const Window *w, PixelCache *cache, int source,
                       int i, Picture *out, bool *is_square, bool *owned)
{
    *owned = false;
    *is_square = is_fixed(s);
    *out = cache_look(cache, source, i);
    if (out->rgb)
        return STATUS_OK;
    TRY(read_picture(s->dataset, i, resolution, w, is_square, out));
    *owned = *is_square != is_fixed(s) || !cache_keep(cache, source, i, out);
    return STATUS_OK;
}

/* Mirrored while they are written: the base stays as it is. */
static void write_floats(const Picture *square, bool flipped, float *out)
{
    const int n = square->width;
    for (int y = 0; y < square->height; y++)
        for (int x = 0; x < n; x++) {
            const uint8_t *p = square->rgb + 3 * ((size_t)y * (size_t)n + (size_t)(flipped ? n - 1 - x : x));
            for (int k = 0; k < 3; k++)
                *out++ = (float)p[k] / 127.5f - 1.0f;
        }
}

Status sample_pixels(const LoaderSource *source, int resolution, uint64_t seed, int64_t step, int place,
                     PixelCache *cache, LoaderSample *s)
{
    const Window w = draw_window(source, s->picture, resolution, key_of(seed, step, place));
    const PictureWindow window = square_of(&w, resolution);
    Picture base, square = {0};
    bool is_square, owned;
    TRY(get_base(source, resolution, &w, cache, s->source, s->picture, &base, &is_square, &owned));
    const Status status = is_square ? STATUS_OK : picture_resize_window(&base, &window, &square);
    if (status == STATUS_OK)
        write_floats(is_square ? &base : &square, s->flipped, s->pixels);
    picture_free(&square);
    if (owned)
        picture_free(&base);
    return status;
}
