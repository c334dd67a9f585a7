/* What sd-scripts, diffusers' training scripts and others call what is a key of the configuration here. */
#ifndef ATL_OTHER_NAMES_H
#define ATL_OTHER_NAMES_H

#include "kernels/base/options.h"

/* "here it is method.rank", for a key that there is not here; NULL: nobody's word. */
const char *other_name_answer(const char *name);
/* The same words as options, for `atelier train`. */
const OptionElsewhere *other_names_options(int *count);

#endif
