/* What a run's result depends on besides its configuration: the model that it starts from and the pictures,
 * as hashes. A checkpoint keeps them, so that a run is not gone on with on others by mistake. */
#ifndef ATL_ORIGINS_H
#define ATL_ORIGINS_H

#include "kernels/base/sha256.h"
#include "train/plan/setup.h"

#define ORIGINS_MAX (2 * CONFIG_MAX_LIST)

typedef struct Origins {
    char model[SHA256_HEX_SIZE]; /* "": not known */
    char datasets[ORIGINS_MAX][SHA256_HEX_SIZE];
    int count;
} Origins;

/* Before anything has been trained or restored. */
Status origins_find(const Setup *s, Origins *out);
/* Says in one line what differs, into text: "" if nothing does, or it is not known what `then` was. */
void origins_compare(const Origins *now, const Origins *then, const Setup *s, char *text, size_t size);

#endif
