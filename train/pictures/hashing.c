#include "hashing.h"

#include <string.h>

#define EDGE ((size_t)64 << 10) /* bytes of each tensor's beginning and end */

void hash_text(Sha256 *s, const char *text)
{
    sha256_update(s, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void hash_tensor(Sha256 *s, const char *name, const Tensor *t)
{
    char shape[128];
    if (!t)
        return;
    hash_text(s, name);
    hash_text(s, tensor_describe(t, shape, sizeof shape));
    const size_t bytes = tensor_bytes(t), edge = bytes < EDGE ? bytes : EDGE;
    sha256_update(s, t->data, edge);
    sha256_update(s, (const uint8_t *)t->data + bytes - edge, edge);
}

void hash_layers(Sha256 *s, const LayerSet *set)
{
    for (int i = 0; i < set->count; i++) {
        const Layer *l = set->items[i];
        hash_text(s, l->name);
        hash_tensor(s, "weight", l->weight);
        hash_tensor(s, "bias", l->bias);
    }
}

void hash_finish(Sha256 *s, char hex[SHA256_HEX_SIZE])
{
    uint8_t hash[SHA256_SIZE];
    sha256_final(s, hash);
    sha256_hex(hash, hex);
}
