/* What AtlSample asks for, as the pipeline takes it. */
#ifndef ATL_LIBRARY_REQUEST_H
#define ATL_LIBRARY_REQUEST_H

#include "infer/pipeline/pipeline.h"
#include "train/atelier.h"

/* The request points into the rest, and at the host's texts and pixels. */
typedef struct Asked {
    SampleRequest request;
    Picture init, mask;
    EmbeddingSet embeddings;
    char *options; /* of the picture's settings */
} Asked;

/* Reads the files of words, and refuses values out of their range by their field's name. *out is asked_free's
 * in any case. */
Status asked_read(const AtlSample *s, const Model *m, Asked *out);
void asked_free(Asked *a);

#endif
