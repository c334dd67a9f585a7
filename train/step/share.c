#include "share.h"

#include "kernels/base/mem.h"

/* The first tensor that begins at or after its part of the block. */
static int first_of(const Comm *c, const Segment *segments, int count, int64_t elements, int rank)
{
    int i = 0;
    while (i < count && segments[i].first * c->size < elements * rank)
        i++;
    return rank == c->size ? count : i;
}

Status share_new(Comm *comm, const Segment *segments, int count, int64_t elements, Share *out)
{
    *out = (Share){.comm = comm};
    out->at = mem_calloc((size_t)comm->size + 1, sizeof *out->at);
    out->segments = mem_calloc((size_t)count + 1, sizeof *out->segments);
    if (!out->at || !out->segments)
        return STATUS_FAILED;
    for (int r = 0; r <= comm->size; r++) {
        const int i = first_of(comm, segments, count, elements, r);
        out->at[r] = r < comm->size && i < count ? segments[i].first : elements;
    }
    out->first = first_of(comm, segments, count, elements, comm->rank);
    out->count = first_of(comm, segments, count, elements, comm->rank + 1) - out->first;
    for (int i = 0; i < out->count; i++) {
        out->segments[i] = segments[out->first + i];
        out->segments[i].first -= share_begin(out);
    }
    return STATUS_OK;
}

void share_free(Share *s)
{
    mem_free(s->at);
    mem_free(s->segments);
    *s = (Share){0};
}

int share_owner(const Share *s, const Segment *segments, int i)
{
    int r = s->comm->size - 1;
    while (s->at[r] > segments[i].first)
        r--;
    return r;
}

Tensor *share_part(const Share *s, const Tensor *block)
{
    const int64_t n = share_numbers(s);
    return n > 0 ? tensor_view(block, share_begin(s), 1, &n) : NULL;
}
