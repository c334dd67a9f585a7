/* Emphasis (emphasis.h). A1111's is read sign by sign: text is appended with weight 1, and a closing bracket
 * multiplies all that came since its opening one. What is never closed counts to the end of the prompt; a
 * bracket that closes nothing is text. Neighbours of one weight become one text again, since tokens are made
 * of each by itself: "(un)(done)" is the word "undone".
 *
 * ComfyUI's is read from outside: a pair of brackets, then what is in it once more. */
#include "emphasis.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define STRONGER 1.1
#define DEEPEST 200 /* brackets within brackets */

PromptSyntax prompt_syntax_of(const char *word)
{
    return !strcmp(word, "a1111") ? PROMPT_A1111 : !strcmp(word, "comfy") ? PROMPT_COMFY : PROMPT_PLAIN;
}

void prompt_runs_free(PromptRuns *r)
{
    for (int i = 0; i < r->count; i++)
        mem_free(r->items[i].text);
    mem_free(r->items);
    *r = (PromptRuns){0};
}

static Status append(PromptRuns *r, const char *text, size_t size, double weight)
{
    if (!mem_grow(&r->items, r->count, &r->capacity, sizeof *r->items))
        return STATUS_FAILED;
    char *copy = mem_alloc(size + 1);
    if (!copy)
        return STATUS_FAILED;
    memcpy(copy, text, size);
    copy[size] = 0;
    r->items[r->count++] = (PromptRun){.text = copy, .weight = weight};
    return STATUS_OK;
}

/* A1111 ------------------------------------------------------------------------------------------------- */

/* Open brackets of one kind: the run that each began at. */
typedef struct Openings {
    int *items;
    int count, capacity;
} Openings;

static Status push(Openings *o, int run)
{
    if (!mem_grow(&o->items, o->count, &o->capacity, sizeof *o->items))
        return STATUS_FAILED;
    o->items[o->count++] = run;
    return STATUS_OK;
}

static void multiply_from(PromptRuns *r, int first, double factor)
{
    for (int i = first; i < r->count; i++)
        r->items[i].weight *= factor;
}

static const char *skip_spaces(const char *p)
{
    while (isspace((unsigned char)*p))
        p++;
    return p;
}

/* ":1.3)" at p, with spaces about the number: its length, and where the number is; 0: it is none. */
static size_t weight_length(const char *p, const char **number, int *digits)
{
    const char *from = skip_spaces(p + 1), *q = from + (*from == '+' || *from == '-');
    const size_t n = strspn(q, ".0123456789");
    const char *end = skip_spaces(q + n);
    if (*p != ':' || !n || *end != ')')
        return 0;
    *number = from;
    *digits = (int)(q + n - from);
    return (size_t)(end + 1 - p);
}

static Status read_weight(const char *number, int digits, double *out)
{
    char word[64];
    const int from = *number == '+';
    snprintf(word, sizeof word, "%.*s", digits - from, number + from);
    /* ".5" and "2." are numbers, too */
    char full[72];
    const size_t n = strlen(word);
    snprintf(full, sizeof full, "%s%s%s", word[0] == '.' ? "0" : "", word,
             n && word[n - 1] == '.' ? "0" : "");
    return digits < 60 && text_to_float(full, out)
               ? STATUS_OK
               : status_refuse("the prompt's weight `%.*s` is no number", digits, number);
}

static bool is_word_sign(unsigned char c)
{
    return isalnum(c) || c == '_' || c >= 0x80;
}

/* The word BREAK from p on, before end, or NULL. */
static const char *find_break(const char *start, const char *p, const char *end)
{
    for (; p + 5 <= end; p++)
        if (!strncmp(p, "BREAK", 5) && (p == start || !is_word_sign((unsigned char)p[-1])) &&
            (p + 5 == end || !is_word_sign((unsigned char)p[5])))
            return p;
    return NULL;
}

/* Text between signs, cut at each BREAK, whose spaces go with it. */
static Status append_text(PromptRuns *r, const char *p, size_t size)
{
    const char *start = p, *end = p + size, *at;
    while ((at = find_break(start, p, end))) {
        const char *before = at;
        while (before > p && isspace((unsigned char)before[-1]))
            before--;
        TRY(append(r, p, (size_t)(before - p), 1));
        TRY(append(r, "BREAK", 5, -1));
        r->items[r->count - 1].chunk_end = true;
        for (p = at + 5; p < end && isspace((unsigned char)*p);)
            p++;
    }
    return append(r, p, (size_t)(end - p), 1);
}

typedef struct Reading {
    PromptRuns *out;
    Openings round, square;
} Reading;

/* The sign or the text at p; *length: its bytes. */
static Status read_sign(Reading *r, const char *p, size_t *length)
{
    const char *number;
    int digits;
    double factor;
    *length = 1;
    if (*p == '\\') {
        const bool escapes = p[1] && strchr("()[]\\", p[1]);
        *length = escapes ? 2 : 1;
        return append(r->out, p + 1, escapes, 1);
    }
    if (*p == '(')
        return push(&r->round, r->out->count);
    if (*p == '[')
        return push(&r->square, r->out->count);
    const size_t weight = *p == ':' ? weight_length(p, &number, &digits) : 0;
    if (weight) {
        *length = weight;
        if (!r->round.count)
            return append_text(r->out, p, weight);
        TRY(read_weight(number, digits, &factor));
        multiply_from(r->out, r->round.items[--r->round.count], factor);
        return STATUS_OK;
    }
    Openings *closes = *p == ')' ? &r->round : *p == ']' ? &r->square : NULL;
    if (closes && closes->count) {
        multiply_from(r->out, closes->items[--closes->count], *p == ')' ? STRONGER : 1 / STRONGER);
        return STATUS_OK;
    }
    if (!closes && *p != ':')
        *length = strcspn(p, "\\()[]:");
    return append_text(r->out, p, *length);
}

/* Neighbours of one weight together. */
static Status merge_equal(PromptRuns *r)
{
    int kept = 0;
    for (int i = 1; i < r->count; i++) {
        PromptRun *last = &r->items[kept], *next = &r->items[i];
        if (last->weight != next->weight) {
            r->items[++kept] = *next;
            continue;
        }
        char *both = mem_printf("%s%s", last->text, next->text);
        if (!both)
            return STATUS_FAILED;
        mem_free(last->text);
        mem_free(next->text);
        last->text = both;
        next->text = NULL;
    }
    for (int i = kept + 1; i < r->count; i++)
        r->items[i].text = NULL; /* moved down, or merged */
    r->count = r->count ? kept + 1 : 0;
    return STATUS_OK;
}

/* A BREAK within brackets has their weight and is a word there, in A1111 as here. */
static void settle_breaks(PromptRuns *r)
{
    for (int i = 0; i < r->count; i++) {
        PromptRun *run = &r->items[i];
        if (run->chunk_end && run->weight != -1)
            log_warn("BREAK within brackets ends no chunk, it is a word there, as in AUTOMATIC1111");
        run->chunk_end &= run->weight == -1;
    }
}

static Status read_a1111(Reading *r, const char *text)
{
    size_t length;
    for (const char *p = text; *p; p += length)
        TRY(read_sign(r, p, &length));
    for (int i = 0; i < r->round.count; i++)
        multiply_from(r->out, r->round.items[i], STRONGER);
    for (int i = 0; i < r->square.count; i++)
        multiply_from(r->out, r->square.items[i], 1 / STRONGER);
    if (!r->out->count)
        return append(r->out, "", 0, 1);
    settle_breaks(r->out);
    return merge_equal(r->out);
}

static Status a1111_runs(const char *text, PromptRuns *out)
{
    Reading r = {.out = out};
    const Status s = read_a1111(&r, text);
    mem_free(r.round.items);
    mem_free(r.square.items);
    return s;
}

/* ComfyUI ------------------------------------------------------------------------------------------------ */

#define ESCAPED_OPEN '\x02' /* for \( and \) while brackets are looked for */
#define ESCAPED_CLOSE '\x01'

static Status comfy_runs(PromptRuns *out, char *text, size_t size, double weight, int depth);

/* A number as Python reads one, with spaces about it. */
static bool python_number(const char *p, const char *end, double *out)
{
    char word[64];
    while (p < end && isspace((unsigned char)*p))
        p++;
    while (end > p && isspace((unsigned char)end[-1]))
        end--;
    const int n = snprintf(word, sizeof word, "%.*s", (int)(end - p < 63 ? end - p : 63), p);
    double value;
    if (n < 1 || end - p > 60 || read_weight(word, n, &value) != STATUS_OK)
        return false;
    *out = value;
    return true;
}

/* "(…)" or plain text. */
static Status comfy_item(PromptRuns *out, char *p, size_t size, double weight, int depth)
{
    if (size < 2 || p[0] != '(' || p[size - 1] != ')') {
        for (size_t i = 0; i < size; i++)
            p[i] = p[i] == ESCAPED_OPEN ? '(' : p[i] == ESCAPED_CLOSE ? ')' : p[i];
        return append(out, p, size, weight);
    }
    char *inner = p + 1, *end = p + size - 1, *colon = end;
    double own = weight * STRONGER;
    while (colon > inner && *colon != ':')
        colon--;
    if (colon > inner && colon < end && python_number(colon + 1, end, &own))
        end = colon;
    return comfy_runs(out, inner, (size_t)(end - inner), own, depth + 1);
}

static Status comfy_runs(PromptRuns *out, char *text, size_t size, double weight, int depth)
{
    if (depth > DEEPEST)
        return status_refuse("the prompt has brackets within brackets, more than %d deep", DEEPEST);
    int level = 0;
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '(' && level++ == 0 && i > from) {
            TRY(comfy_item(out, text + from, i - from, weight, depth));
            from = i;
        } else if (text[i] == ')' && --level == 0) {
            TRY(comfy_item(out, text + from, i + 1 - from, weight, depth));
            from = i + 1;
        }
    }
    return from < size ? comfy_item(out, text + from, size - from, weight, depth) : STATUS_OK;
}

/* \( and \) as one sign each. */
static void hide_escaped(char *text)
{
    char *to = text;
    for (const char *p = text; *p; p++) {
        const bool escaped = *p == '\\' && (p[1] == '(' || p[1] == ')');
        p += escaped;
        *to++ = !escaped ? *p : *p == '(' ? ESCAPED_OPEN : ESCAPED_CLOSE;
    }
    *to = 0;
}

static Status read_comfy(const char *text, PromptRuns *out)
{
    char *copy = mem_strdup(text);
    if (!copy)
        return STATUS_FAILED;
    hide_escaped(copy);
    const Status s = comfy_runs(out, copy, strlen(copy), 1, 0);
    mem_free(copy);
    return s;
}

Status prompt_runs(PromptSyntax syntax, const char *text, PromptRuns *out)
{
    *out = (PromptRuns){0};
    return syntax == PROMPT_A1111   ? a1111_runs(text, out)
           : syntax == PROMPT_COMFY ? read_comfy(text, out)
                                    : append(out, text, strlen(text), 1);
}
