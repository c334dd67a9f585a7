/* The layers that are trained, by the names others have for the choice. */
#include "adapters.h"

#include "infer/models/parts.h"
#include "kernels/base/mem.h"

#include <string.h>

static bool ends_with_any(const char *name, const char *const *endings, int count)
{
    const size_t size = strlen(name);
    for (int i = 0; i < count; i++) {
        const size_t length = strlen(endings[i]);
        if (size >= length && strcmp(name + size - length, endings[i]) == 0)
            return true;
    }
    return false;
}

static bool in_attention(const char *name)
{
    static const char *const ENDINGS[] = {".to_q", ".to_k", ".to_v", ".to_out.0"};
    return strstr(name, ".transformer_blocks.") && ends_with_any(name, ENDINGS, 4);
}

static bool in_attention_or_mlp(const char *name)
{
    static const char *const ENDINGS[] = {".ff.net.0.proj", ".ff.net.2", ".proj_in", ".proj_out"};
    return in_attention(name) || (strstr(name, ".attentions.") && ends_with_any(name, ENDINGS, 4));
}

static bool in_text_layer(const char *name)
{
    static const char *const ENDINGS[] = {".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2"};
    return ends_with_any(name, ENDINGS, 6);
}

static Status select_layers(const LayerSet *set, bool (*wanted)(const char *name), Layer ***out, int *count)
{
    *count = 0;
    *out = mem_alloc((size_t)set->count * sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    for (int i = 0; i < set->count; i++)
        if (wanted(set->items[i]->name))
            (*out)[(*count)++] = set->items[i];
    return STATUS_OK;
}

Status lora_unet_layers(Model *m, LoraTargets targets, Layer ***out, int *count)
{
    return select_layers(unet_layers(m->unet), targets == LORA_ATTENTION ? in_attention : in_attention_or_mlp,
                         out, count);
}

Status lora_text_layers(Model *m, PartId part, Layer ***out, int *count)
{
    return select_layers(part_layers(part, m), in_text_layer, out, count);
}
