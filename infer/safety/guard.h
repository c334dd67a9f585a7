/* What is asked of pictures besides being drawn: parts that a user turns on or off. The pipeline asks for
 * each prompt before it works, and hands over each picture that it has made. */
#ifndef ATL_GUARD_H
#define ATL_GUARD_H

#include "data/pictures/picture.h"
#include "infer/models/model.h"

/* auto: where the model came with a checker, as diffusers has it. */
#define SAFETY_CHOICES "auto|on|off"

typedef struct GuardRequest {
    const char *safety;        /* one of the above; NULL: auto */
    const char *prompt_filter; /* a file (prompt_filter.h); NULL: none */
    const char *watermark;     /* a text, "on": the original release's, "off" or NULL: none */
} GuardRequest;

/* The text that the request has written into pictures; NULL: none. */
const char *guard_watermark(const GuardRequest *r);

typedef struct Guard Guard;
/* Reads what belongs to no model; the request's texts are borrowed. Refused: a list that cannot be read. */
Status guard_new(const GuardRequest *r, Guard **out);
/* And the checker that came with m, where the request asks for it; c is borrowed. described: its shapes
 * without weights, for a plan. Refused: safety `on` where m has none. */
Status guard_load(Guard *g, const Model *m, Ctx *c, bool described);
size_t guard_bytes(const Guard *g);         /* of the checker's weights; 0: there is none */
Status guard_plan(Guard *g, size_t *bytes); /* of the arena that it needs; 0: the same */
void guard_free(Guard *g);                  /* NULL allowed */
/* Refuses a prompt that the list forbids. */
Status guard_prompt(const Guard *g, const char *prompt);
/* The same, and a size that is too small for the watermark: before a picture is drawn. NULL: it will not be
 * marked. */
Status guard_admit(const Guard *g, const char *prompt, const Size *marked);
/* A picture that the checker flags becomes black, with a warning that names its seed; *flagged says so.
 * checked: also where the request leaves it to what the program that is followed does. Then the watermark is
 * written, if it is to be marked. */
Status guard_picture(Guard *g, uint64_t seed, bool checked, bool marked, Picture *picture, bool *flagged);

#endif
