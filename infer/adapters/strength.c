#include "strength.h"

#include "infer/models/parts.h"
#include "kernels/base/buffer.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

AdapterStrength adapter_strength(float whole)
{
    AdapterStrength s = {.whole = whole};
    for (int i = 0; i < PART_COUNT; i++)
        s.parts[i] = NAN;
    return s;
}

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Reading ------------------------------------------------------------------------------------------------ */

static Status read_number(const char *text, const char *what, float *out)
{
    double value = 0;
    if (!text_to_float(text, &value))
        return status_refuse("`%s` is no scale%s%s", text, *what ? ", for " : "", what);
    *out = (float)value;
    return STATUS_OK;
}

static Status add_block(AdapterStrength *s, int parts, const char *prefix, const char *rest, bool listed,
                        float factor)
{
    if (s->count == STRENGTH_BLOCKS)
        return status_refuse("more than %d blocks", STRENGTH_BLOCKS);
    BlockStrength *b = &s->blocks[s->count];
    const int n = snprintf(b->name, sizeof b->name, "%s%s", prefix, rest);
    if (n >= STRENGTH_NAME)
        return status_refuse("`%s` is too long for a block's name", rest);
    b->parts = parts;
    b->listed = listed;
    b->factor = factor;
    s->count++;
    return STATUS_OK;
}

#define FIRST_TEXT (1 << PART_TEXT)
#define SECOND_TEXT (1 << PART_TEXT_2)
static const struct {
    const char *word, *path;
    int parts;
} WORDS[] = {
    {"down", "down_blocks", MODEL_UNET},
    {"mid", "mid_block", MODEL_UNET},
    {"up", "up_blocks", MODEL_UNET},
    {"te", "text_model.encoder.layers", MODEL_TEXT},
    {"te1", "text_model.encoder.layers", FIRST_TEXT},
    {"te2", "text_model.encoder.layers", SECOND_TEXT},
};

/* Words for a part as a whole. */
static const struct {
    const char *word;
    int parts;
} PART_WORDS[] = {{"te", MODEL_TEXT}, {"te1", FIRST_TEXT}, {"te2", SECOND_TEXT}, {"unet", MODEL_UNET}};
#define PART_WORD_COUNT (sizeof PART_WORDS / sizeof *PART_WORDS)

static void set_parts(AdapterStrength *s, int parts, float value)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (parts & 1 << i)
            s->parts[i] = value;
}

/* "down.1" and the like, as the model's files call it. */
static Status add_named(AdapterStrength *s, const char *name, float factor)
{
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        const size_t n = strlen(WORDS[i].word);
        if (begins_with(name, WORDS[i].word) && (!name[n] || name[n] == '.'))
            return add_block(s, WORDS[i].parts, WORDS[i].path, name + n, false, factor);
    }
    return add_block(s, begins_with(name, "text_model.") ? MODEL_TEXT : MODEL_UNET, "", name, false, factor);
}

/* The blocks in the original files' numbers: IN00 to IN11, MID, OUT00 to OUT11; SDXL has those up to 08. */
static Status add_input(AdapterStrength *s, int i, float factor)
{
    char name[32];
    const int b = (i - 1) / 3, r = (i - 1) % 3;
    if (i == 0)
        return add_block(s, MODEL_UNET, "conv_in", "", true, factor);
    if (r == 2) {
        snprintf(name, sizeof name, "%d.downsamplers", b);
        return add_block(s, MODEL_UNET, "down_blocks.", name, true, factor);
    }
    snprintf(name, sizeof name, "%d.resnets.%d", b, r);
    TRY(add_block(s, MODEL_UNET, "down_blocks.", name, true, factor));
    snprintf(name, sizeof name, "%d.attentions.%d", b, r);
    return add_block(s, MODEL_UNET, "down_blocks.", name, true, factor);
}

static Status add_output(AdapterStrength *s, int i, float factor)
{
    char name[32];
    const int b = i / 3, r = i % 3;
    snprintf(name, sizeof name, "%d.resnets.%d", b, r);
    TRY(add_block(s, MODEL_UNET, "up_blocks.", name, true, factor));
    snprintf(name, sizeof name, "%d.attentions.%d", b, r);
    TRY(add_block(s, MODEL_UNET, "up_blocks.", name, true, factor));
    snprintf(name, sizeof name, "%d.upsamplers", b);
    return r == 2 ? add_block(s, MODEL_UNET, "up_blocks.", name, true, factor) : STATUS_OK;
}

/* BASE, which is the text encoders, then blocks: those with attention, or all. */
typedef struct BlockList {
    int count, input_count, first_output;
    int inputs[12];
} BlockList;
static const BlockList LISTS[] = {
    {17, 6, 3, {1, 2, 4, 5, 7, 8}},
    {26, 12, 0, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
    {12, 4, 0, {4, 5, 7, 8}},
    {20, 9, 0, {0, 1, 2, 3, 4, 5, 6, 7, 8}},
};

static Status add_list(AdapterStrength *s, const BlockList *list, const float *values)
{
    TRY(add_block(s, MODEL_TEXT, "text_model", "", true, *values++));
    for (int i = 0; i < list->input_count; i++)
        TRY(add_input(s, list->inputs[i], *values++));
    TRY(add_block(s, MODEL_UNET, "mid_block", "", true, *values++));
    for (int i = 0; i < list->count - list->input_count - 2; i++)
        TRY(add_output(s, list->first_output + i, *values++));
    return STATUS_OK;
}

static Status read_list(AdapterStrength *s, const char *text)
{
    int count = 0;
    for (const char *p = text;; p++) {
        char word[32];
        const size_t n = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", (int)(n < 31 ? n : 31), p);
        if (count == STRENGTH_LIST)
            return status_refuse("lbw has more than %d factors", STRENGTH_LIST);
        TRY(read_number(word, "lbw", &s->list[count++]));
        p += n;
        if (!*p)
            break;
    }
    s->list_count = count;
    for (size_t i = 0; i < sizeof LISTS / sizeof *LISTS; i++)
        if (LISTS[i].count == count)
            return add_list(s, &LISTS[i], s->list);
    return status_refuse("lbw has %d factors; 17 or 26 are known, and of SDXL 12 or 20", count);
}

static Status read_item(AdapterStrength *s, const char *item, int *numbers)
{
    const char *equals = strchr(item, '=');
    char name[STRENGTH_NAME];
    float value = 0;
    if (!equals) {
        TRY(read_number(item, "", &value));
        if (++*numbers == 1)
            s->whole = value;
        else if (*numbers == 2) { /* A1111's: the first was the text encoder's */
            set_parts(s, MODEL_TEXT, s->whole);
            set_parts(s, MODEL_UNET, value);
            s->whole = value;
        } else {
            return status_refuse("`%s`: a third number says nothing", item);
        }
        return STATUS_OK;
    }
    if (equals - item >= STRENGTH_NAME || equals == item)
        return status_refuse("`%s`: no block is called so", item);
    snprintf(name, sizeof name, "%.*s", (int)(equals - item), item);
    if (!strcmp(name, "lbw"))
        return read_list(s, equals + 1);
    TRY(read_number(equals + 1, name, &value));
    for (size_t i = 0; i < PART_WORD_COUNT; i++)
        if (!strcmp(name, PART_WORDS[i].word)) {
            set_parts(s, PART_WORDS[i].parts, value);
            return STATUS_OK;
        }
    return add_named(s, name, value);
}

/* Bytes up to the next ":", or "," before a word. */
static size_t item_length(const char *p)
{
    size_t n = 0;
    while (p[n] && p[n] != ':' && !(p[n] == ',' && isalpha((unsigned char)p[n + 1])))
        n++;
    return n;
}

Status adapter_strength_parse(const char *text, AdapterStrength *out)
{
    int numbers = 0;
    *out = adapter_strength(1);
    for (const char *p = text;; p++) {
        const size_t n = item_length(p);
        char *item = mem_printf("%.*s", (int)n, p);
        const Status s = item ? read_item(out, item, &numbers) : STATUS_FAILED;
        mem_free(item);
        TRY(s);
        p += n;
        if (!*p)
            return STATUS_OK;
    }
}

/* Writing ------------------------------------------------------------------------------------------------ */

static bool same_number(float a, float b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* "te" where both text encoders have the same. */
static void add_part_texts(Buffer *b, const AdapterStrength *s)
{
    int said = 0;
    for (size_t i = 0; i < PART_WORD_COUNT; i++) {
        const int parts = PART_WORDS[i].parts;
        const PartId first = parts & FIRST_TEXT ? PART_TEXT : parts & SECOND_TEXT ? PART_TEXT_2 : PART_UNET;
        const bool same = parts != MODEL_TEXT || same_number(s->parts[PART_TEXT], s->parts[PART_TEXT_2]);
        if (said & parts || !same || isnan(s->parts[first]))
            continue;
        buffer_add(b, ":%s=%g", PART_WORDS[i].word, (double)s->parts[first]);
        said |= parts;
    }
}

/* By the word for its path, where there is one. */
static void add_block_text(Buffer *b, const BlockStrength *block)
{
    const char *word = "", *rest = block->name;
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (begins_with(block->name, WORDS[i].path) && block->parts == WORDS[i].parts) {
            word = WORDS[i].word;
            rest = block->name + strlen(WORDS[i].path);
        }
    buffer_add(b, ":%s%s=%g", word, rest, (double)block->factor);
}

char *adapter_strength_text(const AdapterStrength *s)
{
    Buffer b = {0};
    char *text;
    buffer_add(&b, "%s", "");
    add_part_texts(&b, s);
    for (int i = 0; i < s->list_count; i++)
        buffer_add(&b, "%s%g", i ? "," : ":lbw=", (double)s->list[i]);
    for (int i = 0; i < s->count; i++)
        if (!s->blocks[i].listed)
            add_block_text(&b, &s->blocks[i]);
    return buffer_take(&b, &text) == STATUS_OK ? text : NULL;
}

bool adapter_strength_same(const AdapterStrength *a, const AdapterStrength *b)
{
    bool same = a->whole == b->whole && a->count == b->count;
    for (int i = 0; same && i < PART_COUNT; i++)
        same = same_number(a->parts[i], b->parts[i]);
    for (int i = 0; same && i < a->count; i++)
        same = !strcmp(a->blocks[i].name, b->blocks[i].name) && a->blocks[i].parts == b->blocks[i].parts &&
               a->blocks[i].factor == b->blocks[i].factor;
    return same;
}

/* Asking ------------------------------------------------------------------------------------------------- */

/* The block is the layer, or begins its path. */
static bool holds(const BlockStrength *b, PartId part, const char *layer)
{
    const size_t n = strlen(b->name);
    return (b->parts & 1 << part) && begins_with(layer, b->name) && (!layer[n] || layer[n] == '.');
}

float adapter_strength_of(const AdapterStrength *s, PartId part, const char *layer)
{
    const float own = s->parts[part];
    const BlockStrength *best = NULL;
    for (int i = 0; i < s->count; i++)
        if (holds(&s->blocks[i], part, layer) && (!best || strlen(s->blocks[i].name) >= strlen(best->name)))
            best = &s->blocks[i];
    return (isnan(own) ? s->whole : own) * (best ? best->factor : 1);
}

static bool any_layer(const BlockStrength *b, PartId part, const LayerSet *set)
{
    for (int i = 0; i < set->count; i++)
        if (holds(b, part, set->items[i]->name))
            return true;
    return false;
}

/* None of the block's parts that the model was loaded with has it. */
static bool is_missing(const BlockStrength *b, const Model *m)
{
    bool looked = false;
    for (int part = 0; part < PART_COUNT; part++) {
        const LayerSet *set = b->parts & 1 << part ? part_layers((PartId)part, m) : NULL;
        if (set && any_layer(b, (PartId)part, set))
            return false;
        looked |= set != NULL;
    }
    return looked;
}

/* Is anything asked of the second text encoder alone? */
static bool wants_second(const AdapterStrength *s)
{
    bool wanted = !same_number(s->parts[PART_TEXT], s->parts[PART_TEXT_2]);
    for (int i = 0; i < s->count; i++)
        wanted |= s->blocks[i].parts == SECOND_TEXT;
    return wanted;
}

Status adapter_strength_check(const AdapterStrength *s, const Model *m)
{
    if (!model_has(m, PART_TEXT_2) && wants_second(s))
        return status_refuse("the model has one text encoder, whose strength is te");
    for (int i = 0; i < s->count; i++) {
        const BlockStrength *b = &s->blocks[i];
        if (!b->listed && is_missing(b, m))
            return status_refuse(
                "the model has no block `%s`; blocks are called down.0, mid, up.1, te.0, or by their "
                "path in the model's files",
                b->name);
    }
    return STATUS_OK;
}
