/* The sizes that a run's pictures are trained at: which picture is scaled and cut to which (data/pictures/
 * frame.h says how), how often each size comes, and which class pictures go with it. */
#ifndef ATL_SIZES_H
#define ATL_SIZES_H

#include "data/dataset/dataset.h"
#include "data/pictures/frame.h"
#include "train/config/config.h"

/* What of a model the sizes depend on. */
typedef struct SizeModel {
    int multiple; /* sides are multiples of this */
    int made_for; /* the side it was made for */
} SizeModel;

/* The rule of a dataset at its r-th resolution. */
Status size_rule(const Config *config, const ConfigDataset *d, int r, const SizeModel *m, FrameRule *out);

/* Some of a dataset's pictures, each in each of its resolutions. */
typedef struct Entries {
    int *pictures;   /* numbers in the dataset */
    BucketFit *fits; /* of each */
    int count;
} Entries;
/* Of pictures[0 … count), one resolution after the other, picture by picture. entries_free also after a
 * failure. */
Status entries_make(const Config *config, const ConfigDataset *d, const SizeModel *m, const Dataset *dataset,
                    const int *pictures, int count, Entries *out);
void entries_free(Entries *e);

typedef struct RunSize {
    Size size;
    int64_t samples; /* of an epoch */
    int entries;     /* that are trained: a picture once for each of its resolutions */
    int held;        /* that are held out */
    double lost;     /* of all that are trained, added up: how much of each is cut away */
} RunSize;

/* By width, then height. */
typedef struct RunSizes {
    RunSize *items;
    int count;
} RunSizes;
void sizes_free(RunSizes *s);
/* Counts the entries: trained, each so often; or held out (repeats 0). */
Status sizes_add(RunSizes *s, const Entries *e, int repeats);
/* A size that has samples: of the largest area. */
Size sizes_largest(const RunSizes *s);

/* The sizes that `count` class pictures are drawn at, one after the other: each that is trained once, those
 * with most samples first, then in proportion to their samples. So the first of them are the same however
 * many follow. out (count). */
Status sizes_sequence(const RunSizes *s, int count, Size *out);
/* Class pictures for each size that is trained, as many as are drawn at it (sizes_sequence): every picture
 * once, and every size at least one; of those that are wider than others the wider sizes get theirs. */
Status sizes_share(const RunSizes *s, const Dataset *dataset, int count, Entries *out);

#endif
