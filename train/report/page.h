/* The parts of the page, in the order in which they stand on it. */
#ifndef ATL_PAGE_H
#define ATL_PAGE_H

#include "kernels/base/buffer.h"
#include "train/config/config.h"
#include "curves.h"

/* What is known of a run. */
typedef struct Report {
    const char *run;      /* its folder */
    const Config *config; /* NULL: config.yaml cannot be understood */
    const char *trouble;  /* why */
    const char *yaml;     /* config.yaml as it stands */
    const Curves *curves;
} Report;

void page_begin(Buffer *b, const char *title); /* up to the body's first line, with the style */
void page_end(Buffer *b);

void facts_add(Buffer *b, const Report *r);    /* what was trained, how far */
Status result_add(Buffer *b, const Report *r); /* where it lies, and the command that draws with it */
Status previews_add(Buffer *b, const Report *r);
void plots_add(Buffer *b, const Report *r);

#endif
