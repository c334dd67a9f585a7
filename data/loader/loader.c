/* The prefetching loader (loader.h).
 *
 * Samples are numbered from the start of training: sample g is place g % batch of step g / batch + 1, and
 * position g % T of epoch g / T + 1, where T = Σ count × repeats; each epoch has its own permutation, so
 * batches run on over an epoch's end. What a sample is follows from g alone; threads only decide when its
 * pixels are made. Those of the source beside are numbered in the same way, with epochs of their own, and
 * stand at places batch + g % batch.
 *
 * A ring of `ahead` + 1 steps: one that the caller looks at, the others being filled. A thread takes the next
 * sample of the ring in order, makes its pixels without the lock, and counts it done. The permutation is
 * looked at only while a sample is taken, so it advances in order and one of it is enough. */
#include "loader.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/random.h"
#include "sample.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MAX_THREADS 64
#define DEFAULT_THREADS 2
#define DEFAULT_AHEAD 2

typedef struct Slot {
    int64_t step; /* 0: free */
    int taken, done;
    LoaderSample *samples; /* (step_samples) */
    float *pixels;         /* (step_samples,H,W,3) */
    char **failures;       /* (step_samples): messages; NULL: none */
} Slot;

/* The permutation of one epoch. */
typedef struct Order {
    int64_t epoch;   /* 0: none yet */
    int64_t samples; /* of an epoch */
    uint32_t *places;
} Order;

struct Loader {
    LoaderOptions o;
    LoaderSource *sources; /* the one beside comes last */
    int step_samples;      /* batch, or twice that with a source beside */
    Order batch, beside;
    int64_t *starts; /* (source_count + 1): each source's first unshuffled position, and the end */

    Slot *slots;
    int slot_count;
    int64_t next_step; /* the next one that loader_next gives */
    int64_t take_step; /* the step that samples are being taken of */
    PixelCache *cache;

    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* a slot became free; a step became complete */
    pthread_t threads[MAX_THREADS];
    int thread_count;
    LogTarget messages; /* where those of the thread go that made this */
    bool stopping;
};

/* Which sample ----------------------------------------------------------------------------------------- */

/* The unshuffled position of sample g. */
static int64_t position_of(const Loader *l, Order *o, int64_t g)
{
    const int64_t epoch = g / o->samples + 1;
    if (o->epoch != epoch) {
        const RandomKey key = {
            .seed = l->o.seed, .step = (uint32_t)epoch, .sample = o == &l->beside, .purpose = RANDOM_ORDER};
        random_permutation(key, o->places, (uint32_t)o->samples);
        o->epoch = epoch;
    }
    return o->places[g % o->samples];
}

/* Fills *s with everything but pixels. */
static void choose_sample(Loader *l, int64_t step, int place, LoaderSample *s)
{
    const int B = l->o.batch;
    const int64_t g = (step - 1) * B + place % B;
    int64_t position = position_of(l, place < B ? &l->batch : &l->beside, g);
    int source = 0;
    if (place >= B) {
        source = l->o.source_count;
    } else {
        while (position >= l->starts[source + 1])
            source++;
        position -= l->starts[source];
    }
    const LoaderSource *from = &l->sources[source];
    *s = (LoaderSample){.source = source, .picture = from->pictures[position % from->count]};
    sample_choose(from, l->o.size, l->o.seed, step, place, s);
}

/* Places of a step whose pixels are wanted come one after the other in its memory. −1: not wanted. */
static int own_place(const Loader *l, int place)
{
    const int B = l->o.batch, at = place % B - l->o.share_first;
    return at < 0 || at >= l->o.share ? -1 : at + (place < B ? 0 : l->o.share);
}

static size_t own_places(const Loader *l)
{
    return (size_t)l->o.share * (l->o.beside ? 2 : 1);
}

/* Threads ---------------------------------------------------------------------------------------------- */

static Slot *slot_of(const Loader *l, int64_t step)
{
    return &l->slots[step % l->slot_count];
}

/* Called with the lock held. The slot whose next sample is to be made, or NULL if all are taken. */
static Slot *next_work(Loader *l)
{
    Slot *slot = slot_of(l, l->take_step);
    if (slot->step == l->take_step && slot->taken == l->step_samples)
        slot = slot_of(l, ++l->take_step);
    if (slot->step == l->take_step)
        return slot;
    if (slot->step != 0)
        return NULL; /* still the caller's */
    slot->step = l->take_step;
    slot->taken = slot->done = 0;
    return slot;
}

static void make_sample(Loader *l, Slot *slot, int place)
{
    LoaderSample *s = &slot->samples[place];
    const LoaderSource *from = &l->sources[s->source];
    const int own = own_place(l, place);
    if (own < 0)
        return;
    s->pixels = slot->pixels + 3 * (size_t)size_area(l->o.size) * (size_t)own;
    if (sample_pixels(from, l->o.size, l->o.seed, slot->step, place, l->cache, s) == STATUS_OK)
        return;
    slot->failures[place] = mem_printf("%s: %s: %s", dataset_path(from->dataset),
                                       dataset_name(from->dataset, s->picture), status_message());
    s->pixels = NULL;
}

static void *work(void *arg)
{
    Loader *l = arg;
    log_redirect(l->messages);
    pthread_mutex_lock(&l->lock);
    while (!l->stopping) {
        Slot *slot = next_work(l);
        if (!slot) {
            pthread_cond_wait(&l->work, &l->lock);
            continue;
        }
        const int place = slot->taken++;
        choose_sample(l, slot->step, place, &slot->samples[place]);
        pthread_mutex_unlock(&l->lock);
        make_sample(l, slot, place);
        pthread_mutex_lock(&l->lock);
        if (++slot->done == l->step_samples)
            pthread_cond_broadcast(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void release_slot(const Loader *l, Slot *slot)
{
    for (int i = 0; i < l->step_samples; i++) {
        mem_free(slot->failures[i]);
        slot->failures[i] = NULL;
    }
    slot->step = 0;
}

/* The public side -------------------------------------------------------------------------------------- */

static Status check_source(const LoaderSource *s)
{
    if (s->count < 1 || s->repeats < 1)
        return status_fail("%s: no pictures to load", dataset_path(s->dataset));
    if (s->shift < 0 || s->shift > 1 || s->scale < 0 || s->scale >= 1)
        return status_fail("loader: shift must be in [0,1], scale in [0,1)");
    return STATUS_OK;
}

static Status check_options(const LoaderOptions *o)
{
    const Size size = o->size;
    if (o->batch < 1 || size.width < 1 || size.width > PICTURE_MAX_SIDE || size.height < 1 ||
        size.height > PICTURE_MAX_SIDE || o->first_step < 1 || o->source_count < 1)
        return status_fail("loader: batch, size, first step and the number of sources must be at least 1");
    for (int i = 0; i < o->source_count; i++)
        TRY(check_source(&o->sources[i]));
    if (o->share_first < 0 || o->share < 0 || o->share_first + o->share > o->batch)
        return status_fail("loader: a share has to lie in the batch");
    return o->beside ? check_source(o->beside) : STATUS_OK;
}

static Status allocate_slots(Loader *l)
{
    l->slots = mem_calloc((size_t)l->slot_count, sizeof *l->slots);
    if (!l->slots)
        return STATUS_FAILED;
    const size_t batch = (size_t)l->step_samples;
    const size_t pixels = 3 * (size_t)size_area(l->o.size);
    for (int i = 0; i < l->slot_count; i++) {
        Slot *slot = &l->slots[i];
        slot->samples = mem_calloc(batch, sizeof *slot->samples);
        slot->failures = mem_calloc(batch, sizeof *slot->failures);
        if (l->o.pixels)
            slot->pixels = mem_alloc(own_places(l) * pixels * sizeof *slot->pixels);
        if (!slot->samples || !slot->failures || (l->o.pixels && !slot->pixels))
            return STATUS_FAILED;
    }
    return STATUS_OK;
}

static Status order_allocate(Order *o)
{
    if (o->samples > INT32_MAX)
        return status_fail("%lld samples an epoch are too many; use fewer repeats", (long long)o->samples);
    o->places = mem_alloc((size_t)o->samples * sizeof *o->places);
    return o->places ? STATUS_OK : STATUS_FAILED;
}

static Status fill(Loader *l)
{
    const size_t n = (size_t)l->o.source_count;
    l->sources = mem_alloc((n + 1) * sizeof *l->sources);
    l->starts = mem_alloc((n + 1) * sizeof *l->starts);
    if (!l->sources || !l->starts)
        return STATUS_FAILED;
    memcpy(l->sources, l->o.sources, n * sizeof *l->sources);
    l->starts[0] = 0;
    for (size_t i = 0; i < n; i++)
        l->starts[i + 1] = l->starts[i] + (int64_t)l->sources[i].count * l->sources[i].repeats;
    l->batch.samples = l->starts[n];
    l->step_samples = l->o.batch;
    TRY(order_allocate(&l->batch));
    if (l->o.beside) {
        l->sources[n] = *l->o.beside;
        l->beside.samples = (int64_t)l->o.beside->count * l->o.beside->repeats;
        l->step_samples *= 2;
        TRY(order_allocate(&l->beside));
    }
    return allocate_slots(l);
}

static Status start_threads(Loader *l)
{
    const int n = l->o.threads > MAX_THREADS ? MAX_THREADS : l->o.threads;
    sigset_t all, before;
    l->messages = log_target();
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; l->thread_count < n; l->thread_count++)
        if (pthread_create(&l->threads[l->thread_count], NULL, work, l) != 0)
            break;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return l->thread_count ? STATUS_OK : status_fail("no thread for loading pictures can be started");
}

Status loader_new(const LoaderOptions *o, Loader **out)
{
    *out = NULL;
    TRY(check_options(o));
    Loader *l = mem_calloc(1, sizeof *l);
    if (!l)
        return STATUS_FAILED;
    l->o = *o;
    l->o.threads = o->threads > 0 ? o->threads : DEFAULT_THREADS;
    if (l->o.share == 0)
        l->o.share = o->batch;
    l->slot_count = o->pixels ? (o->ahead > 0 ? o->ahead : DEFAULT_AHEAD) + 1 : 1;
    l->next_step = l->take_step = o->first_step;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    Status s = fill(l);
    if (s == STATUS_OK && o->pixels)
        s = pixel_cache_new(l->sources, o->source_count + (o->beside != NULL), &l->cache);
    if (s == STATUS_OK && o->pixels)
        s = start_threads(l);
    if (s != STATUS_OK)
        loader_free(l);
    else
        *out = l;
    return s;
}

void loader_free(Loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->thread_count; i++)
        pthread_join(l->threads[i], NULL);
    for (int i = 0; i < l->slot_count && l->slots; i++) {
        if (l->slots[i].failures)
            release_slot(l, &l->slots[i]);
        mem_free(l->slots[i].samples);
        mem_free(l->slots[i].pixels);
        mem_free(l->slots[i].failures);
    }
    pixel_cache_free(l->cache);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->slots);
    mem_free(l->batch.places);
    mem_free(l->beside.places);
    mem_free(l->starts);
    mem_free(l->sources);
    mem_free(l);
}

int64_t loader_epoch_samples(const Loader *l)
{
    return l->batch.samples;
}

static Status next_with_pixels(Loader *l, const LoaderSample **samples)
{
    Slot *slot = slot_of(l, l->next_step);
    pthread_mutex_lock(&l->lock);
    if (l->next_step > l->o.first_step) {
        release_slot(l, slot_of(l, l->next_step - 1));
        pthread_cond_broadcast(&l->work);
    }
    while (slot->step != l->next_step || slot->done < l->step_samples)
        pthread_cond_wait(&l->ready, &l->lock);
    pthread_mutex_unlock(&l->lock);
    l->next_step++;
    for (int i = 0; i < l->step_samples; i++)
        if (!slot->samples[i].pixels && own_place(l, i) >= 0)
            return status_fail("%s", slot->failures[i] ? slot->failures[i] : "out of memory in the loader");
    *samples = slot->samples;
    return STATUS_OK;
}

Status loader_next(Loader *l, const LoaderSample **samples)
{
    *samples = NULL;
    if (l->o.pixels)
        return next_with_pixels(l, samples);
    for (int i = 0; i < l->step_samples; i++)
        choose_sample(l, l->next_step, i, &l->slots[0].samples[i]);
    l->next_step++;
    *samples = l->slots[0].samples;
    return STATUS_OK;
}
