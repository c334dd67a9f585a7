#include "plan.h"

#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>

Plan *plan_new(const Device *dev)
{
    Plan *p = mem_calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->dev = dev;
    p->recording = mem_calloc(1, sizeof *p->recording);
    if (!p->recording) {
        mem_free(p);
        return NULL;
    }
    return p;
}

void plan_free(Plan *p)
{
    if (!p)
        return;
    if (*p->recording)
        p->dev->forget(*p->recording);
    mem_free(p->recording);
    mem_free(p->places);
    mem_free(p->fetches);
    mem_free(p);
}

size_t plan_own_bytes(const Plan *p)
{
    return sizeof *p + sizeof *p->recording + sizeof *p->places * (size_t)p->capacity +
           sizeof *p->fetches * (size_t)p->fetch_capacity;
}

int32_t plan_add(Plan *p, const char *op, size_t bytes, int32_t tick, PlaceKind kind)
{
    if (p->count == p->capacity) {
        const int32_t capacity = p->capacity ? p->capacity * 2 : 1024;
        Place *places = mem_realloc(p->places, sizeof *places * (size_t)capacity);
        if (!places)
            return -1;
        p->places = places;
        p->capacity = capacity;
    }
    const size_t align = p->dev->alignment;
    p->places[p->count] = (Place){.op = op,
                                  .bytes = bytes,
                                  .room = (bytes + align - 1) / align * align,
                                  .made = tick,
                                  .first = tick,
                                  .last = tick,
                                  .kind = kind};
    return p->count++;
}

Status plan_fetch(Plan *p, int32_t place)
{
    if (!mem_grow(&p->fetches, p->fetch_count, &p->fetch_capacity, sizeof *p->fetches))
        return STATUS_FAILED;
    if (p->fetch_count)
        p->places[place].first = p->places[p->fetches[p->fetch_count - 1].place].made;
    p->fetches[p->fetch_count++] = (Fetch){place, NULL};
    return STATUS_OK;
}

/* Largest first; the earlier one where sizes are equal, so that the result depends on nothing else. */
static int by_size(const void *a, const void *b)
{
    const Place *x = *(Place *const *)a, *y = *(Place *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bool lives_overlap(const Place *a, const Place *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset where place is free of all `count` places already put down, which are sorted by offset.
 */
static size_t lowest_offset(const Place *place, Place *const *down, int32_t count)
{
    const size_t need = place->room;
    size_t offset = 0;
    for (int32_t i = 0; i < count; i++) {
        const Place *d = down[i];
        if (!lives_overlap(place, d))
            continue;
        if (d->offset >= offset + need)
            break; /* the gap before d is large enough, and all that follow lie higher */
        const size_t end = d->offset + d->room;
        if (end > offset)
            offset = end;
    }
    return offset;
}

/* What is alive at each tick, to name the categories of the fullest one. */
static Status sum_kinds(Plan *p)
{
    const size_t ticks = (size_t)p->ticks + 2;
    int64_t *change = mem_calloc(ticks * PLACE_KINDS, sizeof *change);
    if (!change)
        return STATUS_FAILED;
    for (int32_t i = 0; i < p->count; i++) {
        const Place *q = &p->places[i];
        const int32_t last = q->last > p->ticks ? p->ticks : q->last;
        change[(size_t)q->first * PLACE_KINDS + q->kind] += (int64_t)q->room;
        change[((size_t)last + 1) * PLACE_KINDS + q->kind] -= (int64_t)q->room;
    }
    int64_t now[PLACE_KINDS] = {0}, fullest = -1;
    for (size_t t = 0; t < ticks; t++) {
        int64_t sum = 0;
        for (int k = 0; k < PLACE_KINDS; k++)
            sum += now[k] += change[t * PLACE_KINDS + (size_t)k];
        if (sum > fullest) {
            fullest = sum;
            for (int k = 0; k < PLACE_KINDS; k++)
                p->kind_bytes[k] = (size_t)now[k];
        }
    }
    mem_free(change);
    return STATUS_OK;
}

Status plan_pack(Plan *p)
{
    const size_t n = (size_t)p->count;
    Place **order = mem_alloc(sizeof *order * (2 * n + 1)), **down = order ? order + n : NULL;
    if (!order)
        return STATUS_FAILED;
    for (size_t i = 0; i < n; i++)
        order[i] = &p->places[i];
    qsort(order, n, sizeof *order, by_size);
    p->peak_bytes = 0;
    for (int32_t i = 0; i < p->count; i++) {
        Place *place = order[i];
        place->offset = lowest_offset(place, down, i);
        const size_t end = place->offset + place->room;
        if (end > p->peak_bytes)
            p->peak_bytes = end;
        int32_t at = i; /* keep `down` sorted by offset */
        while (at > 0 && down[at - 1]->offset > place->offset) {
            down[at] = down[at - 1];
            at--;
        }
        down[at] = place;
    }
    mem_free(order);
    return sum_kinds(p);
}

size_t plan_peak_bytes(const Plan *p)
{
    return p->peak_bytes;
}

size_t plan_kind_bytes(const Plan *p, PlaceKind kind)
{
    return p->kind_bytes[kind];
}

int64_t plan_tick_count(const Plan *p)
{
    return p->ticks;
}

double plan_flop(const Plan *p)
{
    return p->flop;
}
