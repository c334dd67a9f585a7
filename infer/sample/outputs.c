#include "outputs.h"

#include "infer/files/marks.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

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
    return s->first.out && strcmp(s->first.out, "-") == 0;
}

static Status check_stdout(const Shots *s)
{
    if (s->count > 1 && !s->sheet)
        return status_refuse(
            "sample: --out -: one picture goes to standard output, and %d are asked for; name a "
            "folder",
            s->count);
    if (s->first.json)
        return status_refuse("sample: --out -: the picture and --json would both go to standard output");
    if (isatty(STDOUT_FILENO))
        return status_refuse(
            "sample: --out -: standard output is a terminal, which cannot show a picture; name a "
            "file, or send it on: --out - > cat.png");
    return STATUS_OK;
}

static PictureFormat format_of(const char *word)
{
    return !word || !strcmp(word, "png") ? PICTURE_PNG : !strcmp(word, "jpeg") ? PICTURE_JPEG : PICTURE_WEBP;
}

/* --out names a file, not a folder. */
static bool names_file(const Shots *s)
{
    return s->first.out && !file_is_dir(s->first.out) &&
           picture_format_named(s->first.out) != PICTURE_UNKNOWN;
}

PictureFormat outputs_format(const Shots *s)
{
    return names_file(s) ? picture_format_named(s->first.out) : format_of(s->first.format);
}

static const char *ending_of(const Shots *s)
{
    static const char *const ENDINGS[] = {
        [PICTURE_JPEG] = ".jpg", [PICTURE_PNG] = ".png", [PICTURE_WEBP] = ".webp"};
    return ENDINGS[outputs_format(s)];
}

Status outputs_check(const Shots *s)
{
    const char *base = s->first.out ? path_base(s->first.out) : "";
    if (s->first.out && !*s->first.out)
        return status_refuse("sample: --out is empty");
    if (outputs_to_stdout(s))
        return check_stdout(s);
    const PictureFormat named = picture_format_named(base);
    if (s->first.out && !file_is_dir(s->first.out) && strrchr(base, '.') && strrchr(base, '.') != base &&
        !named)
        return status_refuse("sample: --out %s: pictures are written as .png, .jpg or .webp", s->first.out);
    if (named && s->first.format && named != format_of(s->first.format))
        return status_refuse("sample: --out %s and --format %s are two kinds of files", s->first.out,
                             s->first.format);
    return STATUS_OK;
}

/* DIR/atelier-WHAT.png, or with -2, -3, … where that is taken. */
static char *free_name(const Shots *s, const char *what)
{
    const char *folder = s->first.out ? s->first.out : "";
    char *path = NULL;
    for (int n = 1; n < 1000000; n++) {
        char number[16] = "";
        if (n > 1)
            snprintf(number, sizeof number, "-%d", n);
        mem_free(path);
        path = mem_printf("%s%satelier-%s%s%s", folder, *folder && !ends_with(folder, "/") ? "/" : "", what,
                          number, ending_of(s));
        if (!path || !file_exists(path))
            break;
    }
    return path;
}

static int digits(int n)
{
    return n > 999 ? 4 : n > 99 ? 3 : n > 9 ? 2 : 1; /* SAMPLE_MAX_PICTURES has four */
}

char *outputs_picture(const Shots *s, int i)
{
    const Shot *shot = &s->items[i];
    const char *out = s->first.out;
    char seed[24], number[32] = "";
    if (s->sheet)
        return mem_printf("%s/%0*d%s", s->first.sheet_pictures, digits(s->count), shot->place + 1,
                          ending_of(s));
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)shot->seed);
    if (!names_file(s))
        return free_name(s, seed);
    if (s->count == 1)
        return mem_strdup(out);
    if (shots_share_seed(s, i))
        snprintf(number, sizeof number, "-%0*d", digits(s->count), shot->place + 1);
    const char *ending = strrchr(out, '.');
    return mem_printf("%.*s%s-%s%s", (int)(ending - out), out, number, seed, ending);
}

char *outputs_sheet(const Shots *s)
{
    return names_file(s) ? mem_strdup(s->first.out) : free_name(s, "sheet");
}

/* Where picture i's trace goes. Caller: mem_free. NULL: out of memory. */
char *outputs_trace(const Shots *s, int i)
{
    if (s->count == 1)
        return mem_strdup(s->first.trace);
    if (shots_share_seed(s, i))
        return mem_printf("%s/%0*d", s->first.trace, digits(s->count), s->items[i].place + 1);
    return mem_printf("%s/seed-%llu", s->first.trace, (unsigned long long)s->items[i].seed);
}

static Status check_traces(const Shots *s)
{
    Status status = path_check_words(s->first.trace, NULL);
    for (int i = 0; i < s->count && status == STATUS_OK; i++) {
        char *folder = outputs_trace(s, i);
        status = folder ? mark_check_folder(folder, "step-", MARK_TRACE) : STATUS_FAILED;
        mem_free(folder);
    }
    return status;
}

/* A file that is named may have a picture of before. */
static Status check_own(char *path)
{
    const Status status = path ? picture_check_own(path) : STATUS_FAILED;
    mem_free(path);
    return status;
}

static Status check_pictures(const Shots *s)
{
    for (int i = 0; i < s->count; i++)
        TRY(check_own(outputs_picture(s, i)));
    return STATUS_OK;
}

static Status try_path(char *path)
{
    const Status status = path ? file_try(path) : STATUS_FAILED;
    mem_free(path);
    return status;
}

static Status try_out(const Shots *s)
{
    TRY(try_path(s->sheet ? outputs_sheet(s) : outputs_picture(s, 0)));
    return s->sheet ? check_own(outputs_sheet(s)) : check_pictures(s);
}

static Status try_sheet_pictures(const Shots *s)
{
    if (!s->first.sheet_pictures)
        return STATUS_OK;
    if (!s->sheet)
        return status_refuse("is for sheets (--sheet, --matrix)");
    TRY(path_check_words(s->first.sheet_pictures, NULL));
    TRY(try_path(outputs_picture(s, 0)));
    return check_pictures(s);
}

/* Proves that the results can be written where they are to go, and that nothing of somebody's is replaced,
 * before the work. */
Status outputs_prepare(const Shots *s)
{
    if (!outputs_to_stdout(s))
        TRY(status_in(try_out(s), "sample: --out"));
    TRY(status_in(try_sheet_pictures(s), "sample: --sheet-pictures"));
    if (s->first.save_latents && picture_format_named(s->first.save_latents))
        return status_refuse("sample: --save-latents %s: latents are no picture; name it .safetensors",
                             s->first.save_latents);
    if (s->first.save_latents)
        TRY(status_in(file_try(s->first.save_latents), "sample: --save-latents"));
    if (s->first.save_latents)
        TRY(status_in(mark_check(s->first.save_latents, MARK_LATENTS), "sample: --save-latents"));
    return s->first.trace ? status_in(check_traces(s), "sample: --trace") : STATUS_OK;
}
