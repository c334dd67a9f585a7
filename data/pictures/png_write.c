/* Writing PNG: 8-bit RGB with text chunks, encoded in memory and then put in its place whole. No time and no
 * host goes in, so equal pictures give equal files. */
#include "picture.h"

#include "kernels/base/mem.h"

#include <setjmp.h>
#include <string.h>

#include <png.h>
#include <utf8proc.h>

#define KEY_LETTERS 79 /* the standard's limit */

typedef struct Job {
    png_structp png;
    png_infop info;
    jmp_buf out;
    uint8_t *bytes; /* the file so far */
    size_t size, capacity;
} Job;

static void fail(png_structp png, png_const_charp text)
{
    Job *j = png_get_error_ptr(png);
    status_fail("PNG cannot be encoded: %s", text);
    longjmp(j->out, 1);
}

static void warn(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void append(png_structp png, png_bytep data, size_t count)
{
    Job *j = png_get_io_ptr(png);
    if (count > j->capacity - j->size) {
        const size_t capacity = 2 * (j->size + count) + 4096;
        uint8_t *larger = mem_realloc(j->bytes, capacity);
        if (!larger)
            longjmp(j->out, 1);
        j->bytes = larger;
        j->capacity = capacity;
    }
    memcpy(j->bytes + j->size, data, count);
    j->size += count;
}

static void flush(png_structp png)
{
    (void)png;
}

static png_voidp allocate(png_structp png, png_alloc_size_t size)
{
    (void)png;
    return mem_alloc(size);
}

static void release(png_structp png, png_voidp p)
{
    (void)png;
    mem_free(p);
}

/* text as Latin-1 into out (strlen(text) + 1 bytes); false if it has other letters or is not UTF-8. */
static bool to_latin1(const char *text, char *out)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    while (*p) {
        utf8proc_int32_t c;
        const utf8proc_ssize_t n = utf8proc_iterate(p, -1, &c);
        if (n <= 0 || c > 0xFF)
            return false;
        *out++ = (char)c;
        p += n;
    }
    *out = 0;
    return true;
}

/* Fills chunks[i]; *latin1 gets one allocation for the converted value. */
static Status text_chunk(const PictureText *t, png_text *chunk, char **latin1)
{
    const size_t letters = strlen(t->key);
    if (letters == 0 || letters > KEY_LETTERS)
        return status_fail("a PNG text's key has 1 to %d letters, \"%s\" has %zu", KEY_LETTERS, t->key,
                           letters);
    *latin1 = mem_alloc(strlen(t->value) + 1);
    if (!*latin1)
        return STATUS_FAILED;
    const bool plain = to_latin1(t->value, *latin1);
    *chunk = (png_text){.compression = plain ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE,
                        .key = (char *)t->key,
                        .text = plain ? *latin1 : (char *)t->value,
                        .text_length = plain ? strlen(*latin1) : 0,
                        .itxt_length = plain ? 0 : strlen(t->value),
                        .lang = (char *)"",
                        .lang_key = (char *)""};
    return STATUS_OK;
}

static Status run_encode(Job *j, const Picture *p, const png_text *chunks, int count)
{
    if (setjmp(j->out))
        return STATUS_FAILED;
    png_set_write_fn(j->png, j, append, flush);
    png_set_IHDR(j->png, j->info, (png_uint_32)p->size.width, (png_uint_32)p->size.height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_set_text(j->png, j->info, chunks, count);
    png_write_info(j->png, j->info);
    for (int y = 0; y < p->size.height; y++)
        png_write_row(j->png, p->rgb + 3 * (size_t)p->size.width * (size_t)y);
    png_write_end(j->png, j->info);
    return STATUS_OK;
}

static Status encode(Job *j, const Picture *p, const png_text *chunks, int count)
{
    j->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, j, fail, warn, NULL, allocate, release);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    const Status s =
        j->info ? run_encode(j, p, chunks, count) : status_memory("out of memory for encoding PNG");
    png_destroy_write_struct(&j->png, &j->info);
    return s;
}

Status picture_encode_png(const Picture *p, const PictureText *text, int count, uint8_t **bytes, size_t *size)
{
    Job j = {0};
    png_text *chunks = mem_calloc((size_t)count, sizeof *chunks);
    char **latin1 = mem_calloc((size_t)count, sizeof *latin1);
    Status s = chunks && latin1 ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < count && s == STATUS_OK; i++)
        s = text_chunk(&text[i], &chunks[i], &latin1[i]);
    if (s == STATUS_OK)
        s = encode(&j, p, chunks, count);
    for (int i = 0; i < count && latin1; i++)
        mem_free(latin1[i]);
    mem_free(latin1);
    mem_free(chunks);
    if (s != STATUS_OK) {
        mem_free(j.bytes);
        j = (Job){0};
    }
    *bytes = (uint8_t *)j.bytes;
    *size = j.size;
    return s;
}
