#include "begin_arguments.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"

#include <string.h>

BeginArguments begin_arguments_default(void)
{
    return (BeginArguments){.fit = "stretch", .content = "original", .paste = "auto"};
}

/* The word's place in "a|b|c", of which it is one. */
static int place_of(const char *word, const char *choices)
{
    int place = 0;
    const size_t length = strlen(word);
    for (const char *p = choices; strncmp(p, word, length) || (p[length] && p[length] != '|'); place++)
        p = strchr(p, '|') + 1;
    return place;
}

/* The first option that says something about a mask; NULL: none does. */
static const char *about_mask(const SampleBegin *b)
{
    return b->blur                    ? "blur"
           : b->padding != NO_PADDING ? "padding"
           : b->soft                  ? "soft"
           : b->content               ? "content"
           : b->paste                 ? "paste"
                                      : NULL;
}

Status begin_arguments_check(const BeginArguments *a, SampleBegin *b)
{
    b->fit = (PictureFit)place_of(a->fit, FIT_CHOICES);
    b->content = (MaskContent)place_of(a->content, CONTENT_CHOICES);
    b->paste = (Paste)place_of(a->paste, PASTE_CHOICES);
    const char *of_init = a->mask ? "mask" : b->strength > 0 ? "strength" : b->fit ? "fit" : NULL;
    if (!a->init && of_init)
        return status_refuse("sample: --%s is about the picture of --init, which is not given", of_init);
    if (!a->mask && about_mask(b))
        return status_refuse("sample: --mask-%s is about the picture of --mask, which is not given",
                             about_mask(b));
    return STATUS_OK;
}

/* A file that is no picture is a request that was wrong; a picture that is damaged is bad data. */
static Status decode(const char *path, const uint8_t *bytes, size_t size, Picture *out)
{
    const Status s = status_in(picture_decode(bytes, size, out), "%s", path);
    return s == STATUS_FAILED && picture_format(bytes, size) == PICTURE_UNKNOWN ? STATUS_REFUSED : s;
}

static Status open_picture(const char *option, const char *path, Picture *out)
{
    char *bytes = NULL;
    size_t size = 0;
    if (!path || out->rgb)
        return STATUS_OK;
    Status s = file_check_source(path, "picture");
    if (s == STATUS_OK)
        s = file_read(path, SIZE_MAX / 2, &bytes, &size);
    if (s == STATUS_OK)
        s = decode(path, (const uint8_t *)bytes, size, out);
    mem_free(bytes);
    return status_in(s, "sample: --%s", option);
}

Status begin_arguments_open(BeginArguments *a, SampleBegin *b)
{
    TRY(open_picture("init", a->init, &a->picture));
    TRY(open_picture("mask", a->mask, &a->mask_picture));
    b->picture = a->init ? &a->picture : NULL;
    b->mask = a->mask ? &a->mask_picture : NULL;
    return STATUS_OK;
}

void begin_arguments_free(BeginArguments *a)
{
    picture_free(&a->picture);
    picture_free(&a->mask_picture);
}

json_t *begin_arguments_settings(const BeginArguments *a, const SampleBegin *b)
{
    json_t *settings = json_object();
    if (a && a->init)
        json_object_update_new(settings, json_pack("{s:o, s:f, s:s}", "init", json_name(path_base(a->init)),
                                                   "strength", begin_strength(b), "fit", a->fit));
    if (a && a->mask)
        json_object_update_new(settings, json_pack("{s:o, s:i, s:i, s:b, s:s, s:s}", "mask",
                                                   json_name(path_base(a->mask)), "mask_blur", b->blur,
                                                   "mask_padding", b->padding, "mask_soft", (int)b->soft,
                                                   "mask_content", a->content, "mask_paste", a->paste));
    return settings;
}
