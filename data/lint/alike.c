/* Looks of pictures (alike.h). Two looks that differ in at most three bits are the same in one of their four
 * 16-bit quarters at least; so for each quarter the looks are sorted by it, and only those with the same
 * quarter compared. */
#include "alike.h"

#include <stdlib.h>

#define QUARTERS 4
#define MOST_BITS 3
#define LEAST_CONTRAST 16 /* between the lightest and the darkest pixel, of 255 */
#define MOST_ALIKE 200    /* compared with the same quarter: what is more is a set of near-equal pictures */

static int grey_of(const uint8_t *rgb)
{
    return (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2]) / 1000;
}

uint64_t alike_look(const Picture *small)
{
    uint64_t look = 0;
    int darkest = 255, lightest = 0;
    for (int y = 0; y < ALIKE_SIZE.height; y++)
        for (int x = 0; x < ALIKE_SIZE.width; x++) {
            const uint8_t *p = small->rgb + 3 * (ALIKE_SIZE.width * y + x);
            const int grey = grey_of(p);
            darkest = grey < darkest ? grey : darkest;
            lightest = grey > lightest ? grey : lightest;
            if (x + 1 < ALIKE_SIZE.width)
                look = look << 1 | (grey < grey_of(p + 3));
        }
    return lightest - darkest >= LEAST_CONTRAST ? look : 0;
}

static uint64_t turned(uint64_t look, int quarter)
{
    return quarter ? look << 16 * quarter | look >> (64 - 16 * quarter) : look;
}

#define BY_QUARTER(q)                                                                                        \
    static int by_quarter_##q(const void *a, const void *b)                                                  \
    {                                                                                                        \
        const AlikePicture *x = a, *y = b;                                                                   \
        const uint64_t p = turned(x->look, q), r = turned(y->look, q);                                       \
        return p < r ? -1 : p > r ? 1 : x->number - y->number;                                               \
    }
BY_QUARTER(0)
BY_QUARTER(1)
BY_QUARTER(2)
BY_QUARTER(3)

static bool same_quarter(uint64_t a, uint64_t b, int quarter)
{
    return turned(a, quarter) >> 48 == turned(b, quarter) >> 48;
}

/* A pair that is the same in an earlier quarter has been told. */
static bool is_new(uint64_t a, uint64_t b, int quarter)
{
    for (int q = 0; q < quarter; q++)
        if (same_quarter(a, b, q))
            return false;
    return true;
}

static void tell(int a, int b, void (*each)(int a, int b, void *arg), void *arg)
{
    each(a < b ? a : b, a < b ? b : a, arg);
}

void alike_pairs(AlikePicture *items, int count, void (*each)(int a, int b, void *arg), void *arg)
{
    static int (*const ORDERS[QUARTERS])(const void *, const void *) = {by_quarter_0, by_quarter_1,
                                                                        by_quarter_2, by_quarter_3};
    for (int q = 0; q < QUARTERS && count; q++) {
        qsort(items, (size_t)count, sizeof *items, ORDERS[q]);
        for (int i = 0; i < count; i++)
            for (int k = i + 1;
                 k < count && k <= i + MOST_ALIKE && same_quarter(items[i].look, items[k].look, q); k++)
                if (items[i].look && items[k].look && is_new(items[i].look, items[k].look, q) &&
                    __builtin_popcountll(items[i].look ^ items[k].look) <= MOST_BITS)
                    tell(items[i].number, items[k].number, each, arg);
    }
}
