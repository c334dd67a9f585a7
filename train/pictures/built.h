/* A run's own copy of a folder of pictures: made, and compared with the folder when the run goes on. */
#ifndef ATL_BUILT_H
#define ATL_BUILT_H

#include "sources.h"

/* Builds the folder of s into the dataset file out. out NULL: into no file, *view is the dataset. A picture
 * without a caption is refused unless s says what stands for it. */
Status built_make(const Source *s, const char *out, const volatile sig_atomic_t *stop, Dataset **view);
/* *kept: the dataset that an earlier start of the run has built is there and is used, which is said, as is
 * what of its folder has changed since. */
Status built_look(const Source *s, const char *built, SourcesKept keep, const volatile sig_atomic_t *stop,
                  bool *kept);

#endif
