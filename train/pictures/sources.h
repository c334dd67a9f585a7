/* The run's pictures: datasets opened, the held-out share set aside, caches of latents and texts.
 *
 * A folder named in the configuration is built into a dataset in the run's folder. */
#ifndef ATL_SOURCES_H
#define ATL_SOURCES_H

#include "data/loader/loader.h"
#include "train/config/config.h"
#include "train/sizes/sizes.h"
#include "caching.h"

#include <signal.h>

typedef struct Source {
    const ConfigDataset *config;
    const char *caption; /* of every picture, whatever the dataset says; NULL: the dataset's own */
    Dataset *dataset;
    Cache *cache;        /* of latents and texts; NULL: neither is cached */
    Caching *caching;    /* the run's, which makes what is not there */
    bool latents, texts; /* that are cached */
    int *trained, *held; /* numbers of pictures */
    int trained_count, held_count, repeats;
    int distinct; /* different ones in trained: where the dataset's repeats differ, a picture stands there as
                     often as it comes in an epoch, one after the other, and repeats is 1 */
    Entries entries, held_entries; /* of trained and held: a picture in each of its resolutions */
} Source;

typedef struct Sources {
    Source *items; /* the datasets, and after them the class pictures' */
    int count;     /* of datasets */
    Source *prior; /* the class pictures (prior preservation); NULL: there are none, or not yet */
    ConfigDataset prior_config;
    RunSizes sizes;
    Caching *caching;      /* NULL: nothing is encoded yet */
    int held_count;        /* all sources' held entries */
    int64_t epoch_samples; /* pictures × resolutions × repeats, without those held out */
} Sources;

/* What becomes of a dataset that an earlier start of the run has built from a folder: it is built anew; it is
 * used, and where the folder has changed since, that is refused, or built anew after all; or another process
 * of the run has looked already. */
typedef enum SourcesKept { SOURCES_ANEW, SOURCES_KEPT, SOURCES_KEPT_OR_ANEW, SOURCES_SEEN } SourcesKept;

/* Opens the datasets of the configuration; m: of the model. folder: the run's; NULL (--plan): folders of
 * pictures are looked at, and nothing is written. */
Status sources_open(const Config *config, const SizeModel *m, const char *folder, SourcesKept keep,
                    const volatile sig_atomic_t *stop, Sources **out);
void sources_close(Sources *s); /* NULL allowed */
/* True: one of the trained pictures has a mask. */
bool sources_masked(const Sources *s);
/* What the sizes would be with another configuration of the same datasets. */
Status sources_sizes(const Sources *s, const Config *config, const SizeModel *m, RunSizes *out);
/* Opens the class pictures, once they are there (train/pictures/prior.h): s->prior. */
Status sources_open_prior(Sources *s, const Config *config, const char *folder, SourcesKept keep,
                          const volatile sig_atomic_t *stop);
/* True: an earlier start of the run has built its dataset of class pictures; the folder they came from is not
 * looked at any more. */
bool sources_prior_built(const Config *config, const char *folder);

/* Name of dataset number i in the run's own files: the last of its path, "cat" of "data/cat.h5"; "cat-2" for
 * the second where an earlier one has that name; number dataset_count are the class pictures. Caller:
 * mem_free. NULL: out of memory. */
char *source_label(const Config *config, int i);

#endif
