/* Which samples a training step has. All samples of a step have one size; sizes take turns.
 *
 * A size's samples are an endless row: permutation after permutation of its own, so that a step runs on over
 * the end of one. A step belongs to one size, and sizes come in proportion to their samples: after any whole
 * number of epochs a size has had less than one step more or less than its share (the chairman assignment of
 * Tijdeman, 1980), and within an epoch its turns are shuffled. So everything follows from the seed and the
 * step's number, and a picture comes equally often, give or take one, where its size has samples enough for a
 * step. With one size this is a permutation of everything for each epoch. */
#ifndef ATL_ORDER_H
#define ATL_ORDER_H

#include "data/pictures/size.h"
#include "kernels/base/status.h"

typedef struct OrderOptions {
    const Size *sizes; /* of each position, unshuffled; borrowed while order_new runs */
    int64_t count;     /* of positions: the samples of an epoch */
    int batch;         /* samples of a step */
    uint64_t seed;
    int stream; /* 0, or 1 for the source beside: another order of the same */
} OrderOptions;

typedef struct Order Order;
Status order_new(const OrderOptions *o, Order **out);
void order_free(Order *o); /* NULL allowed */

/* A step's turn: its size, and where in the size's row its samples begin. */
typedef struct OrderTurn {
    int group; /* the size's number */
    Size size;
    int64_t first;
} OrderTurn;
/* Of step 1, 2, …: quick where steps are asked for one after the other. */
OrderTurn order_turn(Order *o, int64_t step);
/* The turn of an order whose steps go along with another's: group −1 if it has no samples of that size. */
OrderTurn order_follow(const Order *o, const OrderTurn *turn);
/* The position, unshuffled, of sample i of the turn. */
int64_t order_position(Order *o, const OrderTurn *turn, int64_t i);

/* The sizes, by width and then height. */
int order_groups(const Order *o);
Size order_size(const Order *o, int group);

#endif
