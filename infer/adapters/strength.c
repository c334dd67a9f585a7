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
    return (AdapterStrength){.whole = whole, .unet = NAN, .text = NAN};
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

static Status add_block(AdapterStrength *s, PartId part, const char *prefix, const char *rest, bool listed,
                        float factor)
{
    if (s->count == STRENGTH_BLOCKS)
        return status_refuse("more than %d blocks", STRENGTH_BLOCKS);
    BlockStrength *b = &s->blocks[s->count];
    const int n = snprintf(b->name, sizeof b->name, "%s%s", prefix, rest);
    if (n >= STRENGTH_NAME)
        return status_refuse("`%s` is too long for a block's name", rest);
    b->part = part;
    b->listed = listed;
    b->factor = factor;
    s->count++;
    return STATUS_OK;
}

static const struct {
    const char *word, *path;
    PartId part;
} WORDS[] = {
    {"down", "down_blocks", PART_UNET},
    {"mid", "mid_block", PART_UNET},
    {"up", "up_blocks", PART_UNET},
    {"te", "text_model.encoder.layers", PART_TEXT},
};

/* "down.1" and the like, as the model's files call it. */
static Status add_named(AdapterStrength *s, const char *name, float factor)
{
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        const size_t n = strlen(WORDS[i].word);
        if (begins_with(name, WORDS[i].word) && (!name[n] || name[n] == '.'))
            return add_block(s, WORDS[i].part, WORDS[i].path, name + n, false, factor);
    }
    return add_block(s, begins_with(name, "text_model.") ? PART_TEXT : PART_UNET, "", name, false, factor);
}

/* The blocks of SD1.x and SD2.x in the original files' numbers: IN00 to IN11, MID, OUT00 to OUT11. */
static Status add_input(AdapterStrength *s, int i, float factor)
{
    char name[32];
    const int b = (i - 1) / 3, r = (i - 1) % 3;
    if (i == 0)
        return add_block(s, PART_UNET, "conv_in", "", true, factor);
    if (r == 2) {
        snprintf(name, sizeof name, "%d.downsamplers", b);
        return add_block(s, PART_UNET, "down_blocks.", name, true, factor);
    }
    snprintf(name, sizeof name, "%d.resnets.%d", b, r);
    TRY(add_block(s, PART_UNET, "down_blocks.", name, true, factor));
    snprintf(name, sizeof name, "%d.attentions.%d", b, r);
    return add_block(s, PART_UNET, "down_blocks.", name, true, factor);
}

static Status add_output(AdapterStrength *s, int i, float factor)
{
    char name[32];
    const int b = i / 3, r = i % 3;
    snprintf(name, sizeof name, "%d.resnets.%d", b, r);
    TRY(add_block(s, PART_UNET, "up_blocks.", name, true, factor));
    snprintf(name, sizeof name, "%d.attentions.%d", b, r);
    TRY(add_block(s, PART_UNET, "up_blocks.", name, true, factor));
    snprintf(name, sizeof name, "%d.upsamplers", b);
    return r == 2 ? add_block(s, PART_UNET, "up_blocks.", name, true, factor) : STATUS_OK;
}

/* BASE, then the blocks; of 17 those with attention alone. BASE is the text encoder. */
static Status add_list(AdapterStrength *s, const float *values, int count)
{
    static const int INPUTS[] = {1, 2, 4, 5, 7, 8};
    const bool all = count == 26;
    const int inputs = all ? 12 : 6, outputs = all ? 12 : 9;
    TRY(add_block(s, PART_TEXT, "text_model", "", true, values[0]));
    for (int i = 0; i < inputs; i++)
        TRY(add_input(s, all ? i : INPUTS[i], values[1 + i]));
    TRY(add_block(s, PART_UNET, "mid_block", "", true, values[1 + inputs]));
    for (int i = 0; i < outputs; i++)
        TRY(add_output(s, all ? i : i + 3, values[2 + inputs + i]));
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
    return count == 17 || count == 26 ? add_list(s, s->list, count)
                                      : status_refuse("lbw has %d factors; 17 or 26 are known", count);
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
            s->text = s->whole;
            s->unet = s->whole = value;
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
    if (!strcmp(name, "te"))
        s->text = value;
    else if (!strcmp(name, "unet"))
        s->unet = value;
    else
        return add_named(s, name, value);
    return STATUS_OK;
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

/* By the word for its path, where there is one. */
static void add_block_text(Buffer *b, const BlockStrength *block)
{
    const char *word = "", *rest = block->name;
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (begins_with(block->name, WORDS[i].path)) {
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
    if (!isnan(s->text))
        buffer_add(&b, ":te=%g", (double)s->text);
    if (!isnan(s->unet))
        buffer_add(&b, ":unet=%g", (double)s->unet);
    for (int i = 0; i < s->list_count; i++)
        buffer_add(&b, "%s%g", i ? "," : ":lbw=", (double)s->list[i]);
    for (int i = 0; i < s->count; i++)
        if (!s->blocks[i].listed)
            add_block_text(&b, &s->blocks[i]);
    return buffer_take(&b, &text) == STATUS_OK ? text : NULL;
}

static bool same_number(float a, float b)
{
    return a == b || (isnan(a) && isnan(b));
}

bool adapter_strength_same(const AdapterStrength *a, const AdapterStrength *b)
{
    bool same = a->whole == b->whole && same_number(a->unet, b->unet) && same_number(a->text, b->text) &&
                a->count == b->count;
    for (int i = 0; same && i < a->count; i++)
        same = !strcmp(a->blocks[i].name, b->blocks[i].name) && a->blocks[i].factor == b->blocks[i].factor;
    return same;
}

/* Asking ------------------------------------------------------------------------------------------------- */

/* The block is the layer, or begins its path. */
static bool holds(const BlockStrength *b, PartId part, const char *layer)
{
    const size_t n = strlen(b->name);
    return b->part == part && begins_with(layer, b->name) && (!layer[n] || layer[n] == '.');
}

float adapter_strength_of(const AdapterStrength *s, PartId part, const char *layer)
{
    const float own = part == PART_UNET ? s->unet : s->text;
    const BlockStrength *best = NULL;
    for (int i = 0; i < s->count; i++)
        if (holds(&s->blocks[i], part, layer) && (!best || strlen(s->blocks[i].name) >= strlen(best->name)))
            best = &s->blocks[i];
    return (isnan(own) ? s->whole : own) * (best ? best->factor : 1);
}

static bool any_layer(const BlockStrength *b, const LayerSet *set)
{
    for (int i = 0; i < set->count; i++)
        if (holds(b, b->part, set->items[i]->name))
            return true;
    return false;
}

Status adapter_strength_check(const AdapterStrength *s, const Model *m)
{
    for (int i = 0; i < s->count; i++) {
        const BlockStrength *b = &s->blocks[i];
        const LayerSet *set = part_layers(b->part, m);
        if (set && !b->listed && !any_layer(b, set))
            return status_refuse(
                "the model has no block `%s`; blocks are called down.0, mid, up.1, te.0, or by their "
                "path in the model's files",
                b->name);
    }
    return STATUS_OK;
}
