/* The table of what a key is no use with, and how it is looked at. */
#include "schema.h"

#include <string.h>

#define NO_PRIOR "does nothing without prior preservation; give prior.path and prior.prompt"
#define NO_ADAPTERS "does nothing with method.kind: full, which has no adapters; remove it"
#define NOT_CACHED                                                                                           \
    "does not go with train.cache_latents: true (cached latents can only be mirrored); remove one of them"
#define VARIED "does not go with train.cache_text: true (a cached caption stays as it is); remove one of them"
#define NO_BUCKETS "does nothing with buckets: off, where every picture becomes the same square; remove it"
static const SchemaRule RULES[] = {
    {"method.rank", "method.kind", true, METHOD_FULL, NO_EXCUSE, NO_ADAPTERS},
    {"method.alpha", "method.kind", true, METHOD_FULL, NO_EXCUSE, NO_ADAPTERS},
    {"method.targets", "method.kind", true, METHOD_FULL, NO_EXCUSE, NO_ADAPTERS},
    {"method.init", "method.kind", true, METHOD_FULL, NO_EXCUSE, NO_ADAPTERS},
    {"train.epochs", "train.steps", false, 0, WHILE_OFF, "and train.steps are both given; keep one of them"},
    {"train.steps", "train.epochs", false, 0, WHILE_OFF, "and train.epochs are both given; keep one of them"},
    {"train.cache_text", "method.text_encoder", false, TEXTS_FROZEN, WHILE_OFF,
     "does not go with method.text_encoder: true (what it makes of a caption changes at every step); remove "
     "it"},
    {"optimizer.text_encoder_lr", "method.text_encoder", true, TEXTS_FROZEN, NO_EXCUSE,
     "does nothing without method.text_encoder: true; remove it, or train the text encoder"},
    {"optimizer.text_encoder_2_lr", "method.text_encoder", true, TEXTS_FROZEN, NO_EXCUSE,
     "does nothing without method.text_encoder: true; remove it, or train the text encoders"},
    {"optimizer.text_encoder_2_lr", "method.text_encoder", true, TEXTS_FIRST, NO_EXCUSE,
     "does nothing with method.text_encoder: first; remove it, or train both"},
    {"dataset.caption.shuffle", "train.cache_text", true, true, WHILE_OFF, VARIED},
    {"dataset.caption.tag_dropout", "train.cache_text", true, true, WHILE_OFF, VARIED},
    {"dataset.caption.wildcards", "train.cache_text", true, true, WHILE_OFF, VARIED},
    {"dataset.augment.shift", "train.cache_latents", true, true, WHILE_OFF, NOT_CACHED},
    {"dataset.augment.scale", "train.cache_latents", true, true, WHILE_OFF, NOT_CACHED},
    {"dataset.bucket_step", "dataset.buckets", true, false, WHILE_OFF, NO_BUCKETS},
    {"dataset.bucket_min", "dataset.buckets", true, false, WHILE_OFF, NO_BUCKETS},
    {"dataset.bucket_max", "dataset.buckets", true, false, WHILE_OFF, NO_BUCKETS},
    {"dataset.enlarge", "dataset.buckets", true, false, NO_EXCUSE, NO_BUCKETS},
    {"prior.*", "prior.weight", true, 0, SWITCHED_OFF, NO_PRIOR},
    {"prior.path", "model.init", true, MODEL_INIT_RANDOM, NO_EXCUSE,
     "does not go with model.init: random (a model without training has nothing to preserve); remove the "
     "section prior"},
    {"model.tf32", "model.dtype", false, DTYPE_F32, WHILE_OFF,
     "does nothing in 16 bits, which tensor cores multiply as they are; remove it, or set model.dtype: f32"},
    {"model.quantise", "method.kind", true, METHOD_FULL, NO_EXCUSE,
     "does not go with method.kind: full (weights that are trained are kept whole); remove it"},
    {"train.fused_backward", "method.kind", true, METHOD_LORA, WHILE_OFF,
     "does nothing with method.kind: lora, whose gradients are small; remove it"},
    {"train.fused_backward", "train.accumulate", false, 1, WHILE_OFF,
     "does not go with train.accumulate (a gradient moves its weight before the next batch adds to it); "
     "raise "
     "train.batch and leave train.accumulate at 1, or remove train.fused_backward"},
    {"train.fused_backward", "model.dtype", true, DTYPE_F16, WHILE_OFF,
     "does not go with model.dtype: f16 (whose scaled gradients may be too large when some weights have "
     "moved); "
     "write bf16 or f32, or remove it"},
    {"validation.every", "validation.share", true, 0, SWITCHED_OFF,
     "does nothing without validation.share; remove it, or hold out a share (0.1)"},
    {"preview.*", "preview.prompts", true, 0, WHILE_OFF,
     "does nothing without preview.prompts; remove it, or say what is to be drawn"},
};

const SchemaRule *schema_rules(int *count)
{
    *count = (int)(sizeof RULES / sizeof *RULES);
    return RULES;
}

bool schema_rule_is_for(const SchemaRule *r, const char *path)
{
    const size_t length = strlen(r->key);
    if (r->key[length - 1] == '*')
        return strncmp(r->key, path, length - 1) == 0 && strcmp(r->other, path) != 0;
    return strcmp(r->key, path) == 0;
}

const SchemaRule *schema_idle(const SchemaKey *k, const Config *c, int dataset)
{
    int count;
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++) {
        const SchemaRule *r = &RULES[i];
        if (!schema_rule_is_for(r, k->path))
            continue;
        const double other = schema_number(&schema_keys(&count)[schema_find(r->other)], c, dataset);
        if ((other == r->value) == r->is && !(r->excuse == WHILE_OFF && schema_number(k, c, dataset) == 0))
            return r;
    }
    return NULL;
}
