#include "again.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "given.h"
#include "parameters.h"
#include "picture_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_LIMIT ((size_t)256 << 20)

void again_free(Again *a)
{
    words_free(&a->words);
    mem_free(a->weights);
    picture_free(&a->original);
    *a = (Again){0};
}

/* Our own settings --------------------------------------------------------------------------------------- */

/* Keys of the settings that are options of another name, or of the same. */
static const struct {
    const char *key, *option;
} OPTIONS[] = {{"prompt", "prompt"},
               {"negative", "negative"},
               {"steps", "steps"},
               {"cfg", "cfg"},
               {"sampler", "sampler"},
               {"seed", "seed"},
               {"width", "width"},
               {"height", "height"},
               {"clip_skip", "clip-skip"},
               {"dtype", "dtype"},
               {"tf32", "tf32"},
               {"prompt_2", "prompt-2"},
               {"negative_2", "negative-prompt-2"}};

static Status add_value(Again *a, const char *option, const json_t *value)
{
    if (json_is_string(value))
        return words_add(&a->words, "--%s=%s", option, json_string_value(value));
    if (json_is_integer(value))
        return words_add(&a->words, "--%s=%lld", option, (long long)json_integer_value(value));
    if (json_is_real(value))
        return words_add(&a->words, "--%s=%.7g", option, json_real_value(value));
    if (json_is_true(value))
        return words_add(&a->words, "--%s", option);
    return STATUS_OK;
}

/* FOLDER/NAME where that is there. Caller: mem_free. *path NULL: it is not. */
static Status find_in(const char *folder, const char *name, char **path)
{
    if (*path || !folder)
        return STATUS_OK;
    *path = path_join(folder, name);
    if (!*path)
        return STATUS_FAILED;
    if (!file_exists(*path)) {
        mem_free(*path);
        *path = NULL;
    }
    return STATUS_OK;
}

/* The file as it is named where the command runs, or in one of the places: a name alone was kept. needed:
 * there is no other way to give it. */
static Status add_file(Again *a, const char *option, const char *name, const char *after,
                       const AgainPlaces *places, bool needed)
{
    char *path = NULL;
    Status s = file_exists(name) ? STATUS_OK : find_in(places->beside, name, &path);
    if (s == STATUS_OK && needed && !file_exists(name))
        s = find_in(places->lora_dir, name, &path);
    if (s == STATUS_OK && needed && !path && !file_exists(name))
        s = status_refuse(
            "was made with --%s %s, which is neither here nor beside it nor in --lora-dir; put it there",
            option, name);
    if (s == STATUS_OK)
        s = words_add(&a->words, "--%s=%s%s", option, path ? path : name, after);
    mem_free(path);
    return s;
}

static Status add_loras(Again *a, const json_t *settings, const AgainPlaces *places)
{
    size_t i;
    json_t *lora;
    json_array_foreach(json_object_get(settings, "loras"), i, lora)
    {
        const char *file = json_string_value(json_object_get(lora, "file")),
                   *parts = json_string_value(json_object_get(lora, "strength"));
        if (!file)
            continue;
        char *strength = mem_printf(":%.7g%s%s", json_number_value(json_object_get(lora, "scale")),
                                    parts ? ":" : "", parts ? parts : "");
        const Status s = strength ? add_file(a, "lora", file, strength, places, true) : STATUS_FAILED;
        mem_free(strength);
        TRY(s);
    }
    return STATUS_OK;
}

/* "options": [["schedule", "karras"], …]: whatever else was given. */
static Status add_others(Again *a, const json_t *settings, const AgainPlaces *places)
{
    size_t i;
    json_t *pair;
    json_array_foreach(json_object_get(settings, PICTURE_OPTIONS), i, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0)),
                   *value = json_string_value(json_array_get(pair, 1));
        if (!name)
            continue;
        if (value && given_is_file(name))
            TRY(add_file(a, name, value, "", places, false));
        else
            TRY(value ? words_add(&a->words, "--%s=%s", name, value) : words_add(&a->words, "--%s", name));
    }
    return STATUS_OK;
}

static Status add_model(Again *a, const json_t *settings)
{
    const char *model = json_string_value(json_object_get(settings, "model")),
               *weights = json_string_value(json_object_get(settings, "weights"));
    a->weights = weights ? mem_strdup(weights) : NULL;
    if (weights && !a->weights)
        return STATUS_FAILED;
    /* a name alone is kept of files; where no such file is, --model has to say it */
    return model && (!strncmp(model, "builtin:", 8) || file_exists(model))
               ? words_add(&a->words, "--model=%s", model)
               : STATUS_OK;
}

static Status add_settings(Again *a, const json_t *settings, const AgainPlaces *places)
{
    if (!json_is_object(settings))
        return status_refuse("holds settings that are not as atelier writes them");
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
        const json_t *value = json_object_get(settings, OPTIONS[i].key);
        /* 0 is no option where --compat counts from 1; others stand among what was given once more, as
         * counted */
        if (strcmp(OPTIONS[i].key, "clip_skip") || json_integer_value(value) > 0)
            TRY(add_value(a, OPTIONS[i].option, value));
    }
    TRY(add_model(a, settings));
    TRY(add_loras(a, settings, places));
    return add_others(a, settings, places);
}

/* number 0: the only one. */
static Status choose(const json_t *settings, int64_t number, const json_t **out)
{
    const json_t *pictures = json_object_get(settings, "pictures");
    const int64_t count = pictures ? (int64_t)json_array_size(pictures) : 1;
    if (number == 0 && count > 1)
        return status_refuse("has %lld pictures on it; say which, counted from 1: --again FILE:1",
                             (long long)count);
    if (number > count || count == 0)
        return status_refuse("has no picture number %lld, only %lld", (long long)number, (long long)count);
    *out = pictures ? json_array_get(pictures, number ? (size_t)number - 1 : 0) : settings;
    return STATUS_OK;
}

Status again_settings(Again *a, const char *text, int64_t number, const AgainPlaces *places)
{
    json_error_t error;
    const json_t *one = NULL;
    json_t *settings = json_parse(text, 0, &error);
    if (!settings)
        return status_refuse("holds settings that cannot be read: %s", error.text);
    Status s = choose(settings, number, &one);
    if (s == STATUS_OK)
        s = add_settings(a, one, places);
    json_decref(settings);
    return s;
}

/* The picture -------------------------------------------------------------------------------------------- */

static Status take(Again *a, const uint8_t *bytes, size_t size, int64_t number, const AgainPlaces *places)
{
    char *settings = NULL, *parameters = NULL;
    if (picture_format(bytes, size) == PICTURE_UNKNOWN)
        return status_refuse("is not a JPEG, PNG or WebP picture");
    Status s = picture_text(bytes, size, PICTURE_SETTINGS, &settings);
    if (s == STATUS_OK && !settings)
        s = picture_text(bytes, size, PICTURE_COMMENT, &parameters);
    if (s == STATUS_OK && settings)
        s = again_settings(a, settings, number, places);
    else if (s == STATUS_OK && parameters)
        s = parameters_read(parameters, &a->words);
    else if (s == STATUS_OK)
        s = status_refuse("does not say how it was made (the text was lost on the way?)");
    if (s == STATUS_OK && settings && !number && picture_format(bytes, size) == PICTURE_PNG)
        s = picture_decode(bytes, size, &a->original);
    mem_free(settings);
    mem_free(parameters);
    return s;
}

/* "FILE" or "FILE:N"; a file that is there under the whole name is that file. */
static Status split(const char *file, char **path, int64_t *number)
{
    const char *colon = strrchr(file, ':');
    *number = 0;
    if (colon && !file_exists(file) && text_to_int(colon + 1, number) && *number > 0) {
        *path = mem_printf("%.*s", (int)(colon - file), file);
    } else {
        *number = 0;
        *path = mem_strdup(file);
    }
    return *path ? STATUS_OK : STATUS_FAILED;
}

Status again_read(const char *file, const char *lora_dir, Again *out)
{
    char *path, *bytes = NULL;
    size_t size;
    int64_t number;
    *out = (Again){0};
    TRY(split(file, &path, &number));
    char *folder = path_parent(path);
    Status s = folder ? file_check_source(path, "picture") : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_read(path, FILE_LIMIT, &bytes, &size);
    if (s == STATUS_OK)
        s = status_in(take(out, (const uint8_t *)bytes, size, number, &(AgainPlaces){folder, lora_dir}), "%s",
                      path);
    mem_free(bytes);
    mem_free(folder);
    mem_free(path);
    return status_in(s, "sample: --again");
}

void again_compare(const Again *a, const char *file, const Picture *made)
{
    int largest = 0;
    if (!a->original.rgb || !size_equal(a->original.size, made->size))
        return;
    for (int64_t i = 0; i < 3 * size_area(made->size); i++) {
        const int d = abs(a->original.rgb[i] - made->rgb[i]);
        largest = d > largest ? d : largest;
    }
    if (largest)
        log_info(
            "not the pixels of %s: they differ by up to %d of 255 (other settings, another model, device or "
            "instruction set?)",
            file, largest);
    else
        log_info("the same picture as %s, in every pixel", file);
}
