/* Contact sheets (sheet.h). A page has COLUMNS x ROWS cells, a cell a picture that fits into a square, in a
 * frame what is trained on, and the rest of it darker; below stand its name and two lines of its caption. */
#include "sheet.h"

#include "data/letters/letters.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS 8
#define ROWS 10
#define SIDE 192
#define GAP 10
#define LINE LETTER_LINE
#define LINES 3
#define CELL_HEIGHT (SIDE + LINES * LINE)
#define LETTERS_A_LINE (SIDE / LETTER_WIDTH)
#define MARK "atelier sheet" /* a text in its pages, by which they are known again */
#define PNG_LIMIT ((size_t)256 << 20)

struct Sheet {
    char *path;
    const Framer *framer;
    Picture page;
    int count, pages; /* pictures on the page; pages that are written */
};

/* Pages ------------------------------------------------------------------------------------------------- */

/* Of page i, from 0. Caller: mem_free. */
static char *page_path(const Sheet *s, int i)
{
    return i ? mem_printf("%.*s-%d.png", (int)strlen(s->path) - 4, s->path, i + 1) : mem_strdup(s->path);
}

/* A page of before may be replaced, nothing else. */
static Status check_path(const char *path)
{
    char *bytes, *text = NULL;
    size_t size;
    TRY(file_try(path));
    if (!file_exists(path) || file_size(path) == 0)
        return STATUS_OK;
    TRY(file_read(path, PNG_LIMIT, &bytes, &size));
    const Status s = picture_text((const uint8_t *)bytes, size, MARK, &text);
    mem_free(bytes);
    if (s == STATUS_OK && text) {
        mem_free(text);
        return STATUS_OK;
    }
    return status_refuse(
        "%s: is there, and is no sheet that was made here; it is left alone: choose another name", path);
}

Status sheet_open(const char *path, const Framer *framer, Sheet **out)
{
    *out = NULL;
    TRY(check_path(path));
    Sheet *s = *out = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->framer = framer;
    s->path = mem_strdup(path);
    return s->path ? STATUS_OK : STATUS_FAILED;
}

static Status new_page(Sheet *s)
{
    TRY(picture_new((Size){COLUMNS * (SIDE + GAP) + GAP, ROWS * (CELL_HEIGHT + GAP) + GAP}, &s->page));
    memset(s->page.rgb, 255, 3 * (size_t)size_area(s->page.size));
    return STATUS_OK;
}

/* As high and as wide as it is full. */
static Status write_page(Sheet *s)
{
    const int rows = (s->count + COLUMNS - 1) / COLUMNS, columns = s->count < COLUMNS ? s->count : COLUMNS;
    const Size size = {columns * (SIDE + GAP) + GAP, rows * (CELL_HEIGHT + GAP) + GAP};
    Picture full;
    char *path = page_path(s, s->pages);
    Status status = path ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK && s->pages)
        status = check_path(path);
    if (status == STATUS_OK)
        status = picture_crop(&s->page, 0, 0, size, &full);
    if (status == STATUS_OK) {
        status = picture_write_png(path, &full, &(PictureText){MARK, "pictures as a run sees them"}, 1);
        picture_free(&full);
    }
    mem_free(path);
    picture_free(&s->page);
    s->count = 0;
    s->pages++;
    return status;
}

/* Cells ------------------------------------------------------------------------------------------------- */

Size sheet_size(Size picture)
{
    const int longer = picture.width > picture.height ? picture.width : picture.height;
    const Size fit = {(int)((int64_t)picture.width * SIDE / longer),
                      (int)((int64_t)picture.height * SIDE / longer)};
    return (Size){fit.width > 0 ? fit.width : 1, fit.height > 0 ? fit.height : 1};
}

typedef struct Box {
    int left, top, right, bottom; /* right and bottom are outside */
} Box;

/* What is left of a picture that is drawn in size p. */
static Box cut_of(Size p, const BucketFit *f)
{
    return (Box){(int)((int64_t)f->x * p.width / f->scaled.width),
                 (int)((int64_t)f->y * p.height / f->scaled.height),
                 (int)((int64_t)(f->x + f->bucket.width) * p.width / f->scaled.width),
                 (int)((int64_t)(f->y + f->bucket.height) * p.height / f->scaled.height)};
}

static bool is_in(const Box *b, int x, int y)
{
    return x >= b->left && x < b->right && y >= b->top && y < b->bottom;
}

/* A pixel of the picture: red where the frame is, darker outside of it. */
static void put_pixel(uint8_t *to, const uint8_t *from, const Box *cut, int x, int y)
{
    const Box inner = {cut->left + 2, cut->top + 2, cut->right - 2, cut->bottom - 2};
    static const uint8_t RED[] = {230, 30, 30};
    for (int k = 0; k < 3; k++)
        to[k] = !is_in(cut, x, y) ? from[k] / 2 : is_in(&inner, x, y) ? from[k] : RED[k];
}

static void put_picture(Sheet *s, int left, int top, const Picture *p, const BucketFit *fit)
{
    const Box cut = cut_of(p->size, fit);
    left += (SIDE - p->size.width) / 2;
    top += (SIDE - p->size.height) / 2;
    for (int y = 0; y < p->size.height; y++)
        for (int x = 0; x < p->size.width; x++)
            put_pixel(s->page.rgb + 3 * ((size_t)(top + y) * (size_t)s->page.size.width + (size_t)(left + x)),
                      p->rgb + 3 * ((size_t)y * (size_t)p->size.width + (size_t)x), &cut, x, y);
}

/* "cat.jpg 448x576", of which the name gives way where both do not go into a line. */
static void name_with_size(const char *name, Size bucket, char *out, size_t size)
{
    char numbers[32];
    const size_t n = (size_t)snprintf(numbers, sizeof numbers, " %dx%d", bucket.width, bucket.height);
    snprintf(out, size, "%.*s%s", (int)letters_bytes(name, LETTERS_A_LINE - (int)n), name, numbers);
}

/* As much as is shown, of several captions too, in one line. */
static void flatten(const char *caption, char *out, size_t size)
{
    snprintf(out, size, "%s", caption);
    for (char *at = out; (at = strchr(at, '\n')) != NULL;)
        *at = ' ';
}

Status sheet_add(Sheet *s, const char *name, const char *caption, const Picture *picture, Size whole)
{
    BucketFit fit;
    char below_name[256], text[4 * LINES * LETTERS_A_LINE + 1];
    if (!s->page.rgb)
        TRY(new_page(s));
    const int left = GAP + s->count % COLUMNS * (SIDE + GAP),
              top = GAP + s->count / COLUMNS * (CELL_HEIGHT + GAP);
    const int below = top + SIDE + 3;
    flatten(caption ? caption : "(no caption)", text, sizeof text);
    snprintf(below_name, sizeof below_name, "%s", name);
    if (picture && framer_fit(s->framer, whole, &fit) == STATUS_OK) {
        put_picture(s, left, top, picture, &fit);
        name_with_size(name, fit.bucket, below_name, sizeof below_name);
    } else
        letters_draw(&s->page, left, top + SIDE / 2, 1, "cannot be read", LETTERS_A_LINE);
    letters_draw(&s->page, left, below, 1, below_name, LETTERS_A_LINE);
    letters_draw_lines(&s->page, left, below + LINE, 1, text, LETTERS_A_LINE, LINES - 1);
    return ++s->count == COLUMNS * ROWS ? write_page(s) : STATUS_OK;
}

Status sheet_close(Sheet *s, int *pages)
{
    *pages = 0;
    if (!s)
        return STATUS_OK;
    const Status status = s->count ? write_page(s) : STATUS_OK;
    *pages = s->pages;
    picture_free(&s->page);
    mem_free(s->path);
    mem_free(s);
    return status;
}
