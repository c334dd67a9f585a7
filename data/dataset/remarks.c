/* What was decided about pictures (remarks.h). Of each kind the first names are kept, and the number of all.
 */
#include "remarks.h"

#include <stdio.h>

#define NAMES_KEPT 5
#define LARGEST_SCALE 2.0
#define LEAST_SHARE 0.5
#define TRIMMED_SHARE 0.65 /* a third, and what photographs of 2:3 lose by being rounded to pixels */

static const struct {
    const char *word, *what;
} KINDS[REMARK_LISTS] = {
    [REMARK_ANIMATED] = {"animated", "animated PNG, of which the first picture is taken"},
    [REMARK_TURNED] = {"turned",
                       "turned as a text in the file (or its XMP) says, as it has no EXIF that does"},
    [REMARK_BAD_CHUNK] = {"bad_chunk",
                          "a part that holds no pixels has a wrong check sum and is passed over"},
    [REMARK_BARE_CMYK] = {"bare_cmyk", "CMYK without Adobe's mark, read as browsers read it: 255 is no ink"},
    [REMARK_PROFILE] = {"profile", "its colour profile is not sRGB's, and its colours are turned into sRGB"},
    [REMARK_CUT] = {"cut", "less than half of the picture is used, the rest is cut away"},
    [REMARK_ENLARGED] = {"enlarged", "enlarged more than twice"},
    [REMARK_TRIMMED] = {"trimmed", "more than a third of the picture is cut away"},
};

const char *remark_word(RemarkKind k)
{
    return KINDS[k].word;
}

static Status note(Remarks *r, RemarkKind k, const char *name, const char *how)
{
    return r->counts[k]++ < NAMES_KEPT ? scan_list_add(&r->names[k], "%s%s", name, how) : STATUS_OK;
}

/* How much of a picture is seen when it is scaled to cover a size and cut to it. */
static double share_used(Size p, Size wanted)
{
    const double across = (double)p.width * wanted.height, down = (double)p.height * wanted.width;
    return across < down ? across / down : down / across;
}

Status remarks_add(Remarks *r, const char *name, unsigned odd, Size picture, Size wanted)
{
    char how[48];
    for (int k = REMARK_ANIMATED; k <= REMARK_PROFILE; k++)
        if (odd & 1u << k)
            TRY(note(r, (RemarkKind)k, name, ""));
    const bool any_size = wanted.width < 1 || wanted.height < 1;
    const double share = share_used(picture, any_size ? size_square(1) : wanted);
    snprintf(how, sizeof how, " (%.2g %%)", 100 * share);
    if (share < TRIMMED_SHARE)
        TRY(note(r, share < LEAST_SHARE ? REMARK_CUT : REMARK_TRIMMED, name, how));
    if (any_size)
        return STATUS_OK;
    const double across = (double)wanted.width / picture.width, down = (double)wanted.height / picture.height;
    const double scale = across > down ? across : down;
    snprintf(how, sizeof how, " (%.1f times)", scale);
    return scale > LARGEST_SCALE ? note(r, REMARK_ENLARGED, name, how) : STATUS_OK;
}

void remarks_free(Remarks *r)
{
    for (int k = 0; k < REMARK_LISTS; k++)
        scan_list_free(&r->names[k]);
    *r = (Remarks){0};
}

const char *remark_text(const Remarks *r, RemarkKind k, char *text, size_t size)
{
    const int count = r->counts[k], more = count - r->names[k].count;
    char names[1024], rest[32] = "";
    if (count == 0)
        return NULL;
    if (more)
        snprintf(rest, sizeof rest, " and %d more", more);
    snprintf(text, size, "%d picture%s (%s%s): %s", count, count == 1 ? "" : "s",
             scan_list_names(&r->names[k], names, sizeof names), rest, KINDS[k].what);
    return text;
}
