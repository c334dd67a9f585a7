#include "hashing.h"

#include "kernels/base/mem.h"

#include <string.h>

#define EDGE ((size_t)64 << 10) /* bytes of each tensor's beginning and end */

void hash_text(Sha256 *s, const char *text)
{
    sha256_update(s, text ? text : "", text ? strlen(text) + 1 : 1);
}

static Status hash_tensor(Sha256 *s, const char *name, const Tensor *t)
{
    char shape[128];
    if (!t)
        return STATUS_OK;
    hash_text(s, name);
    hash_text(s, tensor_describe(t, shape, sizeof shape));
    const int64_t n = tensor_count(t), most = (int64_t)(EDGE / dtype_size(t->dtype)),
                  edge = n < most ? n : most;
    uint8_t *bytes = mem_alloc(EDGE);
    Status status = bytes ? tensor_get_part(t, 0, edge, bytes, t->dtype) : STATUS_FAILED;
    if (status == STATUS_OK) {
        sha256_update(s, bytes, (size_t)edge * dtype_size(t->dtype));
        status = tensor_get_part(t, n - edge, edge, bytes, t->dtype);
    }
    if (status == STATUS_OK)
        sha256_update(s, bytes, (size_t)edge * dtype_size(t->dtype));
    mem_free(bytes);
    return status;
}

Status hash_layers(Sha256 *s, const LayerSet *set)
{
    for (int i = 0; i < set->count; i++) {
        const Layer *l = set->items[i];
        hash_text(s, l->name);
        TRY(hash_tensor(s, "weight", l->weight));
        TRY(hash_tensor(s, "bias", l->bias));
    }
    return STATUS_OK;
}

void hash_finish(Sha256 *s, char hex[SHA256_HEX_SIZE])
{
    uint8_t hash[SHA256_SIZE];
    sha256_final(s, hash);
    sha256_hex(hash, hex);
}
