/* Everything that is wrong with a folder of pictures or a dataset file, without writing anything. */
#ifndef ATL_LINT_H
#define ATL_LINT_H

#include "data/pictures/size.h"
#include "kernels/base/status.h"
#include "folders.h"

#include <signal.h>

typedef struct Lint {
    const char *path;         /* FOLDER or FILE.h5 */
    FolderNames folder_names; /* of a folder */
    Size size;                /* that pictures are trained at; 0 x 0: a square, of whatever size */
    /* Called for each finding: an error is what `data build` would fail on, else it is worth a look. */
    void (*report)(bool error, const char *message, void *arg);
    void (*progress)(int done, int total, void *arg); /* NULL: none */
    void *arg;
    const volatile sig_atomic_t *stop; /* NULL: never */
} Lint;

/* *pictures: how many were looked at. Fails only where looking itself is impossible. */
Status dataset_lint(const Lint *l, int *pictures);

#endif
