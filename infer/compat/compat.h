/* What programs do differently with the same model, prompt and seed: a row for each. Code that depends on it
 * asks for the row's word, never for the program. */
#ifndef ATL_COMPAT_H
#define ATL_COMPAT_H

#include "infer/text/emphasis.h"

typedef struct Compat {
    const char *name, *label;
    /* Clip skip where all of the text encoder's layers are used: diffusers counts those left out, A1111 from
     * the end, beginning with 1. */
    int clip_skip_none;
    PromptSyntax prompts; /* what prompts are read as */
} Compat;

#define COMPAT_CHOICES "diffusers|a1111|comfy"
#define COMPAT_DEFAULT "diffusers"

const Compat *compat_find(const char *name); /* NULL: no such program; name NULL: the default */
const Compat *compat_of(const Compat *row);  /* row, or the default's where it is NULL */

#endif
