/* What of the VAE is at the latents' size, the attention over all positions included, is small and is done
 * whole. Above that, where the maps are 64 times as large, it is convolutions, and goes by tiles. Tiles
 * overlap by more than the convolutions reach, so that what a tile's edge does not see gets no weight; over
 * the rest of the overlap one tile fades into the next.
 *
 *     weight   1  ┌────────╲        ╱────────╲         margin: as far from a tile's edge as convolutions
 *              0  │         ╲__  __╱          ╲__      reach, 0; then a ramp to the tile's inside
 *
 * The group norms' statistics have to be the whole picture's, or each tile would have colours of its own.
 * Each norm's depend on those before it, so that passes over the tiles, each by what the last has measured,
 * would get one right after another. A sample of the picture, small pieces from all over it that are worked
 * on together as large as a tile, has all of them at once, but only nearly the picture's. So: statistics of
 * the sample; a pass over the tiles by these, which measures how much those of the whole differ at each norm;
 * the sample once more with those differences put right at each norm, and everything after it with it. */
#include "tiles.h"

#include "tile_norms.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

#define TILE_RAMP 2     /* latents */
#define PIECES_A_SIDE 4 /* of the sample, along a tile's side */
#define CORRECTIONS 2   /* of the sample by all tiles */

int tile_side(const Model *m, Size size, int pixels)
{
    int side = pixels / vae_factor(m->vae);
    side = side < TILE_LEAST ? TILE_LEAST : side;
    return pixels <= 0 || (size.width <= side && size.height <= side) ? 0 : side;
}

/* Along one side of the picture: tiles of `length` latents, spread evenly. */
typedef struct Row {
    int whole, length, count;
    int margin; /* at a tile's edge, without weight */
} Row;

static Row row_of(int whole, int side, int margin)
{
    Row r = {whole, whole < side ? whole : side, 1, margin};
    const int overlap = 2 * margin + TILE_RAMP;
    if (whole > side)
        r.count = (whole - overlap + side - overlap - 1) / (side - overlap);
    return r;
}

static int row_start(const Row *r, int i)
{
    return r->count > 1 ? (int)((int64_t)i * (r->whole - r->length) / (r->count - 1)) : 0;
}

/* Where what is tile i's alone begins: in the middle of its overlap with the one before. Of the tile after
 * the last: the end. */
static int row_core(const Row *r, int i)
{
    return i < 1 ? 0 : i >= r->count ? r->whole : (row_start(r, i - 1) + r->length + row_start(r, i)) / 2;
}

/* What tile i counts at each of its length · scale places. */
static void row_weights(const Row *r, int i, int scale, float *out)
{
    const int n = r->length * scale;
    const float margin = (float)(r->margin * scale), ramp = (float)(TILE_RAMP * scale);
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

typedef Status (*TileStage)(Stages *s, Size size, const float *in, const PartNorms *norms, float *out);
typedef Status (*TilePlan)(Stages *s, Size size, const PartNorms *norms, size_t *bytes);

/* A map becomes another, tile by tile. */
typedef struct TileWork {
    Stages *stages;
    TileStage stage;
    TilePlan plan;
    Row across, down;
    Size piece;              /* of the sample, in latents */
    int in_scale, out_scale; /* places of the map and of the result along a side of a latent */
    int in, out;             /* numbers of a place of each */
    TileNorms norms;
    float *tile, *made, *weights_x, *weights_y, *sum;
} TileWork;

/* side, size: in latents */
static TileWork work_of(Stages *s, const Model *m, Size size, int side, bool encoder)
{
    const int inner = vae_inner_channels(m->vae, encoder), factor = vae_factor(m->vae);
    const int most = TILE_LEAST / 4 - TILE_RAMP / 2, reach = vae_outer_reach(m->vae, encoder);
    const int margin = reach < most ? reach : most;
    const Row across = row_of(size.width, side, margin), down = row_of(size.height, side, margin);
    return (TileWork){.stages = s,
                      .stage = encoder ? stage_encode_outer : stage_decode_outer,
                      .plan = encoder ? stage_encode_outer_plan : stage_decode_outer_plan,
                      .across = across,
                      .down = down,
                      .piece = {across.length / PIECES_A_SIDE, down.length / PIECES_A_SIDE},
                      .in_scale = encoder ? factor : 1,
                      .out_scale = encoder ? 1 : factor,
                      .in = encoder ? 3 : inner,
                      .out = encoder ? inner : 3};
}

static Size tile_size(const TileWork *t)
{
    return (Size){t->across.length * t->in_scale, t->down.length * t->in_scale};
}

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

static Status make_tile(TileWork *t, int i, int j, const float *map, const PartNorms *norms)
{
    const int x = row_start(&t->across, i), y = row_start(&t->down, j), k = t->in_scale;
    copy_tile(map, t->across.whole * k, x * k, y * k, tile_size(t), t->in, t->tile);
    return t->stage(t->stages, tile_size(t), t->tile, norms, t->made);
}

static Status draw_tiles(TileWork *t, const float *map, float *out)
{
    const size_t places =
        (size_t)t->across.whole * (size_t)t->down.whole * (size_t)(t->out_scale * t->out_scale);
    const PartNorms norms = {.parts = 1, .given = t->norms.given};
    memset(out, 0, places * (size_t)t->out * sizeof *out);
    for (int j = 0; j < t->down.count; j++)
        for (int i = 0; i < t->across.count; i++) {
            TRY(make_tile(t, i, j, map, &norms));
            row_weights(&t->across, i, t->out_scale, t->weights_x);
            row_weights(&t->down, j, t->out_scale, t->weights_y);
            add_tile(t, row_start(&t->across, i), row_start(&t->down, j), out);
        }
    for (size_t k = 0; k < places * (size_t)t->out; k++)
        out[k] /= t->sum[k / (size_t)t->out];
    return STATUS_OK;
}

/* Statistics -------------------------------------------------------------------------------------------- */

static PartNorms sample_norms(const float *correction, float *measured)
{
    return (PartNorms){
        .parts = PIECES_A_SIDE * PIECES_A_SIDE, .correction = correction, .measured = measured};
}

/* Pieces from one end of the map to the other. */
static Status sample(TileWork *t, const float *map)
{
    const Size size = size_multiplied(t->piece, t->in_scale);
    const size_t each = (size_t)size_area(size) * (size_t)t->in;
    const PartNorms norms = sample_norms(t->norms.correction, t->norms.measured);
    for (int j = 0; j < PIECES_A_SIDE; j++)
        for (int i = 0; i < PIECES_A_SIDE; i++) {
            const int x = (t->across.whole - t->piece.width) * i / (PIECES_A_SIDE - 1),
                      y = (t->down.whole - t->piece.height) * j / (PIECES_A_SIDE - 1);
            copy_tile(map, t->across.whole * t->in_scale, x * t->in_scale, y * t->in_scale, size, t->in,
                      t->tile + (size_t)(j * PIECES_A_SIDE + i) * each);
        }
    TRY(t->stage(t->stages, size, t->tile, &norms, t->made));
    tile_norms_sampled(&t->norms);
    return STATUS_OK;
}

/* Tile (i,j), measured where it is its own. */
static PartNorms measured_norms(const TileWork *t, int i, int j, const float *given, float *measured)
{
    const int left = row_core(&t->across, i), top = row_core(&t->down, j);
    return (PartNorms){.parts = 1,
                       .given = given,
                       .measured = measured,
                       .left = left - row_start(&t->across, i),
                       .top = top - row_start(&t->down, j),
                       .piece = {row_core(&t->across, i + 1) - left, row_core(&t->down, j + 1) - top}};
}

static Status measure_tiles(TileWork *t, const float *map)
{
    TileNorms *n = &t->norms;
    for (int j = 0; j < t->down.count; j++)
        for (int i = 0; i < t->across.count; i++) {
            const PartNorms norms = measured_norms(t, i, j, n->given, n->measured);
            TRY(make_tile(t, i, j, map, &norms));
            tile_norms_add(n, (double)size_area(norms.piece));
        }
    tile_norms_compare(n);
    return STATUS_OK;
}

static Status find_statistics(TileWork *t, const float *map)
{
    TRY(sample(t, map));
    for (int i = 0; i < CORRECTIONS; i++) {
        TRY(measure_tiles(t, map));
        TRY(sample(t, map));
    }
    return STATUS_OK;
}

/* The whole --------------------------------------------------------------------------------------------- */

static Status run_tiles(TileWork *t, const Model *m, bool encoder, const float *map, float *out)
{
    const int norms = vae_outer_norms(m->vae, encoder);
    Status s = tile_norms_new(norms, vae_config(m->vae)->norm_groups, &t->norms);
    if (s == STATUS_OK)
        s = allocate(t);
    if (s == STATUS_OK && norms > 0)
        s = find_statistics(t, map);
    if (s == STATUS_OK)
        s = draw_tiles(t, map, out);
    tile_norms_free(&t->norms);
    mem_free(t->tile);
    mem_free(t->weights_x);
    mem_free(t->sum);
    return s;
}

static Status plan_more(const TileWork *t, Size size, PartNorms norms, size_t *bytes)
{
    size_t more;
    TRY(t->plan(t->stages, size, &norms, &more));
    *bytes = *bytes > more ? *bytes : more;
    return STATUS_OK;
}

/* The most that the sample or a tile takes, or *bytes. A rehearsal looks at none of the statistics. */
static Status plan_tiles(const TileWork *t, size_t *bytes)
{
    float any = 0;
    TRY(plan_more(t, size_multiplied(t->piece, t->in_scale), sample_norms(&any, &any), bytes));
    TRY(plan_more(t, tile_size(t), (PartNorms){.parts = 1, .given = &any}, bytes));
    for (int j = 0; j < t->down.count; j++)
        for (int i = 0; i < t->across.count; i++)
            TRY(plan_more(t, tile_size(t), measured_norms(t, i, j, &any, &any), bytes));
    return STATUS_OK;
}

Status tiles_decode_plan(Stages *s, const Model *m, Size size, int side, size_t *bytes)
{
    const TileWork t = work_of(s, m, size, side, false);
    TRY(stage_decode_inner_plan(s, size, bytes));
    return plan_tiles(&t, bytes);
}

Status tiles_encode_plan(Stages *s, const Model *m, Size size, int side, size_t *bytes)
{
    const TileWork t = work_of(s, m, size, side, true);
    TRY(stage_encode_inner_plan(s, size, bytes));
    return plan_tiles(&t, bytes);
}

static float *between(const Model *m, Size size, bool encoder)
{
    return mem_alloc((size_t)size_area(size) * (size_t)vae_inner_channels(m->vae, encoder) * sizeof(float));
}

Status tiles_decode(Stages *s, const Model *m, Size size, int side, const float *z, float *out)
{
    TileWork t = work_of(s, m, size, side, false);
    float *h = between(m, size, false);
    if (!h)
        return STATUS_FAILED;
    Status status = stage_decode_inner(s, size, z, h);
    if (status == STATUS_OK)
        status = run_tiles(&t, m, false, h, out);
    mem_free(h);
    return status;
}

Status tiles_encode(Stages *s, const Model *m, Size size, int side, const float *pixels, float *out)
{
    TileWork t = work_of(s, m, size, side, true);
    float *h = between(m, size, true);
    if (!h)
        return STATUS_FAILED;
    Status status = run_tiles(&t, m, true, pixels, h);
    if (status == STATUS_OK)
        status = stage_encode_inner(s, size, h, out);
    mem_free(h);
    return status;
}
