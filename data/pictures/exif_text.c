/* Texts in EXIF, for JPEG and WebP, which have no place of their own for them. The first text is the user's
 * comment, where programs that look at generated pictures search for it ("UNICODE\0" and UTF-16, as A1111
 * writes it); all of them lie in the maker's note, as "KEY\0VALUE\0" one after the other.
 *
 * The structure is a TIFF file in small, here in big-endian order: directory 0 has one entry, which says
 * where the EXIF directory is, and that has two, the note and the comment. */
#include "decode.h"
#include "encode.h"

#include "kernels/base/mem.h"

#include <string.h>

#include <utf8proc.h>

#define TAG_EXIF 0x8769
#define TAG_MAKER_NOTE 0x927C
#define TAG_USER_COMMENT 0x9286
#define TYPE_LONG 4
#define TYPE_UNDEFINED 7
#define UNICODE "UNICODE" /* eight bytes with its 0 */
#define NOTE "atelier"    /* the same */
#define MARK_BYTES 8
#define HEADER (6 + 8)                   /* "Exif\0\0", and TIFF's own */
#define FIRST (8 + 2 + 12 + 4)           /* in the TIFF structure: where the EXIF directory stands */
#define CONTENT (FIRST + 2 + 2 * 12 + 4) /* and where its values begin */

static void put(uint8_t *to, int bytes, size_t value)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void put_entry(uint8_t *to, unsigned tag, unsigned type, size_t count, size_t value)
{
    put(to, 2, tag);
    put(to + 2, 2, type);
    put(to + 4, 4, count);
    put(to + 8, 4, value);
}

/* UTF-16, big-endian, of UTF-8; out NULL: counts the bytes. What is no UTF-8 becomes U+FFFD. */
static size_t to_utf16(const char *text, uint8_t *out)
{
    size_t bytes = 0;
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    while (*p) {
        utf8proc_int32_t c;
        const utf8proc_ssize_t n = utf8proc_iterate(p, -1, &c);
        p += n > 0 ? n : 1;
        c = n > 0 ? c : 0xFFFD;
        if (out && c < 0x10000)
            put(out + bytes, 2, (size_t)c);
        if (out && c >= 0x10000) {
            put(out + bytes, 2, 0xD800 + ((size_t)(c - 0x10000) >> 10));
            put(out + bytes + 2, 2, 0xDC00 + ((size_t)(c - 0x10000) & 0x3FF));
        }
        bytes += c < 0x10000 ? 2 : 4;
    }
    return bytes;
}

Status exif_texts(const PictureText *text, int count, size_t limit, uint8_t **out, size_t *size)
{
    size_t note = MARK_BYTES;
    for (int i = 0; i < count; i++)
        note += strlen(text[i].key) + strlen(text[i].value) + 2;
    const size_t comment = MARK_BYTES + (count ? to_utf16(text[0].value, NULL) : 0);
    *out = NULL;
    *size = 6 + CONTENT + note + comment;
    if (*size > limit)
        return status_refuse(
            "what is written about a picture takes %zu bytes, more than the %zu that this format has "
            "room for; write a .png",
            *size, limit);
    uint8_t *bytes = *out = mem_calloc(*size, 1);
    if (!bytes)
        return STATUS_FAILED;
    memcpy(bytes, "Exif\0\0MM\0*\0\0\0\10", HEADER);
    uint8_t *tiff = bytes + 6, *to = tiff + CONTENT;
    put(tiff + 8, 2, 1);
    put_entry(tiff + 10, TAG_EXIF, TYPE_LONG, 1, FIRST);
    put(tiff + FIRST, 2, 2);
    put_entry(tiff + FIRST + 2, TAG_MAKER_NOTE, TYPE_UNDEFINED, note, CONTENT);
    put_entry(tiff + FIRST + 14, TAG_USER_COMMENT, TYPE_UNDEFINED, comment, CONTENT + note);
    memcpy(to, NOTE, MARK_BYTES);
    to += MARK_BYTES;
    for (int i = 0; i < count; i++) {
        to = (uint8_t *)stpcpy((char *)to, text[i].key) + 1;
        to = (uint8_t *)stpcpy((char *)to, text[i].value) + 1;
    }
    memcpy(to, UNICODE, MARK_BYTES);
    if (count)
        to_utf16(text[0].value, to + MARK_BYTES);
    return STATUS_OK;
}

/* Reading ----------------------------------------------------------------------------------------------- */

/* The bytes of an UNDEFINED entry that begin with the mark, without it; NULL: there are none. */
static const uint8_t *find_bytes(const Exif *e, size_t directory, unsigned tag, const char *mark,
                                 size_t *count)
{
    const uint8_t *entry = exif_entry(e, directory, tag);
    if (!entry)
        return NULL;
    const size_t n = exif_number(e, entry + 4, 4), at = exif_number(e, entry + 8, 4);
    if (n < MARK_BYTES || at > e->size || n > e->size - at || memcmp(e->bytes + at, mark, MARK_BYTES))
        return NULL;
    *count = n - MARK_BYTES;
    return e->bytes + at + MARK_BYTES;
}

static Status find_in_note(const uint8_t *note, size_t size, const char *key, char **value)
{
    for (size_t at = 0; at < size;) {
        const char *name = (const char *)note + at;
        const size_t name_length = strnlen(name, size - at);
        at += name_length + 1;
        if (at >= size)
            return STATUS_OK;
        const char *text = (const char *)note + at;
        const size_t length = strnlen(text, size - at);
        at += length + 1;
        if (strlen(key) == name_length && !memcmp(name, key, name_length)) {
            *value = mem_printf("%.*s", (int)length, text);
            return *value ? STATUS_OK : STATUS_FAILED;
        }
    }
    return STATUS_OK;
}

/* UTF-8 of UTF-16 in the file's order of bytes; surrogates that stand alone become U+FFFD. */
static char *from_utf16(const Exif *e, const uint8_t *in, size_t size)
{
    char *out = mem_alloc(size / 2 * 3 + 1);
    size_t bytes = 0;
    for (size_t i = 0; out && i + 1 < size; i += 2) {
        utf8proc_int32_t c = (utf8proc_int32_t)exif_number(e, in + i, 2);
        if (c >= 0xD800 && c < 0xE000) {
            const size_t low = c < 0xDC00 && i + 3 < size ? exif_number(e, in + i + 2, 2) : 0;
            const bool pair = low >= 0xDC00 && low < 0xE000;
            c = pair ? 0x10000 + ((c - 0xD800) << 10) + (utf8proc_int32_t)(low - 0xDC00) : 0xFFFD;
            i += pair ? 2 : 0;
        }
        if (c)
            bytes += (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)out + bytes);
    }
    if (out)
        out[bytes] = 0;
    return out;
}

Status exif_text(const uint8_t *bytes, size_t size, const char *key, char **value)
{
    *value = NULL;
    Exif e;
    const uint8_t *pointer =
        exif_open(bytes, size, &e) ? exif_entry(&e, exif_number(&e, e.bytes + 4, 4), TAG_EXIF) : NULL;
    if (!pointer)
        return STATUS_OK;
    const size_t directory = exif_number(&e, pointer + 8, 4);
    size_t count;
    const uint8_t *note = find_bytes(&e, directory, TAG_MAKER_NOTE, NOTE, &count);
    if (note)
        return find_in_note(note, count, key, value);
    const uint8_t *comment = find_bytes(&e, directory, TAG_USER_COMMENT, UNICODE, &count);
    if (!comment || strcmp(key, PICTURE_COMMENT))
        return STATUS_OK;
    *value = from_utf16(&e, comment, count);
    return *value ? STATUS_OK : STATUS_FAILED;
}
