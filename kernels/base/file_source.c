/* What is wrong with a path that was named to be read: the message should say which part of it is not there,
 * and which name was perhaps meant. */
#include "file.h"

#include "mem.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* The first part of path that is not there: "a/b" of "a/b/c" where only a is. Caller: mem_free. */
static char *first_missing(const char *path)
{
    char *part = mem_strdup(path);
    for (size_t i = 1; part && part[0] && part[i]; i++) {
        if (part[i] != '/')
            continue;
        part[i] = 0;
        if (!file_exists(part))
            break;
        part[i] = '/';
    }
    return part;
}

/* A third of a name at most is another: short names are near to many. An ending that both have does not
 * count.
 */
static bool is_near(const char *name, const char *other)
{
    const char *end = strrchr(name, '.'), *other_end = strrchr(other, '.');
    const bool same_end = end && other_end && strcmp(end, other_end) == 0;
    const size_t length = same_end ? (size_t)(end - name) : strlen(name);
    return 3 * (size_t)text_distance(name, other) <= length;
}

/* "; did you mean FOLDER/NAME?", or "". Caller: mem_free. */
static char *suggestion(const char *missing)
{
    char *folder = path_parent(missing), **names = NULL, *text = NULL;
    int count = 0;
    const char *base = path_base(missing);
    if (folder && *base && dir_list(folder, &names, &count) == STATUS_OK) {
        const char *near = text_nearest(base, (const char *const *)names, count);
        if (near && is_near(base, near))
            text = mem_printf("; did you mean %.*s%s?", (int)(base - missing), missing, near);
        dir_list_free(names, count);
    }
    mem_free(folder);
    return text ? text : mem_strdup("");
}

Status file_missing(const char *path, const char *what)
{
    struct stat st;
    if (!*path)
        return status_refuse("an empty name is no %s", what);
    if (stat(path, &st) != 0 && errno != ENOENT && errno != ENOTDIR)
        return status_refuse("%s: cannot be opened: %s", path, strerror(errno));
    if (lstat(path, &st) == 0)
        return status_refuse("%s: is a link to what is not there", path);
    char *missing = first_missing(path), *near = missing ? suggestion(missing) : NULL;
    Status s = STATUS_FAILED;
    if (near && strcmp(missing, path) == 0)
        s = status_refuse("%s: there is no such %s%s", path, what, near);
    else if (near)
        s = status_refuse("%s: there is no such %s: %s is not there%s", path, what, missing, near);
    mem_free(missing);
    mem_free(near);
    return s;
}

Status file_check_source(const char *path, const char *what)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return file_missing(path, what);
    if (S_ISDIR(st.st_mode))
        return status_refuse("%s: is a folder, not a file; name the %s", path, what);
    return S_ISREG(st.st_mode) ? STATUS_OK
                               : status_refuse("%s: is no ordinary file but a device or a pipe", path);
}
