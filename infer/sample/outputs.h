/* Where the results of `atelier sample` go. What is somebody's is never replaced; a picture of before is. */
#ifndef ATL_SAMPLE_OUTPUTS_H
#define ATL_SAMPLE_OUTPUTS_H

#include "options.h"

bool outputs_to_stdout(const SampleArguments *a);
/* Refuses names that cannot be meant. */
Status outputs_check(const SampleArguments *a);
/* Proves that the results can be written where they are to go, and that nothing of somebody's is replaced,
 * before the work. */
Status outputs_prepare(const SampleArguments *a);
/* Where picture i goes, and its trace. Caller: mem_free. NULL: out of memory. */
char *outputs_picture(const SampleArguments *a, int i);
char *outputs_trace(const SampleArguments *a, int i);

#endif
