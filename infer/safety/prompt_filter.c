/* Prompts and phrases are made the same way before they are compared: compatibility forms, accents and case
 * away (Unicode's NFKD, casefold, without marks), then " word word " with one space around every word, in
 * which a phrase is found as a piece. Scripts that are written without spaces have each letter as a word. */
#include "prompt_filter.h"

#include "kernels/base/buffer.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define FILE_MAX ((size_t)16 << 20)

typedef struct Phrase {
    char *words; /* " word word " */
    char *shown; /* as the file has it */
    int line;
} Phrase;

struct PromptFilter {
    char *origin;
    Phrase *phrases;
    int count, capacity;
};

/* Words ------------------------------------------------------------------------------------------------ */

static bool is_word_letter(utf8proc_int32_t c)
{
    const utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

/* Thai and its neighbours, Burmese, Khmer, Chinese characters, kana. */
static bool stands_alone(utf8proc_int32_t c)
{
    static const struct {
        utf8proc_int32_t first, last;
    } RANGES[] = {{0x0E00, 0x0EFF}, {0x1000, 0x109F}, {0x1780, 0x17FF},  {0x2E80, 0x2FFF},
                  {0x3005, 0x30FF}, {0x3400, 0x9FFF}, {0x20000, 0x3FFFF}};
    for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++)
        if (c >= RANGES[i].first && c <= RANGES[i].last)
            return true;
    return false;
}

static void add_words(Buffer *b, const utf8proc_uint8_t *text, utf8proc_ssize_t size)
{
    bool inside = false;
    utf8proc_int32_t c;
    buffer_add(b, " ");
    for (utf8proc_ssize_t i = 0, n; i < size && (n = utf8proc_iterate(text + i, size - i, &c)) > 0; i += n) {
        const bool letter = is_word_letter(c);
        if (inside && (!letter || stands_alone(c)))
            buffer_add(b, " ");
        if (letter)
            buffer_add(b, "%.*s", (int)n, (const char *)text + i);
        inside = letter;
        if (letter && stands_alone(c)) {
            buffer_add(b, " ");
            inside = false;
        }
    }
    if (inside)
        buffer_add(b, " ");
}

/* " word word ", or " " where there is none. Caller: mem_free. */
static Status words_of(const char *text, size_t size, char **out)
{
    utf8proc_uint8_t *plain = NULL;
    *out = NULL;
    const utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &plain,
                     UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD |
                         UTF8PROC_IGNORE | UTF8PROC_STRIPMARK);
    if (length == UTF8PROC_ERROR_NOMEM)
        return status_memory("out of memory");
    if (length < 0)
        return status_refuse("is not UTF-8");
    Buffer b = {0};
    add_words(&b, plain, length);
    free(plain); /* utf8proc's own malloc */
    return buffer_take(&b, out);
}

/* The list --------------------------------------------------------------------------------------------- */

static Status add_line(PromptFilter *f, const char *line, size_t size, int number)
{
    const char *comment = memchr(line, '#', size);
    size = comment ? (size_t)(comment - line) : size;
    while (size && strchr(" \t\r", line[size - 1]))
        size--;
    for (; size && strchr(" \t", *line); line++)
        size--;
    if (!size)
        return STATUS_OK;
    if (!mem_grow(&f->phrases, f->count, &f->capacity, sizeof *f->phrases))
        return STATUS_FAILED;
    Phrase *p = &f->phrases[f->count];
    *p = (Phrase){.line = number};
    TRY(status_in(words_of(line, size, &p->words), "%s: line %d", f->origin, number));
    f->count++;
    p->shown = mem_printf("%.*s", (int)size, line);
    if (p->shown && !p->words[1])
        return status_refuse("%s: line %d: `%s` has no letter or digit in it", f->origin, number, p->shown);
    return p->shown ? STATUS_OK : STATUS_FAILED;
}

Status prompt_filter_parse(const char *text, size_t size, const char *origin, PromptFilter **out)
{
    PromptFilter *f = mem_calloc(1, sizeof *f);
    *out = NULL;
    if (!f || !(f->origin = mem_strdup(origin))) {
        prompt_filter_free(f);
        return STATUS_FAILED;
    }
    const size_t mark = size >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0;
    const char *line = text + mark, *end = text + size;
    Status s = STATUS_OK;
    for (int number = 1; s == STATUS_OK && line < end; number++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        s = add_line(f, line, (size_t)(stop - line), number);
        line = stop + 1;
    }
    if (s == STATUS_OK)
        *out = f;
    else
        prompt_filter_free(f);
    return s;
}

Status prompt_filter_open(const char *path, PromptFilter **out)
{
    char *text = NULL;
    size_t size = 0;
    *out = NULL;
    if (!file_exists(path))
        return file_missing(path, "file");
    TRY(file_read(path, FILE_MAX, &text, &size));
    const Status s = prompt_filter_parse(text, size, path, out);
    mem_free(text);
    return s;
}

void prompt_filter_free(PromptFilter *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->count; i++) {
        mem_free(f->phrases[i].words);
        mem_free(f->phrases[i].shown);
    }
    mem_free(f->phrases);
    mem_free(f->origin);
    mem_free(f);
}

Status prompt_filter_check(const PromptFilter *f, const char *prompt)
{
    char *words;
    TRY(status_in(words_of(prompt, strlen(prompt), &words), "the prompt"));
    Status s = STATUS_OK;
    for (int i = 0; i < f->count && s == STATUS_OK; i++)
        if (strstr(words, f->phrases[i].words))
            s = status_refuse("the prompt has `%s` in it, which %s forbids (line %d)", f->phrases[i].shown,
                              f->origin, f->phrases[i].line);
    mem_free(words);
    return s;
}
