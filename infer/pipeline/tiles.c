/* What of the VAE is at the latents' size, the attention over all positions included, is small and is done
 * whole. Above that, where the maps are 64 times as large, it is convolutions, and goes by tiles. Tiles
 * overlap by more than the convolutions reach, so that what a tile's edge does not see gets no weight; over
 * the rest of the overlap one tile fades into the next. What remains of the difference to the whole picture
 * are the norms' statistics, which are a tile's own.
 *
 *     weight   1  ┌────────╲        ╱────────╲         MARGIN latents from a tile's edge: 0,
 *              0  │         ╲__  __╱          ╲__      then a ramp to the tile's inside
 */
#include "tiles.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

#define TILE_OVERLAP 16 /* latents, at least */
#define TILE_MARGIN 6   /* of them at each edge, which the decoder's 12 convolutions reach over */

int tile_side(const Model *m, Size size, int pixels)
{
    int side = pixels / vae_factor(m->vae);
    side = side < TILE_LEAST ? TILE_LEAST : side;
    return pixels <= 0 || (size.width <= side && size.height <= side) ? 0 : side;
}

/* Along one side of the picture: tiles of `length` latents, spread evenly. */
typedef struct Row {
    int whole, length, count;
} Row;

static Row row_of(int whole, int side)
{
    Row r = {whole, whole < side ? whole : side, 1};
    if (whole > side)
        r.count = (whole - TILE_OVERLAP + side - TILE_OVERLAP - 1) / (side - TILE_OVERLAP);
    return r;
}

static int row_start(const Row *r, int i)
{
    return r->count > 1 ? (int)((int64_t)i * (r->whole - r->length) / (r->count - 1)) : 0;
}

/* What tile i counts at each of its length · scale places. */
static void row_weights(const Row *r, int i, int scale, float *out)
{
    const int n = r->length * scale;
    const float margin = (float)(TILE_MARGIN * scale),
                ramp = (float)((TILE_OVERLAP - 2 * TILE_MARGIN) * scale);
    for (int k = 0; k < n; k++) {
        const float before = i > 0 ? (float)k + 0.5f : INFINITY,
                    after = i < r->count - 1 ? (float)(n - k) - 0.5f : INFINITY;
        const float share = (fminf(before, after) - margin) / ramp;
        out[k] = fmaxf(0, fminf(1, share));
    }
}

/* A rectangle of a map (H,W,C), and its place. */
static void copy_tile(const float *map, int width, int x, int y, Size tile, int channels, float *out)
{
    const size_t n = (size_t)tile.width * (size_t)channels;
    for (int j = 0; j < tile.height; j++)
        memcpy(out + (size_t)j * n, map + ((size_t)(y + j) * (size_t)width + (size_t)x) * (size_t)channels,
               n * sizeof *out);
}

typedef Status (*TileStage)(Stages *s, Size size, const float *in, float *out);

/* A map becomes another, tile by tile. */
typedef struct TileWork {
    Stages *stages;
    TileStage stage;
    Row across, down;
    int in_scale, out_scale; /* places of the map and of the result along a side of a latent */
    int in, out;             /* numbers of a place of each */
    float *tile, *made, *weights_x, *weights_y, *sum;
} TileWork;

static Status allocate(TileWork *t)
{
    const size_t n = (size_t)t->across.length * (size_t)t->down.length;
    const size_t ins = n * (size_t)(t->in_scale * t->in_scale * t->in),
                 outs = n * (size_t)(t->out_scale * t->out_scale * t->out);
    const size_t whole =
        (size_t)t->across.whole * (size_t)t->down.whole * (size_t)(t->out_scale * t->out_scale);
    t->tile = mem_alloc((ins + outs) * sizeof *t->tile);
    t->weights_x = mem_alloc((size_t)((t->across.length + t->down.length) * t->out_scale) * sizeof(float));
    t->sum = mem_calloc(whole, sizeof *t->sum);
    t->made = t->tile + ins;
    t->weights_y = t->weights_x + t->across.length * t->out_scale;
    return t->tile && t->weights_x && t->sum ? STATUS_OK : STATUS_FAILED;
}

/* Adds the tile that was made, each place by its weight. */
static void add_tile(const TileWork *t, int x, int y, float *out)
{
    const int w = t->across.length * t->out_scale, h = t->down.length * t->out_scale, C = t->out;
    const size_t width = (size_t)(t->across.whole * t->out_scale);
    for (int j = 0; j < h; j++)
        for (int i = 0; i < w; i++) {
            const size_t at = (size_t)(y * t->out_scale + j) * width + (size_t)(x * t->out_scale + i);
            const float weight = t->weights_x[i] * t->weights_y[j];
            const float *from = t->made + ((size_t)j * (size_t)w + (size_t)i) * (size_t)C;
            t->sum[at] += weight;
            for (int c = 0; c < C && weight > 0; c++)
                out[at * (size_t)C + (size_t)c] += weight * from[c];
        }
}

static Status do_tile(TileWork *t, int i, int j, const float *map, float *out)
{
    const int x = row_start(&t->across, i), y = row_start(&t->down, j), k = t->in_scale;
    const Size size = {t->across.length * k, t->down.length * k};
    copy_tile(map, t->across.whole * k, x * k, y * k, size, t->in, t->tile);
    TRY(t->stage(t->stages, size, t->tile, t->made));
    row_weights(&t->across, i, t->out_scale, t->weights_x);
    row_weights(&t->down, j, t->out_scale, t->weights_y);
    add_tile(t, x, y, out);
    return STATUS_OK;
}

static Status run_tiles(TileWork *t, const float *map, float *out)
{
    const size_t places =
        (size_t)t->across.whole * (size_t)t->down.whole * (size_t)(t->out_scale * t->out_scale);
    Status s = allocate(t);
    memset(out, 0, places * (size_t)t->out * sizeof *out);
    for (int j = 0; s == STATUS_OK && j < t->down.count; j++)
        for (int i = 0; s == STATUS_OK && i < t->across.count; i++)
            s = do_tile(t, i, j, map, out);
    for (size_t k = 0; s == STATUS_OK && k < places * (size_t)t->out; k++)
        out[k] /= t->sum[k / (size_t)t->out];
    mem_free(t->tile);
    mem_free(t->weights_x);
    mem_free(t->sum);
    return s;
}

static Size tile_size(Size size, int side)
{
    return (Size){row_of(size.width, side).length, row_of(size.height, side).length};
}

Status tiles_decode_plan(Stages *s, Size size, int side, size_t *bytes)
{
    return stage_decode_halves_plan(s, size, tile_size(size, side), bytes);
}

Status tiles_encode_plan(Stages *s, const Model *m, Size size, int side, size_t *bytes)
{
    return stage_encode_halves_plan(s, size, size_multiplied(tile_size(size, side), vae_factor(m->vae)),
                                    bytes);
}

static float *between(const Model *m, Size size, bool encoder)
{
    return mem_alloc((size_t)size_area(size) * (size_t)vae_inner_channels(m->vae, encoder) * sizeof(float));
}

Status tiles_decode(Stages *s, const Model *m, Size size, int side, const float *z, float *out)
{
    TileWork t = {.stages = s,
                  .stage = stage_decode_outer,
                  .across = row_of(size.width, side),
                  .down = row_of(size.height, side),
                  .in_scale = 1,
                  .out_scale = vae_factor(m->vae),
                  .in = vae_inner_channels(m->vae, false),
                  .out = 3};
    float *h = between(m, size, false);
    if (!h)
        return STATUS_FAILED;
    Status status = stage_decode_inner(s, size, z, h);
    if (status == STATUS_OK)
        status = run_tiles(&t, h, out);
    mem_free(h);
    return status;
}

Status tiles_encode(Stages *s, const Model *m, Size size, int side, const float *pixels, float *out)
{
    TileWork t = {.stages = s,
                  .stage = stage_encode_outer,
                  .across = row_of(size.width, side),
                  .down = row_of(size.height, side),
                  .in_scale = vae_factor(m->vae),
                  .out_scale = 1,
                  .in = 3,
                  .out = vae_inner_channels(m->vae, true)};
    float *h = between(m, size, true);
    if (!h)
        return STATUS_FAILED;
    Status status = run_tiles(&t, pixels, h);
    if (status == STATUS_OK)
        status = stage_encode_inner(s, size, h, out);
    mem_free(h);
    return status;
}
