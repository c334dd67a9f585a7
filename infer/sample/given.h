/* What was given on a command line that settings do not hold by names of their own, so that a picture can be
 * made again with options that were added since. */
#ifndef ATL_SAMPLE_GIVEN_H
#define ATL_SAMPLE_GIVEN_H

#include "kernels/base/options.h"

/* [["schedule","karras"],["tiling","x"]] as text: each option that changes a picture, of files the last part
 * of the path. Caller: mem_free. *out NULL: none was given. */
Status given_options(const Command *command, int argc, char **argv, char **out);
bool given_is_file(const char *option);

#endif
