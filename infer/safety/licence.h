/* The licence that a model's files name, and what of it goes on to what is made from the model. */
#ifndef ATL_LICENCE_H
#define ATL_LICENCE_H

#include "infer/models/model.h"

typedef struct Licence {
    char name[128];   /* "creativeml-openrail-m"; "": the files name none */
    char source[256]; /* where it stands: "README.md", "modelspec.license of its metadata" */
    bool restricts; /* one of the RAIL family: its use restrictions go with everything made from the model */
} Licence;

/* Read in this order, the first that says something: a folder's model card (README.md, its front matter), its
 * LICENSE file where that is a known text; of a single file or a folder's UNet the metadata
 * `modelspec.license`. What cannot be read says nothing. */
Licence licence_of(const Model *m);
/* What a model card says, of `size` bytes; "" where it says none. */
void licence_of_card(const char *card, size_t size, char name[128]);
/* The word for a known licence's text; NULL: another's. */
const char *licence_of_text(const char *text);
/* Writes the licence, where there is one, into a folder that was made from m: a model card that names it, and
 * m's own LICENSE file. */
Status licence_carry(const Model *m, const char *folder);

#endif
