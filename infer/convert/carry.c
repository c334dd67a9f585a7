#include "carry.h"

#include "infer/models/model_config.h"
#include "infer/models/parts.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX "model_index.json"
#define INDEX_MAX (1u << 20)
#define CHUNK (1u << 20)
#define DEPTH_MAX 8 /* folders in folders; a link to a folder above has no end */

/* Copying ------------------------------------------------------------------------------------------------ */

static Status copy_bytes(int fd, const char *from, AtomicFile *to)
{
    char *chunk = mem_alloc(CHUNK);
    Status s = chunk ? STATUS_OK : STATUS_FAILED;
    for (ssize_t n = 1; s == STATUS_OK && n > 0;) {
        n = read(fd, chunk, CHUNK);
        s = n < 0 ? file_failed(from, "cannot be read") : atomic_write(to, chunk, (size_t)n);
    }
    mem_free(chunk);
    return s;
}

static Status copy_file(const char *from, const char *to)
{
    AtomicFile *f;
    TRY(file_check_source(from, "file"));
    const int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return file_failed(from, "cannot be read");
    Status s = atomic_open(to, &f);
    if (s == STATUS_OK) {
        s = copy_bytes(fd, from, f);
        if (s == STATUS_OK)
            s = atomic_commit(f);
        else
            atomic_abort(f);
    }
    close(fd);
    return s;
}

static Status copy_folder(const char *from, const char *to, int depth)
{
    char **names = NULL;
    int count = 0;
    if (depth > DEPTH_MAX)
        return status_refuse("%s: folders in folders without end", from);
    TRY(dir_list(from, &names, &count));
    Status s = dir_make(to);
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        char *source = path_join(from, names[i]), *target = path_join(to, names[i]);
        s = !source || !target    ? STATUS_FAILED
            : file_is_dir(source) ? copy_folder(source, target, depth + 1)
                                  : copy_file(source, target);
        mem_free(source);
        mem_free(target);
    }
    dir_list_free(names, count);
    return s;
}

/* Which ---------------------------------------------------------------------------------------------------
 */

/* m's own; *out NULL: it has none. json_decref. */
static Status read_index(const Model *m, json_t **out)
{
    *out = NULL;
    char *path = m->folder ? path_join(m->folder, INDEX) : NULL, *text = NULL;
    size_t size = 0;
    json_error_t error;
    Status s = m->folder && !path ? STATUS_FAILED : STATUS_OK;
    if (path && file_exists(path))
        s = file_read(path, INDEX_MAX, &text, &size);
    if (text) {
        *out = json_read(text, size, 0, &error);
        if (!json_is_object(*out))
            s = status_refuse("%s: is no JSON object", path);
    }
    mem_free(text);
    mem_free(path);
    return s;
}

static bool is_own(const char *name)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (!strcmp(name, PARTS[i].folder) || (PARTS[i].tokenizer && !strcmp(name, PARTS[i].tokenizer)))
            return true;
    return !strcmp(name, "scheduler");
}

static bool has(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    const bool there = path && file_exists(path);
    mem_free(path);
    return there;
}

/* A part of the folder: the index names it, or it says itself what it is. */
static bool is_other_part(const char *folder, const char *name, const json_t *index)
{
    char *path = path_join(folder, name);
    const bool part = path && *name != '.' && !is_own(name) && file_is_dir(path) &&
                      (json_is_string(json_array_get(json_object_get(index, name), 1)) ||
                       has(path, "config.json") || has(path, "preprocessor_config.json"));
    mem_free(path);
    return part;
}

static Status each_part(const Model *m, Status (*take)(void *arg, const char *name), void *arg)
{
    json_t *index;
    char **names = NULL;
    int count = 0;
    if (!m->folder)
        return STATUS_OK;
    Status s = read_index(m, &index);
    if (s == STATUS_OK)
        s = dir_list(m->folder, &names, &count);
    for (int i = 0; i < count && s == STATUS_OK; i++)
        if (is_other_part(m->folder, names[i], index))
            s = take(arg, names[i]);
    dir_list_free(names, count);
    json_decref(index);
    return s;
}

/* What is done with them ----------------------------------------------------------------------------------
 */

typedef struct Target {
    const Model *m;
    const char *folder;
} Target;

static Status copy_part(void *arg, const char *name)
{
    const Target *t = arg;
    char *from = path_join(t->m->folder, name), *to = path_join(t->folder, name);
    const Status s = from && to ? copy_folder(from, to, 1) : STATUS_FAILED;
    mem_free(from);
    mem_free(to);
    return s;
}

Status carry_parts(const Model *m, const char *folder)
{
    return each_part(m, copy_part, &(Target){m, folder});
}

typedef struct Counted {
    const Model *m;
    size_t bytes;
} Counted;

static Status count_part(void *arg, const char *name)
{
    Counted *c = arg;
    char *path = path_join(c->m->folder, name);
    c->bytes += path ? path_bytes(path) : 0;
    mem_free(path);
    return path ? STATUS_OK : STATUS_FAILED;
}

size_t carry_bytes(const Model *m)
{
    Counted c = {m, 0};
    return each_part(m, count_part, &c) == STATUS_OK ? c.bytes : 0;
}

/* Takes over what the old index says that this program has no say in. A part that is not there stays null, or
 * diffusers would look for it. */
static void add_others(json_t *index, const json_t *old, const char *folder)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)old, key, value)
    {
        const bool part = json_is_array(value) && json_is_string(json_array_get(value, 1));
        if (part ? !is_own(key) && has(folder, key) : !json_object_get(index, key))
            json_object_set(index, key, value);
    }
    if (json_is_string(json_array_get(json_object_get(index, "safety_checker"), 1)) &&
        json_object_get(old, "requires_safety_checker"))
        json_object_set(index, "requires_safety_checker", json_object_get(old, "requires_safety_checker"));
}

Status carry_index(const Model *m, const char *folder)
{
    json_t *old;
    json_error_t error;
    Status s = read_index(m, &old);
    char *own = s == STATUS_OK ? model_index_json(m) : NULL, *path = path_join(folder, INDEX);
    json_t *index = own ? json_parse(own, 0, &error) : NULL;
    if (s == STATUS_OK)
        s = index && path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK) {
        add_others(index, old, folder);
        char *text = json_text(json_incref(index), JSON_INDENT(2)),
             *line = text ? mem_printf("%s\n", text) : NULL;
        s = line ? file_write_atomic(path, line, strlen(line)) : STATUS_FAILED;
        mem_free(line);
        free(text);
    }
    json_decref(index);
    json_decref(old);
    mem_free(path);
    mem_free(own);
    return s;
}

static Status add_name(void *arg, const char *name)
{
    char **list = arg, *longer = mem_printf("%s%s%s", *list ? *list : "", *list ? ", " : "", name);
    mem_free(*list);
    *list = longer;
    return longer ? STATUS_OK : STATUS_FAILED;
}

Status carry_tell_left_out(const Model *m)
{
    char *list = NULL;
    const Status s = each_part(m, add_name, &list);
    if (s == STATUS_OK && list)
        log_warn("%s: a single file has no place for %s: left out", m->name, list);
    mem_free(list);
    return s;
}
