/* What the names of folders say, as kohya's scripts have them: "10_sks cat" is 10 repeats of each picture in
 * it and the caption "sks cat" for those without one. Only folders inside of the one that was named count.
 *
 * Other people number folders too: dates (2024_dog), cameras (100_PANA). What no one means is asked about
 * instead of being trained on, and what was taken is always told, with its number. */
#ifndef ATL_FOLDERS_H
#define ATL_FOLDERS_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

#define MAX_REPEATS 100000 /* of a picture in an epoch */

typedef enum FolderNames {
    FOLDER_NAMES_AUTO,  /* kohya's are taken; a doubtful one is a problem that names the folder */
    FOLDER_NAMES_KOHYA, /* every number is meant */
    FOLDER_NAMES_PLAIN  /* names say nothing */
} FolderNames;
#define FOLDER_NAMES_CHOICES "auto|kohya|plain"
/* The place of a word among FOLDER_NAMES_CHOICES; of another one, or NULL, FOLDER_NAMES_AUTO. */
FolderNames folder_names_of(const char *word);

/* "10_sks cat": repeats 10, caption "sks cat" (inside name). False: an ordinary name. */
bool folder_name_read(const char *name, int *repeats, const char **caption);

/* Why a name that begins with a number and "_" is an ordinary one: "no caption stands behind the number";
 * NULL: it does not begin so, or it is kohya's. */
const char *folder_name_doubt(const char *name);

/* A folder whose name was taken. */
typedef struct FolderTaken {
    char *name;                      /* below the folder that was named: "animals/10_sks cat" */
    char *caption;                   /* "sks cat"; NULL: only white space */
    int repeats, pictures, captions; /* captions: pictures that have it */
} FolderTaken;
typedef struct FoldersTaken {
    FolderTaken *items; /* in the order of their first pictures */
    int count, capacity;
} FoldersTaken;

/* What is looked at of picture i: its name below the folder, its caption (NULL: none) and repeats. */
typedef void (*FolderPicture)(const void *set, int i, const char **name, const char **caption, int *repeats);
/* Finds again what was taken by the names of count pictures: for each the innermost folder with its number.
 */
Status folders_taken(FolderPicture get, const void *set, int count, FoldersTaken *out);
void folders_taken_free(FoldersTaken *f);

/* "10_sks cat: 10 repeats of each of 3 pictures, and the caption of 2". */
const char *folder_describe(const FolderTaken *f, char *text, size_t size);
/* Why its number is hardly meant as repeats: "cameras name their folders so"; NULL: nothing speaks against
 * it. */
const char *folder_doubt(const FolderTaken *f);

#endif
