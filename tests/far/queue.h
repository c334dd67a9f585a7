/* The queue of the device `far` (far.h): calls as they were made, with their tensors by value. */
#ifndef TESTS_FAR_QUEUE_H
#define TESTS_FAR_QUEUE_H

#include "far.h"

#define FAR_TENSORS 16
#define FAR_EXTRA 512 /* bytes of the largest descriptor */

typedef struct Call Call;
typedef Status (*CallFn)(Call *k);
struct Call {
    const char *name;
    CallFn run; /* calls the processor's function with what is below */
    int count;
    Tensor t[FAR_TENSORS];
    bool has[FAR_TENSORS];
    int64_t i[4];
    double f[4];
    void *scratch;
    Layer *layer; /* whose packed form may be used */
    bool brings; /* what the descriptor says is brought anew each time, as put() brings: it is not compared */
    size_t extra_bytes;
    char extra[FAR_EXTRA] __attribute__((aligned(16))); /* the descriptor; its tensors are t[0…count) */
    /* put and get */
    void *host;
    bool own_host; /* host is the call's own copy */
    void *at;
    size_t bytes;
    Call *next;
};

/* A new call, to be filled in and queued. NULL: out of memory. */
Call *call_new(const char *name, CallFn run);
/* The next of the call's tensors; t may be NULL. */
void call_tensor(Call *k, const Tensor *t);
/* The descriptor, with the offsets of its n pointers to tensors. */
void call_descriptor(Call *k, const void *d, size_t bytes, const size_t *offsets, int n);
/* Takes k over: it runs when it is waited for. */
Status call_queue(Call *k);
/* While it runs: tensor number i, with the address that calls see it at, or NULL; scratch memory; the
 * descriptor with its tensors put in. */
Tensor *call_get(Call *k, int i);
void *call_scratch(Call *k);
void *call_extra(Call *k, const size_t *offsets);

/* memory.c: the two addresses of the same memory. */
void *far_memory_new(size_t bytes);
void far_memory_free(void *p, size_t bytes);
bool far_owns(const void *p);    /* an address of the device's, in memory that is taken */
void *far_inside(const void *p); /* where calls see it */
bool queue_uses(const char *begin, size_t bytes, const char **name); /* a queued call does */

#endif
