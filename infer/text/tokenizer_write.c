/* CLIP's built-in vocabulary as the files that transformers reads: a model from a single file brings none,
 * and the folder that it is saved as needs one. The texts of the tokens follow from the merges: token 512 + i
 * is the text of its left half and of its right half. */
#include "tokenizer_write.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "merge_table.h"
#include "vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_MERGED 512

/* texts[id] of all merged tokens by their rank, and of the bytes. */
typedef struct Texts {
    char **texts;
    const Merge **merges; /* by rank */
    int count, merge_count;
} Texts;

static void texts_free(Texts *t)
{
    for (int i = 0; t->texts && i < t->count; i++)
        mem_free(t->texts[i]);
    mem_free(t->texts);
    mem_free(t->merges);
}

/* A byte's stand-in character in UTF-8 (two bytes from U+0080 on); unprintable ones count up from U+0100. */
static void byte_character(int byte, int *unprintable, char out[3])
{
    const int point = byte_is_printable(byte) ? byte : 256 + (*unprintable)++;
    if (point < 128)
        snprintf(out, 3, "%c", point);
    else
        snprintf(out, 3, "%c%c", 0xc0 | point >> 6, 0x80 | (point & 63));
}

static Status make_texts(const Vocabulary *v, Texts *t)
{
    t->count = v->size;
    t->texts = mem_calloc((size_t)v->size, sizeof *t->texts);
    t->merges = mem_calloc((size_t)v->size, sizeof *t->merges);
    if (!t->texts || !t->merges)
        return STATUS_FAILED;
    int unprintable = 0;
    for (int b = 0; b < 256; b++) {
        char character[3];
        byte_character(b, &unprintable, character);
        t->texts[v->byte_id[0][b]] = mem_strdup(character);
        t->texts[v->byte_id[1][b]] = mem_printf("%s</w>", character);
    }
    for (uint32_t i = 0; i < v->merges.capacity; i++) {
        const Merge *m = &v->merges.slots[i];
        if (m->left >= 0) {
            t->merges[m->rank] = m;
            t->merge_count++;
        }
    }
    for (int i = 0; i < t->merge_count; i++) {
        const Merge *m = t->merges[i];
        if (!t->texts[m->left] || !t->texts[m->right])
            return STATUS_FAILED;
        t->texts[m->merged] = mem_printf("%s%s", t->texts[m->left], t->texts[m->right]);
    }
    for (int i = 0; i < v->special_count; i++) {
        mem_free(t->texts[v->special[i].id]);
        t->texts[v->special[i].id] = mem_strdup(v->special[i].text);
    }
    for (int i = 0; i < t->count; i++)
        if (!t->texts[i])
            return STATUS_FAILED;
    return STATUS_OK;
}

static Status write_json(const char *path, json_t *object, size_t flags)
{
    char *text = json_text(object, flags);
    const Status s =
        text ? file_write_atomic(path, text, strlen(text)) : status_in(STATUS_FAILED, "%s", path);
    free(text);
    return s;
}

static Status write_vocabulary(const char *path, const Texts *t)
{
    json_t *vocab = json_object();
    for (int i = 0; vocab && i < t->count; i++)
        json_object_set_new(vocab, t->texts[i], json_integer(i));
    return write_json(path, vocab, JSON_COMPACT);
}

static Status write_text(AtomicFile *f, const char *text)
{
    return atomic_write(f, text, strlen(text));
}

static Status write_merges(const char *path, const Texts *t)
{
    AtomicFile *f = NULL;
    TRY(atomic_open(path, &f));
    Status s = write_text(f, "#version: 0.2\n");
    for (int i = 0; i < t->merge_count && s == STATUS_OK; i++) {
        s = write_text(f, t->texts[t->merges[i]->left]);
        if (s == STATUS_OK)
            s = write_text(f, " ");
        if (s == STATUS_OK)
            s = write_text(f, t->texts[t->merges[i]->right]);
        if (s == STATUS_OK)
            s = write_text(f, "\n");
    }
    if (s == STATUS_OK)
        return atomic_commit(f);
    atomic_abort(f);
    return s;
}

static Status write_config(const char *path, const char *pad)
{
    return write_json(path,
                      json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b}", "tokenizer_class", "CLIPTokenizer",
                                "bos_token", "<|startoftext|>", "eos_token", "<|endoftext|>", "unk_token",
                                "<|endoftext|>", "pad_token", pad, "model_max_length", 77, "do_lower_case",
                                1),
                      JSON_INDENT(2));
}

Status clip_tokenizer_write(const char *folder, const char *pad)
{
    Vocabulary v;
    Texts t = {0};
    TRY(vocabulary_builtin(&v));
    char *vocab = path_join(folder, "vocab.json"), *merges = path_join(folder, "merges.txt"),
         *config = path_join(folder, "tokenizer_config.json");
    Status s = vocab && merges && config ? make_texts(&v, &t) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = write_vocabulary(vocab, &t);
    if (s == STATUS_OK)
        s = write_merges(merges, &t);
    if (s == STATUS_OK)
        s = write_config(config, pad);
    texts_free(&t);
    vocabulary_free(&v);
    mem_free(vocab);
    mem_free(merges);
    mem_free(config);
    return s;
}
