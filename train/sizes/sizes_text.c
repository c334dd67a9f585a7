#include "sizes_text.h"

#include "kernels/base/text.h"

#include <stdio.h>

#define SHOWN 12
#define LITTLE 0.0005 /* of a picture: rounding, not a cut */

/* Whether the size is among the SHOWN that come most often. */
static bool is_shown(const RunSizes *s, int k)
{
    int before = 0;
    for (int i = 0; i < s->count; i++)
        before += s->items[i].samples > s->items[k].samples ||
                  (s->items[i].samples == s->items[k].samples && i < k);
    return before < SHOWN;
}

static void print_one(const RunSize *z, void (*line)(const char *text, void *arg), void *arg)
{
    char text[256], cut[64] = "", held[64] = "";
    const double lost = z->entries ? z->lost / z->entries : 0;
    if (lost > LITTLE)
        snprintf(cut, sizeof cut, ", %.1f %% of %s cut away", 100 * lost, z->entries == 1 ? "it" : "each");
    if (z->held)
        snprintf(held, sizeof held, ", and %d held out", z->held);
    snprintf(text, sizeof text, "%d×%d: %d picture%s%s%s", z->size.width, z->size.height, z->entries,
             text_plural(z->entries), cut, held);
    line(text, arg);
}

void sizes_print(const RunSizes *s, void (*line)(const char *text, void *arg), void *arg)
{
    int more = 0, pictures = 0;
    char text[128];
    for (int i = 0; i < s->count && s->count > 1; i++) {
        if (is_shown(s, i)) {
            print_one(&s->items[i], line, arg);
            continue;
        }
        more++;
        pictures += s->items[i].entries;
    }
    if (!more)
        return;
    snprintf(text, sizeof text, "and %d more sizes with %d picture%s", more, pictures, text_plural(pictures));
    line(text, arg);
}
