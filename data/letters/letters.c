/* Text to signs, and signs to dots (letters.h). */
#include "letters.h"

#include "kernels/base/mem.h"
#include "glyphs.h"

#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

enum { MOST_LETTERS = 12, MOST_MARKS = 4 };

/* A character of the text as it is drawn: a letter with its marks, or several letters that stand for it. */
typedef struct Sign {
    const char *letters[MOST_LETTERS]; /* glyphs */
    const Accent *marks[MOST_MARKS];   /* of the last of them */
    int columns;                       /* 0: it cannot be seen */
    int mark_count;
    int bytes;
} Sign;

/* Reading ------------------------------------------------------------------------------------------------ */

/* The code at text and how many bytes it takes; -1: no UTF-8. */
static utf8proc_int32_t code_at(const char *text, int *bytes)
{
    utf8proc_int32_t code;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &code);
    *bytes = n > 0 ? (int)n : 1;
    return n > 0 ? code : -1;
}

/* Accents, joiners and the like: they belong to the letter before them. */
static bool is_mark(utf8proc_int32_t code)
{
    const utf8proc_category_t kind = code < 0x80 ? UTF8PROC_CATEGORY_CN : utf8proc_category(code);
    return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF;
}

static void add_letter(Sign *s, const char *glyph)
{
    if (s->columns < MOST_LETTERS)
        s->letters[s->columns++] = glyph;
}

static void add_mark(Sign *s, utf8proc_int32_t code)
{
    const Accent *mark = accent_of((uint32_t)code);
    if (mark && s->mark_count < MOST_MARKS)
        s->marks[s->mark_count++] = mark;
}

/* ü, и with its breve: letter and marks. */
static bool take_apart(Sign *s, utf8proc_int32_t code)
{
    utf8proc_int32_t parts[8];
    int last = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(code, parts, 8, UTF8PROC_DECOMPOSE, &last);
    const char *glyph = n > 1 && n <= 8 ? glyph_of((uint32_t)parts[0]) : NULL;
    if (!glyph)
        return false;
    add_letter(s, glyph);
    for (int i = 1; i < n; i++)
        add_mark(s, parts[i]);
    return true;
}

/* ﬁ, ＡＢ, ①, ™: as plain letters. */
static bool spell_out(Sign *s, utf8proc_int32_t code)
{
    utf8proc_int32_t parts[MOST_LETTERS];
    int last = 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(code, parts, MOST_LETTERS, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &last);
    if (n < 1 || n > MOST_LETTERS)
        return false;
    for (int i = 0; i < n; i++)
        if (!glyph_of((uint32_t)parts[i]) && !is_mark(parts[i]))
            return false;
    for (int i = 0; i < n; i++)
        if (is_mark(parts[i]))
            add_mark(s, parts[i]);
        else
            add_letter(s, glyph_of((uint32_t)parts[i]));
    return true;
}

/* "U+1F431". */
static void name_code(Sign *s, utf8proc_int32_t code)
{
    char name[MOST_LETTERS];
    snprintf(name, sizeof name, "U+%04X", (unsigned)code);
    for (const char *c = name; *c; c++)
        add_letter(s, glyph_of((uint32_t)*c));
}

/* Whether it is by its code's name. */
static bool take_letter(Sign *s, utf8proc_int32_t code)
{
    if (code < 0)
        add_letter(s, glyph_box());
    else if (glyph_of((uint32_t)code))
        add_letter(s, glyph_of((uint32_t)code));
    else if (code < ' ')
        add_letter(s, glyph_of(' '));
    else if (!is_mark(code) && !take_apart(s, code) && !spell_out(s, code)) {
        name_code(s, code);
        return true;
    }
    return false;
}

static Sign sign_at(const char *text)
{
    Sign s = {0};
    int bytes;
    const bool named = take_letter(&s, code_at(text, &s.bytes));
    for (utf8proc_int32_t next; text[s.bytes] && is_mark(next = code_at(text + s.bytes, &bytes));
         s.bytes += bytes)
        add_mark(&s, next);
    if (named && text[s.bytes] & 0x80)
        add_letter(&s, glyph_of(' ')); /* before what is likely to be a code as well */
    return s;
}

int letters_columns(const char *text)
{
    int columns = 0;
    while (*text) {
        const Sign s = sign_at(text);
        columns += s.columns;
        text += s.bytes;
    }
    return columns;
}

int letters_bytes(const char *text, int columns)
{
    int bytes = 0;
    while (text[bytes]) {
        const Sign s = sign_at(text + bytes);
        columns -= s.columns;
        if (columns < 0 && bytes > 0)
            break;
        bytes += s.bytes;
    }
    return bytes;
}

/* Drawing ------------------------------------------------------------------------------------------------ */

static void draw_dot(Picture *p, int left, int top, int scale)
{
    for (int y = top; y < top + scale; y++)
        for (int x = left; x < left + scale; x++)
            if (x >= 0 && y >= 0 && x < p->size.width && y < p->size.height)
                memset(p->rgb + 3 * ((size_t)y * (size_t)p->size.width + (size_t)x), 0, 3);
}

/* Rows of dots, "..#.. .#.#.". */
static void draw_rows(Picture *p, int left, int top, int scale, const char *rows)
{
    for (int x = left; *rows; rows++, x += scale) {
        if (*rows == '#')
            draw_dot(p, x, top, scale);
        if (*rows == ' ') {
            x = left - scale;
            top += scale;
        }
    }
}

/* The letter without its own dot, which its accent takes the place of; others as they are. */
static const char *without_dot(const char *glyph)
{
    return glyph == glyph_of('i') ? glyph_of(U'ı') : glyph == glyph_of('j') ? glyph_of(U'ȷ') : glyph;
}

/* Of d, t, l and L, which have no room above them, a caron is an apostrophe; of g a cedilla is a comma above.
 */
static const Accent *as_it_is_written(const Accent *mark, const char *letter)
{
    const bool tall = letter == glyph_of('d') || letter == glyph_of('t') || letter == glyph_of('l') ||
                      letter == glyph_of('L');
    static const Accent APOSTROPHE = {0x313, 0, ".....# .....#"};
    if (mark->code == 0x30C && tall)
        return &APOSTROPHE;
    return mark->code == 0x327 && letter == glyph_of('g') ? accent_of(0x313) : mark;
}

static void draw_mark(Picture *p, int x, int y, int scale, const Accent *of, const char *letter)
{
    const Accent *mark = as_it_is_written(of, letter);
    const int raised = mark->top < 0 && glyph_is_tall(letter) ? 2 : 0;
    draw_rows(p, x, y + scale * (mark->top - raised), scale, mark->rows);
}

static void draw_sign(Picture *p, int x, int y, int scale, const Sign *s, int columns)
{
    for (int i = 0; i < s->columns && i < columns; i++) {
        const bool marked = s->mark_count && i == s->columns - 1;
        const char *letter = marked && s->marks[0]->top < 0 ? without_dot(s->letters[i]) : s->letters[i];
        draw_rows(p, x + i * scale * LETTER_WIDTH, y, scale, letter);
        for (int k = 0; marked && k < s->mark_count; k++)
            draw_mark(p, x + i * scale * LETTER_WIDTH, y, scale, s->marks[k], letter);
    }
}

void letters_draw(Picture *p, int x, int y, int scale, const char *text, int columns)
{
    while (*text && columns > 0) {
        const Sign s = sign_at(text);
        draw_sign(p, x, y, scale, &s, columns);
        x += scale * LETTER_WIDTH * s.columns;
        columns -= s.columns;
        text += s.bytes;
    }
}

/* Lines -------------------------------------------------------------------------------------------------- */

/* How many bytes of text go into a line: up to a blank where there is one. */
static int line_bytes(const char *text, int columns)
{
    const int most = letters_bytes(text, columns);
    int at = most;
    if (!text[most])
        return most;
    while (at > 0 && text[at] != ' ')
        at--;
    return at > 0 ? at : most;
}

static const char *next_line(const char *text, int bytes)
{
    return text + bytes + strspn(text + bytes, " ");
}

int letters_lines(const char *text, int columns, int most)
{
    int lines = 0;
    for (; *text && lines < most; lines++)
        text = next_line(text, line_bytes(text, columns));
    return lines;
}

void letters_draw_lines(Picture *p, int x, int y, int scale, const char *text, int columns, int most)
{
    for (int i = 0; *text && i < most; i++) {
        int bytes = line_bytes(text, columns);
        const bool cut = i == most - 1 && *next_line(text, bytes);
        if (cut)
            bytes = letters_bytes(text, columns - 1);
        char *line = mem_printf("%.*s%s", bytes, text, cut ? "…" : "");
        if (line)
            letters_draw(p, x, y + i * scale * LETTER_LINE, scale, line, columns);
        mem_free(line);
        text = next_line(text, bytes);
    }
}
