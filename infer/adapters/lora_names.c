#include "lora_names.h"

#include <stdio.h>
#include <string.h>

static bool ends_with(const char *text, size_t size, const char *end)
{
    const size_t length = strlen(end);
    return size >= length && memcmp(text + size - length, end, length) == 0;
}

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

Status lora_module_name(const char *layer, bool text_encoder, char *out, size_t size)
{
    const int n = snprintf(out, size, "%s%s", text_encoder ? "lora_te_" : "lora_unet_", layer);
    if (n < 0 || (size_t)n >= size)
        return status_fail("layer name `%s` is too long for a LoRA file", layer);
    for (; *out; out++)
        if (*out == '.')
            *out = '_';
    return STATUS_OK;
}

/* What stands after the module's path. */
static const struct {
    const char *suffix;
    LoraRole role;
} ENDINGS[] = {
    {".lora_down.weight", LORA_KEY_DOWN},
    {".lora_up.weight", LORA_KEY_UP},
    {".alpha", LORA_ALPHA},
    {".lora_A.weight", LORA_KEY_DOWN},
    {".lora_B.weight", LORA_KEY_UP},
    {".lora.down.weight", LORA_KEY_DOWN},
    {".lora.up.weight", LORA_KEY_UP},
    {".lora_linear_layer.down.weight", LORA_KEY_DOWN},
    {".lora_linear_layer.up.weight", LORA_KEY_UP},
    {"_lora.down.weight", LORA_KEY_DOWN},
    {"_lora.up.weight", LORA_KEY_UP},
};

static const struct {
    const char *part, *kind;
} OTHER_KINDS[] = {
    {".hada_", "LoHa"},
    {".lokr_", "LoKr"},
    {".oft_", "OFT"},
    {".boft", "BOFT"},
    {".dora_scale", "DoRA"},
    {".lora_magnitude_vector", "DoRA"},
    {".lora_mid.", "LoCon with a middle (Tucker) part"},
    {".lora_embedding_", "LoRA on embeddings"},
    {".on_input", "(IA)³"},
    {".w_norm", "norm weights"},
    {".b_norm", "norm weights"},
    {"bundle_emb.", "bundled embeddings"},
};

/* Length of the path before the ending, and what the ending says; 0 if there is none that is known. PEFT in
 * memory writes the adapter's name between: ".lora_A.default.weight". */
static size_t split_ending(const char *key, LoraRole *role)
{
    const size_t size = strlen(key);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (ends_with(key, size, ENDINGS[i].suffix)) {
            *role = ENDINGS[i].role;
            return size - strlen(ENDINGS[i].suffix);
        }
    const char *a = strstr(key, ".lora_A."), *b = strstr(key, ".lora_B.");
    if ((a || b) && ends_with(key, size, ".weight")) {
        *role = a ? LORA_KEY_DOWN : LORA_KEY_UP;
        return (size_t)((a ? a : b) - key);
    }
    return 0;
}

/* "….attn1.processor.to_q" of diffusers' attention processors is the layer "….attn1.to_q"; its to_out is
 * to_out.0. */
static void drop_processor(char *path)
{
    char *at = strstr(path, ".processor.");
    if (!at)
        return;
    memmove(at, at + strlen(".processor"), strlen(at + strlen(".processor")) + 1);
    const size_t size = strlen(path);
    if (ends_with(path, size, ".to_out") && size + 3 <= LORA_NAME_SIZE)
        memcpy(path + size, ".0", 3);
}

static Status name_module(const char *path, char *out)
{
    if (begins_with(path, "lora_unet_") || begins_with(path, "lora_te")) {
        const size_t size = strlen(path);
        if (size >= LORA_NAME_SIZE)
            return status_fail("%s: the name is too long", path);
        memcpy(out, path, size + 1);
        return STATUS_OK;
    }
    if (begins_with(path, "base_model.model."))
        path += strlen("base_model.model.");
    bool text = false;
    if (begins_with(path, "unet.")) {
        path += strlen("unet.");
    } else if (begins_with(path, "text_encoder.")) {
        path += strlen("text_encoder.");
        text = true;
    } else {
        text = begins_with(path, "text_model.") || begins_with(path, "encoder.layers.");
    }
    char full[LORA_NAME_SIZE + 32];
    const bool short_text = text && begins_with(path, "encoder."); /* transformers 5 leaves text_model out */
    snprintf(full, sizeof full, "%s%s", short_text ? "text_model." : "", path);
    return lora_module_name(full, text, out, LORA_NAME_SIZE);
}

void lora_key_parse(const char *key, LoraKey *out)
{
    *out = (LoraKey){.role = LORA_UNKNOWN};
    char path[LORA_NAME_SIZE + 8];
    for (size_t i = 0; i < sizeof OTHER_KINDS / sizeof *OTHER_KINDS; i++)
        if (strstr(key, OTHER_KINDS[i].part)) {
            out->role = LORA_OTHER_KIND;
            out->kind = OTHER_KINDS[i].kind;
            return;
        }
    if (ends_with(key, strlen(key), ".diff") || ends_with(key, strlen(key), ".diff_b")) {
        out->role = LORA_OTHER_KIND;
        out->kind = "full differences";
        return;
    }
    LoraRole role;
    const size_t length = split_ending(key, &role);
    if (!length || length >= LORA_NAME_SIZE - 8)
        return;
    snprintf(path, sizeof path, "%.*s", (int)length, key);
    out->kohya = begins_with(path, "lora_");
    drop_processor(path);
    if (name_module(path, out->module) == STATUS_OK)
        out->role = role;
}
