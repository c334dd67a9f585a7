/* A diffusers folder of a model's stored tensors. */
#include "carry.h"
#include "convert.h"
#include "stored.h"

#include "infer/files/tensor_list.h"
#include "infer/safety/licence.h"
#include "kernels/base/mem.h"

#include <stdlib.h>

static Status write_part(const Model *m, PartId id, const char *folder, const DType *dtype,
                         ConvertResult *out)
{
    static const TensorMeta meta[] = {{"format", "pt"}};
    StoredPart p;
    TRY(stored_part_open(m, id, &p));
    SafeItem *items = mem_calloc((size_t)p.count + 1, sizeof *items);
    char *path = mem_printf("%s/%s/%s.safetensors", folder, PARTS[id].folder, PARTS[id].kind->stem);
    Status s = items && path ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < p.count && s == STATUS_OK; i++)
        items[i] = stored_item(&p.items[i], p.items[i].name, dtype);
    if (s == STATUS_OK)
        s = safetensors_write(path, items, p.count, meta, 1);
    out->tensors += p.count;
    mem_free(path);
    mem_free(items);
    stored_part_close(&p);
    return s;
}

Status folder_write(const Model *m, const char *folder, const DType *dtype, ConvertResult *out)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (model_has(m, (PartId)i))
            TRY(write_part(m, (PartId)i, folder, dtype, out));
    TRY(model_save_texts(m, folder, dtype));
    TRY(licence_carry(m, folder));
    TRY(carry_parts(m, folder));
    return carry_index(m, folder); /* last: the folder is whole */
}
