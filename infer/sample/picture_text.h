/* What is written into a picture about how it was made: A1111's "parameters" line, which most viewers of
 * generated pictures read, and the same as JSON. Nothing in it differs between two equal runs. */
#ifndef ATL_PICTURE_TEXT_H
#define ATL_PICTURE_TEXT_H

#include "infer/adapters/strength.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/base/json.h"
#include "begin_arguments.h"

/* {"file": file, "scale": 0.8, "strength": "te=0.5"} */
json_t *used_lora_json(const UsedLora *l, const char *file);

typedef struct PictureOrigin {
    const SampleRequest *request; /* with its size filled in */
    const char *model;            /* as asked for; only its last part is written, of "cat/model" both */
    const char *weights;          /* model_hash() */
    const UsedLora *loras;        /* of whose paths only the last part is written */
    int lora_count;
    const char *dtype;
    bool tf32;             /* Ctx.tf32 */
    bool tells_none;       /* no negative prompt is another thing to the model than an empty one (SDXL) */
    const char *licence;   /* the model's (licence.h); NULL or "": none is known */
    const char *watermark; /* the text that is written into the picture; NULL: none */
    bool flagged;          /* by the safety checker, and black */
    const BeginArguments *begin; /* whose files' last parts are written; NULL: nothing */
    const char *options;         /* given_options, or NULL */
} PictureOrigin;

/* "prompt <lora:cat:0.8>\nNegative prompt: …\nSteps: 20, Sampler: DDIM, …". Caller: mem_free. NULL: out of
 * memory. */
char *picture_parameters(const PictureOrigin *o);
/* {"version": …, "model": …, "prompt": …, …}, which stands in the picture as PICTURE_SETTINGS. Caller:
 * mem_free. NULL: out of memory. */
char *picture_settings(const PictureOrigin *o);
#define PICTURE_SETTINGS "atelier"
#define PICTURE_OPTIONS "options" /* a key of those */

/* Before a picture is written at path: refused if something stands there that does not hold such settings. A
 * file without a byte in it may be replaced. */
Status picture_check_own(const char *path);

#endif
