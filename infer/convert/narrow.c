/* A weight is read when its turn to be written has come, so that one of them is in memory at a time. */
#include "narrow.h"

#include "kernels/base/mem.h"

#include <string.h>

struct NarrowItem {
    Narrow *all;
    SafePiece from[SAFE_PIECES]; /* of as many rows each */
    int pieces;
    Tensor weight, scales;
};

bool narrow_takes(PartId id, const StoredTensor *t)
{
    static const char ending[] = ".weight";
    const size_t n = strlen(t->name), end = sizeof ending - 1;
    return id != PART_VAE && n > end && !strcmp(t->name + n - end, ending) &&
           element_is_float(t->piece.entry->type) && layerset_quantises(t->name, t->ndim, t->shape);
}

/* Numbers and scales of the weight, for both items. */
static Status fill_in(const Tensor *t, void *arg)
{
    NarrowItem *i = arg;
    const int64_t rows = i->weight.shape[0], each = rows / i->pieces, n = i->from[0].count / each;
    (void)t;
    mem_free(i->all->numbers);
    mem_free(i->all->row);
    i->all->row = mem_alloc((size_t)n * sizeof(float));
    i->all->numbers = mem_alloc((size_t)(rows * n) + (size_t)rows * sizeof(float));
    if (!i->all->numbers || !i->all->row)
        return STATUS_FAILED;
    float *scales = i->all->numbers;
    int8_t *q = (int8_t *)(scales + rows);
    for (int64_t r = 0; r < rows; r++) {
        const SafePiece *p = &i->from[r / each];
        const int64_t first = p->first + r % each * n;
        TRY(tensor_entry_check_finite(p->entry, first, n, DTYPE_F32));
        TRY(tensor_entry_read_part(p->entry, first, n, DTYPE_F32, i->all->row));
        scales[r] = quantise_row(i->all->row, n, q + r * n);
    }
    tensorfile_release(i->from[0].entry->file);
    i->weight.data = q;
    i->scales.data = scales;
    return STATUS_OK;
}

Status narrow_item(Narrow *n, SafeItem *item, SafeItem *scales)
{
    if (!mem_grow(&n->items, n->count, &n->capacity, sizeof *n->items))
        return STATUS_FAILED;
    NarrowItem *i = mem_calloc(1, sizeof *i);
    if (!i)
        return STATUS_FAILED;
    n->items[n->count++] = i;
    *i = (NarrowItem){.all = n,
                      .pieces = item->piece_count,
                      .weight = {.dtype = DTYPE_I8, .ndim = item->ndim},
                      .scales = {.dtype = DTYPE_F32, .ndim = 1}};
    memcpy(i->from, item->pieces, sizeof i->from);
    memcpy(i->weight.shape, item->shape, sizeof item->shape);
    i->scales.shape[0] = item->shape[0];
    char *name = mem_printf("%s" WEIGHTS_SCALE, item->name);
    *scales = (SafeItem){.name = name, .tensor = &i->scales, .dtype = DTYPE_F32, .ndim = -1};
    *item = (SafeItem){
        .name = item->name, .tensor = &i->weight, .dtype = DTYPE_I8, .ndim = -1, .fetch = fill_in, .arg = i};
    return name ? STATUS_OK : STATUS_FAILED;
}

void narrow_free(Narrow *n)
{
    for (int i = 0; i < n->count; i++)
        mem_free(n->items[i]);
    mem_free(n->items);
    mem_free(n->numbers);
    mem_free(n->row);
    *n = (Narrow){0};
}
