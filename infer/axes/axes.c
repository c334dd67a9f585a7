#include "axes.h"

#include "kernels/base/buffer.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "checkpoints.h"

#include <stdio.h>
#include <string.h>

#define MAX_PLACES 1024

void axis_free(Axis *a)
{
    for (int i = 0; i < a->count; i++) {
        AxisPlace *p = &a->places[i];
        words_free(&p->words);
        mem_free(p->label);
        mem_free(p->value);
    }
    mem_free(a->places);
    mem_free(a->key);
    mem_free(a->replaced);
    *a = (Axis){0};
}

Status axis_add(Axis *a, const char *label, const char *value)
{
    if (a->count == MAX_PLACES)
        return status_refuse("more than %d places", MAX_PLACES);
    AxisPlace *more = mem_realloc(a->places, (size_t)(a->count + 1) * sizeof *more);
    if (!more)
        return STATUS_FAILED;
    a->places = more;
    more[a->count++] = (AxisPlace){.label = mem_strdup(label), .value = value ? mem_strdup(value) : NULL};
    return more[a->count - 1].label && (!value || more[a->count - 1].value) ? STATUS_OK : STATUS_FAILED;
}

Words *axis_words(Axis *a)
{
    return &a->places[a->count - 1].words;
}

/* Values ------------------------------------------------------------------------------------------------ */

/* Of a file the last part of its path. */
static const char *short_label(const char *value)
{
    return file_exists(value) ? path_base(value) : value;
}

static Status add_option(Axis *a, const char *value)
{
    TRY(axis_add(a, short_label(value), NULL));
    TRY(words_add(axis_words(a), "--%s", a->key));
    return words_add(axis_words(a), "%s", value);
}

static Status take_value(Axis *a, const char *value)
{
    if (!strcmp(a->key, "checkpoint"))
        return checkpoints_add(a, value);
    if (a->kind != AXIS_REPLACE)
        return a->kind == AXIS_STRENGTH ? axis_add(a, value, value) : add_option(a, value);
    if (!a->replaced) { /* the first is looked for, and stands there itself */
        a->replaced = mem_strdup(value);
        if (!a->replaced)
            return STATUS_FAILED;
    }
    return axis_add(a, value, value);
}

/* "1..9" or "1..9+2"; false: it is no range. */
static bool read_range(const char *text, int64_t *first, int64_t *last, int64_t *step)
{
    char from[24], to[24];
    const char *dots = strstr(text, ".."), *plus = dots ? strchr(dots, '+') : NULL;
    if (!dots || dots == text)
        return false;
    const char *end = plus ? plus : dots + strlen(dots);
    snprintf(from, sizeof from, "%.*s", (int)(dots - text), text);
    snprintf(to, sizeof to, "%.*s", (int)(end - dots - 2), dots + 2);
    *step = 1;
    return text_to_int(from, first) && text_to_int(to, last) && (!plus || text_to_int(plus + 1, step));
}

static Status take_range(Axis *a, int64_t first, int64_t last, int64_t step)
{
    if (step < 1 || last < first || last - first >= (int64_t)MAX_PLACES * step)
        return status_refuse("a range is FIRST..LAST or FIRST..LAST+STEP, of %d values at most", MAX_PLACES);
    for (int64_t v = first; v <= last; v += step) {
        char word[24];
        snprintf(word, sizeof word, "%lld", (long long)v);
        TRY(take_value(a, word));
    }
    return STATUS_OK;
}

/* A1111's "1-5": of numbers it can be nothing else. Bytes of the first; 0: it is not so. */
static int read_dashed(const char *key, const char *text)
{
    static const char DIGITS[] = "0123456789";
    const size_t first = strspn(text, DIGITS),
                 last = first && text[first] ? strspn(text + first + 1, DIGITS) : 0;
    const bool number = !strcmp(key, "steps") || !strcmp(key, "seed") || !strcmp(key, "cfg");
    return number && last && text[first] == '-' ? (int)first : 0;
}

static Status take_values(Axis *a, const char *text)
{
    int64_t first, last, step;
    if (read_range(text, &first, &last, &step))
        return take_range(a, first, last, step);
    const int dashed = read_dashed(a->key, text);
    if (dashed)
        return status_refuse("a range is written FIRST..LAST or FIRST..LAST+STEP, as %.*s..%s", dashed, text,
                             text + dashed + 1);
    const char *between = strchr(text, '|') ? "|" : ",";
    for (const char *p = text;; p++) {
        const size_t length = strcspn(p, between);
        char *value = mem_printf("%.*s", (int)length, p);
        const Status s = !value   ? STATUS_FAILED
                         : *value ? take_value(a, value)
                                  : status_refuse("a value is empty");
        mem_free(value);
        TRY(s);
        p += length;
        if (!*p)
            return STATUS_OK;
    }
}

/* Keys ----------------------------------------------------------------------------------------------------
 */

/* Numbers for `lora` are strengths, anything else files. */
static AxisKind kind_of(const char *key, const char *values)
{
    char first[32];
    double number;
    snprintf(first, sizeof first, "%.*s", (int)strcspn(values, ",|"), values);
    if (!strcmp(key, "replace"))
        return AXIS_REPLACE;
    return !strcmp(key, "lora") && text_to_float(first, &number) ? AXIS_STRENGTH : AXIS_OPTION;
}

Status axis_read(const char *text, Axis *out)
{
    const char *equals = strchr(text, '=');
    *out = (Axis){0};
    if (!equals || equals == text || !equals[1])
        return status_refuse("sample: --sheet %s: KEY=VALUE,VALUE,… is expected, such as lora=0.5,0.8,1.0",
                             text);
    out->key = mem_printf("%.*s", (int)(equals - text), text);
    if (!out->key)
        return STATUS_FAILED;
    out->kind = kind_of(out->key, equals + 1);
    return status_in(take_values(out, equals + 1), "sample: --sheet %s", text);
}

/* Others --------------------------------------------------------------------------------------------------
 */

Status axis_of_seeds(const uint64_t *seeds, int count, Axis *out)
{
    *out = (Axis){.key = mem_strdup("seed")};
    if (!out->key)
        return STATUS_FAILED;
    for (int i = 0; i < count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%llu", (unsigned long long)seeds[i]);
        TRY(axis_add(out, number, NULL));
        TRY(words_add(axis_words(out), "--seed=%s", number));
        TRY(words_add(axis_words(out), "--batch=1"));
    }
    return STATUS_OK;
}

/* Every choice of these parts, beginning with none. */
static Status choose_parts(char *const *parts, int count, Axis *out)
{
    *out = (Axis){.kind = AXIS_PARTS, .key = mem_strdup("matrix")};
    Status s = out->key ? STATUS_OK : STATUS_FAILED;
    for (unsigned chosen = 0; s == STATUS_OK && chosen < 1u << count; chosen++) {
        Buffer with = {0};
        char *text = NULL;
        const char *between = "";
        for (int i = 0; i < count; i++) {
            if (!(chosen >> i & 1))
                continue;
            buffer_add(&with, "%s%s", between, parts[i]);
            between = ", ";
        }
        s = buffer_take(&with, &text);
        if (s == STATUS_OK)
            s = axis_add(out, *text ? text : "(without)", text);
        mem_free(text);
    }
    return s;
}

static void trim(char *text)
{
    const size_t before = strspn(text, " ");
    size_t length = strlen(text);
    while (length > before && text[length - 1] == ' ')
        length--;
    memmove(text, text + before, length - before);
    text[length - before] = 0;
}

Status axes_of_parts(const char *prompt, char **base, Axis *across, Axis *down)
{
    char *parts[AXIS_PARTS_MAX + 1];
    int count = 0;
    Status s = STATUS_OK;
    *base = NULL;
    *across = *down = (Axis){0};
    for (const char *p = prompt; s == STATUS_OK; p++) {
        const size_t length = strcspn(p, "|");
        if (count > AXIS_PARTS_MAX)
            s = status_refuse("sample: --matrix: more than %d parts after the first", AXIS_PARTS_MAX);
        else if (!(parts[count] = mem_printf("%.*s", (int)length, p)))
            s = STATUS_FAILED;
        else
            trim(parts[count++]);
        p += length;
        if (!*p)
            break;
    }
    if (s == STATUS_OK && count < 2)
        s = status_refuse(
            "sample: --matrix: the prompt has no parts; it is written as base|part|part, and each part "
            "may be there or not");
    const int wide = count / 2; /* of the parts, the first being the base */
    if (s == STATUS_OK)
        s = choose_parts(parts + 1, wide, across);
    if (s == STATUS_OK)
        s = choose_parts(parts + 1 + wide, count - 1 - wide, down);
    for (int i = s == STATUS_OK; i < count; i++)
        mem_free(parts[i]);
    if (s == STATUS_OK)
        *base = parts[0];
    return s;
}
