/* Kitty: a PNG in base64, in pieces of 4096 letters. iTerm2: the same in one piece. Sixel: bands of six rows,
 * each colour of a band one after the other, with the 216 colours of a 6 x 6 x 6 cube. Blocks: the upper half
 * of a cell in one colour, the lower in another. A cell is taken to be twice as high as wide. */
#include "terminal_picture.h"

#include "kernels/base/buffer.h"
#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CELL_HEIGHT 20 /* pixels, where a terminal wants pixels */
#define PIECE 4096
#define LEVELS 6 /* of each colour of a sixel picture */

/* Which way -----------------------------------------------------------------------------------------------
 */

static bool env_is(const char *name, const char *value)
{
    const char *is = getenv(name);
    return is && !strcmp(is, value);
}

static bool env_begins(const char *name, const char *value)
{
    const char *is = getenv(name);
    return is && !strncmp(is, value, strlen(value));
}

TerminalWay terminal_way(int fd)
{
    if (!isatty(fd) || env_is("TERM", "dumb"))
        return TERMINAL_NONE;
    if (getenv("KITTY_WINDOW_ID") || env_is("TERM", "xterm-kitty") || env_is("TERM_PROGRAM", "ghostty") ||
        env_begins("TERM", "xterm-ghostty"))
        return TERMINAL_KITTY;
    if (env_is("TERM_PROGRAM", "iTerm.app") || env_is("LC_TERMINAL", "iTerm2") ||
        env_is("TERM_PROGRAM", "WezTerm"))
        return TERMINAL_ITERM;
    if (env_begins("TERM", "foot") || env_begins("TERM", "mlterm") || env_begins("TERM", "contour"))
        return TERMINAL_SIXEL;
    return TERMINAL_BLOCKS;
}

int terminal_rows(Size picture, int columns, int rows)
{
    const int64_t wide = (int64_t)columns * picture.height, high = 2 * (int64_t)rows * picture.width;
    const int needed = wide < high ? (int)(wide / (2 * picture.width)) : rows;
    return needed > 1 ? needed : 1;
}

/* As wide as its shape says; two halves of a cell are square. */
static Size fitted(Size picture, int rows, int unit_height)
{
    const int height = rows * unit_height;
    const int width = (int)((int64_t)picture.width * height / picture.height);
    return (Size){width > 0 ? width : 1, height};
}

static char *base64(const uint8_t *bytes, size_t size, size_t *count)
{
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    *count = (size + 2) / 3 * 4;
    char *out = mem_alloc(*count + 1), *to = out;
    for (size_t i = 0; out && i < size; i += 3) {
        const size_t have = size - i < 3 ? size - i : 3;
        const uint32_t v = (uint32_t)bytes[i] << 16 | (have > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                           (have > 2 ? bytes[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            *to++ = k > have ? '=' : LETTERS[v >> (18 - 6 * k) & 63];
    }
    return out;
}

/* The ways -------------------------------------------------------------------------------------------------
 */

static Status draw_kitty(Buffer *t, const char *letters, size_t count, int rows)
{
    for (size_t at = 0; at < count; at += PIECE) {
        const size_t n = count - at < PIECE ? count - at : PIECE;
        if (at == 0) /* one picture, which the next takes the place of; C=1: the cursor stays */
            buffer_add(t, "\033_Ga=T,f=100,i=4177,p=1,q=2,C=1,r=%d,m=%d;", rows, at + n < count);
        else
            buffer_add(t, "\033_Gm=%d;", at + n < count);
        buffer_add(t, "%.*s", (int)n, letters + at);
        buffer_add(t, "\033\\");
    }
    buffer_add(t, "\033[%dB\r", rows);
    return STATUS_OK;
}

static Status draw_iterm(Buffer *t, const char *letters, size_t count, int rows)
{
    buffer_add(t, "\033]1337;File=inline=1;height=%d;preserveAspectRatio=1:", rows);
    buffer_add(t, "%.*s", (int)count, letters);
    buffer_add(t, "\a\r\n");
    return STATUS_OK;
}

static Status draw_png(Buffer *t, TerminalWay way, const Picture *p, int rows)
{
    uint8_t *bytes;
    size_t size, count;
    TRY(picture_encode_png(p, NULL, 0, &bytes, &size));
    char *letters = base64(bytes, size, &count);
    mem_free(bytes);
    if (!letters)
        return STATUS_FAILED;
    for (int i = 0; i < rows && way == TERMINAL_KITTY; i++)
        buffer_add(t, "\n"); /* room below, where the terminal has to scroll */
    if (way == TERMINAL_KITTY)
        buffer_add(t, "\033[%dA", rows);
    const Status s =
        way == TERMINAL_KITTY ? draw_kitty(t, letters, count, rows) : draw_iterm(t, letters, count, rows);
    mem_free(letters);
    return s;
}

static int cube(const uint8_t *rgb)
{
    int index = 0;
    for (int k = 0; k < 3; k++)
        index = index * LEVELS + (rgb[k] * (LEVELS - 1) + 127) / 255;
    return index;
}

/* count times the same letter; from four on that is shorter said. */
static void repeat(Buffer *t, char letter, int count)
{
    if (count > 3)
        buffer_add(t, "!%d%c", count, letter);
    for (int i = 0; i < count && count <= 3; i++)
        buffer_add(t, "%c", letter);
}

/* One colour of a band: a letter a column, whose bits are its six pixels. */
static void draw_sixels(Buffer *t, const Picture *p, int top, int colour)
{
    const int width = p->size.width;
    char last = 0;
    int count = 0;
    buffer_add(t, "#%d", colour);
    for (int x = 0; x < width; x++) {
        int bits = 0;
        for (int y = 0; y < 6 && top + y < p->size.height; y++)
            bits |= (cube(p->rgb + 3 * ((size_t)(top + y) * (size_t)width + (size_t)x)) == colour) << y;
        if (63 + bits != last) {
            repeat(t, last, count);
            last = (char)(63 + bits);
            count = 0;
        }
        count++;
    }
    if (last != 63) /* nothing is left out at a line's end */
        repeat(t, last, count);
    buffer_add(t, "$");
}

static void draw_sixel(Buffer *t, const Picture *p)
{
    buffer_add(t, "\033Pq\"1;1;%d;%d", p->size.width, p->size.height);
    for (int i = 0; i < LEVELS * LEVELS * LEVELS; i++)
        buffer_add(t, "#%d;2;%d;%d;%d", i, i / 36 * 20, i / 6 % 6 * 20, i % 6 * 20);
    for (int top = 0; top < p->size.height; top += 6) {
        bool used[LEVELS * LEVELS * LEVELS] = {false};
        const int below = top + 6 < p->size.height ? top + 6 : p->size.height;
        for (int i = top * p->size.width; i < below * p->size.width; i++)
            used[cube(p->rgb + 3 * (size_t)i)] = true;
        for (int colour = 0; colour < LEVELS * LEVELS * LEVELS; colour++)
            if (used[colour])
                draw_sixels(t, p, top, colour);
        buffer_add(t, "-");
    }
    buffer_add(t, "\033\\\r");
}

static void draw_blocks(Buffer *t, const Picture *p)
{
    for (int y = 0; y + 1 < p->size.height; y += 2) {
        for (int x = 0; x < p->size.width; x++) {
            const uint8_t *up = p->rgb + 3 * ((size_t)y * (size_t)p->size.width + (size_t)x);
            const uint8_t *low = up + 3 * (size_t)p->size.width;
            buffer_add(t, "\033[38;2;%d;%d;%d;48;2;%d;%d;%dm\u2580", up[0], up[1], up[2], low[0], low[1],
                       low[2]);
        }
        buffer_add(t, "\033[0m\033[K\n");
    }
}

static Status draw_scaled(Buffer *t, TerminalWay way, const Picture *p, int rows)
{
    Picture scaled;
    TRY(picture_resize(p, fitted(p->size, rows, way == TERMINAL_SIXEL ? CELL_HEIGHT : 2), &scaled));
    if (way == TERMINAL_SIXEL)
        draw_sixel(t, &scaled);
    else
        draw_blocks(t, &scaled);
    picture_free(&scaled);
    return STATUS_OK;
}

Status terminal_draw(FILE *to, TerminalWay way, const Picture *picture, int rows)
{
    Buffer t = {0};
    char *text = NULL;
    if (way == TERMINAL_NONE)
        return STATUS_OK;
    Status s = way == TERMINAL_KITTY || way == TERMINAL_ITERM ? draw_png(&t, way, picture, rows)
                                                              : draw_scaled(&t, way, picture, rows);
    const Status whole = buffer_take(&t, &text);
    if (s == STATUS_OK)
        s = whole;
    if (s == STATUS_OK) {
        fputs(text, to);
        fflush(to);
    }
    mem_free(text);
    return s;
}
