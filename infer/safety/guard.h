/* What is asked of pictures besides being drawn: parts that a user turns on or off. The pipeline asks for
 * each prompt before it works, and hands over each picture that it has made. */
#ifndef ATL_GUARD_H
#define ATL_GUARD_H

#include "data/pictures/picture.h"
#include "infer/models/model.h"

/* auto: where the model came with a checker, as diffusers has it. */
#define SAFETY_CHOICES "auto|on|off"

typedef struct GuardRequest {
    const char *safety; /* one of the above; NULL: auto */
} GuardRequest;

typedef struct Guard Guard;
/* Reads what the request asks for; c is borrowed. Refused: safety `on` where m has no checker. */
Status guard_open(const GuardRequest *r, const Model *m, Ctx *c, Guard **out);
void guard_free(Guard *g);         /* NULL allowed */
bool guard_checks(const Guard *g); /* are pictures looked at? g may be NULL */
/* A picture that the checker flags becomes black, with a warning that names its seed; *flagged says so. */
Status guard_picture(Guard *g, uint64_t seed, Picture *picture, bool *flagged);

#endif
