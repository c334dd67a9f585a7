#include "captions.h"

#include "data/dataset/captions.h"
#include "kernels/base/random.h"

#include <ctype.h>
#include <string.h>

#define MAX_PARTS 512  /* of a caption; what comes after stays at the end as it is */
#define MAX_CHOICES 64 /* of a wildcard; further ones never come */

/* {{ and }} while wildcards are looked for: bytes that UTF-8 does not have. */
#define OPENED '\xFE'
#define CLOSED '\xFF'

/* A part may come with ", " before it that was ","; behind that stands the text that parts lie in. */
size_t caption_room(const char *caption)
{
    return 3 * strlen(caption) + 2;
}

static RandomKey key_for(SampleKey k, RandomPurpose purpose)
{
    return (RandomKey){.seed = k.seed, .step = k.step, .sample = k.sample, .purpose = purpose};
}

/* One of several ---------------------------------------------------------------------------------------- */

static void pick_caption(const char *caption, SampleKey k, char *out)
{
    const size_t gap = strlen(CAPTION_SEPARATOR);
    uint32_t count = 1;
    for (const char *at = caption; (at = strstr(at, CAPTION_SEPARATOR)) != NULL; at += gap)
        count++;
    for (uint32_t i = count > 1 ? random_below(key_for(k, RANDOM_PICK), 0, count) : 0; i > 0; i--)
        caption = strstr(caption, CAPTION_SEPARATOR) + gap;
    const char *end = strstr(caption, CAPTION_SEPARATOR);
    const size_t size = end ? (size_t)(end - caption) : strlen(caption);
    memcpy(out, caption, size);
    out[size] = 0;
}

/* Wildcards --------------------------------------------------------------------------------------------- */

static void replace_pairs(char *text, char pair, char by)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        const bool found = from[0] == pair && from[1] == pair;
        *to = found ? by : *from;
        from += found ? 2 : 1;
    }
    *to = 0;
}

/* One of "a|b|c", size bytes at `from`, to `to`, which may be the bytes before it. Returns its end. */
static char *choose(char *to, const char *from, size_t size, RandomKey key, uint32_t number)
{
    const char *choices[MAX_CHOICES + 1];
    uint32_t count = 0;
    choices[count++] = from;
    for (size_t i = 0; i < size && count < MAX_CHOICES; i++)
        if (from[i] == '|')
            choices[count++] = from + i + 1;
    const uint32_t i = random_below(key, number, count);
    const char *const bar = memchr(choices[i], '|', size - (size_t)(choices[i] - from));
    const size_t n = bar ? (size_t)(bar - choices[i]) : size - (size_t)(choices[i] - from);
    memmove(to, choices[i], n);
    return to + n;
}

/* {a|b} becomes one of them, {{ and }} braces. A brace without its other stays. */
static void fill_wildcards(char *text, SampleKey k)
{
    const RandomKey key = key_for(k, RANDOM_WILDCARD);
    uint32_t number = 0;
    replace_pairs(text, '{', OPENED);
    replace_pairs(text, '}', CLOSED);
    char *to = text;
    for (const char *from = text; *from;) {
        const char *end = *from == '{' ? strchr(from, '}') : NULL;
        if (end && end > from + 1) {
            to = choose(to, from + 1, (size_t)(end - from) - 1, key, number++);
            from = end + 1;
        } else {
            *to++ = *from++;
        }
    }
    *to = 0;
    for (char *at = text; *at; at++)
        *at = *at == OPENED ? '{' : *at == CLOSED ? '}' : *at;
}

/* Parts ------------------------------------------------------------------------------------------------- */

typedef struct Part {
    const char *text;
    int length;
    bool fixed; /* neither shuffled nor dropped */
} Part;

typedef struct Parts {
    Part items[MAX_PARTS];
    int count;
} Parts;

/* Parts of the text between separators, without the blanks around them; empty ones are left out. */
static void add_parts(Parts *parts, const char *text, const char *end, const char *separator, bool fixed)
{
    const size_t gap = strlen(separator);
    while (text < end && parts->count < MAX_PARTS) {
        const char *to = parts->count == MAX_PARTS - 1 ? NULL : strstr(text, separator), *next = to + gap;
        if (!to || to > end)
            next = to = end;
        while (text < to && isspace((unsigned char)*text))
            text++;
        while (to > text && isspace((unsigned char)to[-1]))
            to--;
        if (to > text)
            parts->items[parts->count++] = (Part){text, (int)(to - text), fixed};
        text = next;
    }
}

/* Those before the first keep_separator and behind the second one are kept; where there is none, the first
 * keep_tokens. */
static void split_parts(const ConfigDataset *config, const char *text, Parts *parts)
{
    const char *mark = config->caption.keep_separator,
               *separator = config->caption.separator ? config->caption.separator : ",",
               *end = text + strlen(text), *from = mark ? strstr(text, mark) : NULL;
    parts->count = 0;
    if (!from) {
        add_parts(parts, text, end, separator, false);
        for (int i = 0; i < config->caption.keep_tokens && i < parts->count; i++)
            parts->items[i].fixed = true;
        return;
    }
    const char *flexible = from + strlen(mark), *to = strstr(flexible, mark);
    add_parts(parts, text, from, separator, true);
    add_parts(parts, flexible, to ? to : end, separator, false);
    if (to)
        add_parts(parts, to + strlen(mark), end, separator, true);
}

/* Those that are not kept change places. */
static void shuffle(Parts *parts, SampleKey k)
{
    static const Part NONE;
    Part flexible[MAX_PARTS] = {NONE};
    uint32_t order[MAX_PARTS], count = 0;
    for (int i = 0; i < parts->count; i++)
        if (!parts->items[i].fixed)
            flexible[count++] = parts->items[i];
    random_permutation(key_for(k, RANDOM_CAPTION), order, count);
    for (int i = 0, at = 0; i < parts->count; i++)
        if (!parts->items[i].fixed)
            parts->items[i] = flexible[order[at++]];
}

static void drop_parts(Parts *parts, float share, SampleKey k)
{
    const int count = parts->count;
    parts->count = 0;
    for (int i = 0; i < count; i++)
        if (parts->items[i].fixed || random_uniform(key_for(k, RANDOM_TAG), (uint32_t)i) >= (double)share)
            parts->items[parts->count++] = parts->items[i];
}

static void join(const Parts *parts, char *out)
{
    for (int i = 0; i < parts->count; i++) {
        if (i) {
            *out++ = ',';
            *out++ = ' ';
        }
        memcpy(out, parts->items[i].text, (size_t)parts->items[i].length);
        out += parts->items[i].length;
    }
    *out = 0;
}

/* The whole --------------------------------------------------------------------------------------------- */

const char *caption_for(const ConfigDataset *config, const char *caption, SampleKey k, char *out)
{
    Parts parts;
    if (config->caption.dropout > 0 &&
        random_uniform(key_for(k, RANDOM_DROPOUT), 0) < (double)config->caption.dropout)
        return strcpy(out, "");
    pick_caption(caption, k, out);
    if (config->caption.wildcards)
        fill_wildcards(out, k);
    if (!config->caption.shuffle && config->caption.tag_dropout <= 0 && !config->caption.keep_separator)
        return out;
    const size_t size = strlen(out) + 1;
    split_parts(config, memmove(out + 2 * size - 1, out, size), &parts);
    if (config->caption.shuffle)
        shuffle(&parts, k);
    drop_parts(&parts, config->caption.tag_dropout, k);
    join(&parts, out);
    return out;
}

const char *caption_for_validation(const ConfigDataset *config, const char *caption, SampleKey k, char *out)
{
    ConfigDataset fixed = *config;
    fixed.caption.dropout = fixed.caption.tag_dropout = 0;
    fixed.caption.shuffle = false;
    return caption_for(&fixed, caption, k, out);
}
