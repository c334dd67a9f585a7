/* Work that several processes do together in a folder, piece by piece: each piece is taken by one of them.
 * The locks are the kernel's, on bytes of a hidden file in the folder, and end with their process however it
 * ends. */
#ifndef ATL_SHARING_H
#define ATL_SHARING_H

#include "kernels/base/status.h"

#include <stdbool.h>

typedef struct Sharing Sharing;

/* File systems without such locks go without: every piece is one's own. */
Status sharing_open(const char *folder, Sharing **out);
/* True: piece i is this process's until sharing_leave. False: another works at it. */
bool sharing_take(Sharing *s, int i);
void sharing_leave(Sharing *s, int i);
void sharing_close(Sharing *s); /* NULL allowed; the last one removes the file */

#endif
