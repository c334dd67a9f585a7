/* Masks of samples (mask.h). A mask goes the picture's way: turned upright, scaled, cut out of the same
 * window, mirrored. What is kept is small, a number a position, and is keyed by the picture and the window.
 */
#include "mask.h"

#include "kernels/base/mem.h"

#include <pthread.h>
#include <string.h>

#define BUCKETS 4096

typedef struct Kept Kept;
struct Kept {
    const Dataset *dataset;
    int picture;
    MaskFrom from;
    PictureWindow window;
    Kept *next;     /* of the same bucket */
    float values[]; /* (h,w), not mirrored */
};

struct MaskCache {
    pthread_mutex_t lock;
    Kept *buckets[BUCKETS];
    size_t bytes;
};

MaskCache *mask_cache_new(void)
{
    MaskCache *c = mem_calloc(1, sizeof *c);
    if (c)
        pthread_mutex_init(&c->lock, NULL);
    return c;
}

void mask_cache_free(MaskCache *c)
{
    if (!c)
        return;
    for (int i = 0; i < BUCKETS; i++)
        for (Kept *k = c->buckets[i], *next; k; k = next) {
            next = k->next;
            mem_free(k);
        }
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

static bool same_window(const PictureWindow *a, const PictureWindow *b)
{
    return size_equal(a->whole, b->whole) && size_equal(a->size, b->size) && a->x == b->x && a->y == b->y;
}

/* One that is there is never changed. */
static const Kept *find(MaskCache *c, const Dataset *d, MaskFrom from, const MaskView *v)
{
    pthread_mutex_lock(&c->lock);
    const Kept *k = c->buckets[(unsigned)v->picture % BUCKETS];
    while (k && (k->dataset != d || k->picture != v->picture || k->from != from ||
                 !same_window(&k->window, &v->window)))
        k = k->next;
    pthread_mutex_unlock(&c->lock);
    return k;
}

/* Reading ------------------------------------------------------------------------------------------------ */

bool mask_is_there(const Dataset *d, MaskFrom from, int i)
{
    return from == MASK_ALPHA || (from == MASK_AUTO && dataset_has_mask(d, i));
}

/* The window of it. */
static Status read_mask(const Dataset *d, int i, const PictureWindow *w, Picture *out)
{
    uint8_t *bytes;
    size_t size;
    TRY(dataset_mask_bytes(d, i, &bytes, &size));
    const Status s = picture_decode_window(bytes, size, w->size, w, out);
    mem_free(bytes);
    return status_in(s, "its mask");
}

static Status read_alpha(const Dataset *d, int i, const PictureWindow *w, Picture *out)
{
    uint8_t *bytes;
    size_t size;
    Picture whole;
    TRY(dataset_bytes(d, i, &bytes, &size));
    Status s = picture_decode_alpha(bytes, size, &whole);
    mem_free(bytes);
    if (s == STATUS_OK)
        s = picture_resize_window(&whole, w, out);
    picture_free(&whole);
    return s;
}

/* (h,w) means of the red channel over blocks of factor × factor. */
static void take_means(const Picture *p, int factor, float *out)
{
    const Size small = size_divided(p->size, factor);
    const int count = factor * factor;
    for (int y = 0; y < small.height; y++)
        for (int x = 0; x < small.width; x++) {
            int sum = 0;
            for (int k = 0; k < count; k++)
                sum += p->rgb[3 * ((size_t)(y * factor + k / factor) * (size_t)p->size.width +
                                   (size_t)(x * factor + k % factor))];
            *out++ = (float)((double)sum / (255.0 * count));
        }
}

static void write_floats(const float *values, Size size, bool flipped, float *out)
{
    for (int y = 0; y < size.height; y++)
        for (int x = 0; x < size.width; x++)
            *out++ = values[y * size.width + (flipped ? size.width - 1 - x : x)];
}

/* True: k is the cache's now. Two threads may have read the same mask; both are kept. */
static bool keep(MaskCache *c, Kept *k, size_t bytes)
{
    pthread_mutex_lock(&c->lock);
    const bool room = c->bytes + bytes <= MASK_CACHE_BYTES;
    if (room) {
        Kept **bucket = &c->buckets[(unsigned)k->picture % BUCKETS];
        k->next = *bucket;
        *bucket = k;
        c->bytes += bytes;
    }
    pthread_mutex_unlock(&c->lock);
    return room;
}

static Status read_values(const Dataset *d, MaskFrom from, const MaskView *v, int factor, size_t bytes,
                          Kept **out)
{
    Picture p;
    TRY(dataset_has_mask(d, v->picture) ? read_mask(d, v->picture, &v->window, &p)
                                        : read_alpha(d, v->picture, &v->window, &p));
    Kept *k = *out = mem_alloc(bytes);
    if (k) {
        *k = (Kept){.dataset = d, .picture = v->picture, .from = from, .window = v->window};
        take_means(&p, factor, k->values);
    }
    picture_free(&p);
    return k ? STATUS_OK : STATUS_FAILED;
}

Status sample_mask(MaskCache *c, Dataset *d, MaskFrom from, const MaskView *v, int factor, float *out)
{
    const Size small = size_divided(v->window.size, factor);
    const int64_t n = size_area(small);
    const size_t bytes = sizeof(Kept) + (size_t)n * sizeof(float);
    if (!mask_is_there(d, from, v->picture)) {
        for (int64_t i = 0; i < n; i++)
            out[i] = 1;
        return STATUS_OK;
    }
    const Kept *kept = c ? find(c, d, from, v) : NULL;
    Kept *read = NULL;
    if (!kept)
        TRY(read_values(d, from, v, factor, bytes, &read));
    write_floats(kept ? kept->values : read->values, small, v->flipped, out);
    if (read && !(c && keep(c, read, bytes)))
        mem_free(read);
    return STATUS_OK;
}
