/* What lies beside a picture and belongs to it: its captions, its mask. */
#ifndef ATL_SIDECARS_H
#define ATL_SIDECARS_H

#include "scan.h"

/* A folder while it is walked. */
typedef struct Folder {
    const char *below; /* its name below the scanned folder, "" for itself */
    char *path;
    char **names;          /* by their bytes */
    bool *used, *pictures; /* of each name: somebody uses it; it is a picture */
    int count;
    const char *caption; /* of kohya's folder name, its own or an outer one's; NULL */
    int repeats;
} Folder;

bool folder_has(const void *folder, const char *name); /* folder: a Folder */
/* A name of the folder below the scanned one, and the same for messages. */
char *folder_below(const Folder *f, const char *name);
Status folder_shown(const Folder *f, const char *name, char **out);

/* NAME.mask.png (or .webp, .jpg), or NAME-masklabel.png as OneTrainer writes them: a mask, and no picture. */
bool sidecar_is_mask(const char *name);

/* Finds the captions and the mask of the picture called name and fills p's caption, blank and mask. What
 * cannot be read is noted in s->problems.
 *
 * Captions: NAME.txt, else NAME.caption, with endings in capitals as some systems write them too; an empty
 * file is no caption. NAME.1.txt, NAME.2.txt and so on are further captions of the same picture. */
Status sidecars_read(Scan *s, Folder *f, const char *name, ScanPicture *p);

#endif
