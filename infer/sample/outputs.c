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

bool outputs_to_stdout(const Shots *s)
{
    return s->sets->out && strcmp(s->sets->out, "-") == 0;
}

static Status check_stdout(const Shots *s)
{
    if (s->count > 1)
        return status_refuse(
            "sample: --out -: one picture goes to standard output, and %d are asked for; name a "
            "folder",
            s->count);
    if (s->sets->json)
        return status_refuse("sample: --out -: the picture and --json would both go to standard output");
    if (isatty(STDOUT_FILENO))
        return status_refuse(
            "sample: --out -: standard output is a terminal, which cannot show a picture; name a "
            "file, or send it on: --out - > cat.png");
    return STATUS_OK;
}

Status outputs_check(const Shots *s)
{
    const char *base = s->sets->out ? path_base(s->sets->out) : "";
    if (s->sets->out && !*s->sets->out)
        return status_refuse("sample: --out is empty");
    if (outputs_to_stdout(s))
        return check_stdout(s);
    if (s->sets->out && !file_is_dir(s->sets->out) && strrchr(base, '.') && strrchr(base, '.') != base &&
        !ends_with(base, ".png"))
        return status_refuse("sample: --out %s: pictures are written as .png", s->sets->out);
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
char *outputs_picture(const Shots *s, int i)
{
    if (!s->sets->out)
        return free_name("", s->items[i].seed);
    if (!ends_with(s->sets->out, ".png") || file_is_dir(s->sets->out))
        return free_name(s->sets->out, s->items[i].seed);
    if (s->count == 1)
        return mem_strdup(s->sets->out);
    return mem_printf("%.*s-%llu.png", (int)strlen(s->sets->out) - 4, s->sets->out,
                      (unsigned long long)s->items[i].seed);
}

/* Where picture i's trace goes. Caller: mem_free. NULL: out of memory. */
char *outputs_trace(const Shots *s, int i)
{
    return s->count > 1 ? mem_printf("%s/seed-%llu", s->sets->trace, (unsigned long long)s->items[i].seed)
                        : mem_strdup(s->sets->trace);
}

static Status check_traces(const Shots *s)
{
    Status status = path_check_words(s->sets->trace, NULL);
    for (int i = 0; i < s->count && status == STATUS_OK; i++) {
        char *folder = outputs_trace(s, i);
        status = folder ? mark_check_folder(folder, "step-", MARK_TRACE) : STATUS_FAILED;
        mem_free(folder);
    }
    return status;
}

/* Pictures in a folder get names of their own; a file that is named may have one of before. */
static Status check_pictures(const Shots *s)
{
    Status status = STATUS_OK;
    for (int i = 0; i < s->count && status == STATUS_OK; i++) {
        char *path = outputs_picture(s, i);
        status = path ? picture_check_own(path) : STATUS_FAILED;
        mem_free(path);
    }
    return status;
}

static Status try_out(const Shots *s)
{
    char *first = outputs_picture(s, 0);
    const Status status = first ? file_try(first) : STATUS_FAILED;
    mem_free(first);
    return status == STATUS_OK ? check_pictures(s) : status;
}

/* Proves that the results can be written where they are to go, and that nothing of somebody's is replaced,
 * before the work. */
Status outputs_prepare(const Shots *s)
{
    if (!outputs_to_stdout(s))
        TRY(status_in(try_out(s), "sample: --out"));
    if (s->sets->save_latents && ends_with(s->sets->save_latents, ".png"))
        return status_refuse("sample: --save-latents %s: latents are no picture; name it .safetensors",
                             s->sets->save_latents);
    if (s->sets->save_latents)
        TRY(status_in(file_try(s->sets->save_latents), "sample: --save-latents"));
    if (s->sets->save_latents)
        TRY(status_in(mark_check(s->sets->save_latents, MARK_LATENTS), "sample: --save-latents"));
    return s->sets->trace ? status_in(check_traces(s), "sample: --trace") : STATUS_OK;
}
