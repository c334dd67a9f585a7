/* The queue of the device `far`: calls wait until somebody settles, then a thread of its own runs them in
 * order; after the first that fails the rest is dropped. */
#include "queue.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct List {
    Call *first, **end;
} List;

typedef struct Recording {
    List calls;
    long count;
} Recording;

static List queue;
static Recording *recording; /* being made, or NULL */
static FarCount counted;
static char complaint[STATUS_MESSAGE_SIZE]; /* of the host's own mistakes, told at the next settle() */

/* The thread, and the turn: whose it is. */
static pthread_t thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static bool started, working;
static int threads;
static Status outcome;
static char message[STATUS_MESSAGE_SIZE];

static void list_add(List *l, Call *k)
{
    if (!l->first)
        l->end = &l->first;
    *l->end = k;
    l->end = &k->next;
}

static void call_free(Call *k)
{
    if (k->own_host)
        free(k->host);
    free(k);
}

static void list_free(List *l)
{
    for (Call *k = l->first, *next; k; k = next) {
        next = k->next;
        call_free(k);
    }
    *l = (List){0};
}

/* Making calls ------------------------------------------------------------------------------------------ */

static void complain(const char *name, const char *what)
{
    if (!complaint[0])
        snprintf(complaint, sizeof complaint, "%s: %s", name, what);
}

/* Memory of the host that calls may reach. */
#define PINNED 64
static struct {
    char *begin;
    size_t bytes;
} pins[PINNED];

static bool is_pinned(const void *p)
{
    const char *c = p;
    for (int i = 0; i < PINNED; i++)
        if (pins[i].begin && c >= pins[i].begin && c < pins[i].begin + pins[i].bytes)
            return true;
    return false;
}

static void *far_pinned_new(size_t bytes)
{
    int i = 0;
    while (i < PINNED && pins[i].begin)
        i++;
    void *p = i < PINNED ? aligned_alloc(256, (bytes + 256) / 256 * 256) : NULL;
    if (!p) {
        status_fail("out of memory in the device of the tests");
        return NULL;
    }
    pins[i].begin = p;
    pins[i].bytes = bytes;
    return p;
}

static void far_pinned_free(void *p, size_t bytes)
{
    (void)bytes;
    for (int i = 0; i < PINNED; i++)
        if (pins[i].begin == p)
            pins[i].begin = NULL;
    free(p);
}

Call *call_new(const char *name, CallFn run)
{
    Call *k = calloc(1, sizeof *k);
    if (!k) {
        status_fail("out of memory in the device of the tests");
        return NULL;
    }
    k->name = name;
    k->run = run;
    return k;
}

void call_tensor(Call *k, const Tensor *t)
{
    if (k->count == FAR_TENSORS)
        abort();
    if (t) {
        k->t[k->count] = *t;
        k->t[k->count].grad = NULL;
        if (t->data && !far_owns(t->data) && !is_pinned(t->data))
            complain(k->name, "was given memory of the host");
        k->has[k->count] = true;
    }
    k->count++;
}

void call_descriptor(Call *k, const void *d, size_t bytes, const size_t *offsets, int n)
{
    if (bytes > sizeof k->extra)
        abort();
    memcpy(k->extra, d, bytes);
    k->extra_bytes = bytes;
    for (int i = 0; i < n; i++) {
        call_tensor(k, *(Tensor *const *)(const void *)(k->extra + offsets[i]));
        memset(k->extra + offsets[i], 0, sizeof(Tensor *));
    }
}

Status call_queue(Call *k)
{
    if (k->scratch && !far_owns(k->scratch))
        complain(k->name, "was given scratch memory of the host");
    list_add(recording ? &recording->calls : &queue, k);
    if (recording)
        recording->count++;
    return STATUS_OK;
}

/* Running them ------------------------------------------------------------------------------------------ */

Tensor *call_get(Call *k, int i)
{
    return k->has[i] ? &k->t[i] : NULL;
}

void *call_scratch(Call *k)
{
    return far_inside(k->scratch);
}

void *call_extra(Call *k, const size_t *offsets)
{
    for (int i = 0; i < k->count; i++)
        *(Tensor **)(void *)(k->extra + offsets[i]) = call_get(k, i);
    return k->extra;
}

static Status run_calls(void)
{
    Status s = STATUS_OK;
    for (Call *k = queue.first; k && s == STATUS_OK; k = k->next) {
        for (int i = 0; i < k->count; i++)
            k->t[i].data = far_inside(k->t[i].data);
        s = k->run(k);
        counted.calls++;
        if (s != STATUS_OK)
            status_in(s, "far, %s", k->name);
    }
    return s;
}

static void *work(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!working)
            pthread_cond_wait(&turn, &lock);
        omp_set_num_threads(threads);
        outcome = run_calls();
        snprintf(message, sizeof message, "%s", status_message());
        working = false;
        pthread_cond_broadcast(&turn);
    }
    return NULL;
}

static Status settle(void)
{
    counted.waits++;
    if (complaint[0]) { /* what was queued since may be anything */
        const Status s = status_fail("%s", complaint);
        complaint[0] = 0;
        list_free(&queue);
        return s;
    }
    pthread_mutex_lock(&lock);
    if (!started && pthread_create(&thread, NULL, work, NULL) != 0)
        abort();
    started = true;
    threads = omp_get_max_threads();
    working = true;
    pthread_cond_broadcast(&turn);
    while (working)
        pthread_cond_wait(&turn, &lock);
    pthread_mutex_unlock(&lock);
    list_free(&queue);
    return outcome == STATUS_OK ? STATUS_OK : status_fail("%s", message);
}

/* Memory ------------------------------------------------------------------------------------------------ */

static Status run_put(Call *k)
{
    memcpy(far_inside(k->at), k->host, k->bytes);
    return STATUS_OK;
}
static Status run_get(Call *k)
{
    memcpy(k->host, far_inside(k->at), k->bytes);
    return STATUS_OK;
}
static Status run_clear(Call *k)
{
    memset(far_inside(k->at), 0, k->bytes);
    return STATUS_OK;
}

static Status move(const char *name, CallFn run, void *at, void *host, size_t bytes, bool own_host)
{
    Call *k = call_new(name, run);
    if (!k)
        return STATUS_FAILED;
    if (bytes && !far_owns(at))
        complain(name, "was given memory of the host for the device's");
    k->at = at;
    k->host = host;
    k->bytes = bytes;
    k->own_host = own_host;
    return call_queue(k);
}

static Status far_put(void *to, const void *host, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        return status_fail("out of memory in the device of the tests");
    memcpy(copy, host, bytes);
    return move("put", run_put, to, copy, bytes, true);
}

static Status far_get(void *host, const void *from, size_t bytes)
{
    memset(host, FAR_POISON, bytes);
    return move("get", run_get, (void *)from, host, bytes, false);
}

/* Fetches: the copy is made no sooner than it is waited for, so that a wait that is missing shows. */
static struct {
    void *to;
    const void *from;
    size_t bytes;
} fetching[2];

static Status run_poison(Call *k)
{
    memset(far_inside(k->at), FAR_POISON, k->bytes);
    return STATUS_OK;
}

static Status far_fetch(void *to, const void *pinned, size_t bytes, int slot)
{
    fetching[slot].to = to;
    fetching[slot].from = pinned;
    fetching[slot].bytes = bytes;
    return move("fetch", run_poison, to, NULL, bytes, false);
}

static Status far_fetched(int slot)
{
    if (!fetching[slot].to)
        complain("fetched", "was called without a fetch");
    return move("fetched", run_put, fetching[slot].to, (void *)fetching[slot].from, fetching[slot].bytes,
                false);
}

static Status far_clear(void *at, size_t bytes)
{
    return move("clear", run_clear, at, NULL, bytes, false);
}

static bool in_block(const char *p, const char *begin, size_t bytes)
{
    return p && p >= begin && p < begin + bytes;
}

/* What is queued would find the memory gone. */
static void far_free(void *p, size_t bytes)
{
    for (const Call *k = queue.first; p && k; k = k->next) {
        bool uses = in_block(k->scratch, p, bytes);
        for (int i = 0; i < k->count; i++)
            uses |= k->has[i] && in_block(k->t[i].data, p, bytes);
        if (uses)
            complain(k->name, "its memory was given back before it had run");
    }
    /* contents that were put there for nothing */
    if (!complaint[0] && queue.first && settle() != STATUS_OK)
        complain("a call before memory was given back", status_message());
    far_memory_free(p, bytes);
}

static Status far_first_not_finite(const Tensor *t, int64_t *index, double *value)
{
    TRY(settle());
    Tensor seen = *t;
    seen.data = far_inside(t->data);
    seen.home = NULL;
    return device_cpu()->first_not_finite(&seen, index, value);
}

/* Recordings -------------------------------------------------------------------------------------------- */

static Status far_record(void **unused)
{
    (void)unused;
    recording = calloc(1, sizeof *recording);
    return recording ? STATUS_OK : status_fail("out of memory in the device of the tests");
}

static bool same_tensor(const Tensor *a, const Tensor *b)
{
    return a->data == b->data && a->dtype == b->dtype && tensor_same_shape(a, b);
}

/* What put() brings and where get() goes may be others each time: the copies are made for each. */
static bool same_call(const Call *a, const Call *b)
{
    bool same = a->run == b->run && a->count == b->count && a->scratch == b->scratch &&
                a->layer == b->layer && a->at == b->at && a->bytes == b->bytes &&
                a->extra_bytes == b->extra_bytes && memcmp(a->i, b->i, sizeof a->i) == 0 &&
                memcmp(a->f, b->f, sizeof a->f) == 0 &&
                (a->brings || memcmp(a->extra, b->extra, a->extra_bytes) == 0);
    for (int i = 0; same && i < a->count; i++)
        same = a->has[i] == b->has[i] && (!a->has[i] || same_tensor(&a->t[i], &b->t[i]));
    return same;
}

/* The first call of `now` that is not `then`'s, or NULL. */
static const Call *first_other(const Recording *now, const Recording *then)
{
    const Call *a = now->calls.first, *b = then->calls.first;
    while (a && b && same_call(a, b)) {
        a = a->next;
        b = b->next;
    }
    return a ? a : b;
}

static void far_forget(void *r)
{
    if (!r)
        return;
    list_free(&((Recording *)r)->calls);
    free(r);
}

/* A call for the recording to keep: what it ran with is the queue's. */
static Call *copy_of(const Call *k)
{
    Call *copy = malloc(sizeof *copy);
    if (!copy)
        abort();
    *copy = *k;
    copy->host = NULL;
    copy->own_host = false;
    copy->next = NULL;
    return copy;
}

static Status far_recorded(void **kept, bool *again)
{
    Recording *now = recording;
    recording = NULL;
    const Call *other = *kept ? first_other(now, *kept) : now->calls.first;
    *again = *kept && !other;
    if (*again) {
        counted.replays++;
    } else {
        counted.recordings++;
        snprintf(counted.differs, sizeof counted.differs, "%s", *kept && other ? other->name : "");
        far_forget(*kept);
        Recording *copy = calloc(1, sizeof *copy);
        if (!copy)
            abort();
        for (const Call *k = now->calls.first; k; k = k->next)
            list_add(&copy->calls, copy_of(k));
        *kept = copy;
    }
    for (Call *k = now->calls.first, *next; k; k = next) {
        next = k->next;
        k->next = NULL;
        list_add(&queue, k);
    }
    free(now);
    return STATUS_OK;
}

FarCount far_count(void)
{
    return counted;
}

void far_queue_table(Device *d)
{
    d->alignment = 256;
    d->host_memory = false;
    d->memory_new = far_memory_new;
    d->memory_free = far_free;
    d->put = far_put;
    d->get = far_get;
    d->clear = far_clear;
    d->settle = settle;
    d->pinned_new = far_pinned_new;
    d->pinned_free = far_pinned_free;
    d->fetch = far_fetch;
    d->fetched = far_fetched;
    d->record = far_record;
    d->recorded = far_recorded;
    d->forget = far_forget;
    d->first_not_finite = far_first_not_finite;
}
