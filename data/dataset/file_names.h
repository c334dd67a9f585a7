/* What names of files in a folder of pictures say: a picture, somebody's copy of one, the system's own. */
#ifndef ATL_FILE_NAMES_H
#define ATL_FILE_NAMES_H

#include <stdbool.h>

/* One of the endings (without their dot, NULL last), in any case. */
bool file_ends_in(const char *name, const char *const *endings);
/* Of the system or of a file manager, or one that is being written. */
bool file_is_systems(const char *name);
/* By its name or, where that says nothing, by its first bytes. */
bool file_is_picture(const char *name, const char *path);
/* " (a backup copy)" or " (an unfinished file)" by its ending; NULL: neither. */
const char *file_why_aside(const char *name);
/* "Copy of cat.jpg", "cat - Copy.jpg", "cat - Copy (2).jpg", "cat copy.jpg", as file managers name a copy,
 * where cat.jpg is there. */
typedef bool (*FileIsThere)(const void *folder, const char *name);
bool file_is_copy(const char *name, FileIsThere there, const void *folder);

#endif
