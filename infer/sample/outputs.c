#include "outputs.h"

#include "infer/files/marks.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* In any case: .PNG is as good. */
static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), length = strlen(end);
    return n >= length && strcasecmp(text + n - length, end) == 0;
}

bool outputs_to_stdout(const SampleArguments *a)
{
    return a->out && strcmp(a->out, "-") == 0;
}

static Status check_stdout(const SampleArguments *a)
{
    if (a->picture_count > 1)
        return status_refuse(
            "sample: --out -: one picture goes to standard output, and %d are asked for; name a "
            "folder",
            a->picture_count);
    if (a->json)
        return status_refuse("sample: --out -: the picture and --json would both go to standard output");
    if (isatty(STDOUT_FILENO))
        return status_refuse(
            "sample: --out -: standard output is a terminal, which cannot show a picture; name a "
            "file, or send it on: --out - > cat.png");
    return STATUS_OK;
}

Status outputs_check(const SampleArguments *a)
{
    const char *base = a->out ? path_base(a->out) : "";
    if (a->out && !*a->out)
        return status_refuse("sample: --out is empty");
    if (outputs_to_stdout(a))
        return check_stdout(a);
    if (a->out && !file_is_dir(a->out) && strrchr(base, '.') && strrchr(base, '.') != base &&
        !ends_with(base, ".png"))
        return status_refuse("sample: --out %s: pictures are written as .png", a->out);
    return STATUS_OK;
}

/* DIR/atelier-SEED.png, or with -2, -3, … where that is taken. */
static char *free_name(const char *folder, uint64_t seed)
{
    char *path = NULL;
    for (int n = 1; n < 1000000; n++) {
        char number[16] = "";
        if (n > 1)
            snprintf(number, sizeof number, "-%d", n);
        mem_free(path);
        path = mem_printf("%s%satelier-%llu%s.png", folder, *folder && !ends_with(folder, "/") ? "/" : "",
                          (unsigned long long)seed, number);
        if (!path || !file_exists(path))
            break;
    }
    return path;
}

/* Caller: mem_free. NULL: out of memory. */
char *outputs_picture(const SampleArguments *a, int i)
{
    if (!a->out)
        return free_name("", a->seeds[i]);
    if (!ends_with(a->out, ".png") || file_is_dir(a->out))
        return free_name(a->out, a->seeds[i]);
    if (a->picture_count == 1)
        return mem_strdup(a->out);
    return mem_printf("%.*s-%llu.png", (int)strlen(a->out) - 4, a->out, (unsigned long long)a->seeds[i]);
}

/* Where picture i's trace goes. Caller: mem_free. NULL: out of memory. */
char *outputs_trace(const SampleArguments *a, int i)
{
    return a->picture_count > 1 ? mem_printf("%s/seed-%llu", a->trace, (unsigned long long)a->seeds[i])
                                : mem_strdup(a->trace);
}

static Status check_traces(const SampleArguments *a)
{
    Status s = path_check_words(a->trace, NULL);
    for (int i = 0; i < a->picture_count && s == STATUS_OK; i++) {
        char *folder = outputs_trace(a, i);
        s = folder ? mark_check_folder(folder, "step-", MARK_TRACE) : STATUS_FAILED;
        mem_free(folder);
    }
    return s;
}

/* Pictures in a folder get names of their own; a file that is named may have one of before. */
static Status check_pictures(const SampleArguments *a)
{
    Status s = STATUS_OK;
    for (int i = 0; i < a->picture_count && s == STATUS_OK; i++) {
        char *path = outputs_picture(a, i);
        s = path ? picture_check_own(path) : STATUS_FAILED;
        mem_free(path);
    }
    return s;
}

static Status try_out(const SampleArguments *a)
{
    char *first = outputs_picture(a, 0);
    const Status s = first ? file_try(first) : STATUS_FAILED;
    mem_free(first);
    return s == STATUS_OK ? check_pictures(a) : s;
}

/* Proves that the results can be written where they are to go, and that nothing of somebody's is replaced,
 * before the work. */
Status outputs_prepare(const SampleArguments *a)
{
    if (!outputs_to_stdout(a))
        TRY(status_in(try_out(a), "sample: --out"));
    if (a->save_latents && ends_with(a->save_latents, ".png"))
        return status_refuse("sample: --save-latents %s: latents are no picture; name it .safetensors",
                             a->save_latents);
    if (a->save_latents)
        TRY(status_in(file_try(a->save_latents), "sample: --save-latents"));
    if (a->save_latents)
        TRY(status_in(mark_check(a->save_latents, MARK_LATENTS), "sample: --save-latents"));
    return a->trace ? status_in(check_traces(a), "sample: --trace") : STATUS_OK;
}
