/* What the tensor cores, ldmatrix and cp.async do, plainly: the arithmetic behind include/mma_twins.h. */
#include "block.h"
#include "watch.h"

#include <stdlib.h>
#include <string.h>

/* Products ---------------------------------------------------------------------------------------------- */

static float halves[65536]; /* each half as a float */

static void fill_halves(void)
{
    for (unsigned i = 0; i < 65536; i++) {
        const unsigned exponent = i >> 10 & 31, fraction = i & 0x3ff;
        float x;
        if (exponent == 31) {
            const unsigned bits = 0x7f800000 | fraction << 13;
            memcpy(&x, &bits, 4);
        } else {
            x = exponent ? (float)(fraction + 0x400) : (float)fraction;
            for (unsigned e = exponent ? exponent : 1; e < 25; e++)
                x /= 2;
            for (unsigned e = 25; e < exponent; e++)
                x *= 2;
        }
        halves[i] = i & 0x8000 ? -x : x;
    }
}

static float element(unsigned both, int which, bool bf16)
{
    const unsigned bits = both >> 16 * which & 0xffff;
    if (!bf16)
        return halves[bits];
    float x;
    const unsigned u = bits << 16;
    memcpy(&x, &u, 4);
    return x;
}

/* d += a b for depth 8 or 16; who holds what: kernels/cuda/base/mma.h. Row by row of a, with b (depth,8). */
static void multiply(void **operands, int depth, bool bf16)
{
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < STAND_IN_WARP; lane++) {
        const StandInProduct *p = operands[lane];
        const int g = lane / 4, t = lane % 4 * 2;
        for (int k = 0; k < depth; k += 8)
            for (int i = 0; i < 2; i++) {
                a[g][k + t + i] = element(p->a[k / 4], i, bf16);
                a[g + 8][k + t + i] = element(p->a[k / 4 + 1], i, bf16);
                b[k + t + i][g] = element(p->b[k / 8], i, bf16);
            }
        memcpy(&d[g][t], p->d, 8);
        memcpy(&d[g + 8][t], (char *)p->d + 8, 8);
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < depth; k++)
            for (int n = 0; n < 8; n++)
                d[m][n] += a[m][k] * b[k][n];
    for (int lane = 0; lane < STAND_IN_WARP; lane++) {
        const StandInProduct *p = operands[lane];
        const int g = lane / 4, t = lane % 4 * 2;
        memcpy(p->d, &d[g][t], 8);
        memcpy((char *)p->d + 8, &d[g + 8][t], 8);
    }
}

static void multiply_f16(void **operands, unsigned mask, int depth)
{
    (void)mask;
    multiply(operands, depth, false);
}

static void multiply_bf16(void **operands, unsigned mask, int depth)
{
    (void)mask;
    multiply(operands, depth, true);
}

void stand_in_mma(const char *name, int depth, bool bf16, StandInProduct p, const char *file, int line)
{
    if (halves[1] == 0)
        fill_halves();
    if (bf16 && stand_in_arch() < 80)
        stand_in_fail(file, line, "%s: this card has no products of bf16", name);
    stand_in_collective(name, 0xffffffffu, depth, &p, bf16 ? multiply_bf16 : multiply_f16, file, line);
}

static float number_of(unsigned bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* The same of TF32, (16,8) by (8,8). */
static void multiply_tf32(void **operands, unsigned mask, int detail)
{
    (void)mask, (void)detail;
    float a[16][8], b[8][8]; /* b by columns */
    for (int lane = 0; lane < STAND_IN_WARP; lane++) {
        const StandInProduct *p = operands[lane];
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++)
            a[g + i % 2 * 8][t + i / 2 * 4] = number_of(p->a[i]);
        for (int i = 0; i < 2; i++)
            b[g][t + i * 4] = number_of(p->b[i]);
    }
    for (int lane = 0; lane < STAND_IN_WARP; lane++) {
        float *d = ((const StandInProduct *)operands[lane])->d;
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 8; k++)
                d[i] += a[lane / 4 + i / 2 * 8][k] * b[lane % 4 * 2 + i % 2][k];
    }
}

void stand_in_mma_tf32(const char *name, StandInProduct p, const char *file, int line)
{
    if (stand_in_arch() < 80)
        stand_in_fail(file, line, "%s: this card has no products of TF32", name);
    unsigned all = 0;
    for (int i = 0; i < 4; i++)
        all |= p.a[i] | p.b[i / 2];
    if (all & 0x1fff)
        stand_in_fail(file, line, "%s: an operand is f32 that was not rounded to TF32", name);
    stand_in_collective(name, 0xffffffffu, 8, &p, multiply_tf32, file, line);
}

/* The same of bytes, (16,32) by (32,8). */
static void multiply_bytes(void **operands, unsigned mask, int detail)
{
    (void)mask, (void)detail;
    unsigned char a[16][32];
    signed char b[8][32]; /* by columns */
    for (int lane = 0; lane < STAND_IN_WARP; lane++) {
        const StandInProduct *p = operands[lane];
        const int g = lane / 4, t = lane % 4 * 4;
        for (int i = 0; i < 4; i++)
            memcpy(&a[g + i % 2 * 8][t + i / 2 * 16], &p->a[i], 4);
        for (int i = 0; i < 2; i++)
            memcpy(&b[g][t + i * 16], &p->b[i], 4);
    }
    for (int lane = 0; lane < STAND_IN_WARP; lane++) {
        int *d = ((const StandInProduct *)operands[lane])->d;
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 32; k++)
                d[i] += a[lane / 4 + i / 2 * 8][k] * b[lane % 4 * 2 + i % 2][k];
    }
}

void stand_in_mma_bytes(const char *name, StandInProduct p, const char *file, int line)
{
    stand_in_collective(name, 0xffffffffu, 32, &p, multiply_bytes, file, line);
}

/* Loading matrices -------------------------------------------------------------------------------------- */

static void load(void **operands, int count, bool transposed)
{
    unsigned short m[4][8][8];
    for (int i = 0; i < count * 8; i++)
        memcpy(m[i / 8][i % 8], ((const StandInLoad *)operands[i])->row, 16);
    for (int lane = 0; lane < STAND_IN_WARP; lane++) {
        const StandInLoad *l = operands[lane];
        const int row = lane / 4, column = lane % 4 * 2;
        for (int i = 0; i < count; i++)
            l->r[i] = transposed ? m[i][column][row] | (unsigned)m[i][column + 1][row] << 16
                                 : m[i][row][column] | (unsigned)m[i][row][column + 1] << 16;
    }
}

static void load_plain(void **operands, unsigned mask, int count)
{
    (void)mask;
    load(operands, count, false);
}

static void load_transposed(void **operands, unsigned mask, int count)
{
    (void)mask;
    load(operands, count, true);
}

void stand_in_ldmatrix(const char *name, int count, bool transposed, StandInLoad l, const char *file,
                       int line)
{
    /* Turing wants an address of every lane; so that a kernel runs there, this does on every card. */
    stand_in_access(l.row, 16, true, name, file, line);
    if (watch_on && stand_in_self->lane < count * 8)
        watch_access(l.row, 16, WATCH_READ, true, __builtin_return_address(0));
    stand_in_collective(name, 0xffffffffu, count, &l, transposed ? load_transposed : load_plain, file, line);
}

/* Copies behind the arithmetic -------------------------------------------------------------------------- */

typedef struct Copy {
    void *to;
    const void *from; /* NULL: zeros */
    int group;
    const void *place; /* in the kernel */
} Copy;

/* A thread's copies that no wait has covered, in the order they were begun. */
typedef struct Copies {
    Copy *list;
    int count, room;
    int group; /* the one that is open; those before it are closed */
} Copies;

static Copies copies[1024];

static void land(const Copy *c)
{
    if (watch_on)
        watch_access(c->to, 16, WATCH_LANDS, true, c->place);
    if (c->from)
        memcpy(c->to, c->from, 16);
    else
        memset(c->to, 0, 16);
}

void stand_in_copy_async(void *shared, const void *global, bool valid, const char *file, int line)
{
    stand_in_access(shared, 16, true, "copy_async_16, where to", file, line);
    if (valid)
        stand_in_access(global, 16, false, "copy_async_16, where from", file, line);
    const Copy c = {shared, valid ? global : NULL, copies[stand_in_self->number].group,
                    __builtin_return_address(0)};
    if (watch_on) {
        watch_access(shared, 16, WATCH_WRITE, true, c.place);
        if (valid)
            watch_access(global, 16, WATCH_READ, true, c.place);
    }
    if (stand_in_arch() < 80) {
        land(&c);
        return;
    }
    memset(shared, STAND_IN_POISON, 16);
    Copies *mine = &copies[stand_in_self->number];
    if (mine->count == mine->room) {
        mine->room = mine->room ? 2 * mine->room : 64;
        mine->list = realloc(mine->list, (size_t)mine->room * sizeof *mine->list);
        if (!mine->list)
            abort();
    }
    mine->list[mine->count++] = c;
}

void stand_in_copy_commit(void)
{
    copies[stand_in_self->number].group++;
}

void stand_in_copy_wait(int groups)
{
    Copies *mine = &copies[stand_in_self->number];
    int done = 0;
    while (done < mine->count && mine->list[done].group < mine->group - groups)
        land(&mine->list[done++]);
    if (done) {
        mine->count -= done;
        memmove(mine->list, mine->list + done, (size_t)mine->count * sizeof *mine->list);
    }
}

/* Nobody can tell any more what a copy under way brings. */
void stand_in_thread_ends(int number)
{
    copies[number].count = copies[number].group = 0;
}
