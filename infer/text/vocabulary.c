#include "vocabulary.h"

#include "kernels/base/mem.h"
#include "merge_table.h"

#include <string.h>

#define CLIP_MERGES 48894
#define CLIP_BOS 49406
#define CLIP_EOS 49407
#define FIRST_MERGED 512 /* 256 bytes, and 256 bytes that end a word */

/* The merges lie in the library as the file has them; C17 has no #embed. */
__asm__(".pushsection .rodata\n"
        ".hidden atl_clip_merges\n"
        ".globl atl_clip_merges\n"
        "atl_clip_merges: .incbin \"" ATELIER_SOURCE_DIR "/infer/text/clip_merges.bin\"\n"
        ".popsection\n");
extern const uint8_t atl_clip_merges[CLIP_MERGES * 4] __attribute__((visibility("hidden")));

static uint32_t hash_pair(int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 32);
}

/* The slot that holds the pair, or the free one where it belongs. */
static Merge *find_slot(const MergeTable *t, int32_t left, int32_t right)
{
    const uint32_t mask = t->capacity - 1;
    uint32_t i = hash_pair(left, right) & mask;
    while (t->slots[i].left >= 0 && (t->slots[i].left != left || t->slots[i].right != right))
        i = (i + 1) & mask;
    return &t->slots[i];
}

Status merge_table_new(MergeTable *t, int merges)
{
    t->capacity = 64;
    while (t->capacity < 2u * (uint32_t)merges)
        t->capacity *= 2;
    t->slots = mem_alloc(t->capacity * sizeof *t->slots);
    if (!t->slots)
        return STATUS_FAILED;
    for (uint32_t i = 0; i < t->capacity; i++)
        t->slots[i].left = -1;
    return STATUS_OK;
}

void merge_table_add(MergeTable *t, Merge m)
{
    *find_slot(t, m.left, m.right) = m;
}

const Merge *vocabulary_merge(const Vocabulary *v, int32_t left, int32_t right)
{
    const Merge *m = find_slot(&v->merges, left, right);
    return m->left >= 0 ? m : NULL;
}

/* Byte-level BPE writes each byte as one printable character: the printable ones of Latin-1 as themselves,
 * and in that order first; the others as U+0100 and on (Radford 2019). */
bool byte_is_printable(int byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

Status vocabulary_add_special(Vocabulary *v, const char *text, int32_t id, bool normalized)
{
    for (int i = 0; i < v->special_count; i++)
        if (strcmp(v->special[i].text, text) == 0) {
            v->special[i].normalized = normalized;
            return STATUS_OK;
        }
    SpecialToken *grown = mem_realloc(v->special, (size_t)(v->special_count + 1) * sizeof *grown);
    if (!grown)
        return STATUS_FAILED;
    v->special = grown;
    char *copy = mem_strdup(text);
    if (!copy)
        return STATUS_FAILED;
    v->special[v->special_count++] = (SpecialToken){copy, strlen(copy), id, normalized};
    return STATUS_OK;
}

static Status fill_builtin(Vocabulary *v)
{
    int32_t next = 0;
    for (int printable = 1; printable >= 0; printable--)
        for (int b = 0; b < 256; b++)
            if (byte_is_printable(b) == (bool)printable) {
                v->byte_id[0][b] = next;
                v->byte_id[1][b] = 256 + next++;
            }
    TRY(merge_table_new(&v->merges, CLIP_MERGES));
    for (int i = 0; i < CLIP_MERGES; i++) {
        const uint8_t *p = atl_clip_merges + (size_t)i * 4;
        merge_table_add(&v->merges, (Merge){p[0] | p[1] << 8, p[2] | p[3] << 8, FIRST_MERGED + i, i});
    }
    v->size = CLIP_EOS + 1;
    v->bos = CLIP_BOS;
    v->eos = v->pad = v->unk = CLIP_EOS;
    TRY(vocabulary_add_special(v, "<|startoftext|>", CLIP_BOS, false));
    return vocabulary_add_special(v, "<|endoftext|>", CLIP_EOS, false);
}

Status vocabulary_builtin(Vocabulary *out)
{
    *out = (Vocabulary){0};
    const Status s = fill_builtin(out);
    if (s != STATUS_OK)
        vocabulary_free(out);
    return s;
}

void vocabulary_free(Vocabulary *v)
{
    for (int i = 0; i < v->special_count; i++)
        mem_free(v->special[i].text);
    mem_free(v->special);
    mem_free(v->merges.slots);
    *v = (Vocabulary){0};
}
