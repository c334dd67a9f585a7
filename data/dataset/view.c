#include "view.h"

#include "kernels/base/mem.h"

Status view_add(View *v, const DatasetEntry *e, const char *path, const char *mask)
{
    if (!mem_grow(&v->rows, v->count, &v->capacity, sizeof *v->rows))
        return STATUS_FAILED;
    ViewRow *row = &v->rows[v->count++];
    *row = (ViewRow){.name = mem_strdup(e->name),
                     .caption = mem_strdup(e->caption),
                     .path = mem_strdup(path),
                     .mask = mask ? mem_strdup(mask) : NULL,
                     .length = e->size,
                     .size = e->picture,
                     .orientation = e->orientation,
                     .repeats = e->repeats,
                     .odd = e->odd};
    sha256(e->bytes, e->size, row->sha256);
    if (mask)
        sha256(e->mask, e->mask_size, row->mask_sha256);
    return row->name && row->caption && row->path && (row->mask || !mask) ? STATUS_OK : STATUS_FAILED;
}

void view_free(View *v)
{
    for (int i = 0; i < v->count; i++) {
        mem_free(v->rows[i].name);
        mem_free(v->rows[i].caption);
        mem_free(v->rows[i].path);
        mem_free(v->rows[i].mask);
    }
    mem_free(v->rows);
    *v = (View){0};
}
