/* The VAE by tiles, for pictures whose feature maps would not fit into memory. */
#ifndef ATL_TILES_H
#define ATL_TILES_H

#include "stages.h"

#define TILE_LEAST 32 /* latents: of a tile, what overlaps is a half then */

/* The side in latents of tiles of so many pixels, at least TILE_LEAST, rounded down; 0: no tiles are asked
 * for, or the picture is not larger than one. size is that of the latents. */
int tile_side(const Model *m, Size size, int pixels);
/* As the stages without tiles; side as above, not 0. size is that of the latents. */
Status tiles_decode_plan(Stages *s, const Model *m, Size size, int side, size_t *bytes);
Status tiles_encode_plan(Stages *s, const Model *m, Size size, int side, size_t *bytes);
Status tiles_decode(Stages *s, const Model *m, Size size, int side, const float *z, float *out);
Status tiles_encode(Stages *s, const Model *m, Size size, int side, const float *pixels, float *out);

#endif
