/* The prefetching loader (loader.h).
 *
 * Positions are Σ count × repeats, source after source; order.h says which of them a step has. Threads only
 * decide when a sample's pixels are made. Those of the source beside have rows of their own and stand at
 * places batch + i.
 *
 * A ring of `ahead` + 1 steps: one that the caller looks at, the others being filled. A thread takes the next
 * sample of the ring in order, makes its pixels without the lock, and counts it done. The order is looked at
 * only while a sample is taken, so it advances step by step. */
#include "loader.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "order.h"
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
    float *pixels;         /* (own places,H,W,3) */
    float *masks;          /* (own places,H,W) / mask_factor */
    char **failures;       /* (step_samples): messages; NULL: none */
    bool failed;           /* one of them */
} Slot;

struct Loader {
    LoaderOptions o;
    LoaderSource *sources; /* the one beside comes last */
    int step_samples;      /* batch, or twice that with a source beside */
    Order *order, *beside;
    OrderTurn turn, beside_turn; /* of the step that samples are taken of */
    int64_t *starts;             /* (source_count + 1): each source's first position, and the end */
    int64_t most_pixels;         /* of a size */

    Slot *slots;
    int slot_count;
    int64_t next_step; /* the next one that loader_next gives */
    int64_t take_step; /* the step that samples are being taken of */
    PixelCache *cache;
    MaskCache *mask_cache;

    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* a slot became free; a step became complete */
    pthread_t threads[MAX_THREADS];
    int thread_count;
    LogTarget messages; /* where those of the thread go that made this */
    bool stopping;
};

/* Which sample ----------------------------------------------------------------------------------------- */

/* Before the first of a step's samples is taken. */
static void begin_step(Loader *l, int64_t step)
{
    l->turn = order_turn(l->order, step);
    if (l->beside)
        l->beside_turn = order_follow(l->beside, &l->turn);
}

/* Fills *s with everything but pixels. */
static void choose_sample(Loader *l, int64_t step, int place, LoaderSample *s)
{
    const int B = l->o.batch;
    const bool beside = place >= B;
    int64_t position = beside ? order_position(l->beside, &l->beside_turn, place - B)
                              : order_position(l->order, &l->turn, place);
    int source = 0;
    if (beside) {
        source = l->o.source_count;
    } else {
        while (position >= l->starts[source + 1])
            source++;
        position -= l->starts[source];
    }
    const LoaderSource *from = &l->sources[source];
    const int entry = (int)(position % from->count);
    *s = (LoaderSample){
        .source = source, .picture = from->pictures[entry], .entry = entry, .size = l->turn.size};
    sample_choose(from, l->o.seed, step, place, s);
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
    slot->failed = false;
    return slot;
}

static Status fill_sample(Loader *l, Slot *slot, int place, size_t own)
{
    LoaderSample *s = &slot->samples[place];
    const LoaderSource *from = &l->sources[s->source];
    if (l->o.pixels) {
        s->pixels = slot->pixels + 3 * (size_t)size_area(s->size) * own;
        TRY(sample_pixels(from, l->o.seed, slot->step, place, l->cache, s));
    }
    if (l->o.mask_factor == 0 || !mask_is_there(from->dataset, from->mask, s->picture))
        return STATUS_OK;
    s->mask = slot->masks + (size_t)size_area(size_divided(s->size, l->o.mask_factor)) * own;
    return sample_mask(l->mask_cache, from->dataset, from->mask,
                       &(MaskView){s->picture, s->window, s->flipped}, l->o.mask_factor, s->mask);
}

/* False: it failed, and that is written down if there is memory for it. */
static bool make_sample(Loader *l, Slot *slot, int place)
{
    const LoaderSample *s = &slot->samples[place];
    const Dataset *d = l->sources[s->source].dataset;
    const int own = own_place(l, place);
    if (own < 0 || fill_sample(l, slot, place, (size_t)own) == STATUS_OK)
        return true;
    slot->failures[place] =
        mem_printf("%s: %s: %s", dataset_path(d), dataset_name(d, s->picture), status_message());
    return false;
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
        if (place == 0)
            begin_step(l, slot->step);
        choose_sample(l, slot->step, place, &slot->samples[place]);
        pthread_mutex_unlock(&l->lock);
        const bool made = make_sample(l, slot, place);
        pthread_mutex_lock(&l->lock);
        slot->failed |= !made;
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

/* Whether samples have something that is made ahead, by threads. */
static bool works_ahead(const Loader *l)
{
    return l->o.pixels || l->o.mask_factor > 0;
}

static Status allocate_slots(Loader *l)
{
    l->slots = mem_calloc((size_t)l->slot_count, sizeof *l->slots);
    if (!l->slots)
        return STATUS_FAILED;
    const size_t batch = (size_t)l->step_samples;
    const size_t pixels = 3 * (size_t)l->most_pixels, factor = (size_t)l->o.mask_factor;
    for (int i = 0; i < l->slot_count; i++) {
        Slot *slot = &l->slots[i];
        slot->samples = mem_calloc(batch, sizeof *slot->samples);
        slot->failures = mem_calloc(batch, sizeof *slot->failures);
        if (l->o.pixels)
            slot->pixels = mem_alloc(own_places(l) * pixels * sizeof *slot->pixels);
        if (factor)
            slot->masks =
                mem_alloc(own_places(l) * ((size_t)l->most_pixels / (factor * factor)) * sizeof *slot->masks);
        if (!slot->samples || !slot->failures || (l->o.pixels && !slot->pixels) || (factor && !slot->masks))
            return STATUS_FAILED;
    }
    return STATUS_OK;
}

/* The size of each of the sources' positions, in their order. */
static void list_sizes(const Loader *l, const LoaderSource *sources, size_t n, Size *out)
{
    for (size_t i = 0; i < n; i++)
        for (int r = 0; r < sources[i].repeats; r++)
            for (int k = 0; k < sources[i].count; k++)
                *out++ = sources[i].fits ? sources[i].fits[k].bucket : l->o.size;
}

static Status make_order(const Loader *l, const LoaderSource *sources, size_t n, int64_t count, int stream,
                         Order **out)
{
    Size *sizes = mem_alloc((size_t)count * sizeof *sizes);
    if (!sizes)
        return STATUS_FAILED;
    list_sizes(l, sources, n, sizes);
    const Status s = order_new(
        &(OrderOptions){
            .sizes = sizes, .count = count, .batch = l->o.batch, .seed = l->o.seed, .stream = stream},
        out);
    mem_free(sizes);
    return s;
}

/* Every size that a step may have, and that there are samples beside for each. */
static Status look_at_sizes(Loader *l)
{
    for (int g = 0; g < order_groups(l->order); g++) {
        const Size size = order_size(l->order, g);
        l->most_pixels = size_area(size) > l->most_pixels ? size_area(size) : l->most_pixels;
        if (l->beside && order_follow(l->beside, &(OrderTurn){.size = size}).group < 0)
            return status_fail("loader: no samples of %d x %d beside", size.width, size.height);
    }
    return STATUS_OK;
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
    l->step_samples = l->o.batch;
    TRY(make_order(l, l->sources, n, l->starts[n], 0, &l->order));
    if (l->o.beside) {
        l->sources[n] = *l->o.beside;
        l->step_samples *= 2;
        TRY(make_order(l, l->o.beside, 1, (int64_t)l->o.beside->count * l->o.beside->repeats, 1, &l->beside));
    }
    TRY(look_at_sizes(l));
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
    l->slot_count = works_ahead(l) ? (o->ahead > 0 ? o->ahead : DEFAULT_AHEAD) + 1 : 1;
    l->next_step = l->take_step = o->first_step;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    Status s = fill(l);
    if (s == STATUS_OK && o->pixels)
        s = pixel_cache_new(l->sources, o->source_count + (o->beside != NULL), &l->cache);
    if (s == STATUS_OK && o->mask_factor > 0 && !(l->mask_cache = mask_cache_new()))
        s = STATUS_FAILED;
    if (s == STATUS_OK && works_ahead(l))
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
        mem_free(l->slots[i].masks);
        mem_free(l->slots[i].failures);
    }
    pixel_cache_free(l->cache);
    mask_cache_free(l->mask_cache);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->slots);
    order_free(l->order);
    order_free(l->beside);
    mem_free(l->starts);
    mem_free(l->sources);
    mem_free(l);
}

int64_t loader_epoch_samples(const Loader *l)
{
    return l->starts[l->o.source_count];
}

static Status failure_of(const Loader *l, const Slot *slot)
{
    for (int i = 0; i < l->step_samples; i++)
        if (slot->failures[i])
            return status_fail("%s", slot->failures[i]);
    return status_memory("out of memory in the loader");
}

static Status next_made(Loader *l, const LoaderSample **samples)
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
    if (slot->failed)
        return failure_of(l, slot);
    *samples = slot->samples;
    return STATUS_OK;
}

Status loader_next(Loader *l, const LoaderSample **samples)
{
    *samples = NULL;
    if (works_ahead(l))
        return next_made(l, samples);
    begin_step(l, l->next_step);
    for (int i = 0; i < l->step_samples; i++)
        choose_sample(l, l->next_step, i, &l->slots[0].samples[i]);
    l->next_step++;
    *samples = l->slots[0].samples;
    return STATUS_OK;
}
