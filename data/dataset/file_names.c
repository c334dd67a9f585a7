/* Names of files (file_names.h). */
#include "file_names.h"

#include "data/pictures/picture.h"
#include "kernels/base/aside.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

bool file_ends_in(const char *name, const char *const *endings)
{
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name)
        return false;
    for (; *endings; endings++)
        if (strcasecmp(dot + 1, *endings) == 0)
            return true;
    return false;
}

bool file_is_systems(const char *name)
{
    static const char *const names[] = {"Thumbs.db", "ehthumbs.db", "desktop.ini",
                                        "__MACOSX",  "@eaDir",      NULL};
    for (const char *const *n = names; *n; n++)
        if (strcasecmp(name, *n) == 0)
            return true;
    return name[0] == '.' || name_is_aside(name); /* somebody is writing it, or was */
}

/* Endings that programs put behind a name of their own or of another file. */
const char *file_why_aside(const char *name)
{
    static const char *const copies[] = {"bak", "orig", "old", "backup", "swp", NULL};
    static const char *const parts[] = {"part", "partial", "crdownload", "download", "filepart", "tmp", NULL};
    const size_t n = strlen(name);
    if (n > 1 && name[n - 1] == '~')
        return " (a backup copy)";
    return file_ends_in(name, copies)  ? " (a backup copy)"
           : file_ends_in(name, parts) ? " (an unfinished file)"
                                       : NULL;
}

static bool looks_like_a_picture(const char *path)
{
    uint8_t head[12];
    FILE *in = fopen(path, "rbe");
    if (!in)
        return false;
    const size_t n = fread(head, 1, sizeof head, in);
    fclose(in);
    return picture_format(head, n) != PICTURE_UNKNOWN;
}

bool file_is_picture(const char *name, const char *path)
{
    static const char *const pictures[] = {"jpg", "jpeg", "jpe", "jfif", "png", "webp", NULL};
    static const char *const others[] = {"txt", "caption", "jsonl", "json", "h5", NULL};
    return file_ends_in(name, pictures) ||
           (!file_ends_in(name, others) && !file_why_aside(name) && looks_like_a_picture(path));
}

bool file_is_copy(const char *name, FileIsThere there, const void *folder)
{
    static const char *const endings[] = {" - Copy", " copy"};
    static const char START[] = "Copy of ";
    if (strncmp(name, START, sizeof START - 1) == 0)
        return there(folder, name + sizeof START - 1);
    const char *dot = strrchr(name, '.');
    for (int i = 0; i < 2 && dot; i++) {
        const char *at = strstr(name, endings[i]), *rest = at ? at + strlen(endings[i]) : NULL;
        if (!at || at == name || strspn(rest, " ()0123456789") != (size_t)(dot - rest))
            continue;
        char *original = mem_printf("%.*s%s", (int)(at - name), name, dot);
        const bool found = original && there(folder, original);
        mem_free(original);
        return found;
    }
    return false;
}
