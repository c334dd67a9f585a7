#include "sidecars.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "captions.h"
#include "file_names.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MOST_CAPTIONS 99 /* numbers of NAME.N.txt */

/* Names of the folder ------------------------------------------------------------------------------------ */

/* Where name stands, or would. */
static int place_of(const Folder *f, const char *name)
{
    int low = 0, high = f->count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (strcmp(f->names[middle], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int find_name(const Folder *f, const char *name)
{
    const int at = place_of(f, name);
    return at < f->count && strcmp(f->names[at], name) == 0 ? at : -1;
}

bool folder_has(const void *folder, const char *name)
{
    return find_name(folder, name) >= 0;
}

char *folder_below(const Folder *f, const char *name)
{
    return f->below[0] ? mem_printf("%s/%s", f->below, name) : mem_strdup(name);
}

Status folder_shown(const Folder *f, const char *name, char **out)
{
    char *sub = folder_below(f, name);
    *out = sub ? text_escape(sub) : NULL;
    mem_free(sub);
    return *out ? STATUS_OK : STATUS_FAILED;
}

/* The name without its ending. */
static int stem_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (int)(dot - name) : (int)strlen(name);
}

/* A picture whose name is the first n bytes and an ending. */
static bool has_picture(const Folder *f, const char *name, int n)
{
    static const char *const endings[] = {"jpg", "jpeg", "jpe", "jfif", "png", "webp", NULL};
    char *start = mem_printf("%.*s.", n, name);
    bool found = false;
    for (int i = start ? place_of(f, start) : f->count; i < f->count && !found; i++) {
        if (strncmp(f->names[i], start, (size_t)n + 1) != 0)
            break;
        found = stem_length(f->names[i]) == n && file_ends_in(f->names[i], endings);
    }
    mem_free(start);
    return found;
}

/* Captions ----------------------------------------------------------------------------------------------- */

/* One more caption of the picture. text is taken over. */
static Status add_caption(ScanPicture *p, char *text)
{
    if (!p->caption) {
        p->caption = text;
        return STATUS_OK;
    }
    char *both = mem_printf("%s" CAPTION_SEPARATOR "%s", p->caption, text);
    mem_free(text);
    if (!both)
        return STATUS_FAILED;
    mem_free(p->caption);
    p->caption = both;
    return STATUS_OK;
}

/* The caption in the file called name, where there is one. *found: it holds one, or cannot be read, which is
 * told once: not also as a picture without caption. */
static Status read_caption(Scan *s, Folder *f, const char *name, ScanPicture *p, bool *found)
{
    const int at = find_name(f, name);
    char *path = at >= 0 ? path_join(f->path, name) : NULL, *text = NULL;
    *found = false;
    if (at < 0)
        return STATUS_OK;
    if (!path)
        return STATUS_FAILED;
    f->used[at] = true;
    const Status read = caption_read(path, &text);
    mem_free(path);
    if (read != STATUS_OK) {
        TRY(scan_add_problem(s));
        if (!(text = mem_strdup("")))
            return STATUS_FAILED;
    }
    *found = text != NULL;
    if (text)
        return add_caption(p, text);
    return p->blank ? STATUS_OK : folder_shown(f, name, &p->blank);
}

/* NAME.N.txt: any number is looked for only where a name begins so. */
static bool has_numbered(const Folder *f, const char *name, int stem)
{
    for (char digit = '1'; digit <= '9'; digit++) {
        char *start = mem_printf("%.*s.%c", stem, name, digit);
        const int at = start ? place_of(f, start) : f->count;
        const bool found = at < f->count && strncmp(f->names[at], start, (size_t)stem + 2) == 0;
        mem_free(start);
        if (found)
            return true;
    }
    return false;
}

/* cat.1.txt is the caption of cat.1.jpg where there is one. */
static Status read_numbered(Scan *s, Folder *f, const char *name, int stem, ScanPicture *p)
{
    bool found;
    if (!has_numbered(f, name, stem))
        return STATUS_OK;
    for (int i = 1; i <= MOST_CAPTIONS; i++) {
        char *sidecar = mem_printf("%.*s.%d.txt", stem, name, i);
        if (!sidecar)
            return STATUS_FAILED;
        const Status status = has_picture(f, sidecar, stem_length(sidecar))
                                  ? STATUS_OK
                                  : read_caption(s, f, sidecar, p, &found);
        mem_free(sidecar);
        TRY(status);
    }
    return STATUS_OK;
}

static Status read_captions(Scan *s, Folder *f, const char *name, ScanPicture *p)
{
    static const char *const endings[] = {".txt", ".TXT", ".caption", ".CAPTION"};
    const int stem = stem_length(name);
    bool found = false;
    for (int i = 0; i < 4 && !found; i++) {
        char *sidecar = mem_printf("%.*s%s", stem, name, endings[i]);
        const Status status = sidecar ? read_caption(s, f, sidecar, p, &found) : STATUS_FAILED;
        mem_free(sidecar);
        TRY(status);
    }
    return read_numbered(s, f, name, stem, p);
}

/* Masks -------------------------------------------------------------------------------------------------- */

static const char *const MASKS[] = {".mask", "-masklabel"};
static const char *const MASK_ENDINGS[] = {"png", "webp", "jpg", "jpeg", NULL};

bool sidecar_is_mask(const char *name)
{
    const int n = stem_length(name);
    for (int i = 0; i < 2; i++) {
        const int word = (int)strlen(MASKS[i]);
        if (n > word && strncasecmp(name + n - word, MASKS[i], (size_t)word) == 0)
            return file_ends_in(name, MASK_ENDINGS);
    }
    return false;
}

static Status find_mask(Folder *f, const char *name, ScanPicture *p)
{
    for (int i = 0; i < 2 * 4 && !p->mask; i++) {
        char *mask = mem_printf("%.*s%s.%s", stem_length(name), name, MASKS[i / 4], MASK_ENDINGS[i % 4]);
        if (!mask)
            return STATUS_FAILED;
        const int at = find_name(f, mask);
        if (at >= 0)
            f->used[at] = true;
        if (at >= 0 && !(p->mask = folder_below(f, mask))) {
            mem_free(mask);
            return STATUS_FAILED;
        }
        mem_free(mask);
    }
    return STATUS_OK;
}

Status sidecars_read(Scan *s, Folder *f, const char *name, ScanPicture *p)
{
    TRY(read_captions(s, f, name, p));
    return find_mask(f, name, p);
}
