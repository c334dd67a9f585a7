/* How large a picture is, or a feature map: the width first, as people say it. Whatever has two sides takes
 * one of these, so that no caller gives them in another order than the function takes them. */
#ifndef ATL_SIZE_H
#define ATL_SIZE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Size {
    int width, height;
} Size;

static inline Size size_square(int side)
{
    return (Size){side, side};
}

static inline bool size_equal(Size a, Size b)
{
    return a.width == b.width && a.height == b.height;
}

static inline int64_t size_area(Size s)
{
    return (int64_t)s.width * s.height;
}

/* From a picture to its latents, and back: factor is the VAE's. */
static inline Size size_divided(Size s, int factor)
{
    return (Size){s.width / factor, s.height / factor};
}

static inline Size size_multiplied(Size s, int factor)
{
    return (Size){s.width * factor, s.height * factor};
}

/* The width where the height was. */
static inline Size size_turned(Size s)
{
    return (Size){s.height, s.width};
}

#endif
