#include "marks.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <string.h>

TensorMeta mark_of(const char *mark)
{
    return (TensorMeta){"atelier", mark};
}

Status mark_check(const char *path, const char *mark)
{
    if (!file_exists(path))
        return STATUS_OK;
    TensorFile *f = NULL;
    const char *found = tensorfile_open(path, &f) == STATUS_OK ? tensorfile_metadata(f, "atelier") : NULL;
    const bool own = found && strcmp(found, mark) == 0;
    tensorfile_close(f);
    return own ? STATUS_OK
               : status_refuse("%s: is there, and is no file of %s that was written here before; it is left "
                               "alone: choose another name",
                               path, mark);
}

Status mark_check_folder(const char *folder, const char *begin, const char *mark)
{
    char **names = NULL;
    int count = 0;
    if (!file_is_dir(folder))
        return STATUS_OK;
    Status s = dir_list(folder, &names, &count);
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        if (strncmp(names[i], begin, strlen(begin)) != 0)
            continue;
        char *path = path_join(folder, names[i]);
        s = path ? mark_check(path, mark) : STATUS_FAILED;
        mem_free(path);
    }
    dir_list_free(names, count);
    return s;
}
