/* The table of operations (bench_profile.h): made once, as JSON, so that it can be compared with one that was
 * kept. */
#include "bench_profile.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_LIMIT ((size_t)8 << 20)
#define LEAST_SHARE 0.003 /* of the time: rows below it are added up in one */

/* Making it -------------------------------------------------------------------------------------------- */

/* Operations of one name whose layers' weights have one shape, and that compute as much. */
typedef struct Row {
    const ProfileEntry *like;
    int calls;
    double seconds, flop, bytes;
} Row;

static const Tensor *weight_of(const ProfileEntry *e)
{
    return e->layer ? e->layer->weight : NULL;
}

static bool alike(const ProfileEntry *a, const ProfileEntry *b)
{
    const Tensor *v = weight_of(a), *w = weight_of(b);
    return strcmp(a->op, b->op) == 0 && a->flop == b->flop && a->bytes == b->bytes && !v == !w &&
           (!v || tensor_same_shape(v, w));
}

static int by_seconds(const void *a, const void *b)
{
    const double x = ((const Row *)a)->seconds, y = ((const Row *)b)->seconds;
    return (x < y) - (x > y);
}

static int rows_of(const Profile *p, Row *rows)
{
    int n = 0;
    for (int i = 0; i < p->count; i++) {
        const ProfileEntry *e = &p->entries[i];
        int r = 0;
        while (r < n && !alike(rows[r].like, e))
            r++;
        if (r == n)
            rows[n++] = (Row){.like = e};
        rows[r].calls++;
        rows[r].seconds += e->seconds;
        rows[r].flop += e->flop;
        rows[r].bytes += e->bytes;
    }
    qsort(rows, (size_t)n, sizeof *rows, by_seconds);
    return n;
}

/* "640x320x3x3" */
static void shape_text(const Tensor *w, char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; w && i < w->ndim && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%lld", i ? "x" : "", (long long)w->shape[i]);
}

json_t *bench_operations(const Profile *p)
{
    Row *rows = mem_alloc(sizeof *rows * (size_t)(p->count ? p->count : 1));
    if (!rows)
        return NULL;
    json_t *list = json_array();
    const int n = rows_of(p, rows);
    for (int i = 0; i < n; i++) {
        char weight[80];
        json_t *o = json_object();
        shape_text(weight_of(rows[i].like), weight, sizeof weight);
        json_object_set_new(o, "op", json_string(rows[i].like->op));
        json_object_set_new(o, "weight", json_string(weight));
        json_object_set_new(o, "calls", json_integer(rows[i].calls));
        json_object_set_new(o, "seconds", json_real(rows[i].seconds));
        json_object_set_new(o, "flop", json_real(rows[i].flop));
        json_object_set_new(o, "bytes", json_real(rows[i].bytes));
        json_array_append_new(list, o);
    }
    mem_free(rows);
    return list;
}

/* What was before --------------------------------------------------------------------------------------- */

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static Status same_work(const char *path, const json_t *before, const json_t *now)
{
    static const char *const keys[] = {"work",  "size",    "resolution",   "batch",
                                       "dtype", "threads", "checkpointing"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *a = json_object_get(before, keys[i]), *b = json_object_get(now, keys[i]);
        if (!a && !json_object_get(before, "median_s"))
            return status_refuse("bench: --against %s: it is not what `atelier bench --json` writes", path);
        if ((a || b) && !json_equal(a, b))
            return status_refuse(
                "bench: --against %s: it was measured with another %s: only the same work can be compared",
                path, keys[i]);
    }
    return STATUS_OK;
}

Status bench_before(const char *path, const json_t *now, json_t **before)
{
    char *text;
    size_t size;
    json_error_t error;
    TRY(status_in(file_check_source(path, "file of `atelier bench --json`"), "bench: --against"));
    TRY(file_read(path, FILE_LIMIT, &text, &size));
    *before = json_read(text, size, 0, &error);
    mem_free(text);
    if (!*before)
        return status_refuse("bench: --against %s: line %d: %s", path, error.line, error.text);
    return same_work(path, *before, now);
}

/* The table --------------------------------------------------------------------------------------------- */

/* The row of `before` for the same operation: its name, weight, arithmetic and number. NULL: none. */
static const json_t *row_like(const json_t *before, const json_t *o)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(before, "operations"), i,
                       row) if (strcmp(text_of(row, "op"), text_of(o, "op")) == 0 &&
                                strcmp(text_of(row, "weight"), text_of(o, "weight")) == 0 &&
                                number_of(row, "calls") == number_of(o, "calls") &&
                                number_of(row, "flop") == number_of(o, "flop") &&
                                number_of(row, "bytes") == number_of(o, "bytes")) return row;
    return NULL;
}

static void print_rate(double flop, double seconds, double peak)
{
    if (flop > 0 && seconds > 0)
        printf(" %9.2f %8.1f %5.0f %%", flop / 1e9, flop / seconds / 1e9, 100 * flop / seconds / peak);
    else
        printf(" %9s %8s %7s", "", "", "");
}

static void print_row(const json_t *o, const json_t *was, double all, double peak)
{
    const double seconds = number_of(o, "seconds"), bytes = number_of(o, "bytes");
    printf("%-24.24s %-16s %5.0f %9.2f %4.0f %%", text_of(o, "op"), text_of(o, "weight"),
           number_of(o, "calls"), 1e3 * seconds, 100 * seconds / all);
    print_rate(number_of(o, "flop"), seconds, peak);
    printf(" %8.1f %6.1f", bytes / 1e6, seconds > 0 ? bytes / seconds / 1e9 : 0);
    if (was && number_of(was, "seconds") > 0)
        printf(" %9.2f %6.2f", 1e3 * number_of(was, "seconds"), seconds / number_of(was, "seconds"));
    putchar('\n');
}

void bench_print_operations(const json_t *now, const json_t *before)
{
    const json_t *list = json_object_get(now, "operations");
    const double peak = number_of(now, "peak_flops");
    double all = 0, rest = 0;
    size_t i;
    json_t *o;
    json_array_foreach((json_t *)list, i, o) all += number_of(o, "seconds");
    printf("\n%-24s %-16s %5s %9s %6s %9s %8s %7s %8s %6s", "operation", "weight", "calls", "ms", "share",
           "GFLOP", "GFLOP/s", "of peak", "MB", "GB/s");
    puts(before ? " ms before  ratio" : "");
    json_array_foreach((json_t *)list, i, o)
    {
        if (number_of(o, "seconds") < LEAST_SHARE * all)
            rest += number_of(o, "seconds");
        else
            print_row(o, row_like(before, o), all, peak);
    }
    printf("%-24s %-16s %5s %9.2f %4.0f %%\n", "the others", "", "", 1e3 * rest, 100 * rest / all);
}
