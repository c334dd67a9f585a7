#include "owned.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_LIMIT ((size_t)16 << 20)

bool owned_any(const char *folder)
{
    char *path = path_in(folder, OWNED_LIST);
    const bool found = path && file_exists(path);
    mem_free(path);
    return found;
}

/* *text: "" where there is no list. Caller: mem_free. */
static Status read_list(const char *folder, char **text)
{
    size_t size;
    char *path = path_in(folder, OWNED_LIST);
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_exists(path))
        s = file_read(path, LIST_LIMIT, text, &size);
    else if (s == STATUS_OK)
        s = (*text = mem_strdup("")) ? STATUS_OK : STATUS_FAILED;
    mem_free(path);
    return s;
}

static bool is_listed(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *line = list; *line; line += strspn(line, "\n")) {
        const size_t length = strcspn(line, "\n");
        if (length == n && memcmp(line, name, n) == 0)
            return true;
        line += length;
    }
    return false;
}

/* A link counts as what it is, wherever it leads. */
static Status check(const char *folder, const char *name, bool listed)
{
    struct stat st;
    char *path = path_in(folder, "%s", name);
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (path && !listed && lstat(path, &st) == 0)
        s = status_refuse("%s: is there, and was not made by this run, which would replace it; move it away, "
                          "or choose another folder (output.dir)",
                          path);
    mem_free(path);
    return s;
}

Status owned_find(const char *folder, const char *name, bool *listed)
{
    char *list = NULL;
    TRY(read_list(folder, &list));
    *listed = is_listed(list, name);
    mem_free(list);
    return STATUS_OK;
}

Status owned_check(const char *folder, const char *name)
{
    bool listed;
    TRY(owned_find(folder, name, &listed));
    return check(folder, name, listed);
}

Status owned_take(const char *folder, const char *name)
{
    char *list = NULL;
    TRY(read_list(folder, &list));
    const bool listed = is_listed(list, name);
    Status s = check(folder, name, listed);
    if (s == STATUS_OK && !listed) {
        char *path = path_in(folder, OWNED_LIST), *more = mem_printf("%s%s\n", list, name);
        s = path && more ? file_write_atomic(path, more, strlen(more)) : STATUS_FAILED;
        mem_free(path);
        mem_free(more);
    }
    mem_free(list);
    return s;
}

size_t owned_bytes(const char *folder)
{
    char *list = NULL, *rest;
    size_t bytes = 0;
    if (read_list(folder, &list) != STATUS_OK)
        return 0;
    for (char *name = strtok_r(list, "\n", &rest); name; name = strtok_r(NULL, "\n", &rest)) {
        char *path = path_in(folder, "%s", name);
        bytes += path ? path_bytes(path) : 0;
        mem_free(path);
    }
    mem_free(list);
    return bytes;
}

/* A file, or a folder with what is in it; then the folder below `folder` that held it, where it is empty. */
static void remove_one(const char *folder, const char *name)
{
    char *path = path_in(folder, "%s", name), *parent = path ? path_parent(path) : NULL;
    if (path && unlink(path) != 0 && errno == EISDIR)
        dir_remove(path);
    if (parent && strchr(name, '/'))
        rmdir(parent);
    mem_free(parent);
    mem_free(path);
}

void owned_tidy(const char *folder)
{
    char *list = NULL, *rest;
    bool found = false;
    if (read_list(folder, &list) != STATUS_OK)
        return;
    for (char *name = strtok_r(list, "\n", &rest); name && !found; name = strtok_r(NULL, "\n", &rest)) {
        char *path = path_in(folder, "%s", name);
        found = !path || file_exists(path);
        mem_free(path);
    }
    if (!found)
        remove_one(folder, OWNED_LIST);
    mem_free(list);
}

void owned_remove(const char *folder)
{
    char *list = NULL, *rest;
    if (read_list(folder, &list) != STATUS_OK)
        return;
    for (char *name = strtok_r(list, "\n", &rest); name; name = strtok_r(NULL, "\n", &rest))
        remove_one(folder, name);
    remove_one(folder, OWNED_LIST);
    mem_free(list);
}
