/* What a picture says about how it was made, in both kinds, and a file of prompts: each comes to words of a
 * command line, which are read as one. */
#include "fuzz.h"

#include "infer/axes/prompt_file.h"
#include "infer/sample/again.h"
#include "infer/sample/options.h"
#include "infer/sample/parameters.h"
#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>

static void read_as_options(const Words *w)
{
    SampleArguments a;
    bool done;
    char **words = mem_calloc((size_t)w->count + 1, sizeof *words);
    if (!words)
        return;
    words[0] = (char *)"sample";
    if (w->count)
        memcpy(words + 1, w->items, (size_t)w->count * sizeof *words);
    for (int i = 0; i < w->count; i++) /* which would print it */
        if (!strncmp(w->items[i], "--help", 6) || !strcmp(w->items[i], "-h"))
            words[i + 1] = (char *)"--json";
    fuzz_check(sample_arguments_read(w->count + 1, words, &a, &done));
    sample_arguments_free(&a);
    mem_free(words);
}

static void prompts(const uint8_t *data, size_t size)
{
    Axis axis;
    fuzz_check(prompt_file_read(fuzz_file(data, size), &axis));
    for (int i = 0; i < axis.count; i++)
        read_as_options(&axis.places[i].words);
    axis_free(&axis);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Words w = {0};
    Again again = {0};
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    fuzz_check(parameters_read(text, &w));
    read_as_options(&w);
    words_free(&w);
    fuzz_check(again_settings(&again, text, size % 3, &(AgainPlaces){.beside = "."}));
    read_as_options(&again.words);
    again_free(&again);
    prompts(data, size);
    free(text);
    return 0;
}
