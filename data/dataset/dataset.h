/* The HDF5 picture-caption file (design, section 5): build, open, read. One thread at a time calls
 * HDF5; all calls lock one mutex inside. */
#ifndef ATL_DATASET_H
#define ATL_DATASET_H

#include "data/pictures/frame.h"
#include "data/pictures/picture.h"
#include "kernels/base/status.h"
#include "caption_styles.h"
#include "folders.h"
#include "remarks.h"

#include <signal.h>

typedef struct Dataset Dataset;

typedef struct DatasetBuild {
    const char *folder, *out; /* out: FILE.h5 */
    const char *caption; /* one caption for all that have none; NULL: a picture without one is an error */
    bool skip_bad;       /* leave out, and name, pictures that can't be read */
    FolderNames folder_names;
    void (*progress)(int done, int total, void *arg); /* done 0 at the beginning; NULL: none */
    void *arg;
    const volatile sig_atomic_t
        *stop; /* looked at between pictures: STATUS_INTERRUPTED, nothing written. NULL: never */
} DatasetBuild;
typedef struct DatasetSummary {
    int pictures, skipped, without_caption, unused_files, masks;
} DatasetSummary;
Status dataset_build(const DatasetBuild *b, DatasetSummary *summary);

/* The same without a file: out is not looked at, and pictures are read from the folder when they are asked
 * for.
 */
Status dataset_view(const DatasetBuild *b, DatasetSummary *summary, Dataset **view);

Status dataset_open(const char *path, Dataset **out);
void dataset_close(Dataset *d);
int dataset_count(const Dataset *d);
const char *dataset_path(const Dataset *d);
const char *dataset_name(const Dataset *d, int i);    /* "cat/03.jpg" */
const char *dataset_caption(const Dataset *d, int i); /* UTF-8 */
/* Says what pictures without a caption (an empty one) have from here on. */
Status dataset_set_missing_caption(Dataset *d, const char *caption);
/* Makes of all captions what the style says, from here on; some have several then (caption_part()). */
Status dataset_style_captions(Dataset *d, const CaptionStyle *style);
bool dataset_has_several_captions(const Dataset *d); /* of one picture */
/* Of the encoded picture, 32 bytes; zeros where the file cannot be read any more. */
void dataset_sha256(const Dataset *d, int i, uint8_t out[32]);
Size dataset_size(const Dataset *d, int i);   /* after orientation */
int dataset_repeats(const Dataset *d, int i); /* of its kohya folder's name ("10_sks cat"); 1 */
/* What of its pictures was decided that could be decided otherwise; framer: what they are trained as, NULL:
 * not known. *out: remarks_free. */
Status dataset_remarks(const Dataset *d, const Framer *framer, Remarks *out);
Status dataset_folders(const Dataset *d, FoldersTaken *out); /* where repeats and captions came from so */
/* The encoded picture; fails where it is not the one that the dataset has the SHA-256 of. Messages do not
 * name it. Caller: mem_free. */
Status dataset_bytes(const Dataset *d, int i, uint8_t **bytes, size_t *size);

/* Which parts of picture i count: its mask, encoded (data/dataset/masks.h); one may have none. *bytes:
 * mem_free. */
bool dataset_has_mask(const Dataset *d, int i);
int dataset_masks(const Dataset *d); /* how many have one */
const uint8_t *dataset_mask_sha256(const Dataset *d, int i);
Status dataset_mask_bytes(const Dataset *d, int i, uint8_t **bytes, size_t *size);

uint64_t dataset_encoded_size(const Dataset *d, int i); /* bytes of the encoded picture */
const char *dataset_source(const Dataset *d);           /* last name of the folder it was built from, "" */
/* How many pictures were left out when it was built (--skip-bad), and their names, one a line: the first of
 * many. */
int dataset_left_out(const Dataset *d, const char **names);
/* 32 bytes over all pictures' and captions' hashes, and the hash of one caption (of its UTF-8 bytes). */
void dataset_source_sha256(const Dataset *d, uint8_t out[32]);
void dataset_caption_sha256(const Dataset *d, int i, uint8_t out[32]);

#endif
