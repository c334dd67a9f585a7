/* The memory of a step, rehearsed (design, section 2: "Memory is rehearsed").
 *
 * The sequence of operations of a step is fixed by the shapes, so running it once without data gives every
 * tensor's size, first and last use. From these the places in one arena follow: largest first, each at the
 * lowest offset that is free during its life. The real step takes its places in the same order, by running
 * number. */
#ifndef ATL_PLAN_H
#define ATL_PLAN_H

#include "device.h"

typedef struct Place {
    const char *op;
    size_t bytes, room, offset; /* room: bytes rounded up to the device's alignment */
    int32_t made;               /* the operation (tick) that takes it */
    int32_t first, last;        /* its life: from then on, or from where a weight begins to be fetched */
    PlaceKind kind;
} Place;

#define PLACE_FOREVER INT32_MAX

/* A weight that the step fetches (weights.c): its place, and where it came from when the plan was last
 * followed. */
typedef struct Fetch {
    int32_t place;
    const void *from; /* NULL: not followed yet */
} Fetch;

struct Plan {
    const Device *dev;
    void **recording; /* the device's, of the step that follows this plan (ctx_set_capture); *recording NULL:
                         none */
    Place *places;
    int32_t count, capacity;
    Fetch *fetches; /* in the order of the step */
    int fetch_count, fetch_capacity;
    int32_t ticks;
    double flop;
    size_t peak_bytes;              /* of the arena: the packing's height */
    size_t kind_bytes[PLACE_KINDS]; /* alive at the fullest tick */
};

Plan *plan_new(const Device *dev);
/* Returns the place's number or -1 (out of memory). */
int32_t plan_add(Plan *p, const char *op, size_t bytes, int32_t tick, PlaceKind kind);
/* The place just added is a weight's that is fetched: its life begins where the one before it is fetched. */
Status plan_fetch(Plan *p, int32_t place);
Status plan_pack(Plan *p);

#endif
