/* Parts of captions in a hash table that points into the captions. Of a million captions that are sentences
 * each is a part of its own: where there are more than MOST_SLOTS can hold, those that have come least are
 * forgotten (Manku & Motwani 2002, lossy counting). The most frequent ones are kept in a heap, the least of
 * them on top. */
#include "tags.h"

#include "kernels/base/mem.h"

#include <string.h>

#define FIRST_SLOTS ((size_t)1 << 8) /* powers of two, as they all are */
#define MOST_SLOTS ((size_t)1 << 18)

typedef struct Tag {
    const char *text; /* NULL: a free slot */
    uint32_t length, count;
} Tag;

struct Tags {
    Tag *slots;
    size_t size, count;
};

Tags *tags_new(void)
{
    Tags *t = mem_calloc(1, sizeof *t);
    Tag *slots = t ? mem_calloc(FIRST_SLOTS, sizeof *slots) : NULL;
    if (!slots) {
        mem_free(t);
        return NULL;
    }
    *t = (Tags){slots, FIRST_SLOTS, 0};
    return t;
}

void tags_free(Tags *t)
{
    if (t)
        mem_free(t->slots);
    mem_free(t);
}

/* Its slot, or the free one where it belongs. FNV-1a. */
static Tag *slot_of(Tag *slots, size_t size, const char *text, uint32_t length)
{
    uint64_t h = 0xcbf29ce484222325;
    for (uint32_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3;
    size_t at = (size_t)(h ^ h >> 32) & (size - 1);
    while (slots[at].text && (slots[at].length != length || memcmp(slots[at].text, text, length) != 0))
        at = (at + 1) & (size - 1);
    return &slots[at];
}

/* Moves those that have come more than `least` times into as many slots as are given. */
static Status move(Tags *t, size_t size, uint32_t least)
{
    Tag *slots = mem_calloc(size, sizeof *slots);
    if (!slots)
        return STATUS_FAILED;
    t->count = 0;
    for (size_t i = 0; i < t->size; i++)
        if (t->slots[i].text && t->slots[i].count > least) {
            *slot_of(slots, size, t->slots[i].text, t->slots[i].length) = t->slots[i];
            t->count++;
        }
    mem_free(t->slots);
    t->slots = slots;
    t->size = size;
    return STATUS_OK;
}

static bool is_full(const Tags *t)
{
    return 4 * t->count >= 3 * t->size;
}

static Status make_room(Tags *t)
{
    if (t->size < MOST_SLOTS)
        return move(t, 2 * t->size, 0);
    for (uint32_t least = 1; is_full(t); least++)
        TRY(move(t, t->size, least));
    return STATUS_OK;
}

static Status count_one(Tags *t, const char *text, uint32_t length)
{
    if (is_full(t))
        TRY(make_room(t));
    Tag *tag = slot_of(t->slots, t->size, text, length);
    if (!tag->text)
        t->count++;
    *tag = (Tag){text, length, tag->count + 1};
    return STATUS_OK;
}

Status tags_add(Tags *t, const char *caption)
{
    while (*caption) {
        const size_t length = strcspn(caption, ",\n");
        const char *from = caption, *to = caption + length;
        while (from < to && *from == ' ')
            from++;
        while (to > from && to[-1] == ' ')
            to--;
        caption += length + (caption[length] != 0);
        if (to > from)
            TRY(count_one(t, from, (uint32_t)(to - from)));
    }
    return STATUS_OK;
}

/* The most frequent ------------------------------------------------------------------------------------- */

/* a is kept rather than b. */
static bool is_before(const Tag *a, const Tag *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    const uint32_t shorter = a->length < b->length ? a->length : b->length;
    const int order = memcmp(a->text, b->text, shorter);
    return order ? order < 0 : a->length < b->length;
}

/* heap[at] sinks until nothing below it is less. */
static void sink(Tag *heap, int count, int at)
{
    for (int below = 2 * at + 1; below < count; at = below, below = 2 * at + 1) {
        if (below + 1 < count && is_before(&heap[below], &heap[below + 1]))
            below++;
        if (!is_before(&heap[at], &heap[below]))
            return;
        const Tag kept = heap[at];
        heap[at] = heap[below];
        heap[below] = kept;
    }
}

json_t *tags_most_frequent(const Tags *t, int most)
{
    Tag *heap = mem_alloc((size_t)most * sizeof *heap);
    json_t *all = heap ? json_object() : NULL;
    int count = 0;
    for (size_t i = 0; i < t->size && all; i++) {
        if (!t->slots[i].text)
            continue;
        if (count < most) {
            heap[count++] = t->slots[i];
            for (int k = count == most ? count / 2 - 1 : -1; k >= 0; k--)
                sink(heap, count, k);
        } else if (is_before(&t->slots[i], &heap[0])) {
            heap[0] = t->slots[i];
            sink(heap, count, 0);
        }
    }
    for (int i = 0; i < count; i++) {
        char *name = mem_printf("%.*s", (int)heap[i].length, heap[i].text);
        if (!name || json_object_set_new(all, name, json_integer(heap[i].count)) != 0) {
            json_decref(all);
            all = NULL;
            mem_free(name);
            break;
        }
        mem_free(name);
    }
    mem_free(heap);
    return all;
}
