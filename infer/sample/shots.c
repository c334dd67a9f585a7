/* Every combination of the axes' places is a command line of its own: the one that was given and the places'
 * words after it, of which the last counts. */
#include "shots.h"

#include "infer/axes/prompt_file.h"
#include "kernels/base/buffer.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "session.h"

#include <stdlib.h>

#include <string.h>

#define CHECKPOINTS "checkpoint="

/* Axes --------------------------------------------------------------------------------------------------- */

static Status next_axis(Shots *s, Axis **out)
{
    *out = &s->axes[s->axis_count];
    if (s->axis_count++ < SHOTS_AXES)
        return STATUS_OK;
    s->axis_count = SHOTS_AXES;
    return status_refuse("sample: a sheet has columns, rows and blocks: more than %d things vary (--sheet, "
                         "--matrix, --prompts, several seeds)",
                         SHOTS_AXES);
}

static Status read_matrix(Shots *s)
{
    Axis *across, *down;
    TRY(next_axis(s, &across));
    TRY(next_axis(s, &down));
    TRY(axes_of_parts(s->first.request.prompt, &s->first.own_prompt, across, down));
    if (across->count == 1) { /* with one part alone, everything is in the other */
        Axis empty = *across;
        *across = *down;
        *down = (Axis){0};
        axis_free(&empty);
        s->axis_count--;
    }
    return STATUS_OK;
}

static Status read_axes(Shots *s)
{
    Axis *axis;
    const SampleArguments *a = &s->first;
    s->sheet = a->sheet_texts.count > 0 || a->matrix;
    if (a->matrix)
        TRY(read_matrix(s));
    for (int i = 0; i < a->sheet_texts.count; i++) {
        TRY(next_axis(s, &axis));
        TRY(axis_read(a->sheet_texts.items[i], axis));
    }
    if (a->prompts) {
        TRY(next_axis(s, &axis));
        TRY(status_in(prompt_file_read(a->prompts, axis), "sample: --prompts"));
    }
    if (!s->sheet || a->picture_count < 2)
        return STATUS_OK;
    TRY(next_axis(s, &axis));
    return axis_of_seeds(a->seeds, a->picture_count, axis);
}

/* Sets of settings --------------------------------------------------------------------------------------- */

/* text with every `word` in it replaced. Caller: mem_free. */
static char *replaced(const char *text, const char *word, const char *by)
{
    Buffer out = {0};
    char *all;
    for (const char *at; (at = strstr(text, word)) != NULL; text = at + strlen(word))
        buffer_add(&out, "%.*s%s", (int)(at - text), text, by);
    buffer_add(&out, "%s", text);
    return buffer_take(&out, &all) == STATUS_OK ? all : NULL;
}

/* text in the place of one of the request's. */
static Status own_text(const char **of_request, char **own, char *text)
{
    mem_free(*own);
    *of_request = *own = text;
    return text ? STATUS_OK : STATUS_FAILED;
}

static Status replace_words(SampleArguments *a, const Axis *axis, const char *by)
{
    SampleRequest *r = &a->request;
    const char **const texts[] = {&r->prompt, &r->negative, &r->prompt_2, &r->negative_2};
    char **const own[] = {&a->own_prompt, &a->own_negative, &a->own_prompt_2, &a->own_negative_2};
    bool held = false;
    for (int i = 0; i < 4; i++)
        held |= *texts[i] && strstr(*texts[i], axis->replaced);
    if (!held)
        return status_refuse("sample: --sheet replace=%s,…: the prompt does not hold \"%s\"", axis->replaced,
                             axis->replaced);
    for (int i = 0; i < 4; i++)
        if (*texts[i])
            TRY(own_text(texts[i], own[i], replaced(*texts[i], axis->replaced, by)));
    return STATUS_OK;
}

/* "a, b" -> "a, b, PART", of the second prompt too where there is one. */
static Status add_parts(SampleArguments *a, const char *parts)
{
    SampleRequest *r = &a->request;
    if (r->prompt_2 && *r->prompt_2)
        TRY(own_text(&r->prompt_2, &a->own_prompt_2, mem_printf("%s, %s", r->prompt_2, parts)));
    return own_text(&r->prompt, &a->own_prompt, mem_printf("%s, %s", r->prompt, parts));
}

/* What no option says. */
static Status apply(SampleArguments *a, const Axis *axis, const AxisPlace *place)
{
    double scale;
    switch (axis->kind) {
    case AXIS_OPTION:
        return STATUS_OK;
    case AXIS_STRENGTH:
        if (!text_to_float(place->value, &scale))
            return status_refuse("sample: --sheet lora=…: `%s` is no strength", place->value);
        if (!a->lora_count)
            return status_refuse(
                "sample: --sheet lora=…: there is no LoRA; name it with --lora, or runs with --sheet "
                "checkpoint=…");
        for (int i = 0; i < a->lora_count; i++)
            a->loras[i].strength.whole = (float)scale;
        return STATUS_OK;
    case AXIS_REPLACE:
        return replace_words(a, axis, place->value);
    case AXIS_PARTS:
        return *place->value ? add_parts(a, place->value) : STATUS_OK;
    }
    return STATUS_OK;
}

/* Which place of each axis combination k has. */
static void places_of(const Shots *s, int k, const AxisPlace *out[SHOTS_AXES])
{
    for (int i = 0; i < s->axis_count; k /= s->axes[i].count, i++)
        out[i] = &s->axes[i].places[k % s->axes[i].count];
}

static Status read_set(Shots *s, int argc, char **argv, int k)
{
    const AxisPlace *places[SHOTS_AXES];
    SampleArguments *a = &s->sets[k];
    int count = argc;
    bool done;
    places_of(s, k, places);
    for (int i = 0; i < s->axis_count; i++)
        count += places[i]->words.count;
    char **words = mem_alloc((size_t)(count + 1) * sizeof *words);
    if (!words)
        return STATUS_FAILED;
    memcpy(words, argv, (size_t)argc * sizeof *words);
    count = argc;
    for (int i = 0; i < s->axis_count; i++)
        for (int w = 0; w < places[i]->words.count; w++)
            words[count++] = places[i]->words.items[w];
    Status status = sample_arguments_read(count, words, a, &done);
    mem_free(words);
    if (status == STATUS_OK)
        status = sample_arguments_check(a);
    if (status == STATUS_OK && s->first.own_prompt)
        a->request.prompt = s->first.own_prompt; /* the base of a matrix */
    for (int i = 0; i < s->axis_count && status == STATUS_OK; i++)
        status = apply(a, &s->axes[i], places[i]);
    return status;
}

static Status read_sets(Shots *s, int argc, char **argv)
{
    int64_t count = 1;
    for (int i = 0; i < s->axis_count; i++)
        count *= s->axes[i].count;
    if (count > SAMPLE_MAX_PICTURES)
        return status_refuse("sample: %lld pictures are asked for; %d at most", (long long)count,
                             SAMPLE_MAX_PICTURES);
    s->sets = mem_calloc((size_t)count, sizeof *s->sets);
    if (!s->sets)
        return STATUS_FAILED;
    for (int k = 0; k < count; k++) {
        s->set_count = k + 1;
        TRY(read_set(s, argc, argv, k));
    }
    return STATUS_OK;
}

/* Pictures ----------------------------------------------------------------------------------------------- */

/* Number of the first set that is drawn with the same model and the same adapters: what is loaded once is
 * used for all of it. */
static int first_alike(const Shots *s, int k, bool (*alike)(const SampleArguments *, const SampleArguments *))
{
    int i = 0;
    while (!alike(&s->sets[i], &s->sets[k]))
        i++;
    return i;
}

typedef struct Order {
    int model, adapters, set;
} Order;

static int compare_orders(const void *a, const void *b)
{
    const Order *x = a, *y = b;
    return x->model != y->model         ? x->model - y->model
           : x->adapters != y->adapters ? x->adapters - y->adapters
                                        : x->set - y->set;
}

static Status list_pictures(Shots *s)
{
    int64_t count = 0;
    for (int k = 0; k < s->set_count; k++)
        count += s->sets[k].picture_count;
    if (count > SAMPLE_MAX_PICTURES)
        return status_refuse("sample: %lld pictures are asked for; %d at most", (long long)count,
                             SAMPLE_MAX_PICTURES);
    s->items = mem_calloc((size_t)count, sizeof *s->items);
    Order *orders = mem_alloc((size_t)s->set_count * sizeof *orders);
    int *first_place = mem_alloc((size_t)s->set_count * sizeof *first_place);
    const bool memory = s->items && orders && first_place;
    for (int k = 0, place = 0; memory && k < s->set_count; place += s->sets[k++].picture_count) {
        first_place[k] = place;
        orders[k] =
            (Order){first_alike(s, k, session_same_model), first_alike(s, k, session_same_adapters), k};
    }
    if (memory)
        qsort(orders, (size_t)s->set_count, sizeof *orders, compare_orders);
    for (int i = 0; memory && i < s->set_count; i++) {
        SampleArguments *a = &s->sets[orders[i].set];
        for (int k = 0; k < a->picture_count; k++)
            s->items[s->count++] = (Shot){a, a->seeds[k], first_place[orders[i].set] + k};
    }
    mem_free(orders);
    mem_free(first_place);
    return memory ? STATUS_OK : STATUS_FAILED;
}

bool shots_share_seed(const Shots *s, int i)
{
    int sharing = 0;
    for (int k = 0; k < s->count; k++)
        sharing += s->items[k].seed == s->items[i].seed;
    return sharing > 1;
}

/* The command line with words that come from elsewhere before it, so that what is given now counts. */
static Status words_of(const Shots *s, int argc, char **argv, char ***out, int *count)
{
    const Words *const before[] = {&s->of_run, &s->again.words};
    *count = 1;
    *out = mem_alloc((size_t)(argc + before[0]->count + before[1]->count) * sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    (*out)[0] = argv[0];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < before[i]->count; k++)
            (*out)[(*count)++] = before[i]->items[k];
    for (int i = 1; i < argc; i++)
        (*out)[(*count)++] = argv[i];
    return STATUS_OK;
}

/* The first command line once more, with what has come to it. */
static Status read_first(Shots *s, int argc, char **argv)
{
    bool done;
    char **words;
    int count;
    TRY(words_of(s, argc, argv, &words, &count));
    sample_arguments_free(&s->first);
    const Status status = sample_arguments_read(count, words, &s->first, &done);
    mem_free(words);
    return status;
}

static Status read_again(Shots *s, int argc, char **argv)
{
    TRY(again_read(s->first.again, s->first.lora_dir, &s->again));
    TRY(read_first(s, argc, argv));
    if (s->first.model)
        return STATUS_OK;
    return status_refuse(
        "sample: --again %s: the picture does not hold its model, nor does its name lead to it; "
        "give it with --model",
        s->first.again);
}

/* A sheet over a run's checkpoints draws as the run's previews, where nothing else is said. */
static Status read_run(Shots *s, int argc, char **argv, SampleOfRun of_run)
{
    const OptionList *sheets = &s->first.sheet_texts;
    for (int i = 0; i < sheets->count; i++) {
        if (strncmp(sheets->items[i], CHECKPOINTS, strlen(CHECKPOINTS)))
            continue;
        const char *value = sheets->items[i] + strlen(CHECKPOINTS);
        char *run = mem_printf("%.*s", (int)strcspn(value, ",|"), value),
             *config = run ? path_in(run, "config.yaml") : NULL;
        Status status = config ? STATUS_OK : STATUS_FAILED;
        if (status == STATUS_OK && file_exists(config))
            status = status_in(of_run(run, &s->of_run), "sample: --sheet " CHECKPOINTS "%s", run);
        mem_free(run);
        mem_free(config);
        return status == STATUS_OK ? read_first(s, argc, argv) : status;
    }
    return STATUS_OK;
}

static Status read_all(Shots *s, int argc, char **argv)
{
    char **words;
    int count;
    TRY(sample_arguments_check(&s->first));
    TRY(read_axes(s));
    TRY(words_of(s, argc, argv, &words, &count));
    const Status status = read_sets(s, count, words);
    mem_free(words);
    return status == STATUS_OK ? list_pictures(s) : status;
}

Status shots_read(int argc, char **argv, SampleOfRun of_run, Shots *out, bool *done)
{
    *out = (Shots){0};
    TRY(sample_arguments_read(argc, argv, &out->first, done));
    if (*done)
        return STATUS_OK;
    if (out->first.again)
        TRY(read_again(out, argc, argv));
    if (of_run && (!out->first.model || (!out->first.request.prompt && !out->first.prompts)))
        TRY(read_run(out, argc, argv, of_run));
    return read_all(out, argc, argv);
}

void shots_free(Shots *s)
{
    for (int i = 0; i < s->set_count; i++)
        sample_arguments_free(&s->sets[i]);
    for (int i = 0; i < s->axis_count; i++)
        axis_free(&s->axes[i]);
    sample_arguments_free(&s->first);
    again_free(&s->again);
    words_free(&s->of_run);
    mem_free(s->sets);
    mem_free(s->items);
    *s = (Shots){0};
}
