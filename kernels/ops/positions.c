/* Maps whose positions are others' positions: enlarged to any size, cut, or going on at the opposite edge.
 * The device looks the positions up as it looks up tokens, so all of them have it; there is no gradient. A
 * rectangle of one map is rows of it, and of these a slice. */
#include "positions.h"
#include "kernels/base/mem.h"
#include "kernels/op.h"

static void fill_ids(const Tensor *x, Axis down, Axis across, int32_t *ids)
{
    const int64_t H = x->shape[1], W = x->shape[2];
    for (int64_t b = 0; b < x->shape[0]; b++)
        for (int64_t i = 0; i < down.count; i++)
            for (int64_t j = 0; j < across.count; j++)
                *ids++ = (int32_t)((b * H + down.at(i, H, down.count)) * W + across.at(j, W, across.count));
}

static Tensor *input_ids(Ctx *c, const Tensor *x, Axis down, Axis across)
{
    const int64_t n = x->shape[0] * down.count * across.count;
    int32_t *ids = c->live ? mem_alloc((size_t)n * sizeof *ids) : NULL;
    if (ids)
        fill_ids(x, down, across, ids);
    else if (c->live)
        op_check(c, STATUS_FAILED);
    Tensor *at = ctx_input(c, DTYPE_I32, 1, &n, ids);
    mem_free(ids);
    return at;
}

Tensor *take_positions(Ctx *c, const char *name, Tensor *x, Axis down, Axis across)
{
    const int64_t C = tensor_dim(x, -1), positions = tensor_rows(x);
    op_begin(c, name, NULL);
    if (c->recording && x->requires_grad)
        op_fail(c, "has no gradient: it is for drawing, not for training");
    Tensor *at = input_ids(c, x, down, across), *rows = reshape(c, x, 2, (int64_t[]){positions, C});
    op_begin(c, name, NULL);
    op_use(c, at), op_use(c, rows);
    Tensor *y = ctx_tensor(c, x->dtype, 4, (int64_t[]){x->shape[0], down.count, across.count, C});
    RUN(c, c->dev->embedding(at, rows, y));
    return y;
}

/* Nearest, as PyTorch's interpolate has it. */
static int64_t nearest(int64_t i, int64_t from, int64_t to)
{
    return i * from / to;
}

Tensor *upsample_to(Ctx *c, Tensor *x, int64_t height, int64_t width)
{
    return take_positions(c, "upsample_to", x, (Axis){height, nearest}, (Axis){width, nearest});
}

Tensor *crop(Ctx *c, Tensor *x, int64_t top, int64_t left, int64_t rows, int64_t columns)
{
    const int64_t H = x->shape[1], W = x->shape[2], C = tensor_dim(x, -1);
    op_begin(c, "crop", NULL);
    if (c->recording && x->requires_grad)
        op_fail(c, "has no gradient: it is for drawing, not for training");
    if (x->ndim != 4 || x->shape[0] != 1 || left < 0 || columns < 1 || left + columns > W)
        op_fail(c, "%lld columns from %lld on are no part of one map of %lld", (long long)columns,
                (long long)left, (long long)W);
    Tensor *band = slice_batch(c, reshape(c, x, 2, (int64_t[]){H, W * C}), top, rows);
    if (columns == W)
        return reshape(c, band, 4, (int64_t[]){1, rows, W, C});
    op_begin(c, "crop", NULL);
    op_use(c, band);
    Tensor *y = ctx_tensor(c, x->dtype, 2, (int64_t[]){rows, columns * C});
    RUN(c, c->dev->slice_channels(band, left * C, y));
    return reshape(c, y, 4, (int64_t[]){1, rows, columns, C});
}
