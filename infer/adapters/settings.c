#include "settings.h"

#include "infer/models/parts.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BESIDE "adapter_config.json"
#define METADATA "lora_adapter_metadata"
#define FILE_LIMIT ((size_t)16 << 20)
#define PEFT_ALPHA 8 /* peft's own where its file has none (LoraConfig, LoHaConfig, LoKrConfig) */

struct AdapterSettings {
    json_t *json;
    bool beside; /* from peft's file: of one part, whose names have no prefix */
};

/* Reading ------------------------------------------------------------------------------------------------ */

static Status take(json_t *json, const json_error_t *error, const char *where, bool beside,
                   AdapterSettings **out)
{
    if (!json_is_object(json)) {
        json_decref(json);
        return status_fail("%s is no JSON object: %s", where, json ? "it is something else" : error->text);
    }
    *out = mem_alloc(sizeof **out);
    if (!*out) {
        json_decref(json);
        return STATUS_FAILED;
    }
    **out = (AdapterSettings){json, beside};
    return STATUS_OK;
}

static Status read_beside(const char *path, AdapterSettings **out)
{
    char *data;
    size_t size;
    json_error_t error = {.text = ""};
    TRY(file_read(path, FILE_LIMIT, &data, &size));
    json_t *json = json_read(data, size, 0, &error);
    mem_free(data);
    return take(json, &error, path, true, out);
}

Status adapter_settings_read(const TensorFile *f, bool beside, AdapterSettings **out)
{
    *out = NULL;
    const char *text = tensorfile_metadata(f, METADATA);
    if (text) {
        json_error_t error = {.text = ""};
        json_t *json = json_parse(text, 0, &error);
        return take(json, &error, "metadata " METADATA, false, out);
    }
    if (!beside)
        return STATUS_OK;
    char *folder = path_parent(tensorfile_path(f)), *path = folder ? path_join(folder, BESIDE) : NULL;
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (path && file_exists(path))
        s = read_beside(path, out);
    mem_free(path);
    mem_free(folder);
    return s;
}

void adapter_settings_free(AdapterSettings *s)
{
    if (!s)
        return;
    json_decref(s->json);
    mem_free(s);
}

/* Asking ------------------------------------------------------------------------------------------------- */

static const char *place_of(const AdapterSettings *s)
{
    return s->beside ? BESIDE : METADATA;
}

/* A setting of a part: "unet.r", or "r" in a file of one part. */
static const json_t *setting(const AdapterSettings *s, PartId part, const char *key)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", PARTS[part].folder, key);
    const json_t *found = s->beside ? NULL : json_object_get(s->json, full);
    return found ? found : json_object_get(s->json, key);
}

/* LoraConfig calls it lora_alpha, LoHaConfig and LoKrConfig alpha. */
static const json_t *base_alpha(const AdapterSettings *s, PartId part)
{
    const json_t *alpha = setting(s, part, "lora_alpha");
    return alpha ? alpha : setting(s, part, "alpha");
}

bool adapter_settings_alpha(const AdapterSettings *s, PartId part, double *alpha)
{
    const json_t *value = s ? base_alpha(s, part) : NULL;
    if (!json_is_number(value) && !(s && s->beside))
        return false;
    *alpha = json_is_number(value) ? json_number_value(value) : PEFT_ALPHA;
    return true;
}

/* Patterns ----------------------------------------------------------------------------------------------- */

/* One token of a pattern: a character, "." (any), "\x" (x itself), each perhaps with a "*" behind. */
typedef struct Token {
    char c;
    bool any, star;
    int length;
} Token;

static Token token_at(const char *p)
{
    Token t = {.c = p[0], .any = p[0] == '.', .length = 1};
    if (p[0] == '\\' && p[1])
        t = (Token){.c = p[1], .length = 2};
    if (p[t.length] == '*') {
        t.star = true;
        t.length++;
    }
    return t;
}

/* Whether the pattern [p, end) is all of text. Of stars only ".*" comes here, so going back to the last one
 * is enough. */
static bool matches(const char *p, const char *end, const char *text)
{
    const char *star = NULL, *from = NULL;
    while (*text) {
        const Token t = p < end ? token_at(p) : (Token){0};
        if (p < end && t.star) {
            star = p += t.length;
            from = text;
        } else if (p < end && (t.any || t.c == *text)) {
            p += t.length;
            text++;
        } else if (star) {
            p = star;
            text = ++from;
        } else {
            return false;
        }
    }
    while (p < end && token_at(p).star)
        p += token_at(p).length;
    return p == end;
}

/* Only what patterns need to name layers: . .* \. ^ and |. Others would be taken for something else. */
static bool is_understood(const char *pattern)
{
    for (const char *p = pattern; *p;) {
        const Token t = token_at(p);
        const bool escaped = *p == '\\';
        if (escaped ? !strchr(".-_", t.c) : strchr("[](){}+?*$\\", t.c) != NULL)
            return false;
        if (t.star && !t.any)
            return false;
        p += t.length;
    }
    return true;
}

/* As peft: re.match(r"(.*\.)?(PATTERN)$", path): the whole path or its end from behind a "." on. */
static bool names_layer(const char *pattern, const char *path)
{
    for (const char *p = pattern;; p++) {
        const char *end = p + strcspn(p, "|");
        const bool whole = *p == '^';
        for (const char *from = path; from; from = whole || !strchr(from, '.') ? NULL : strchr(from, '.') + 1)
            if (matches(p + whole, end, from))
                return true;
        p = end;
        if (!*p)
            return false;
    }
}

/* The first number in a rank_pattern or alpha_pattern whose key names the layer; *found stays NULL: none. */
static Status find_pattern(const AdapterSettings *s, PartId part, const char *key, const char *layer,
                           const json_t **found)
{
    const char *pattern;
    json_t *value;
    *found = NULL;
    json_object_foreach((json_t *)setting(s, part, key), pattern, value)
    {
        if (!is_understood(pattern))
            return status_fail("%s: %s `%s`: of regular expressions only . .* \\. ^ | are understood",
                               place_of(s), key, pattern);
        if (json_is_number(value) && names_layer(pattern, layer)) {
            *found = value;
            return STATUS_OK;
        }
    }
    return STATUS_OK;
}

/* Scale -------------------------------------------------------------------------------------------------- */

/* Switches and ways to begin that change what the tensors mean. */
static Status refuse_others(const AdapterSettings *s, PartId part)
{
    static const char *const SWITCHES[] = {"use_qalora", "use_bdlora", "lora_bias"};
    static const char *const BEGINNINGS[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    for (size_t i = 0; i < sizeof SWITCHES / sizeof *SWITCHES; i++)
        if (json_is_true(setting(s, part, SWITCHES[i])))
            return status_fail("%s: %s is not supported", place_of(s), SWITCHES[i]);
    const char *begin = json_string_value(setting(s, part, "init_lora_weights"));
    for (size_t i = 0; begin && i < sizeof BEGINNINGS / sizeof *BEGINNINGS; i++)
        if (strncmp(begin, BEGINNINGS[i], strlen(BEGINNINGS[i])) == 0)
            return status_fail("%s: init_lora_weights %s changes the model's own weights; save the adapter "
                               "with peft's path_initial_model_for_weight_conversion",
                               place_of(s), begin);
    return STATUS_OK;
}

bool adapter_settings_dora(const AdapterSettings *s, PartId part)
{
    return s && json_is_true(setting(s, part, "use_dora"));
}

/* The rank the settings give the layer, which has to be its tensors' where both have one. */
static Status settings_rank(const AdapterSettings *s, PartId part, const char *layer, int64_t *rank)
{
    const json_t *r;
    TRY(find_pattern(s, part, "rank_pattern", layer, &r));
    if (!r)
        r = setting(s, part, "r");
    const double said = json_is_number(r) ? json_number_value(r) : 0;
    if (said >= 1 && *rank == 0)
        *rank = (int64_t)said;
    if (said >= 1 && said != (double)*rank)
        return status_fail("%s says rank %g for %s, its tensors have %lld; do the two belong together?",
                           place_of(s), said, layer, (long long)*rank);
    return STATUS_OK;
}

Status adapter_settings_scale(const AdapterSettings *s, PartId part, const char *layer, int64_t rank,
                              double *scale, bool *said)
{
    double alpha = 0;
    const json_t *pattern;
    *scale = 1;
    *said = false;
    if (!s)
        return STATUS_OK;
    TRY(refuse_others(s, part));
    TRY(settings_rank(s, part, layer, &rank));
    TRY(find_pattern(s, part, "alpha_pattern", layer, &pattern));
    *said = adapter_settings_alpha(s, part, &alpha) || pattern;
    if (pattern)
        alpha = json_number_value(pattern);
    if (!*said || rank < 1)
        return STATUS_OK;
    const bool rslora = json_is_true(setting(s, part, "use_rslora"));
    *scale = alpha / (rslora ? sqrt((double)rank) : (double)rank);
    return STATUS_OK;
}
