#include "loras.h"

#include "infer/adapters/find.h"
#include "infer/text/tags.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <string.h>

/* text up to p names a file that is there. */
static bool file_before(const char *text, const char *p)
{
    char *path = mem_printf("%.*s", (int)(p - text), text);
    const bool there = path && file_exists(path);
    mem_free(path);
    return there;
}

/* Where "FILE:STRENGTH" parts: behind the file that is there; where none is, before what reads as a strength,
 * and the file is missed by its name later. NULL: nowhere. */
static const char *strength_place(const char *text)
{
    AdapterStrength unused;
    for (const char *p = text + 1; *p; p++)
        if ((*p == ':' || *p == ',') && file_before(text, p))
            return p;
    for (const char *p = text + 1; *p; p++)
        if (*p == ':' && adapter_strength_parse(p + 1, &unused) == STATUS_OK)
            return p;
    return NULL;
}

/* "FILE" or "FILE:STRENGTH"; a file that is there under the whole name is that file. */
static Status read_option(const char *text, UsedLora *out)
{
    *out = (UsedLora){.strength = adapter_strength(1)};
    const bool whole = !*text || file_exists(text) || !strchr(text + 1, ':');
    const char *place = whole ? NULL : strength_place(text);
    if (!whole && !place)
        return status_in(file_missing(text, "file"), "--lora (`%s` is no scale)", strrchr(text, ':') + 1);
    if (place)
        TRY(status_in(adapter_strength_parse(place + 1, &out->strength), "sample: --lora %s", text));
    out->path = place ? mem_printf("%.*s", (int)(place - text), text) : mem_strdup(text);
    return out->path ? STATUS_OK : STATUS_FAILED;
}

static Status read_tag(const SampleArguments *a, const PromptTag *tag, UsedLora *out)
{
    char *path;
    *out = (UsedLora){.strength = adapter_strength(1)};
    if (*tag->strength)
        TRY(status_in(adapter_strength_parse(tag->strength, &out->strength), "<lora:%s:%s>", tag->name,
                      tag->strength));
    if (!a->lora_dir)
        return status_refuse(
            "the prompt names <lora:%s>; say with --lora-dir in which folder it is, or name its "
            "file with --lora",
            tag->name);
    TRY(status_in(adapter_find(a->lora_dir, tag->name, &path), "--lora-dir"));
    out->path = path;
    return STATUS_OK;
}

static Status read_tags(SampleArguments *a, const PromptTags *tags)
{
    for (int i = 0; i < tags->count; i++) {
        if (a->lora_count == SAMPLE_MAX_LORAS)
            return status_refuse("more than %d LoRAs", SAMPLE_MAX_LORAS);
        TRY(read_tag(a, &tags->items[i], &a->loras[a->lora_count]));
        a->lora_count++;
    }
    return STATUS_OK;
}

static Status take_tags(SampleArguments *a)
{
    char *text;
    PromptTags tags;
    TRY(prompt_tags(a->request.prompt, &text, &tags));
    const Status s = read_tags(a, &tags);
    prompt_tags_free(&tags);
    mem_free(a->own_prompt);
    a->request.prompt = a->own_prompt = text;
    return s;
}

Status sample_loras_read(SampleArguments *a)
{
    if (a->lora_texts.count > SAMPLE_MAX_LORAS)
        return status_refuse("sample: more than %d LoRAs", SAMPLE_MAX_LORAS);
    for (int i = 0; i < a->lora_texts.count; i++) {
        TRY(read_option(a->lora_texts.items[i], &a->loras[i]));
        a->lora_count++;
    }
    const bool read = a->lora_dir || a->request.reading.syntax == PROMPT_A1111;
    return read && a->request.prompt ? status_in(take_tags(a), "sample: prompt") : STATUS_OK;
}

void sample_loras_free(SampleArguments *a)
{
    for (int i = 0; i < a->lora_count; i++)
        mem_free((char *)a->loras[i].path);
    a->lora_count = 0;
}
