/* Sample grids during a run: the configuration's prompts side by side, drawn by the code of `atelier sample`.
 */
#ifndef ATL_PREVIEW_H
#define ATL_PREVIEW_H

#include "infer/pipeline/pipeline.h"
#include "kernels/comm/comm.h"
#include "train/config/config.h"
#include "preview_text.h"

/* Warns of prompts that mean more in other programs than here. */
void preview_tell(const Config *config);
/* The request for prompt number i. */
SampleRequest preview_request(const Config *config, int i);
/* Bytes of arena that a preview takes. */
Status preview_plan(Pipeline *p, const Config *config, size_t *bytes);
/* Draws every prompt with the weights as they stand, prompt i with seed + i, into one row:
 * RUN/samples/step-000100.png, with a legend in step-000100.txt. Shows how far it has come. The
 * processes of comm share the pictures; process 0 writes. */
Status preview_draw(Pipeline *p, Comm *comm, const PreviewDrawn *drawn, const char *run);
/* RUN/samples/step-000100.png. NULL: out of memory. Caller: mem_free. */
char *preview_path(const char *run, int64_t step);
#define PREVIEW_COMPARED "samples/before-after.png"
/* RUN/samples/before-after.png: the grids of two steps, one above the other. */
Status preview_compare(const char *run, int64_t before, int64_t after);

#endif
