/* Letters as rows of five bits, from the space on, drawn for captions under small pictures (letters.h). */
#include "letters.h"

#include <string.h>

#include <utf8proc.h>

#define FIRST 32
#define LETTERS 95

static const uint8_t ROWS[LETTERS][LETTER_HEIGHT] = {
    {0, 0, 0, 0, 0, 0, 0},        {4, 4, 4, 4, 4, 0, 4},        {10, 10, 0, 0, 0, 0, 0},
    {10, 10, 31, 10, 31, 10, 10}, {4, 15, 20, 14, 5, 30, 4},    {24, 25, 2, 4, 8, 19, 3},
    {12, 18, 20, 8, 21, 18, 13},  {4, 4, 0, 0, 0, 0, 0},        {2, 4, 8, 8, 8, 4, 2},
    {8, 4, 2, 2, 2, 4, 8},        {0, 4, 21, 14, 21, 4, 0},     {0, 4, 4, 31, 4, 4, 0},
    {0, 0, 0, 0, 12, 4, 8},       {0, 0, 0, 31, 0, 0, 0},       {0, 0, 0, 0, 0, 12, 12},
    {1, 1, 2, 4, 8, 16, 16},      {14, 17, 19, 21, 25, 17, 14}, {4, 12, 4, 4, 4, 4, 14},
    {14, 17, 1, 2, 4, 8, 31},     {31, 2, 4, 2, 1, 17, 14},     {2, 6, 10, 18, 31, 2, 2},
    {31, 16, 30, 1, 1, 17, 14},   {6, 8, 16, 30, 17, 17, 14},   {31, 1, 2, 4, 8, 8, 8},
    {14, 17, 17, 14, 17, 17, 14}, {14, 17, 17, 15, 1, 2, 12},   {0, 12, 12, 0, 12, 12, 0},
    {0, 12, 12, 0, 12, 4, 8},     {2, 4, 8, 16, 8, 4, 2},       {0, 0, 31, 0, 31, 0, 0},
    {8, 4, 2, 1, 2, 4, 8},        {14, 17, 1, 2, 4, 0, 4},      {14, 17, 23, 21, 23, 16, 14},
    {14, 17, 17, 31, 17, 17, 17}, {30, 17, 17, 30, 17, 17, 30}, {14, 17, 16, 16, 16, 17, 14},
    {28, 18, 17, 17, 17, 18, 28}, {31, 16, 16, 30, 16, 16, 31}, {31, 16, 16, 30, 16, 16, 16},
    {14, 17, 16, 23, 17, 17, 15}, {17, 17, 17, 31, 17, 17, 17}, {14, 4, 4, 4, 4, 4, 14},
    {7, 2, 2, 2, 2, 18, 12},      {17, 18, 20, 24, 20, 18, 17}, {16, 16, 16, 16, 16, 16, 31},
    {17, 27, 21, 21, 17, 17, 17}, {17, 17, 25, 21, 19, 17, 17}, {14, 17, 17, 17, 17, 17, 14},
    {30, 17, 17, 30, 16, 16, 16}, {14, 17, 17, 17, 21, 18, 13}, {30, 17, 17, 30, 20, 18, 17},
    {15, 16, 16, 14, 1, 1, 30},   {31, 4, 4, 4, 4, 4, 4},       {17, 17, 17, 17, 17, 17, 14},
    {17, 17, 17, 17, 17, 10, 4},  {17, 17, 17, 21, 21, 27, 17}, {17, 17, 10, 4, 10, 17, 17},
    {17, 17, 10, 4, 4, 4, 4},     {31, 1, 2, 4, 8, 16, 31},     {14, 8, 8, 8, 8, 8, 14},
    {16, 16, 8, 4, 2, 1, 1},      {14, 2, 2, 2, 2, 2, 14},      {4, 10, 17, 0, 0, 0, 0},
    {0, 0, 0, 0, 0, 0, 31},       {8, 4, 0, 0, 0, 0, 0},        {0, 0, 14, 1, 15, 17, 15},
    {16, 16, 30, 17, 17, 17, 30}, {0, 0, 14, 17, 16, 17, 14},   {1, 1, 15, 17, 17, 17, 15},
    {0, 0, 14, 17, 31, 16, 14},   {6, 8, 28, 8, 8, 8, 8},       {0, 0, 15, 17, 15, 1, 14},
    {16, 16, 30, 17, 17, 17, 17}, {4, 0, 12, 4, 4, 4, 14},      {2, 0, 6, 2, 2, 18, 12},
    {16, 16, 18, 20, 24, 20, 18}, {12, 4, 4, 4, 4, 4, 14},      {0, 0, 26, 21, 21, 21, 21},
    {0, 0, 30, 17, 17, 17, 17},   {0, 0, 14, 17, 17, 17, 14},   {0, 0, 30, 17, 30, 16, 16},
    {0, 0, 15, 17, 15, 1, 1},     {0, 0, 22, 25, 16, 16, 16},   {0, 0, 15, 16, 14, 1, 30},
    {8, 8, 28, 8, 8, 9, 6},       {0, 0, 17, 17, 17, 19, 13},   {0, 0, 17, 17, 17, 10, 4},
    {0, 0, 17, 17, 21, 21, 10},   {0, 0, 17, 10, 4, 10, 17},    {0, 0, 17, 17, 15, 1, 14},
    {0, 0, 31, 2, 4, 8, 31},      {2, 4, 4, 8, 4, 4, 2},        {4, 4, 4, 4, 4, 4, 4},
    {8, 4, 4, 2, 4, 4, 8},        {0, 0, 8, 21, 2, 0, 0}};
static const uint8_t BOX[LETTER_HEIGHT] = {31, 17, 17, 17, 17, 17, 31};

/* Bytes of the character at text. */
static int length_of(const char *text)
{
    int n = 1;
    while (((unsigned char)text[0] & 0x80) && ((unsigned char)text[n] & 0xC0) == 0x80)
        n++;
    return n;
}

int letters_bytes(const char *text, int n)
{
    int bytes = 0;
    for (int i = 0; i < n && text[bytes]; i++)
        bytes += length_of(text + bytes);
    return bytes;
}

static void draw_dot(Picture *p, int left, int top, int scale)
{
    for (int y = top; y < top + scale; y++)
        for (int x = left; x < left + scale; x++)
            if (x >= 0 && y >= 0 && x < p->size.width && y < p->size.height)
                memset(p->rgb + 3 * ((size_t)y * (size_t)p->size.width + (size_t)x), 0, 3);
}

static void draw_one(Picture *p, int x, int y, int scale, const uint8_t rows[LETTER_HEIGHT])
{
    for (int row = 0; row < LETTER_HEIGHT; row++)
        for (int column = 0; column < LETTER_WIDTH - 1; column++)
            if (rows[row] >> (LETTER_WIDTH - 2 - column) & 1)
                draw_dot(p, x + scale * column, y + scale * row, scale);
}

/* The character at text, its accents left off: "ü" is a u. */
static utf8proc_int32_t plain(const char *text)
{
    utf8proc_int32_t c, parts[8];
    int last = 0;
    if (utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &c) <= 0)
        return -1;
    return utf8proc_decompose_char(c, parts, 8, UTF8PROC_DECOMPOSE, &last) > 0 ? parts[0] : c;
}

void letters_draw(Picture *p, int x, int y, int scale, const char *text, int n)
{
    for (int i = 0; i < n && *text; i++, x += scale * LETTER_WIDTH) {
        const utf8proc_int32_t c = plain(text);
        draw_one(p, x, y, scale, c >= FIRST && c < FIRST + LETTERS ? ROWS[c - FIRST] : BOX);
        text += length_of(text);
    }
}
