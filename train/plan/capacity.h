/* What a model can be used for in so much memory, worked out from shapes: nothing is loaded.
 *
 * Each kind of work can be done in several ways, of which each takes less memory and more time than the one
 * before it; the first that fits is the one to take. */
#ifndef ATL_CAPACITY_H
#define ATL_CAPACITY_H

#include "kernels/device.h"

typedef enum CapacityWork {
    CAPACITY_DRAW, /* a picture of the model's own size, steps and guidance as `sample` has them */
    CAPACITY_LORA, /* a step with a picture of that size, everything as a configuration has it by itself */
    CAPACITY_FULL, /* the same of the whole UNet */
    CAPACITY_WORKS
} CapacityWork;

typedef struct CapacityWay {
    const char *settings; /* "train.mode=balanced", as --set takes them, or options of `atelier sample` */
    size_t bytes;         /* of the device's memory */
    size_t host;          /* and of the machine's, on a device with memory of its own; else 0 */
    double flop;          /* of the picture, or the step */
    double moved;         /* bytes that go from one memory to the other in it */
    double updated;       /* bytes that the processor reads and writes to move weights that are its own */
} CapacityWay;

#define CAPACITY_WAYS 6
typedef struct Capacity {
    CapacityWay ways[CAPACITY_WORKS][CAPACITY_WAYS];
    int count[CAPACITY_WORKS];
} Capacity;

Status capacity_of(const char *model, const Device *dev, Capacity *out);
/* The first way that takes no more than so many bytes of the device's memory, and of the machine's. NULL:
 * none does. */
const CapacityWay *capacity_within(const Capacity *c, CapacityWork work, size_t bytes, size_t host);
/* The last: nothing takes less. */
const CapacityWay *capacity_least(const Capacity *c, CapacityWork work);
/* Seconds of it where the device computes so many operations a second. */
double capacity_seconds(const CapacityWay *w, double flop_per_second);

#endif
