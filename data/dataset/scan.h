/* What a folder holds, as `data build` and `data lint` see it: the pictures with their captions, what nobody
 * uses, and what is wrong. Nothing is decoded here. */
#ifndef ATL_SCAN_H
#define ATL_SCAN_H

#include "kernels/base/status.h"
#include "folders.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct ScanPicture {
    char *name;           /* below the folder, as the file system has it: "cat/03.jpg" */
    char *shown;          /* the same for messages and the dataset (text_escape) */
    char *caption;        /* NULL: none; several with CAPTION_SEPARATOR between them */
    char *folder_caption; /* of kohya's folder name, for want of another; NULL */
    char *blank;          /* a caption file beside it with nothing in it, below the folder; NULL */
    char *mask;           /* its mask's name below the folder, as the file system has it; NULL: none */
    int repeats;          /* of kohya's folder name; 1 */
} ScanPicture;

typedef struct ScanList {
    char **items;
    int count, capacity;
} ScanList;

typedef struct Scan {
    char *folder;          /* as realpath has it */
    ScanPicture *pictures; /* by the bytes of their names */
    int count, capacity;
    ScanList unused;   /* names for messages, with a reason where there is one */
    ScanList problems; /* messages: unreadable captions, doubtful names of folders */
    ScanList for_all;  /* names of pictures that have the caption for all */
    ScanList blank;    /* caption files with nothing in them, whose pictures have another caption or none */
    ScanList numbered; /* folders with a number that is not taken as repeats, and why */
    int without_caption;
    bool named_itself; /* the folder's own name looks like kohya's, and says nothing */
} Scan;

/* Walks the folder and everything below. Captions, first found: NAME.txt, NAME.caption, metadata.jsonl,
 * kohya's folder name as names says, caption (NULL: none). except: a file that is not to be named as unused
 * (the dataset being made); may be NULL. A missing folder is an error; an empty one is not. */
Status scan_folder(const char *folder, const char *caption, FolderNames names, const char *except, Scan *out);
/* What the folders' names were taken for. */
Status scan_folders(const Scan *s, FoldersTaken *out);
void scan_free(Scan *s);
/* "a.jpg, b.jpg, c.jpg and 4 more" of the pictures without caption, or of a list, into text; returns text. */
const char *scan_names_without_caption(const Scan *s, char *text, size_t size);
const char *scan_list_names(const ScanList *l, char *text, size_t size);
Status scan_list_add(ScanList *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Notes what just failed among the problems. */
Status scan_add_problem(Scan *s);
void scan_list_free(ScanList *l);

#endif
