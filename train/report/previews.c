/* The run's sample grids, by the paths that they have beside the page. */
#include "page.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/pictures/preview.h"
#include "html.h"

#include <stdlib.h>
#include <string.h>

#define MOST 48                        /* grids on a page; of more, some spread over the run */
#define LEGEND_LIMIT ((size_t)1 << 20) /* bytes */

/* The step of "step-000250.png"; −1: another file. */
static long long step_of(const char *name)
{
    const size_t digits = strncmp(name, "step-", 5) == 0 ? strspn(name + 5, "0123456789") : 0;
    return digits > 0 && digits < 18 && strcmp(name + 5 + digits, ".png") == 0 ? atoll(name + 5) : -1;
}

/* Moves the grids to the front; returns how many. */
static int pick_grids(char **names, int count)
{
    int grids = 0;
    for (int i = 0; i < count; i++)
        if (step_of(names[i]) >= 0) {
            char *name = names[i];
            names[i] = names[grids];
            names[grids++] = name;
        }
    return grids;
}

/* Which picture of a grid is which: the lines after the first of the .txt beside it. *text NULL: there is
 * none. Caller: mem_free. */
static Status read_legend(const char *samples, long long step, char **text)
{
    char *path = path_in(samples, "step-%06lld.txt", step);
    size_t size;
    *text = NULL;
    if (!path)
        return STATUS_FAILED;
    const Status s = file_exists(path) ? file_read(path, LEGEND_LIMIT, text, &size) : STATUS_OK;
    mem_free(path);
    if (s != STATUS_OK)
        return status_is_memory() ? s : STATUS_OK;
    char *end = *text ? strchr(*text, '\n') : NULL;
    if (end)
        memmove(*text, end + 1, strlen(end));
    return STATUS_OK;
}

/* A legend once for all grids that it holds for: shown where it differs from the one before it. */
static Status add_grid(Buffer *b, const char *samples, const char *name, char **legend)
{
    char *text;
    const long long step = step_of(name);
    TRY(read_legend(samples, step, &text));
    if (text && (!*legend || strcmp(text, *legend) != 0)) {
        buffer_add(b, "</div>\n<p class=\"note\">From left to right:</p>\n<pre class=\"wrap\">");
        html_text(b, text);
        buffer_add(b, "</pre>\n<div class=\"row\">\n");
        mem_free(*legend);
        *legend = text;
    } else {
        mem_free(text);
    }
    buffer_add(b, "<figure><img src=\"samples/%s\" alt=\"preview of step %lld\" loading=\"lazy\">", name,
               step);
    if (step)
        buffer_add(b, "<figcaption>step %lld</figcaption></figure>\n", step);
    else
        buffer_add(b, "<figcaption>before the first step</figcaption></figure>\n");
    return STATUS_OK;
}

static void add_compared(Buffer *b, const char *run)
{
    char *path = path_in(run, PREVIEW_COMPARED);
    if (!path)
        b->failed = true;
    else if (file_exists(path))
        buffer_add(b, "<figure><img src=\"" PREVIEW_COMPARED "\" alt=\"previews before and after training\">"
                      "<figcaption>above: before; below: after</figcaption></figure>\n");
    mem_free(path);
}

static Status add_grids(Buffer *b, const char *samples, char **names, int count)
{
    const int shown = count < MOST ? count : MOST;
    char *legend = NULL;
    Status s = STATUS_OK;
    if (shown < count)
        buffer_add(b, "<p class=\"note\">%d of the %d in samples/:</p>\n", shown, count);
    buffer_add(b, "<div class=\"row\">\n");
    for (int i = 0; i < shown && s == STATUS_OK; i++)
        s = add_grid(b, samples, names[shown > 1 ? (int64_t)i * (count - 1) / (shown - 1) : 0], &legend);
    buffer_add(b, "</div>\n");
    mem_free(legend);
    return s;
}

Status previews_add(Buffer *b, const Report *r)
{
    char *samples = path_in(r->run, "samples"), **names = NULL;
    int count = 0;
    Status s = samples ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_is_dir(samples))
        s = dir_list(samples, &names, &count);
    const int grids = pick_grids(names, count);
    if (s == STATUS_OK && grids) {
        buffer_add(b, "<h2>Previews</h2>\n");
        add_compared(b, r->run);
        s = add_grids(b, samples, names, grids);
    }
    dir_list_free(names, count);
    mem_free(samples);
    return s;
}
