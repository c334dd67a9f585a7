/* The pictures of a folder as a dataset without a file: what build.c finds is kept in rows, and dataset.c
 * makes a Dataset of them that reads each picture where it lies. */
#ifndef ATL_VIEW_H
#define ATL_VIEW_H

#include "kernels/base/sha256.h"
#include "dataset.h"
#include "layout.h"

typedef struct ViewRow {
    char *name, *caption, *path, *mask; /* mask: where it lies; NULL: none */
    uint64_t length;
    Size size;
    int orientation, repeats;
    unsigned odd;
    uint8_t sha256[SHA256_SIZE], mask_sha256[SHA256_SIZE];
} ViewRow;

typedef struct View {
    ViewRow *rows;
    int count, capacity;
} View;

/* path: where the picture lies, mask: its mask (NULL: none); copies are kept, as of the entry's texts. */
Status view_add(View *v, const DatasetEntry *e, const char *path, const char *mask);
void view_free(View *v);
/* folder: what the dataset is called. */
Status dataset_of_view(const View *v, const char *folder, int left_out, Dataset **out);

#endif
