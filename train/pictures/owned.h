/* What a program has made in a folder, as a list of names that lies in it. What is on the list may be
 * replaced and removed; whatever else has a name that is wanted is somebody's, and is refused. A name comes
 * onto the list before its file is written, so that a program which is killed in between knows the file
 * again. */
#ifndef ATL_OWNED_H
#define ATL_OWNED_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

#define OWNED_LIST ".made-by-atelier" /* a name a line, below the folder */

/* True if the folder has a list. */
bool owned_any(const char *folder);
/* *listed: it is on the folder's list. */
Status owned_find(const char *folder, const char *name, bool *listed);
/* Before a file or folder called name is written: refused if something is there that is not on the list. */
Status owned_check(const char *folder, const char *name);
/* The same, and puts the name on the list, on the disk. */
Status owned_take(const char *folder, const char *name);
/* What is on the list and there takes on the disk. */
size_t owned_bytes(const char *folder);
/* Removes a list of which nothing is there. */
void owned_tidy(const char *folder);
/* Removes everything on the list, and the list. What cannot be removed stays. */
void owned_remove(const char *folder);

#endif
