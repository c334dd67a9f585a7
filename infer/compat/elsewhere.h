/* What people who come from other programs write on the command line out of habit, and what it is here. */
#ifndef ATL_ELSEWHERE_H
#define ATL_ELSEWHERE_H

#include "kernels/base/options.h"

/* For `atelier sample`. */
const OptionElsewhere *options_elsewhere(int *count);

#endif
