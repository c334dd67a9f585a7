/* Where the results of `atelier sample` go. What is somebody's is never replaced; a picture of before is. */
#ifndef ATL_SAMPLE_OUTPUTS_H
#define ATL_SAMPLE_OUTPUTS_H

#include "data/pictures/picture.h"
#include "shots.h"

PictureFormat outputs_format(const Shots *s);
bool outputs_to_stdout(const Shots *s);
/* Refuses names that cannot be meant. */
Status outputs_check(const Shots *s);
/* Proves that the results can be written where they are to go, and that nothing of somebody's is replaced,
 * before the work. */
Status outputs_prepare(const Shots *s);
/* Where picture i goes (of a sheet into --sheet-pictures), its trace, and the sheet. Caller: mem_free. NULL:
 * out of memory. */
char *outputs_picture(const Shots *s, int i);
char *outputs_trace(const Shots *s, int i);
char *outputs_sheet(const Shots *s);

#endif
