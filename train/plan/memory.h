/* What a run takes of memory and disk, worked out from shapes before anything is loaded.
 *
 * On the processor memory is the process's own peak (VmHWM). A run goes through phases: pictures and captions
 * are encoded, then come the steps with their previews; each touches its own weights and its own part of one
 * arena, and what a phase no longer needs is given back (layerset_rest). The peak is the fullest phase's. On
 * a device with memory of its own everything that is computed with lies there from loading on, and the host's
 * memory is told apart. */
#ifndef ATL_MEMORY_H
#define ATL_MEMORY_H

#include <stddef.h>

struct Setup;

/* Bytes of the device's memory by what they are for; and of the host's, where that is another: the process's
 * own peak, else 0. */
typedef struct MemoryNeed {
    size_t weights, activations, gradients, optimizer, workspace, other;
    size_t host;
} MemoryNeed;
size_t memory_total(const MemoryNeed *m); /* without the host's */
/* The peak of the process, whichever memory that is. */
size_t memory_of_host(const MemoryNeed *m);

/* Bytes that a run writes into its folder and that stay, or stand there at the same time. */
typedef struct DiskNeed {
    size_t checkpoint; /* one of them */
    size_t result;     /* adapters, or the whole model */
    size_t total;      /* every checkpoint kept and the one being written, results, datasets built */
} DiskNeed;

/* The fullest phase of the run that s plans. Without s->sources what depends on pictures is left out. */
MemoryNeed memory_need(const struct Setup *s);
DiskNeed disk_need(const struct Setup *s);

/* "1.86 GB", "312 MB" into buf; returns buf. */
const char *bytes_text(size_t bytes, char *buf, size_t size);

#endif
