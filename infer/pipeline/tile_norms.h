/* Group norms of a picture that is worked on by tiles: their statistics in the whole, of what tiles and a
 * sample of the picture have. Numbers are f32 (norms,2,groups): means, 1/deviations (GroupStatistics). */
#ifndef ATL_TILE_NORMS_H
#define ATL_TILE_NORMS_H

#include "kernels/base/status.h"

typedef struct TileNorms {
    int norms, groups;
    float *given;          /* what the whole is taken to have */
    float *measured;       /* of what was worked at last */
    float *correction;     /* from a sample's to the whole's: to be added, and a factor */
    double *mean, *square; /* of the tiles so far: the groups' mean and mean squared deviation */
    double count;          /* of their places */
} TileNorms;

Status tile_norms_new(int norms, int groups, TileNorms *out);
void tile_norms_free(TileNorms *n);
/* A sample has what was measured, and the whole, but for the correction, the same. */
void tile_norms_sampled(TileNorms *n);
/* What was measured of a tile, of so many places, joins the tiles before. */
void tile_norms_add(TileNorms *n, double places);
/* All tiles are there: how the whole differs from what was given, which was the sample's, is the correction.
 */
void tile_norms_compare(TileNorms *n);

#endif
