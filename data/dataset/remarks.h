/* What was decided about pictures of a dataset that could have been decided otherwise: how many, and which.
 * Said in the same words by `data build`, `data info`, `data lint` and a run. */
#ifndef ATL_REMARKS_H
#define ATL_REMARKS_H

#include "data/pictures/buckets.h"
#include "data/pictures/picture.h"
#include "scan.h"

typedef enum RemarkKind {
    REMARK_ANIMATED, /* from here on in the order of PictureOddity's bits */
    REMARK_TURNED,
    REMARK_BAD_CHUNK,
    REMARK_BARE_CMYK,
    REMARK_PROFILE,
    REMARK_CUT,      /* less than half is used */
    REMARK_ENLARGED, /* more than twice */
    REMARK_KINDS,
    REMARK_TRIMMED = REMARK_KINDS, /* more than a third is cut away, but no half: of interest to lint alone */
    REMARK_LISTS
} RemarkKind;

typedef struct Remarks {
    ScanList names[REMARK_LISTS]; /* of the first; with a number where there is one: "a.png (0.4 %)" */
    int counts[REMARK_LISTS];
} Remarks;

/* What is to be said of a picture: odd is of PictureOddity, fit what it is trained as; NULL: not known. */
Status remarks_add(Remarks *r, const char *name, unsigned odd, Size picture, const BucketFit *fit);
void remarks_free(Remarks *r);
/* "animated", "turned", … */
const char *remark_word(RemarkKind k);
/* "2 pictures (a.png, b.png): animated PNG, of which the first picture is taken" into text; NULL: there are
 * none.
 */
const char *remark_text(const Remarks *r, RemarkKind k, char *text, size_t size);

#endif
