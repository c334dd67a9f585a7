/* Captions from files (captions.h). Text files come from every kind of editor: with and
 * without a byte order mark, with any line ends. What is not UTF-8 is never guessed at: a wrong guess would
 * be trained on. */
#include "captions.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPTION_FILE_MAX (1 << 20) /* white space may stand around the caption */
#define METADATA_MAX_BYTES ((size_t)1 << 30)

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Bytes of a byte order mark at the beginning: 3, or 0. Texts put together from files have several. */
static size_t begins_with_mark(const char *text, size_t size)
{
    return size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

static Status check_text(const char *text, size_t size)
{
    if (size >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0))
        return status_fail("is UTF-16; save it as UTF-8");
    const int64_t bad = text_invalid_utf8(text, size);
    if (bad >= 0)
        return status_fail("byte %lld is not UTF-8; save the file as UTF-8", (long long)bad);
    const char *zero = memchr(text, 0, size);
    if (zero)
        return status_fail("byte %zu is zero; this is not a text", (size_t)(zero - text));
    return STATUS_OK;
}

Status caption_clean(const char *text, size_t size, char **out)
{
    *out = NULL;
    TRY(check_text(text, size));
    for (size_t n; (n = begins_with_mark(text, size)) || (size && (n = is_space(text[0])));)
        text += n, size -= n;
    while (size && is_space(text[size - 1]))
        size--;
    if (size == 0)
        return STATUS_OK;
    if (size > CAPTION_MAX_BYTES)
        return status_fail("a caption of %zu bytes is too long (%d at most)", size, CAPTION_MAX_BYTES);
    char *to = *out = mem_alloc(size + 1);
    if (!to)
        return STATUS_FAILED;
    for (size_t i = 0; i < size;) {
        size_t run = 0;
        char gap = ' ';
        for (; is_space(text[i + run]); run++)
            gap = text[i + run] == ' ' || gap == '\n' ? gap : text[i + run] == '\t' ? '\t' : '\n';
        if (run && gap != ' ')
            *to++ = gap == '\n' ? '\n' : ' ';
        else
            memcpy(to, text + i, run), to += run;
        i += run;
        for (; i < size && !is_space(text[i]); i++)
            *to++ = text[i];
    }
    *to = 0;
    return STATUS_OK;
}

Status caption_read(const char *path, char **out)
{
    *out = NULL;
    char *text, *shown = text_escape(path);
    size_t size;
    if (!shown)
        return STATUS_FAILED;
    const int64_t bytes = file_size(path);
    Status s = bytes > CAPTION_FILE_MAX ? status_fail("%s: a caption of %lld bytes is too long (%d at most)",
                                                      shown, (long long)bytes, CAPTION_MAX_BYTES)
                                        : file_read(path, CAPTION_FILE_MAX, &text, &size);
    if (s == STATUS_OK) {
        s = status_in(caption_clean(text, size, out), "%s", shown);
        mem_free(text);
    }
    mem_free(shown);
    return s;
}

/* metadata.jsonl --------------------------------------------------------------------------------------- */

void metadata_free(MetadataFile *m)
{
    for (int i = 0; i < m->count; i++) {
        mem_free(m->entries[i].file_name);
        mem_free(m->entries[i].text);
    }
    mem_free(m->entries);
    *m = (MetadataFile){0};
}

static Status add_entry(MetadataFile *m, int line, const char *file_name, const char *text)
{
    if (!mem_grow(&m->entries, m->count, &m->capacity, sizeof *m->entries))
        return STATUS_FAILED;
    while (strncmp(file_name, "./", 2) == 0)
        file_name += 2;
    MetadataEntry *e = &m->entries[m->count++];
    *e = (MetadataEntry){.line = line, .file_name = mem_strdup(file_name)};
    return e->file_name ? caption_clean(text, strlen(text), &e->text) : STATUS_FAILED;
}

static Status read_line(MetadataFile *m, int line, const char *text, size_t size)
{
    json_error_t error;
    json_t *object = json_read(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return status_fail(
            "not valid JSON: %s; a line is {\"file_name\": \"a.jpg\", \"text\": \"its caption\"}",
            error.text);
    const json_t *file_name = json_object_get(object, "file_name"),
                 *caption = json_object_get(object, "text");
    Status s;
    if (!json_is_string(file_name) || !json_string_value(file_name)[0])
        s = status_fail("needs \"file_name\", a text");
    else if (!json_is_string(caption))
        s = status_fail("needs \"text\", the caption");
    else
        s = add_entry(m, line, json_string_value(file_name), json_string_value(caption));
    json_decref(object);
    return s;
}

static Status read_lines(const char *text, size_t size, MetadataFile *m)
{
    TRY(check_text(text, size));
    const size_t mark = begins_with_mark(text, size);
    text += mark, size -= mark;
    for (int line = 1; size; line++) {
        const char *end = memchr(text, '\n', size);
        const size_t length = end ? (size_t)(end - text) : size;
        size_t used = length;
        while (used && is_space(text[used - 1]))
            used--;
        if (used)
            TRY(status_in(read_line(m, line, text, used), "line %d", line));
        const size_t step = length + (end ? 1 : 0);
        text += step, size -= step;
    }
    return STATUS_OK;
}

Status metadata_read(const char *path, MetadataFile *out)
{
    *out = (MetadataFile){0};
    char *text, *shown = text_escape(path);
    size_t size;
    if (!shown)
        return STATUS_FAILED;
    Status s = file_read(path, METADATA_MAX_BYTES, &text, &size);
    if (s == STATUS_OK) {
        s = status_in(read_lines(text, size, out), "%s", shown);
        mem_free(text);
    }
    if (s != STATUS_OK)
        metadata_free(out);
    mem_free(shown);
    return s;
}
