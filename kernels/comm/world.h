/* Who this process is among several, as its starter's environment says. */
#ifndef ATL_COMM_WORLD_H
#define ATL_COMM_WORLD_H

#include "link.h"

#include <stdbool.h>

#define WORLD_TOKEN 40
#define WORLD_MOST 4096 /* processes */

typedef struct World {
    int rank, size;             /* 1: alone */
    int local_rank, local_size; /* −1: not said */
    char addresses[LINK_ADDRESSES];
    int port;
    int listening;           /* process 0: a socket that the starter has opened; −1: none */
    char token[WORLD_TOKEN]; /* what keeps strangers out; "": nothing does */
    bool mpi;                /* Open MPI has started it, and says where process 0 is */
} World;

/* Size 1 where the environment says nothing. Refused where it contradicts itself. */
Status world_find(World *out);

#endif
