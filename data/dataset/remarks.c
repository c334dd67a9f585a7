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

Status remarks_add(Remarks *r, const char *name, unsigned odd, Size picture, const BucketFit *fit)
{
    char how[48];
    for (int k = REMARK_ANIMATED; k <= REMARK_PROFILE; k++)
        if (odd & 1u << k)
            TRY(note(r, (RemarkKind)k, name, ""));
    if (!fit)
        return STATUS_OK;
    const double share = 1 - bucket_fit_loss(fit);
    snprintf(how, sizeof how, " (%.2g %%)", 100 * share);
    if (share < TRIMMED_SHARE)
        TRY(note(r, share < LEAST_SHARE ? REMARK_CUT : REMARK_TRIMMED, name, how));
    const double across = (double)fit->scaled.width / picture.width,
                 down = (double)fit->scaled.height / picture.height, scale = across > down ? across : down;
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
