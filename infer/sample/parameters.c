#include "parameters.h"

#include "infer/compat/sampler_names.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NEGATIVE "Negative prompt: "
#define LEAST_PAIRS 3 /* that the last line has, or it is a part of the prompt */

/* "Steps: 20, Sampler: Euler a, …" ------------------------------------------------------------------------
 */

typedef struct Pair {
    char key[48];
    const char *value;
    int length;
    bool quoted;
} Pair;

static bool is_key_letter(char c)
{
    return isalnum((unsigned char)c) || strchr("_ -/", c);
}

/* The pair at *p, which moves behind it and its comma; false: there is none. A1111 finds them by
 *     \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$) */
static bool next_pair(const char **p, Pair *out)
{
    const char *at = *p + strspn(*p, " \t"), *key = at;
    while (*at && *at != ':' && is_key_letter(*at))
        at++;
    const size_t length = (size_t)(at - key);
    if (*at != ':' || length < 2 || length >= sizeof out->key)
        return false;
    snprintf(out->key, sizeof out->key, "%.*s", (int)length, key);
    at += 1 + strspn(at + 1, " \t");
    out->value = at;
    out->quoted = *at == '"';
    if (out->quoted) {
        for (at++; *at && *at != '"'; at++)
            at += *at == '\\' && at[1];
        at += *at == '"';
    } else {
        at += strcspn(at, ",");
    }
    out->length = (int)(at - out->value);
    while (*at && *at != ',')
        at++;
    *p = at + (*at == ',');
    return true;
}

static int count_pairs(const char *line)
{
    Pair pair;
    int count = 0;
    while (next_pair(&line, &pair))
        count++;
    return count;
}

/* A value as text. Caller: mem_free. NULL: out of memory. */
static char *value_of(const Pair *p)
{
    char *text = mem_printf("%.*s", p->length, p->value);
    json_error_t error;
    json_t *json = text && p->quoted ? json_parse(text, JSON_DECODE_ANY, &error) : NULL;
    if (!json_is_string(json)) {
        json_decref(json);
        return text;
    }
    mem_free(text);
    text = mem_strdup(json_string_value(json));
    json_decref(json);
    return text;
}

/* What the keys come to -----------------------------------------------------------------------------------
 */

static Status add_same(Words *w, const char *option, const char *value)
{
    return words_add(w, "--%s=%s", option, value);
}

static Status add_size(Words *w, const char *option, const char *value)
{
    int width, height;
    (void)option;
    if (sscanf(value, "%dx%d", &width, &height) != 2)
        return status_refuse("its size, \"%s\", is none", value);
    TRY(words_add(w, "--width=%d", width));
    return words_add(w, "--height=%d", height);
}

/* "DPM++ 2M", and before A1111 1.9 "DPM++ 2M Karras". */
static Status add_sampler(Words *w, const char *option, const char *value)
{
    const char *schedule, *name = sampler_named_elsewhere(value, &schedule);
    (void)option;
    if (!name)
        return status_refuse("was drawn by the sampler %s, which is not here; choose one with --sampler",
                             value);
    if (schedule)
        TRY(words_add(w, "--schedule=%s", schedule));
    return words_add(w, "--sampler=%s", name);
}

static Status add_schedule(Words *w, const char *option, const char *value)
{
    static const struct {
        const char *theirs, *ours;
    } NAMES[] = {{"Karras", "karras"}, {"Exponential", "exponential"}, {"SGM Uniform", "sgm_uniform"}};
    (void)option;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcasecmp(NAMES[i].theirs, value))
            return words_add(w, "--schedule=%s", NAMES[i].ours);
    if (strcasecmp(value, "Automatic") && strcasecmp(value, "Uniform"))
        log_warn("--again: the schedule \"%s\" is not here; the sampler's own is taken", value);
    return STATUS_OK;
}

/* "Latent" and its kin, or "Lanczos"; models that enlarge are not here. */
static Status add_upscaler(Words *w, const char *option, const char *value)
{
    (void)option;
    const bool latent = !strncasecmp(value, "Latent", 6), lanczos = !strcasecmp(value, "Lanczos");
    if (!latent && !lanczos)
        log_warn("--again: the upscaler \"%s\" is not here; Lanczos is taken", value);
    return words_add(w, "--hires-upscale=%s", latent ? "latent" : "lanczos");
}

static Status add_rng(Words *w, const char *option, const char *value)
{
    (void)option;
    return words_add(w, "--rng=%s", strcasecmp(value, "CPU") ? "cuda" : "cpu");
}

static Status add_tiling(Words *w, const char *option, const char *value)
{
    (void)option;
    return strcasecmp(value, "True") ? STATUS_OK : words_add(w, "--tiling=xy");
}

/* Names of the model and programs, which no option follows from. */
static Status pass_over(Words *w, const char *option, const char *value)
{
    (void)w;
    (void)option;
    (void)value;
    return STATUS_OK;
}

static const struct {
    const char *key, *option;
    Status (*add)(Words *w, const char *option, const char *value);
} KEYS[] = {
    {"Steps", "steps", add_same},
    {"Sampler", NULL, add_sampler},
    {"Schedule type", NULL, add_schedule},
    {"CFG scale", "cfg", add_same},
    {"Seed", "seed", add_same},
    {"Size", NULL, add_size},
    {"Clip skip", "clip-skip", add_same},
    {"Variation seed", "variation-seed", add_same},
    {"Variation seed strength", "variation", add_same},
    {"Hires upscale", "hires", add_same},
    {"Hires steps", "hires-steps", add_same},
    {"Hires upscaler", NULL, add_upscaler},
    {"RNG", NULL, add_rng},
    {"Tiling", NULL, add_tiling},
    {"Model", NULL, pass_over},
    {"Model hash", NULL, pass_over},
    {"VAE", NULL, pass_over},
    {"VAE hash", NULL, pass_over},
    {"Lora hashes", NULL, pass_over},
    {"TI hashes", NULL, pass_over},
    {"Hashes", NULL, pass_over},
    {"Version", NULL, pass_over},
    {"Emphasis", NULL, pass_over},
};

static Status take_pair(Words *w, const Pair *pair)
{
    char *value = value_of(pair);
    Status s = value ? STATUS_OK : STATUS_FAILED;
    size_t i = 0;
    while (i < sizeof KEYS / sizeof *KEYS && strcasecmp(KEYS[i].key, pair->key))
        i++;
    if (s == STATUS_OK && i < sizeof KEYS / sizeof *KEYS)
        s = KEYS[i].add(w, KEYS[i].option, value);
    else if (s == STATUS_OK)
        log_warn("--again: \"%s: %s\" is not followed", pair->key, value);
    mem_free(value);
    return s;
}

Status parameters_read(const char *text, Words *w)
{
    const char *last = strrchr(text, '\n'), *settings = last ? last + 1 : text;
    if (count_pairs(settings) < LEAST_PAIRS)
        return status_refuse("holds a text about it, but no settings (\"Steps: 20, Sampler: …\")");
    const char *negative = strstr(text, "\n" NEGATIVE), *end = settings > text ? settings - 1 : text;
    if (negative && negative >= end)
        negative = NULL;
    const char *prompt_end = negative ? negative : end;
    TRY(words_add(w, "--compat=a1111"));
    TRY(words_add(w, "--prompt=%.*s", (int)(prompt_end - text), text));
    if (negative) {
        const char *begin = negative + 1 + strlen(NEGATIVE);
        TRY(words_add(w, "--negative=%.*s", (int)(end - begin), begin));
    }
    /* of one key two meanings: a second pass's strength, or that of a picture which is not in the text */
    const bool second_pass = strstr(settings, "Hires upscale:") != NULL;
    for (Pair pair; next_pair(&settings, &pair);) {
        if (second_pass && !strcmp(pair.key, "Denoising strength"))
            TRY(words_add(w, "--hires-strength=%.*s", pair.length, pair.value));
        else
            TRY(take_pair(w, &pair));
    }
    return STATUS_OK;
}
