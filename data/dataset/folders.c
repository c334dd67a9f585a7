/* Names of folders (folders.h). The rule is that of sd-scripts: the number before the first underscore. */
#include "folders.h"

#include "kernels/base/mem.h"
#include "captions.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define REPEATS_MEANT 500 /* people take 1 to 200; above it begin years */

FolderNames folder_names_of(const char *word)
{
    static const char *const words[] = {"auto", "kohya", "plain"};
    for (int i = FOLDER_NAMES_AUTO; word && i <= FOLDER_NAMES_PLAIN; i++)
        if (strcmp(word, words[i]) == 0)
            return (FolderNames)i;
    return FOLDER_NAMES_AUTO;
}

/* Where the caption begins in a name of so many bytes; 0: it is an ordinary name. */
static size_t read_name(const char *name, size_t length, int *repeats)
{
    int n = 0;
    size_t digits = 0;
    for (; digits < length && isdigit((unsigned char)name[digits]); digits++) {
        n = 10 * n + (name[digits] - '0');
        if (n > MAX_REPEATS)
            return 0;
    }
    if (n == 0 || length < digits + 2 || name[digits] != '_')
        return 0;
    *repeats = n;
    return digits + 1;
}

bool folder_name_read(const char *name, int *repeats, const char **caption)
{
    const size_t at = read_name(name, strlen(name), repeats);
    if (at)
        *caption = name + at;
    return at > 0;
}

const char *folder_name_doubt(const char *name)
{
    const size_t digits = strspn(name, "0123456789");
    int repeats;
    if (digits == 0 || name[digits] != '_' || read_name(name, strlen(name), &repeats))
        return NULL;
    return !name[digits + 1]             ? "no caption stands behind the number"
           : strspn(name, "0") == digits ? "0 repeats would be none"
                                         : "so many repeats are more than there can be";
}

/* What was taken --------------------------------------------------------------------------------------- */

/* In a picture's name the innermost folder with this number: the length up to its end, 0 if there is none,
 * and where its caption begins. */
static size_t innermost(const char *name, int repeats, size_t *caption)
{
    size_t found = 0;
    for (const char *at = name, *end; (end = strchr(at, '/')); at = end + 1) {
        int n;
        const size_t text = read_name(at, (size_t)(end - at), &n);
        if (text && n == repeats) {
            *caption = (size_t)(at - name) + text;
            found = (size_t)(end - name);
        }
    }
    return found;
}

static Status add_folder(FoldersTaken *f, const char *name, size_t length, size_t caption, int repeats)
{
    if (!mem_grow(&f->items, f->count, &f->capacity, sizeof *f->items))
        return STATUS_FAILED;
    FolderTaken *t = &f->items[f->count++];
    *t = (FolderTaken){.name = mem_printf("%.*s", (int)length, name), .repeats = repeats};
    return t->name ? caption_clean(name + caption, length - caption, &t->caption) : STATUS_FAILED;
}

/* Neighbours lie in one folder, so it is looked for from the end. */
static FolderTaken *find_folder(const FoldersTaken *f, const char *name, size_t length)
{
    for (int i = f->count - 1; i >= 0; i--)
        if (strncmp(f->items[i].name, name, length) == 0 && f->items[i].name[length] == 0)
            return &f->items[i];
    return NULL;
}

static Status count_picture(FoldersTaken *f, const char *name, const char *caption, int repeats)
{
    size_t begin;
    const size_t length = innermost(name, repeats, &begin);
    if (length == 0)
        return STATUS_OK;
    if (!find_folder(f, name, length))
        TRY(add_folder(f, name, length, begin, repeats));
    FolderTaken *t = find_folder(f, name, length);
    t->pictures++;
    t->captions += caption && t->caption && strcmp(caption, t->caption) == 0;
    return STATUS_OK;
}

static void free_folder(FolderTaken *t)
{
    mem_free(t->name);
    mem_free(t->caption);
}

/* One repeat and no caption is what any folder says. */
static void leave_out_empty(FoldersTaken *f)
{
    int kept = 0;
    for (int i = 0; i < f->count; i++) {
        if (f->items[i].repeats > 1 || f->items[i].captions)
            f->items[kept++] = f->items[i];
        else
            free_folder(&f->items[i]);
    }
    f->count = kept;
}

Status folders_taken(FolderPicture get, const void *set, int count, FoldersTaken *out)
{
    *out = (FoldersTaken){0};
    for (int i = 0; i < count; i++) {
        const char *name, *caption;
        int repeats;
        get(set, i, &name, &caption, &repeats);
        if (count_picture(out, name, caption, repeats) != STATUS_OK) {
            folders_taken_free(out);
            return STATUS_FAILED;
        }
    }
    leave_out_empty(out);
    return STATUS_OK;
}

void folders_taken_free(FoldersTaken *f)
{
    for (int i = 0; i < f->count; i++)
        free_folder(&f->items[i]);
    mem_free(f->items);
    *f = (FoldersTaken){0};
}

/* What is said ----------------------------------------------------------------------------------------- */

const char *folder_describe(const FolderTaken *f, char *text, size_t size)
{
    char captions[64] = "";
    if (f->captions)
        snprintf(captions, sizeof captions, ", and the caption of %d", f->captions);
    snprintf(text, size, "%s: %d repeat%s of each of %d picture%s%s", f->name, f->repeats,
             f->repeats == 1 ? "" : "s", f->pictures, f->pictures == 1 ? "" : "s", captions);
    return text;
}

/* Three digits and five of A to Z, 0 to 9 and _: JEITA CP-3461, "Design rule for Camera File system". */
static bool is_of_a_camera(const char *name)
{
    return strlen(name) == 8 && strspn(name, "0123456789") == 3 && name[0] != '0' &&
           strspn(name + 3, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == 5;
}

static bool has_letter(const char *text)
{
    for (; text && *text; text++)
        if (isalpha((unsigned char)*text) || (unsigned char)*text >= 0x80)
            return true;
    return false;
}

const char *folder_doubt(const FolderTaken *f)
{
    const char *slash = strrchr(f->name, '/');
    if (is_of_a_camera(slash ? slash + 1 : f->name))
        return "cameras name their folders so";
    if (f->repeats > REPEATS_MEANT)
        return "that is more than anybody means";
    if (!has_letter(f->caption))
        return "a caption without a letter is hardly meant";
    return NULL;
}
