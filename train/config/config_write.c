/* A configuration as YAML: what `config show` prints and a run keeps as its own config.yaml. Everything is
 * written out, defaults too, but keys that do nothing in this run; so reading it back gives an equal Config.
 */
#include "kernels/base/mem.h"
#include "config_value.h"

#include <string.h>

/* The section headings between the key written before and this one. Below "dataset" everything stands one
 * level deeper, and the first key of an item carries its "- ". */
static void write_headings(const char *before, const char *path, bool first_of_item, Buffer *out)
{
    const bool dataset = strncmp(path, "dataset.", strlen("dataset.")) == 0;
    size_t same = 0; /* length of the sections that both lie in */
    for (size_t i = 0; before[i] && before[i] == path[i]; i++)
        if (path[i] == '.')
            same = i + 1;
    if (first_of_item)
        same = strlen("dataset.");
    int level = 0;
    for (const char *part = path; strchr(part, '.'); part = strchr(part, '.') + 1, level++) {
        const int length = (int)(strchr(part, '.') - part);
        if (part - path >= (long)same)
            buffer_add(out, "%*s%.*s:\n", 2 * level + (dataset && level ? 2 : 0), "", length, part);
    }
    buffer_add(out, "%*s", 2 * level + (dataset && !first_of_item ? 2 : 0), "");
    if (first_of_item)
        buffer_add(out, "- ");
}

/* Keys whose 0 says that they are not given, and is refused where it is written. */
static const char *const ABSENT_AT_ZERO[] = {"train.steps", "train.epochs", "optimizer.text_encoder_lr",
                                             "optimizer.text_encoder_2_lr"};

static bool left_out(const SchemaKey *k, const Config *c, int dataset)
{
    if (schema_idle(k, c, dataset))
        return true;
    for (size_t i = 0; i < sizeof ABSENT_AT_ZERO / sizeof *ABSENT_AT_ZERO; i++)
        if (strcmp(k->path, ABSENT_AT_ZERO[i]) == 0)
            return schema_number(k, c, dataset) == 0;
    return false;
}

static void write_key(const SchemaKey *k, const Config *c, int dataset, const char **before,
                      bool first_of_item, Buffer *out)
{
    Buffer value = {0};
    if (left_out(k, c, dataset) || !value_write(k, c, dataset, &value)) {
        mem_free(value.data);
        return;
    }
    write_headings(*before, k->path, first_of_item, out);
    buffer_add(out, "%s: %s\n", strrchr(k->path, '.') + 1, value.failed ? "" : value.data);
    out->failed |= value.failed;
    mem_free(value.data);
    *before = k->path;
}

Status config_write(const Config *c, char **yaml)
{
    int count, first = 0;
    const SchemaKey *keys = schema_keys(&count);
    const char *before = "";
    Buffer out = {0};
    while (!schema_of_dataset(&keys[first])) /* rows of a section stand together */
        write_key(&keys[first++], c, 0, &before, false, &out);
    int end = first;
    while (end < count && schema_of_dataset(&keys[end]))
        end++;
    buffer_add(&out, "dataset:\n");
    for (int d = 0; d < c->dataset_count; d++)
        for (int i = first; i < end; i++)
            write_key(&keys[i], c, d, &before, i == first, &out);
    for (int i = end; i < count; i++)
        write_key(&keys[i], c, 0, &before, false, &out);
    return buffer_take(&out, yaml);
}

static void list_key(const SchemaKey *k, const Config *c, int dataset, Buffer *out)
{
    if (schema_of_dataset(k))
        buffer_add(out, "dataset %d, ", dataset + 1);
    buffer_add(out, "%s: ", k->path);
    if (!value_write(k, c, dataset, out))
        buffer_add(out, "none");
    buffer_add(out, "\n");
}

Status config_list(const Config *c, char **lines)
{
    Buffer b = {0};
    int count;
    const SchemaKey *keys = schema_keys(&count);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < (schema_of_dataset(&keys[i]) ? c->dataset_count : 1); d++)
            if (keys[i].freedom != KEY_PLACE)
                list_key(&keys[i], c, d, &b);
    return buffer_take(&b, lines);
}
