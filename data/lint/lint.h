/* Everything that is wrong with a folder of pictures or a dataset file, without writing anything. */
#ifndef ATL_LINT_H
#define ATL_LINT_H

#include "data/dataset/folders.h"
#include "data/pictures/frame.h"
#include "kernels/base/status.h"

#include <signal.h>

typedef struct Sheet Sheet; /* data/lint/sheet.h */

typedef enum LintKind {
    LINT_ERROR, /* what `data build` would fail on */
    LINT_LOSS,  /* a run would see less than there is */
    LINT_NOTE   /* worth a look */
} LintKind;

typedef struct Lint {
    const char *path;         /* FOLDER or FILE.h5 */
    FolderNames folder_names; /* of a folder */
    const Framer *framer;     /* what pictures are trained as; NULL: not known, and there is no sheet */
    bool any_size;            /* its resolution is a guess: what is enlarged is not told */
    int batch;                /* pictures of a step; 0: not known */
    void (*report)(LintKind kind, const char *message, void *arg); /* called for each finding */
    /* How many tokens a caption has; NULL: nobody knows. */
    Status (*tokens)(const char *caption, int *count, void *arg);
    int tokens_seen;                                  /* by the text encoder */
    void (*progress)(int done, int total, void *arg); /* NULL: none */
    void *arg;
    Sheet *sheet;                      /* gets every picture; NULL: there is none */
    const volatile sig_atomic_t *stop; /* NULL: never */
} Lint;

/* *pictures: how many were looked at. Fails only where looking itself is impossible. */
Status dataset_lint(const Lint *l, int *pictures);

#endif
