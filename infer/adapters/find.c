#include "find.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DEEPEST 8 /* folders in folders */

static const char *const ENDINGS[] = {".safetensors", ".pt", ".ckpt", ".bin"};

/* Bytes of a file's name without its ending; 0: it is no adapter's. */
static size_t stem_length(const char *file)
{
    const size_t size = strlen(file);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        const size_t n = strlen(ENDINGS[i]);
        if (size > n && !strcasecmp(file + size - n, ENDINGS[i]))
            return size - n;
    }
    return 0;
}

/* The search, and the name nearest to the one that is looked for. */
typedef struct Search {
    const char *name;
    char *found;
    char nearest[256];
    int distance;
} Search;

static void remember(Search *s, const char *file, size_t length)
{
    char stem[256];
    snprintf(stem, sizeof stem, "%.*s", (int)(length < 255 ? length : 255), file);
    const char *one[] = {stem};
    const int distance = text_distance(s->name, stem);
    if (text_nearest(s->name, one, 1) && (!*s->nearest || distance < s->distance)) {
        memcpy(s->nearest, stem, sizeof stem);
        s->distance = distance;
    }
}

static Status search_folder(Search *s, const char *folder, int depth);

static Status look_at(Search *s, const char *folder, const char *file, int depth)
{
    char *path = path_join(folder, file);
    if (!path)
        return STATUS_FAILED;
    const bool is_folder = file_is_dir(path);
    const size_t stem = is_folder ? 0 : stem_length(file);
    const bool whole = !strcmp(file, s->name) && (is_folder || stem);
    if (whole || (stem == strlen(s->name) && !strncmp(file, s->name, stem))) {
        s->found = path;
        return STATUS_OK;
    }
    if (stem)
        remember(s, file, stem);
    const Status status = is_folder && depth < DEEPEST ? search_folder(s, path, depth + 1) : STATUS_OK;
    mem_free(path);
    return status;
}

static Status search_folder(Search *s, const char *folder, int depth)
{
    char **names;
    int count;
    TRY(dir_list(folder, &names, &count));
    Status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && !s->found && i < count; i++)
        status = look_at(s, folder, names[i], depth);
    dir_list_free(names, count);
    return status;
}

Status adapter_find(const char *folder, const char *name, char **path)
{
    Search s = {.name = path_base(name)};
    *path = NULL;
    if (!file_is_dir(folder))
        return file_missing(folder, "folder");
    if (!*s.name)
        return status_refuse("a LoRA without a name");
    TRY(search_folder(&s, folder, 0));
    if (!s.found)
        return status_refuse("%s: there is no LoRA `%s`%s%s%s", folder, name,
                             *s.nearest ? "; did you mean `" : "", s.nearest, *s.nearest ? "`?" : "");
    *path = s.found;
    return STATUS_OK;
}
