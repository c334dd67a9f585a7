/* A word begins as its bytes, the last one marked as the end. Then, as long as two neighbours have a merge,
 * those of the lowest rank are joined, the leftmost first. Candidates wait in a binary heap, so that a word
 * of n bytes takes n log n steps however long it is; one that was overtaken by another merge is recognised
 * when it comes up, because its pair no longer stands there (the same rule as in Hugging Face's tokenizers,
 * so the same result for any table). */
#include "bpe.h"

#include "kernels/base/mem.h"

#include <string.h>

typedef struct Symbol {
    int32_t id;            /* -1: joined to the one before */
    int32_t before, after; /* neighbours; -1: none */
} Symbol;
typedef struct Candidate {
    int32_t rank, at, merged;
} Candidate;
typedef struct Word {
    const Vocabulary *v;
    Symbol *symbols;
    Candidate *heap;
    int heap_count;
} Word;

Status idlist_add(IdList *l, int32_t id)
{
    if (!mem_grow(&l->items, l->count, &l->capacity, sizeof *l->items))
        return STATUS_FAILED;
    l->items[l->count++] = id;
    return STATUS_OK;
}

static bool earlier(Candidate a, Candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(Word *w, Candidate c)
{
    int i = w->heap_count++;
    for (; i > 0 && earlier(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static Candidate heap_pop(Word *w)
{
    const Candidate top = w->heap[0], last = w->heap[--w->heap_count];
    int i = 0;
    for (int child = 1; child < w->heap_count; child = 2 * i + 1) {
        if (child + 1 < w->heap_count && earlier(w->heap[child + 1], w->heap[child]))
            child++;
        if (!earlier(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* The pair that begins at symbol `at`, if it can be joined. */
static void offer(Word *w, int32_t at)
{
    if (at < 0 || w->symbols[at].after < 0)
        return;
    const Merge *m = vocabulary_merge(w->v, w->symbols[at].id, w->symbols[w->symbols[at].after].id);
    if (m)
        heap_push(w, (Candidate){m->rank, at, m->merged});
}

static void join(Word *w, Candidate c)
{
    Symbol *left = &w->symbols[c.at];
    if (left->id < 0 || left->after < 0)
        return;
    Symbol *right = &w->symbols[left->after];
    const Merge *m = vocabulary_merge(w->v, left->id, right->id);
    if (!m || m->merged != c.merged)
        return;
    left->id = c.merged;
    left->after = right->after;
    right->id = -1;
    if (left->after >= 0)
        w->symbols[left->after].before = c.at;
    offer(w, left->before);
    offer(w, c.at);
}

static void merge_all(Word *w, int n)
{
    for (int i = 0; i + 1 < n; i++)
        offer(w, i);
    while (w->heap_count)
        join(w, heap_pop(w));
}

Status bpe_encode(const Vocabulary *v, const uint8_t *bytes, size_t size, IdList *out)
{
    /* n - 1 pairs at first, and each of at most n - 1 joins offers two more */
    Symbol few_symbols[64];
    Candidate few_candidates[3 * 64];
    Word w = {.v = v, .symbols = few_symbols, .heap = few_candidates};
    if (size > 64) {
        w.symbols = mem_alloc(size * sizeof *w.symbols);
        w.heap = w.symbols ? mem_alloc(3 * size * sizeof *w.heap) : NULL;
    }
    Status s = w.symbols && w.heap ? STATUS_OK : STATUS_FAILED;
    const int n = (int)size;
    if (s == STATUS_OK) {
        for (int i = 0; i < n; i++)
            w.symbols[i] = (Symbol){v->byte_id[i == n - 1][bytes[i]], i - 1, i + 1 < n ? i + 1 : -1};
        merge_all(&w, n);
    }
    for (int i = 0; s == STATUS_OK && i < n; i++)
        if (w.symbols[i].id >= 0)
            s = idlist_add(out, w.symbols[i].id);
    if (size > 64) {
        mem_free(w.heap);
        mem_free(w.symbols);
    }
    return s;
}
