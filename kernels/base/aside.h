/* What lies beside PATH until it may have the name: "PATH.atelier-WHAT-PID", a file or a folder.
 *
 * Whoever makes one holds a lock (flock) on it while it works. So what a process that was killed left behind
 * is told from what a living one uses by the lock, which dies with its process, and not by the number, which
 * may be somebody else's by now, or mean nothing on this machine. Where a file system knows no locks, nothing
 * is taken for left behind. */
#ifndef ATL_ASIDE_H
#define ATL_ASIDE_H

#include "status.h"

#include <stdbool.h>

/* The name. Caller: mem_free. NULL: out of memory. */
char *path_aside(const char *path, const char *what);
bool name_is_aside(const char *name);

/* Makes the file (empty) or the folder at aside and takes hold of it: until *hold is closed. Messages name
 * path, which it is made for. */
Status aside_file(const char *aside, const char *path, int *hold);
Status aside_folder(const char *aside, const char *path, int *hold);

/* Removes what was left behind: of one path, and of everything in a folder. */
void aside_clean(const char *path);
void aside_clean_folder(const char *folder);

#endif
