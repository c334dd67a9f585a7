#include "early_sums.h"

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
    int *times, *left; /* by tensor: how often its gradient is added to in a step */
    int *bucket_of;    /* by tensor */
    Bucket *buckets;
    int count;
    bool counting;
    Status status;
    char why[STATUS_MESSAGE_SIZE];
};

/* Which of the list a trained weight is; by where its gradient lies. −1: none. */
static int number_of(const EarlySums *b, const Tensor *weight)
{
    const Parameters *p = b->p;
    if (!weight || !weight->requires_grad || !weight->grad)
        return -1;
    const int64_t at =
        ((char *)weight->grad->data - (char *)p->flat.gradients->data) / (int64_t)sizeof(float);
    int low = 0, high = p->count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (p->segments[middle].first <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static void begin_bucket(EarlySums *b, Bucket *bucket)
{
    if (b->status != STATUS_OK)
        return;
    b->status =
        comm_sum_begin(b->p->share.comm, b->p->flat.gradients, b->p->share.at, bucket->first, bucket->end);
    if (b->status != STATUS_OK)
        memcpy(b->why, status_message(), sizeof b->why);
}

static void tensor_done(EarlySums *b, int i)
{
    Bucket *bucket = &b->buckets[b->bucket_of[i]];
    if (--bucket->left == 0)
        begin_bucket(b, bucket);
}

static void added_to(EarlySums *b, const Tensor *weight)
{
    const int i = number_of(b, weight);
    if (i < 0)
        return;
    if (b->counting)
        b->times[i]++;
    else if (--b->left[i] == 0)
        tensor_done(b, i);
}

static void after_layer(Ctx *c, const Layer *layer, void *arg)
{
    EarlySums *b = arg;
    added_to(b, layer->weight);
    added_to(b, layer->bias);
    for (const Adapter *a = layer->adapters; a; a = a->next)
        for (int k = 0; k < ADAPTER_TENSORS; k++)
            added_to(b, a->tensors[k]);
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

static Status count_times(EarlySums *b, const StepShape *shape)
{
    Step step = {.shape = *shape, .data = {.grad_scale = 1}};
    Plan *plan = NULL;
    b->counting = true;
    ctx_after_layers(b->c, after_layer, b);
    const Status s = ctx_rehearse(b->c, train_step, &step, &plan);
    ctx_after_layers(b->c, NULL, NULL);
    b->counting = false;
    plan_free(plan);
    return s;
}

Status early_sums_new(Ctx *c, Parameters *p, const StepShape *shape, EarlySums **out)
{
    EarlySums *b = mem_calloc(1, sizeof *b);
    if (!b)
        return STATUS_FAILED;
    *b = (EarlySums){.c = c, .p = p};
    b->times = mem_calloc((size_t)p->count, sizeof *b->times);
    b->left = mem_calloc((size_t)p->count, sizeof *b->left);
    b->bucket_of = mem_calloc((size_t)p->count, sizeof *b->bucket_of);
    b->buckets = mem_calloc((size_t)p->count, sizeof *b->buckets);
    Status s = b->times && b->left && b->bucket_of && b->buckets ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK) {
        cut(b);
        s = count_times(b, shape);
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
    mem_free(b->times);
    mem_free(b->left);
    mem_free(b->bucket_of);
    mem_free(b->buckets);
    mem_free(b);
}

void early_sums_begin(EarlySums *b)
{
    b->status = STATUS_OK;
    memcpy(b->left, b->times, (size_t)b->p->count * sizeof *b->left);
    for (int i = 0; i < b->count; i++)
        b->buckets[i].left = b->buckets[i].tensors;
    ctx_set_capture(b->c, false); /* a recorded step's calls are made when it is over */
    ctx_after_layers(b->c, after_layer, b);
}

Status early_sums_finish(EarlySums *b)
{
    ctx_after_layers(b->c, NULL, NULL);
    ctx_set_capture(b->c, true);
    for (int i = 0; i < b->count; i++)
        if (b->buckets[i].left > 0) /* a tensor that no loss reaches */
            begin_bucket(b, &b->buckets[i]);
    if (b->status == STATUS_OK)
        return comm_sum_finish(b->p->share.comm);
    return status_fail("%s", b->why);
}
