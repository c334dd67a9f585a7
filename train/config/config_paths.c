/* Relative paths start at the configuration's folder, so that a run means the same from everywhere. People
 * write them from the folder they stand in; so what was written is kept, for the message about a path that is
 * not there. */
#include "config_paths.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>

Status config_folder(const char *file, char **out)
{
    char *folder = path_parent(file), *real = folder ? realpath(folder, NULL) : NULL; /* malloc's own */
    *out = real ? mem_strdup(real) : NULL;
    Status s = *out ? STATUS_OK : STATUS_FAILED;
    if (folder && !real)
        s = file_missing(file, "file");
    free(real);
    mem_free(folder);
    return s;
}

static Status remember(Config *c, const char *path, const char *written)
{
    ConfigRelative *larger =
        mem_realloc(c->relatives, (size_t)(c->relative_count + 1) * sizeof *c->relatives);
    if (!larger)
        return STATUS_FAILED;
    c->relatives = larger;
    ConfigRelative *r = &c->relatives[c->relative_count++];
    *r = (ConfigRelative){mem_strdup(path), mem_strdup(written)};
    return r->path && r->written ? STATUS_OK : STATUS_FAILED;
}

/* "../" at its beginning is worked out, so that messages show the path that is meant. NULL: out of memory. */
static char *absolute_of(const char *rest, const char *base)
{
    size_t keep = strlen(base);
    while (rest[0] == '.' &&
           (rest[1] == '/' || (rest[1] == '.' && (rest[2] == '/' || !rest[2])) || !rest[1])) {
        if (rest[1] == '.') {
            while (keep > 1 && base[keep - 1] != '/')
                keep--;
            keep -= keep > 1;
        }
        rest += rest[1] == '.' ? 2 : 1;
        while (*rest == '/')
            rest++;
    }
    if (*rest)
        return mem_printf("%.*s/%s", keep > 1 ? (int)keep : 0, base, rest);
    return mem_printf("%.*s", (int)keep, base);
}

Status config_make_absolute(Config *c, char **path)
{
    const char *home = getenv("HOME");
    const bool at_home = (*path)[0] == '~' && ((*path)[1] == '/' || !(*path)[1]);
    if (at_home && !(home && home[0] == '/'))
        return status_refuse("%s: HOME is not set, so ~ is no folder; write the path out", *path);
    TRY(path_check_words(at_home ? *path + 1 : *path, c->base_dir));
    if ((*path)[0] == '/')
        return STATUS_OK;
    char *whole =
        at_home ? absolute_of(*path + 1 + strspn(*path + 1, "/"), home) : absolute_of(*path, c->base_dir);
    Status s = whole ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && !at_home)
        s = remember(c, whole, *path);
    if (s != STATUS_OK) {
        mem_free(whole);
        return s;
    }
    mem_free(*path);
    *path = whole;
    return STATUS_OK;
}

bool path_lies_in(const char *path, const char *folder)
{
    const size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || !path[length]);
}

/* Nothing where the current folder is the configuration's: there is no other one that could be meant. */
static Status add_origin(const Config *c, const char *written)
{
    char *here = realpath(".", NULL), *there = realpath(written, NULL);
    Status s = STATUS_REFUSED;
    if (there && here && strcmp(here, c->base_dir) != 0)
        s = status_refuse(
            "%s (`%s` starts at the configuration's folder, %s; for the one in the current folder "
            "write %s)",
            status_message(), written, c->base_dir, there);
    else if (here && strcmp(here, c->base_dir) != 0)
        s = status_refuse("%s (`%s` starts at the configuration's folder, %s)", status_message(), written,
                          c->base_dir);
    free(here);
    free(there);
    return s;
}

Status config_path_missing(const Config *c, const char *path, const char *what)
{
    const Status s = file_missing(path, what);
    for (int i = 0; i < c->relative_count && s == STATUS_REFUSED; i++)
        if (strcmp(c->relatives[i].path, path) == 0)
            return add_origin(c, c->relatives[i].written);
    return s;
}
