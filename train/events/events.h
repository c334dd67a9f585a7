/* A run's numbers and previews as TensorBoard shows them: events.out.tfevents.TIME.atelier, beside the log.
 *
 * Each session of a run has a file of its own, whose beginning says from which step on it counts: what
 * earlier files have of later steps was lost to a kill, and is not shown. So nothing is ever cut back under a
 * TensorBoard that is reading. */
#ifndef ATL_EVENTS_H
#define ATL_EVENTS_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"

#include <stdint.h>

typedef struct EventFile EventFile;

/* A new file in the run's folder. step: the first that it will tell of. */
Status events_open(const char *folder, int64_t step, EventFile **out);
void events_close(EventFile *e); /* NULL allowed */
/* The numbers of a line of log.jsonl, each under its key; a list's as KEY/1, KEY/2, …. */
Status events_line(EventFile *e, const json_t *line);
/* The PNG file at path, under a name. */
Status events_picture(EventFile *e, int64_t step, const char *name, const char *path);

#endif
