#include "early_sums.h"
#include "whole.h"

#include "kernels/base/mem.h"

#include <string.h>

#define BUCKET_NUMBERS (6 << 20) /* 25 MB: large enough for the wire, small enough to begin early */

typedef struct Bucket {
    int64_t first, end; /* of the block */
    int tensors, left;  /* that have to come, and how many have not */
} Bucket;

struct EarlySums {
    Ctx *c;
    Parameters *p;
    Whole *whole;
    int *bucket_of; /* by tensor */
    Bucket *buckets;
    int count;
    bool ran; /* the micro-batch did */
    Status status;
    char why[STATUS_MESSAGE_SIZE];
};

static void begin_bucket(EarlySums *b, Bucket *bucket)
{
    if (b->status != STATUS_OK)
        return;
    b->status =
        comm_sum_begin(b->p->share.comm, b->p->flat.gradients, b->p->share.at, bucket->first, bucket->end);
    if (b->status != STATUS_OK)
        memcpy(b->why, status_message(), sizeof b->why);
}

static void tensor_whole(Ctx *c, int i, void *arg)
{
    EarlySums *b = arg;
    Bucket *bucket = &b->buckets[b->bucket_of[i]];
    (void)c;
    if (--bucket->left == 0)
        begin_bucket(b, bucket);
}

static void after_layer(Ctx *c, void *arg)
{
    EarlySums *b = arg;
    b->ran = true;
    if (c->live && b->status == STATUS_OK && comm_sum_progress(b->p->share.comm) != STATUS_OK) {
        b->status = STATUS_FAILED;
        memcpy(b->why, status_message(), sizeof b->why);
    }
}

/* Tensors that follow each other, as many as come to BUCKET_NUMBERS. */
static void cut(EarlySums *b)
{
    const Parameters *p = b->p;
    for (int i = 0; i < p->count; i++) {
        Bucket *last = b->count ? &b->buckets[b->count - 1] : NULL;
        if (!last || p->segments[i].first - last->first >= BUCKET_NUMBERS) {
            if (last)
                last->end = p->segments[i].first;
            b->buckets[b->count++] = (Bucket){.first = p->segments[i].first, .end = p->flat.size};
        }
        b->bucket_of[i] = b->count - 1;
        b->buckets[b->count - 1].tensors++;
    }
}

Status early_sums_new(Ctx *c, Parameters *p, const StepShape *shape, EarlySums **out)
{
    EarlySums *b = mem_calloc(1, sizeof *b);
    if (!b)
        return STATUS_FAILED;
    *b = (EarlySums){.c = c, .p = p};
    b->bucket_of = mem_calloc((size_t)p->count, sizeof *b->bucket_of);
    b->buckets = mem_calloc((size_t)p->count, sizeof *b->buckets);
    Status s = b->bucket_of && b->buckets ? STATUS_OK : STATUS_FAILED;
    Step step = {.shape = *shape, .data = {.grad_scale = 1}};
    if (s == STATUS_OK) {
        cut(b);
        s = whole_new(c, p, train_step, &step, &b->whole);
    }
    if (s != STATUS_OK) {
        early_sums_free(b);
        return s;
    }
    *out = b;
    return STATUS_OK;
}

void early_sums_free(EarlySums *b)
{
    if (!b)
        return;
    whole_free(b->whole);
    mem_free(b->bucket_of);
    mem_free(b->buckets);
    mem_free(b);
}

void early_sums_begin(EarlySums *b)
{
    b->status = STATUS_OK;
    b->ran = false;
    for (int i = 0; i < b->count; i++)
        b->buckets[i].left = b->buckets[i].tensors;
    ctx_set_capture(b->c, false); /* a recorded step's calls are made when it is over */
    whole_begin(b->whole, &(WholeCalls){tensor_whole, after_layer, b});
}

Status early_sums_finish(EarlySums *b)
{
    const bool followed = whole_end(b->whole);
    ctx_set_capture(b->c, true);
    for (int i = 0; i < b->count; i++)
        if (b->buckets[i].left > 0) /* nothing ran, and the others wait for it all the same */
            begin_bucket(b, &b->buckets[i]);
    if (b->status != STATUS_OK)
        return status_fail("%s", b->why);
    TRY(comm_sum_finish(b->p->share.comm));
    return followed || !b->ran ? STATUS_OK
                               : status_fail("the step's layers were not used as they were rehearsed");
}
