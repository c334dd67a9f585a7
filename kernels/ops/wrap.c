/* Convolutions on a map that goes on at the opposite edge (ctx_set_wrap): the map is continued by what the
 * convolution's padding asks for, then nothing is padded along that axis. A map that is doubled on the way is
 * continued by one position before, which are two after, and these are cut off. */
#include "kernels/op.h"
#include "conv.h"
#include "positions.h"

static int64_t same(int64_t i, int64_t from, int64_t to)
{
    (void)from, (void)to;
    return i;
}

/* One position more at both ends. */
static int64_t around(int64_t i, int64_t from, int64_t to)
{
    (void)to;
    return (i + from - 1) % from;
}

/* One more at the end. */
static int64_t after(int64_t i, int64_t from, int64_t to)
{
    (void)to;
    return i % from;
}

/* The inside of what is longer by four. */
static int64_t inside(int64_t i, int64_t from, int64_t to)
{
    return i + (from - to) / 2;
}

static Axis continued(int64_t side, bool wraps, int before)
{
    return !wraps ? (Axis){side, same} : before ? (Axis){side + 2, around} : (Axis){side + 1, after};
}

Tensor *conv2d_wrapped(Ctx *c, const Layer *l, ConvShape s, Tensor *x, Tensor *per_picture, Tensor *residual)
{
    const bool wraps_x = c->wrap & WRAP_X, wraps_y = c->wrap & WRAP_Y;
    const int64_t H = x->shape[1], W = x->shape[2];
    Tensor *wide =
        take_positions(c, "wrap", x, continued(H, wraps_y, s.pad_top), continued(W, wraps_x, s.pad_left));
    if (s.upsample) {
        Tensor *y = conv2d_plain(c, l, s, wide, per_picture, residual);
        return take_positions(c, "wrap", y, (Axis){2 * H, inside}, (Axis){2 * W, inside});
    }
    if (wraps_y)
        s.pad_top = s.pad_bottom = 0;
    if (wraps_x)
        s.pad_left = s.pad_right = 0;
    return conv2d_plain(c, l, s, wide, per_picture, residual);
}
