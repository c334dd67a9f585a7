/* Whether a run fits this machine: memory and disk. One that does not is refused before it has loaded
 * anything, with the settings that would fit. */
#ifndef ATL_FIT_H
#define ATL_FIT_H

#include "setup.h"

/* Bytes of the device's memory that one of so many processes of this machine may take; SIZE_MAX: not known.
 */
size_t fit_limit(const Device *dev, int processes);
/* By s->memory. */
Status fit_memory(const Setup *s);
/* By s->disk, on the file system that folder is (or will be) on. */
Status fit_disk(const Setup *s, const char *folder);

#endif
