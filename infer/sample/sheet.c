#include "sheet.h"

#include "data/letters/letters.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>

#define GAP 4                /* pixels between pictures, times the letters' scale */
#define LETTERS_EACH 36      /* that a picture's width should hold */
#define LABEL_LINES 3        /* over a column at most */
#define ROW_LABEL_LETTERS 18 /* beside a row at most */
#define TITLE_LINES 4

/* Labels ------------------------------------------------------------------------------------------------- */

/* "steps 20"; what is clear without its key stands alone. Caller: mem_free. */
static char *label_of(const Axis *a, int i)
{
    static const char *const PLAIN[] = {"checkpoint", "prompt", "model",  "vae",
                                        "replace",    "matrix", "sampler"};
    const char *label = a->places[i].label;
    for (size_t k = 0; k < sizeof PLAIN / sizeof *PLAIN; k++)
        if (!strcmp(a->key, PLAIN[k]))
            return mem_strdup(label);
    return a->kind == AXIS_OPTION && !strcmp(a->key, "lora") ? mem_strdup(label)
                                                             : mem_printf("%s %s", a->key, label);
}

static bool varies(const Shots *s, const char *key)
{
    for (int i = 0; i < s->axis_count; i++)
        if (!strcmp(s->axes[i].key, key) || (!strcmp(key, "prompt") && s->axes[i].kind == AXIS_REPLACE))
            return true;
    return false;
}

/* What all pictures have in common, with so many columns of the prompt. Caller: mem_free. */
static char *title_with(const Shots *s, int columns)
{
    const SampleArguments *a = s->items[0].a;
    const SampleRequest *r = &a->request;
    const char *prompt = varies(s, "prompt") ? "" : varies(s, "matrix") ? s->first.request.prompt : r->prompt;
    const int bytes = letters_bytes(prompt, columns);
    char seed[40] = "", steps[24] = "", cfg[24] = "";
    if (!varies(s, "seed"))
        snprintf(seed, sizeof seed, ", seed %llu", (unsigned long long)s->items[0].seed);
    if (!varies(s, "steps"))
        snprintf(steps, sizeof steps, ", %d steps", r->steps);
    if (!varies(s, "cfg"))
        snprintf(cfg, sizeof cfg, ", cfg %g", (double)r->guidance);
    return mem_printf("%.*s%s%s%s%s%s%s", bytes, prompt, prompt[bytes] ? "…" : "", *prompt ? ": " : "",
                      varies(s, "sampler") ? "several samplers" : r->sampler, steps, cfg, seed);
}

/* The same in lines of so many letters: a long prompt gives way to the settings. Caller: mem_free. */
static char *title_of(const Shots *s, int letters)
{
    int columns = TITLE_LINES * letters;
    char *title = title_with(s, columns);
    while (title && columns > 0 && letters_lines(title, letters, TITLE_LINES + 1) > TITLE_LINES) {
        mem_free(title);
        title = title_with(s, --columns);
    }
    return title;
}

/* Layout ------------------------------------------------------------------------------------------------- */

typedef struct Layout {
    Size cell, whole;
    int columns, rows, blocks;
    int scale, line, gap; /* of letters; height of a line of them; between pictures */
    int letters;          /* in a cell's width */
    int beside;           /* width of the rows' labels; 0: there are none */
    int title_lines, block_lines, label_lines;
    int block_height;
    char *title;
} Layout;

static int longest_label(const Axis *a)
{
    int longest = 0;
    for (int i = 0; i < a->count; i++) {
        char *label = label_of(a, i);
        const int letters = label ? letters_columns(label) : 0;
        longest = letters > longest ? letters : longest;
        mem_free(label);
    }
    return longest < ROW_LABEL_LETTERS ? longest : ROW_LABEL_LETTERS;
}

static int most_lines(const Axis *a, int letters)
{
    int most = 0;
    for (int i = 0; i < a->count; i++) {
        char *label = label_of(a, i);
        const int lines = label ? letters_lines(label, letters, LABEL_LINES) : 0;
        most = lines > most ? lines : most;
        mem_free(label);
    }
    return most;
}

static Status plan(const Shots *s, Size cell, Layout *l)
{
    *l = (Layout){.cell = cell, .columns = 1, .rows = 1, .blocks = 1};
    if (s->axis_count > 0)
        l->columns = s->axes[0].count;
    if (s->axis_count > 1)
        l->rows = s->axes[1].count;
    if (s->axis_count > 2)
        l->blocks = s->axes[2].count;
    l->scale = cell.width / (LETTERS_EACH * LETTER_WIDTH);
    l->scale = l->scale > 1 ? l->scale : 1;
    l->line = l->scale * LETTER_LINE;
    l->gap = GAP * l->scale;
    l->letters = cell.width / (l->scale * LETTER_WIDTH);
    l->letters = l->letters > 1 ? l->letters : 1;
    l->beside = s->axis_count > 1 ? l->scale * LETTER_WIDTH * longest_label(&s->axes[1]) + l->gap : 0;
    l->block_lines = s->axis_count > 2 ? most_lines(&s->axes[2], l->letters * l->columns) : 0;
    l->label_lines = s->axis_count > 0 ? most_lines(&s->axes[0], l->letters) : 0;
    const int64_t width = l->gap + l->beside + (int64_t)l->columns * (cell.width + l->gap);
    if (width > PICTURE_MAX_SIDE)
        return status_refuse("sample: a sheet of %d columns of %d pixels is wider than a picture can be",
                             l->columns, cell.width);
    const int title_letters = ((int)width - 2 * l->gap) / (l->scale * LETTER_WIDTH);
    l->title = title_of(s, title_letters);
    if (!l->title)
        return STATUS_FAILED;
    l->title_lines = letters_lines(l->title, title_letters, TITLE_LINES);
    l->block_height = l->line * (l->label_lines + l->block_lines) + l->rows * (cell.height + l->gap) + l->gap;
    const int64_t height = (int64_t)l->title_lines * l->line + (int64_t)l->blocks * l->block_height;
    if (height > PICTURE_MAX_SIDE || width * height > PICTURE_MAX_PIXELS)
        return status_refuse(
            "sample: a sheet of %lld x %lld pixels is larger than a picture can be; take fewer or "
            "smaller pictures",
            (long long)width, (long long)height);
    l->whole = (Size){(int)width, (int)height};
    return STATUS_OK;
}

Status sheet_check(const Shots *s, Size cell)
{
    Layout l;
    const Status status = plan(s, cell, &l);
    mem_free(l.title);
    return status;
}

static void paste(Picture *to, int left, int top, const Picture *from)
{
    const size_t row = 3 * (size_t)from->size.width;
    for (int y = 0; y < from->size.height; y++)
        memcpy(to->rgb + 3 * ((size_t)(top + y) * (size_t)to->size.width + (size_t)left),
               from->rgb + row * (size_t)y, row);
}

static void draw_label(Picture *p, const Axis *a, int i, int x, int y, int letters, int lines, int scale)
{
    char *label = label_of(a, i);
    if (label)
        letters_draw_lines(p, x, y, scale, label, letters, lines);
    mem_free(label);
}

static void draw_block(const Shots *s, const Layout *l, int block, const Picture *pictures, Picture *out)
{
    int top = l->gap + l->title_lines * l->line + block * l->block_height;
    const int left = l->gap + l->beside;
    if (l->block_lines) {
        draw_label(out, &s->axes[2], block, left, top, l->letters * l->columns, l->block_lines, l->scale);
        top += l->block_lines * l->line;
    }
    for (int x = 0; x < l->columns && s->axis_count; x++)
        draw_label(out, &s->axes[0], x, left + x * (l->cell.width + l->gap), top, l->letters, l->label_lines,
                   l->scale);
    top += l->label_lines * l->line;
    for (int y = 0; y < l->rows; y++, top += l->cell.height + l->gap) {
        if (l->beside)
            draw_label(out, &s->axes[1], y, l->gap, top, ROW_LABEL_LETTERS, l->cell.height / l->line,
                       l->scale);
        for (int x = 0; x < l->columns; x++) {
            const Picture *p = &pictures[(block * l->rows + y) * l->columns + x];
            if (p->rgb)
                paste(out, left + x * (l->cell.width + l->gap), top, p);
        }
    }
}

Status sheet_compose(const Shots *s, const Picture *pictures, Picture *out)
{
    Size cell = {0};
    for (int i = 0; i < s->count; i++) {
        const Size size = pictures[i].size;
        cell.width = size.width > cell.width ? size.width : cell.width;
        cell.height = size.height > cell.height ? size.height : cell.height;
    }
    Layout l;
    *out = (Picture){0};
    Status status = plan(s, cell, &l);
    if (status == STATUS_OK)
        status = picture_new(l.whole, out);
    if (status == STATUS_OK) {
        memset(out->rgb, 255, 3 * (size_t)size_area(out->size));
        letters_draw_lines(out, l.gap, l.gap, l.scale, l.title,
                           (l.whole.width - 2 * l.gap) / (l.scale * LETTER_WIDTH), l.title_lines);
        for (int b = 0; b < l.blocks; b++)
            draw_block(s, &l, b, pictures, out);
    }
    mem_free(l.title);
    return status;
}
