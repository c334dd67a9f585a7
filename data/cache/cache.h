/* Caches of what a model makes of a dataset's pictures and captions (docs/dataset-file.md, Caches).
 *
 * Nothing here knows a model: whoever does says in a CacheKind what the entries are and under which key they
 * lie, and hands cache_fill() a function that makes one. The cache file is the dataset itself (data build
 * --cache) or a file of its own, for which a run has its folder. */
#ifndef ATL_CACHE_H
#define ATL_CACHE_H

#include "data/dataset/dataset.h"
#include "kernels/comm/comm.h"

#define CACHE_KEY_SIZE 65 /* 64 hex digits and the end */
#define CACHE_MAX_RANK 3
#define CACHE_MAX_ARRAYS 4

/* An array of f32 with an entry for each picture or caption. */
typedef struct CacheArray {
    const char *name;               /* HDF5's: "latent_mean"; at most 31 letters */
    int rank, dims[CACHE_MAX_RANK]; /* of an entry: (C,H,W) of latents, (T,D) of a text */
} CacheArray;
size_t cache_floats(const CacheArray *a); /* of an entry */

typedef enum CacheSubject { CACHE_OF_PICTURES, CACHE_OF_CAPTIONS } CacheSubject;

/* Everything that lies under one key. */
typedef struct CacheKind {
    const char *what;         /* "latents", for those who watch */
    char key[CACHE_KEY_SIZE]; /* names all that an entry depends on besides its picture or caption */
    CacheSubject of;          /* whose hash an entry carries: it is used for no other */
    CacheArray arrays[CACHE_MAX_ARRAYS];
    int count, together; /* arrays, and how many one encoding makes: groups follow each other */
} CacheKind;

typedef struct DatasetCache DatasetCache;
/* For count pictures or captions. */
Status cache_open(const char *path, const CacheKind *kind, int count, DatasetCache **out);
/* The same for count pictures or captions of a dataset: what the dataset's own file holds under the key is
 * found too (written by data build
 * --cache); writes go to path alone, which is made at the first write. path NULL: only the dataset's own. */
Status cache_open_for(const Dataset *d, const char *path, const CacheKind *kind, int count,
                      DatasetCache **out);
/* What was written is on its way to the disk, and the file is open for reading alone from here on. */
Status cache_settle(DatasetCache *c);
Status cache_close(DatasetCache *c); /* NULL allowed */
const CacheKind *cache_kind(const DatasetCache *c);

/* Entry i of an array of the kind, by its number. *found false: not there, damaged, or made from another
 * picture or caption (hash differs). One that is there and holds NaN or infinity is a failure that names the
 * file. */
Status cache_read(DatasetCache *c, int array, int i, const uint8_t hash[32], float *out, bool *found);
/* Is it there? As cache_read, but the floats are read, into scratch, only where a run that was killed may
 * have left them half written. */
Status cache_has(DatasetCache *c, int array, int i, const uint8_t hash[32], float *scratch, bool *found);
Status cache_write(DatasetCache *c, int array, int i, const uint8_t hash[32], const float *in);

/* Called at the beginning (done 0) and after each entry, encoded or found. Returning false stops:
 * STATUS_INTERRUPTED, with everything encoded so far kept. */
typedef bool (*CacheProgress)(const char *what, int done, int total, void *arg);

typedef struct CacheFill {
    Comm *comm; /* the processes that share the work; process 0 alone writes. NULL: this one alone */
    int groups; /* how many of the kind's */
    /* Which of the dataset's pictures or captions the cache is for, as many as it has entries. NULL: all. */
    const int *numbers;
    /* Makes entry i into values[k], its values of the group's arrays. */
    Status (*encode)(int i, int group, float *const values[], void *arg);
    void *arg;
    CacheProgress progress; /* NULL: none */
    void *progress_arg;
} CacheFill;
/* Encodes what the cache lacks, entry by entry. */
Status cache_fill(DatasetCache *c, const Dataset *d, const CacheFill *f);
/* The values of one group of entry i, which is the dataset's picture or caption `number`; *found as in
 * cache_read. */
Status cache_get(DatasetCache *c, const Dataset *d, int i, int number, int group, float *const values[],
                 bool *found);
int cache_count(const DatasetCache *c); /* of entries */

/* Copies everything in the cache file into a dataset file that nobody has open, in place: for a file that
 * does not have its final name yet. */
Status cache_copy_into(const char *dataset, const char *cache);

/* Calls each for every array of every cache in the file: its key, itself, its number of entries. */
typedef void (*CacheListed)(const char *key, const CacheArray *a, size_t count, void *arg);
Status cache_list(const char *path, CacheListed each, void *arg);

#endif
