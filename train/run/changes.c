#include "changes.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "train/config/config_value.h"

#include <stdio.h>
#include <string.h>

#define SHOWN 5

static bool is_free(const SchemaKey *k, const Config *now, const Config *then)
{
    switch (k->freedom) {
    case KEY_FREE:
    case KEY_PLACE:
        return true;
    case KEY_FREE_IF_LEVEL:
        return now->optimizer.schedule == SCHEDULE_CONSTANT && then->optimizer.schedule == SCHEDULE_CONSTANT;
    default:
        return false;
    }
}

/* The value as YAML; "none" where there is none. Caller: mem_free. NULL: out of memory. */
static char *value_text(const SchemaKey *k, const Config *c, int dataset)
{
    Buffer b = {0};
    char *text = NULL;
    if (!value_write(k, c, dataset, &b)) {
        mem_free(b.data);
        return mem_strdup("none");
    }
    return buffer_take(&b, &text) == STATUS_OK ? text : NULL;
}

/* why: a remark, or "". */
static void append(char *text, size_t size, int count, const char *key, const char *now, const char *then,
                   const char *why)
{
    const size_t used = strlen(text);
    if (count < SHOWN)
        snprintf(text + used, size - used, "%s%s is %s and was %s%s", count ? "; " : "", key, now, then, why);
    else if (count == SHOWN)
        snprintf(text + used, size - used, "; and more");
}

/* One key, of one dataset; 1 if it changes the result. */
static int compare(const SchemaKey *k, const Config *now, const Config *then, int dataset, int count,
                   char *text, size_t size)
{
    char *a = value_text(k, now, dataset), *b = value_text(k, then, dataset);
    const bool differ = a && b && strcmp(a, b) != 0;
    const bool harm = differ && !is_free(k, now, then);
    if (harm)
        append(text, size, count, k->path, a, b,
               k->freedom == KEY_FREE_IF_LEVEL
                   ? ", and with this optimizer.schedule every step's learning rate "
                     "follows from the length"
                   : "");
    else if (differ && k->freedom == KEY_FREE_IF_LEVEL)
        log_info("%s is %s and was %s: the steps that are done are the same with either", k->path, a, b);
    else if (differ && k->freedom != KEY_PLACE)
        log_info("%s is %s and was %s: the result is not changed by that", k->path, a, b);
    mem_free(a);
    mem_free(b);
    return harm;
}

int changes_find(const Config *now, const Config *then, char *text, size_t size)
{
    int keys, count = 0;
    const SchemaKey *k = schema_keys(&keys);
    char a[24], b[24];
    text[0] = 0;
    if (now->dataset_count != then->dataset_count) {
        snprintf(a, sizeof a, "%d", now->dataset_count);
        snprintf(b, sizeof b, "%d", then->dataset_count);
        append(text, size, count++, "the number of datasets", a, b, "");
    }
    const int datasets = now->dataset_count < then->dataset_count ? now->dataset_count : then->dataset_count;
    for (int i = 0; i < keys; i++)
        for (int d = 0; d < (schema_of_dataset(&k[i]) ? datasets : 1); d++)
            count += compare(&k[i], now, then, d, count, text, size);
    return count;
}
