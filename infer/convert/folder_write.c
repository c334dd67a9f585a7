/* A diffusers folder of a model's stored tensors. */
#include "carry.h"
#include "convert.h"
#include "narrow.h"

#include "infer/safety/licence.h"
#include "kernels/base/mem.h"

#include <stdlib.h>

/* Items for all of the part's tensors; those of scales have names of their own. */
static Status list_items(PartId id, const StoredPart *p, const ConvertRequest *r, Narrow *narrow,
                         SafeItem *items, int *count)
{
    for (int i = 0; i < p->count; i++) {
        SafeItem *item = &items[(*count)++];
        *item = stored_item(&p->items[i], p->items[i].name, r->dtype);
        if (r->quantise && narrow_takes(id, &p->items[i]))
            TRY(narrow_item(narrow, item, &items[(*count)++]));
    }
    return STATUS_OK;
}

static Status write_part(const Model *m, PartId id, const char *folder, const ConvertRequest *r,
                         ConvertResult *out)
{
    static const TensorMeta meta[] = {{"format", "pt"}};
    StoredPart p;
    Narrow narrow = {0};
    int count = 0;
    TRY(stored_part_open(m, id, &p));
    SafeItem *items = mem_calloc(2 * (size_t)p.count + 1, sizeof *items);
    char *path = mem_printf("%s/%s/%s.safetensors", folder, PARTS[id].folder, PARTS[id].kind->stem);
    Status s = items && path ? list_items(id, &p, r, &narrow, items, &count) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = safetensors_write(path, items, count, meta, 1);
    out->tensors += p.count;
    out->quantised += narrow.count;
    for (int i = 1; i < count; i++)
        if (items[i - 1].fetch)
            mem_free((char *)items[i].name);
    narrow_free(&narrow);
    mem_free(path);
    mem_free(items);
    stored_part_close(&p);
    return s;
}

Status folder_write(const Model *m, const char *folder, const ConvertRequest *r, ConvertResult *out)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (model_has(m, (PartId)i))
            TRY(write_part(m, (PartId)i, folder, r, out));
    TRY(model_save_texts(m, folder, r->dtype));
    TRY(licence_carry(m, folder));
    TRY(carry_parts(m, folder));
    return carry_index(m, folder); /* last: the folder is whole */
}
