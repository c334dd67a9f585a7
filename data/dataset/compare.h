/* A dataset file against the folder it was built from, as that is now. */
#ifndef ATL_COMPARE_H
#define ATL_COMPARE_H

#include "dataset.h"

/* Counts of pictures. One may be in several, but for same, added and gone. */
typedef struct DatasetChanges {
    int same;     /* as they were, with their captions */
    int pictures; /* other bytes under the same name */
    int masks;    /* another mask, or none any more, or one that was not there */
    int captions; /* another caption, or none any more */
    int repeats;  /* by the name of their folder */
    int added, gone;
} DatasetChanges;

/* b: how the dataset would be built now; out and progress are not looked at. Reads every picture, and decodes
 * none but those that skip_bad may have left out. */
Status dataset_compare(const Dataset *d, const DatasetBuild *b, DatasetChanges *out);
bool dataset_changed(const DatasetChanges *c);
/* "1 picture was edited, 2 were added" into text; returns text. */
const char *dataset_changes_text(const DatasetChanges *c, char *text, size_t size);

#endif
