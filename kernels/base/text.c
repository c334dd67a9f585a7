#include "text.h"

#include "mem.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Words longer than this are not what anybody meant to type; they get no suggestion. */
#define WORD_MAX 64

/* [+-]digits, and nothing else. */
static bool is_integer(const char *text)
{
    if (*text == '+' || *text == '-')
        text++;
    if (!*text)
        return false;
    for (; *text; text++)
        if (*text < '0' || *text > '9')
            return false;
    return true;
}

bool text_to_int(const char *text, int64_t *out)
{
    if (!is_integer(text))
        return false;
    errno = 0;
    const long long value = strtoll(text, NULL, 10);
    if (errno)
        return false;
    *out = value;
    return true;
}

bool text_to_uint(const char *text, uint64_t *out)
{
    if (!is_integer(text) || *text == '-')
        return false;
    errno = 0;
    const unsigned long long value = strtoull(text, NULL, 10);
    if (errno)
        return false;
    *out = value;
    return true;
}

/* Skips digits; returns how many there were. */
static int skip_digits(const char **text)
{
    int n = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        n++;
    return n;
}

/* strtod reads the number, with the locale's decimal point put in place of ours where it has another:
 * changing the locale is the program's matter. */
bool text_to_float(const char *text, double *out)
{
    const char *p = text;
    if (*p == '+' || *p == '-')
        p++;
    int digits = skip_digits(&p);
    const char *point = *p == '.' ? p : NULL;
    if (point) {
        p++;
        digits += skip_digits(&p);
    }
    if (!digits)
        return false;
    if (*p == 'e' || *p == 'E') {
        p++;
        if (*p == '+' || *p == '-')
            p++;
        if (!skip_digits(&p))
            return false;
    }
    if (*p)
        return false;

    char copy[512];
    const size_t size = strlen(text) + 1;
    if (size > sizeof copy)
        return false;
    memcpy(copy, text, size);
    char *end;
    double value = strtod(copy, &end);
    if (*end && point) { /* stopped at our point: the locale has another */
        copy[point - text] = ',';
        value = strtod(copy, &end);
    }
    const bool vanished = value == 0 && strcspn(text, "123456789") < strcspn(text, "eE");
    if (*end || !isfinite(value) || vanished)
        return false;
    *out = value;
    return true;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment (Damerau 1964): rows of the table of distances between the prefixes of a and of b.
 */
int text_distance(const char *a, const char *b)
{
    const int n = (int)strnlen(a, WORD_MAX + 1), m = (int)strnlen(b, WORD_MAX + 1);
    if (n > WORD_MAX || m > WORD_MAX)
        return n == m && strcmp(a, b) == 0 ? 0 : WORD_MAX;
    int rows[3][WORD_MAX + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= m; j++)
        last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            const int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            now[j] = smaller(smaller(now[j - 1], last[j]) + 1, last[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]))
                now[j] = smaller(now[j], before[j - 2] + 1);
        }
        int *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[m];
}

const char *text_nearest(const char *word, const char *const *words, int count)
{
    const char *best = NULL;
    int best_distance = 0;
    for (int i = 0; i < count; i++) {
        const int distance = text_distance(word, words[i]);
        if (!best || distance < best_distance) {
            best = words[i];
            best_distance = distance;
        }
    }
    if (!best)
        return NULL;
    const size_t longest = strlen(word) > strlen(best) ? strlen(word) : strlen(best);
    return (size_t)best_distance * 3 <= longest + 2 ? best : NULL;
}

/* Bytes of the sequence that begins at p, 0 if it is not valid. Overlong forms, surrogates and values above
 * U+10FFFF show in the second byte's range. */
static size_t utf8_length(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    const size_t length = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || length > left)
        return 0;
    const uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return length;
}

int64_t text_invalid_utf8(const char *text, size_t size)
{
    const uint8_t *p = (const uint8_t *)text;
    for (size_t at = 0; at < size;) {
        const size_t length = utf8_length(p + at, size - at);
        if (!length)
            return (int64_t)at;
        at += length;
    }
    return -1;
}

const char *text_plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

int text_columns(const char *text, size_t n)
{
    int columns = 0;
    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)text[i] & 0xc0) != 0x80;
    return columns;
}

/* For a shell ------------------------------------------------------------------------------------------ */

char *text_for_shell(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+%@";
    if (*text && !text[strspn(text, plain)])
        return mem_strdup(text);
    char *out = mem_alloc(4 * strlen(text) + 3), *at = out;
    if (!out)
        return NULL;
    *at++ = '\'';
    for (const char *c = text; *c; c++)
        if (*c == '\'') { /* ends the quotes, stands alone, begins them again */
            memcpy(at, "'\\''", 4);
            at += 4;
        } else {
            *at++ = *c;
        }
    memcpy(at, "'", 2);
    return out;
}

/* Names of files ----------------------------------------------------------------------------------------- */

char *text_escape(const char *name)
{
    size_t left = strlen(name);
    char *out = mem_alloc(4 * left + 1), *to = out;
    if (!out)
        return NULL;
    while (left) {
        const unsigned char c = (unsigned char)*name;
        size_t n = utf8_length((const uint8_t *)name, left);
        if (c == '\n') {
            to += sprintf(to, "\\n");
        } else if (c == '\\') {
            to += sprintf(to, "\\\\");
        } else if (n == 0 || c < 0x20 || c == 0x7F) {
            to += sprintf(to, "\\x%02X", c);
            n = 1;
        } else {
            memcpy(to, name, n);
            to += n;
        }
        name += n;
        left -= n;
    }
    *to = 0;
    return out;
}

char *text_as_utf8(const char *name)
{
    return text_invalid_utf8(name, strlen(name)) < 0 ? mem_strdup(name) : text_escape(name);
}
