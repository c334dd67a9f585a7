/* A run's numbers and previews as TensorBoard shows them: events.out.tfevents.atelier, beside the log.
 *
 * The file only grows. A run that is gone on with says from which step on, and what stands there of later
 * steps, which a kill has cost, is not shown. So nothing is cut back under a TensorBoard that is reading. */
#ifndef ATL_EVENTS_H
#define ATL_EVENTS_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"

#include <stdint.h>

typedef struct EventFile EventFile;

#define EVENTS_FILE "events.out.tfevents.atelier"

/* The file of the run's folder, begun or gone on with. step: the first that it will tell of. */
Status events_open(const char *folder, int64_t step, EventFile **out);
void events_close(EventFile *e); /* NULL allowed */
/* The numbers of a line of log.jsonl, each under its key; a list's as KEY/1, KEY/2, …. */
Status events_line(EventFile *e, const json_t *line);
/* The PNG file at path, under a name. */
Status events_picture(EventFile *e, int64_t step, const char *name, const char *path);

#endif
