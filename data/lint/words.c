/* Words of captions (words.h), as hashes: a hash that two captions have is a word that they share. */
#include "words.h"

#include "kernels/base/mem.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SHORTEST 3

typedef struct Word {
    uint64_t hash;
    int caption;
} Word;

typedef struct Words {
    Word *items;
    int count, capacity;
} Words;

static bool is_letter(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static Status add_words(Words *w, const char *text, int caption)
{
    while (*text) {
        uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
        size_t n = 0;
        for (; is_letter(text[n]); n++)
            hash = (hash ^ (unsigned char)tolower((unsigned char)text[n])) * 0x100000001b3;
        if (n >= SHORTEST) {
            if (!mem_grow(&w->items, w->count, &w->capacity, sizeof *w->items))
                return STATUS_FAILED;
            w->items[w->count++] = (Word){hash, caption};
        }
        text += n ? n : 1;
    }
    return STATUS_OK;
}

static int by_hash(const void *a, const void *b)
{
    const Word *x = a, *y = b;
    return x->hash < y->hash ? -1 : x->hash > y->hash ? 1 : x->caption - y->caption;
}

Status words_alone(const char *(*caption)(const void *set, int i), const void *set, int count, bool *alone)
{
    Words w = {0};
    Status s = STATUS_OK;
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        const char *text = caption(set, i);
        alone[i] = text && *text;
        s = text ? add_words(&w, text, i) : STATUS_OK;
    }
    if (w.count)
        qsort(w.items, (size_t)w.count, sizeof *w.items, by_hash);
    for (int k = 1; k < w.count; k++)
        if (w.items[k].hash == w.items[k - 1].hash && w.items[k].caption != w.items[k - 1].caption)
            alone[w.items[k].caption] = alone[w.items[k - 1].caption] = false;
    mem_free(w.items);
    return s;
}
