/* The dataset file being written: pictures are appended one after the other, everything else is kept until
 * the end (some hundred bytes a picture). It has no final name before it is whole. Names and shapes:
 * docs/dataset-file.md. */
#ifndef ATL_LAYOUT_H
#define ATL_LAYOUT_H

#include "data/pictures/size.h"
#include "kernels/base/status.h"

#include <stdint.h>

#define DATASET_FORMAT_VERSION 1

typedef struct DatasetWriter DatasetWriter;

typedef struct DatasetEntry {
    const char *name, *caption; /* UTF-8 */
    const uint8_t *bytes;       /* the encoded picture */
    uint64_t size;
    Size picture; /* upright */
    int orientation, repeats;
    unsigned odd;        /* PictureOddity */
    const uint8_t *mask; /* encoded; NULL: none */
    uint64_t mask_size;
} DatasetEntry;

/* Refuses a name at which something else than a dataset of Atelier's lies: a name typed wrong must not cost a
 * picture, nor a file of somebody's own tools. */
Status dataset_check_target(const char *path);
/* Begins path_aside(PATH, "part"); what writers of the same file that were killed have left goes.
 * expected_bytes: about how many bytes of pictures there will be. */
Status dataset_writer_open(const char *path, uint64_t expected_bytes, DatasetWriter **out);
Status dataset_writer_add(DatasetWriter *w, const DatasetEntry *e);
/* Notes a picture that is left out (--skip-bad). */
Status dataset_writer_leave_out(DatasetWriter *w, const char *name);
/* Writes the rest, syncs, renames. source: the last name of the folder it came from. Frees w in any case;
 * after a failure nothing is left. */
Status dataset_writer_commit(DatasetWriter *w, const char *source);
void dataset_writer_abort(DatasetWriter *w); /* NULL allowed */

#endif
