/* Contact sheets (sheet.h). A page has COLUMNS x ROWS cells, a cell a picture that fits into a square, in a
 * frame what is trained on, and the rest of it darker; below stand its name and two lines of its caption. */
#include "sheet.h"

#include "data/pictures/letters.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <string.h>

#define COLUMNS 8
#define ROWS 10
#define SIDE 192
#define GAP 10
#define LINE (LETTER_HEIGHT + 3)
#define LINES 3
#define CELL_HEIGHT (SIDE + LINES * LINE)
#define LETTERS_A_LINE (SIDE / LETTER_WIDTH)
#define MARK "atelier sheet" /* a text in its pages, by which they are known again */
#define PNG_LIMIT ((size_t)256 << 20)

struct Sheet {
    char *path;
    Size wanted;
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

Status sheet_open(const char *path, Size wanted, Sheet **out)
{
    *out = NULL;
    TRY(check_path(path));
    Sheet *s = *out = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->wanted = wanted.width > 0 ? wanted : size_square(1);
    s->path = mem_strdup(path);
    return s->path ? STATUS_OK : STATUS_FAILED;
}

static Status new_page(Sheet *s)
{
    TRY(picture_new((Size){COLUMNS * (SIDE + GAP) + GAP, ROWS * (CELL_HEIGHT + GAP) + GAP}, &s->page));
    memset(s->page.rgb, 255, 3 * (size_t)size_area(s->page.size));
    return STATUS_OK;
}

/* As high as it is full. */
static Status write_page(Sheet *s)
{
    const int rows = (s->count + COLUMNS - 1) / COLUMNS;
    const Picture full = {{s->page.size.width, rows * (CELL_HEIGHT + GAP) + GAP}, s->page.rgb};
    char *path = page_path(s, s->pages);
    Status status = path ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK && s->pages)
        status = check_path(path);
    if (status == STATUS_OK)
        status = picture_write_png(path, &full, &(PictureText){MARK, "pictures as a run sees them"}, 1);
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

/* The middle of a picture that is scaled to cover the wanted size. */
static Box cut_of(Size p, Size wanted)
{
    const int64_t across = (int64_t)p.width * wanted.height, down = (int64_t)p.height * wanted.width;
    const int width = across > down ? (int)(down / wanted.height) : p.width;
    const int height = across > down ? p.height : (int)(across / wanted.width);
    const int left = (p.width - width) / 2, top = (p.height - height) / 2;
    return (Box){left, top, left + width, top + height};
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

static void put_picture(Sheet *s, int left, int top, const Picture *p)
{
    const Box cut = cut_of(p->size, s->wanted);
    left += (SIDE - p->size.width) / 2;
    top += (SIDE - p->size.height) / 2;
    for (int y = 0; y < p->size.height; y++)
        for (int x = 0; x < p->size.width; x++)
            put_pixel(s->page.rgb + 3 * ((size_t)(top + y) * (size_t)s->page.size.width + (size_t)(left + x)),
                      p->rgb + 3 * ((size_t)y * (size_t)p->size.width + (size_t)x), &cut, x, y);
}

Status sheet_add(Sheet *s, const char *name, const char *caption, const Picture *picture)
{
    if (!s->page.rgb)
        TRY(new_page(s));
    const int left = GAP + s->count % COLUMNS * (SIDE + GAP),
              top = GAP + s->count / COLUMNS * (CELL_HEIGHT + GAP);
    const int below = top + SIDE + 3;
    caption = caption ? caption : "(no caption)";
    if (picture)
        put_picture(s, left, top, picture);
    else
        letters_draw(&s->page, left, top + SIDE / 2, 1, "cannot be read", LETTERS_A_LINE);
    letters_draw(&s->page, left, below, 1, name, LETTERS_A_LINE);
    letters_draw(&s->page, left, below + LINE, 1, caption, LETTERS_A_LINE);
    letters_draw(&s->page, left, below + 2 * LINE, 1, caption + letters_bytes(caption, LETTERS_A_LINE),
                 LETTERS_A_LINE);
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
