/* Where a model lies that is given by name. */
#include "parts.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* "share/atelier/NAME" beside the folder that this library lies in, whatever program has loaded it: lib/, or
 * a folder in lib/ named after the machine. NULL: out of memory. */
static char *installed_path(const char *name)
{
    Dl_info library = {0};
    dladdr(&PARTS, &library);
    char *real = library.dli_fname ? realpath(library.dli_fname, NULL) : NULL; /* malloc's own */
    char *slash = real ? strrchr(real, '/') : NULL, *path = NULL;
    if (slash)
        *slash = 0;
    for (int up = 1; up <= 2; up++) {
        mem_free(path);
        path = mem_printf("%s/%sshare/atelier/%s", real ? real : ".", up == 1 ? "../" : "../../", name);
        if (!path || file_is_dir(path))
            break;
    }
    free(real);
    return path;
}

static Status find_builtin(const char *name, char **path)
{
    const char *variable = getenv("ATELIER_MODELS");
    if (!name[0] || strchr(name, '/') || name[0] == '.')
        return status_refuse("builtin:%s: is no name of a built-in model", name);
    char *places[3] = {variable && *variable ? path_join(variable, name) : NULL, installed_path(name),
                       mem_printf("%s/data/builtin/%s", ATELIER_SOURCE_DIR, name)};
    for (int i = 0; i < 3 && !*path; i++)
        if (places[i] && file_is_dir(places[i])) {
            *path = places[i];
            places[i] = NULL;
        }
    Status s = STATUS_OK;
    if (!*path)
        s = status_refuse("builtin:%s: not found%s: $ATELIER_MODELS (%s), %s and %s were tried", name,
                          strcmp(name, "tiny") ? " (builtin:tiny is what comes with Atelier)" : "",
                          places[0] ? places[0] : "not set", places[1] ? places[1] : "?",
                          places[2] ? places[2] : "?");
    for (int i = 0; i < 3; i++)
        mem_free(places[i]);
    return s;
}

bool model_is_builtin(const char *name)
{
    return strncmp(name, "builtin:", strlen("builtin:")) == 0;
}

Status model_find(const char *name, char **path)
{
    *path = NULL;
    if (model_is_builtin(name))
        return find_builtin(name + 8, path);
    if (!file_exists(name))
        return file_missing(name, MODEL_KINDS);
    *path = mem_strdup(name);
    return *path ? STATUS_OK : STATUS_FAILED;
}
