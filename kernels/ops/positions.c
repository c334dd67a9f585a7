/* Maps whose positions are others' positions: enlarged to any size, cut, or going on at the opposite edge.
 * The device looks the positions up as it looks up tokens, so all of them have it; there is no gradient. */
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
