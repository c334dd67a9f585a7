#include "keys.h"

#include "infer/files/keymap.h"
#include "kernels/base/mem.h"
#include "tucker.h"

#include <stdio.h>
#include <string.h>

/* The table --------------------------------------------------------------------------------------------- */

#define ALTERNATIVES 3

/* What stands behind a module's path, by spelling and role. The first of several is the one written; none:
 * that spelling does not know the kind. */
typedef const char *Endings[ADAPTER_SPELLINGS][ADAPTER_TENSORS][ALTERNATIVES];

static const Endings lora_endings = {
    [SPELLED_KOHYA] = {[LORA_DOWN] = {".lora_down.weight"},
                       [LORA_UP] = {".lora_up.weight"},
                       [LORA_MID] = {".lora_mid.weight"}},
    [SPELLED_PEFT] = {[LORA_DOWN] = {".lora_A.weight"}, [LORA_UP] = {".lora_B.weight"}},
    [SPELLED_DIFFUSERS] = {[LORA_DOWN] = {".lora.down.weight", ".lora_linear_layer.down.weight",
                                          "_lora.down.weight"},
                           [LORA_UP] = {".lora.up.weight", ".lora_linear_layer.up.weight",
                                        "_lora.up.weight"}},
};

#define LOHA_ENDINGS                                                                                         \
    {                                                                                                        \
        [LOHA_W1_A] = {".hada_w1_a"}, [LOHA_W1_B] = {".hada_w1_b"}, [LOHA_W2_A] = {".hada_w2_a"},            \
        [LOHA_W2_B] = {".hada_w2_b"}, [LOHA_T1] = {".hada_t1"}, [LOHA_T2] = {                                \
            ".hada_t2"                                                                                       \
        }                                                                                                    \
    }
static const Endings loha_endings = {[SPELLED_KOHYA] = LOHA_ENDINGS, [SPELLED_PEFT] = LOHA_ENDINGS};

#define LOKR_ENDINGS                                                                                         \
    {                                                                                                        \
        [LOKR_W1] = {".lokr_w1"}, [LOKR_W1_A] = {".lokr_w1_a"}, [LOKR_W1_B] = {".lokr_w1_b"},                \
        [LOKR_W2] = {".lokr_w2"}, [LOKR_W2_A] = {".lokr_w2_a"}, [LOKR_W2_B] = {".lokr_w2_b"}, [LOKR_T2] = {  \
            ".lokr_t2"                                                                                       \
        }                                                                                                    \
    }
static const Endings lokr_endings = {[SPELLED_KOHYA] = LOKR_ENDINGS, [SPELLED_PEFT] = LOKR_ENDINGS};

#define KIND(name) {&adapter_##name, &name##_endings},
static const struct {
    const AdapterKind *kind;
    const Endings *endings;
} KINDS[] = {ATL_ADAPTERS(KIND)};
#define KIND_COUNT (int)(sizeof KINDS / sizeof *KINDS)

#define DOTTED_PARTS                                                                                         \
    {                                                                                                        \
        [PART_UNET] = "unet.", [PART_TEXT] = "text_encoder.", [PART_TEXT_2] = "text_encoder_2."              \
    }
static const struct {
    const char *name;
    const char *parts[PART_COUNT]; /* what stands before a layer's path; NULL: it has no adapters */
    bool flat;                     /* "_" for the path's "." */
    const char *alpha;             /* ending, or NULL: said elsewhere */
} SPELLINGS[ADAPTER_SPELLINGS] = {
    [SPELLED_KOHYA] = {"kohya",
                       {[PART_UNET] = "lora_unet_", [PART_TEXT] = "lora_te_", [PART_TEXT_2] = "lora_te2_"},
                       true,
                       ".alpha"},
    [SPELLED_PEFT] = {"peft", DOTTED_PARTS, false, NULL},
    [SPELLED_DIFFUSERS] = {"diffusers", DOTTED_PARTS, false, NULL},
};

/* DoRA's lengths, beside any kind. */
static const struct {
    const char *ending;
    AdapterSpelling spelling;
} MAGNITUDES[] = {
    {".dora_scale", SPELLED_KOHYA},
    {".lora_magnitude_vector.weight", SPELLED_PEFT},
    {".lora_magnitude_vector", SPELLED_PEFT},
};

/* Parts of keys of what is not read. */
static const struct {
    const char *part, *kind;
} OTHER_KINDS[] = {
    {".oft_", "OFT"},
    {".boft", "BOFT"},
    {".lora_embedding_", "LoRA on embeddings"},
    {".on_input", "(IA)³"},
    {".w_norm", "norm weights"},
    {".b_norm", "norm weights"},
    {"bundle_emb.", "bundled embeddings"},
};

const char *adapter_spelling_name(AdapterSpelling s)
{
    return SPELLINGS[s].name;
}

bool adapter_spelling_has_alpha(AdapterSpelling s)
{
    return SPELLINGS[s].alpha != NULL;
}

/* Writing ------------------------------------------------------------------------------------------------ */

/* prefix + path + ending */
static char *joined(AdapterSpelling s, const char *prefix, const char *path, const char *ending)
{
    char *key = mem_printf("%s%s%s", prefix, path, ending);
    for (size_t i = 0; key && SPELLINGS[s].flat && i < strlen(prefix) + strlen(path); i++)
        if (key[i] == '.')
            key[i] = '_';
    return key;
}

/* What the original files call a layer of the UNet. */
static bool original_path(const AdapterLayer *l, char out[KEYMAP_MAX])
{
    static const char END[] = ".weight";
    const UNetConfig *u = unet_config(l->model->unet);
    char name[KEYMAP_MAX];
    if (snprintf(name, sizeof name, "%s%s", l->name, END) >= KEYMAP_MAX ||
        !keymap_unet_back(name, u->layers_per_block, u->up_attention, out))
        return false;
    out[strlen(out) - (sizeof END - 1)] = 0;
    return true;
}

static char *spelled(AdapterSpelling s, const AdapterLayer *l, const char *ending)
{
    char original[KEYMAP_MAX];
    if (s == SPELLED_KOHYA && l->model->family == FAMILY_SDXL) {
        if (l->part == PART_TEXT)
            return joined(s, "lora_te1_", l->name, ending);
        if (l->part == PART_UNET && original_path(l, original))
            return joined(s, "lora_unet_", original, ending);
    }
    return joined(s, SPELLINGS[s].parts[l->part], l->name, ending);
}

char *adapter_key(AdapterSpelling s, const AdapterLayer *l, const AdapterKind *kind, int role)
{
    for (int k = 0; k < KIND_COUNT; k++)
        if (KINDS[k].kind == kind && (*KINDS[k].endings)[s][role][0])
            return spelled(s, l, (*KINDS[k].endings)[s][role][0]);
    status_fail("%s's files have no name for a %s's %s", SPELLINGS[s].name, kind->title, kind->roles[role]);
    return NULL;
}

char *adapter_alpha_key(AdapterSpelling s, const AdapterLayer *l)
{
    if (SPELLINGS[s].alpha)
        return spelled(s, l, SPELLINGS[s].alpha);
    status_fail("%s's files have no tensor for alpha", SPELLINGS[s].name);
    return NULL;
}

/* Takes the name over. */
static Status take_module(char *name, const char *layer, char out[ADAPTER_MODULE_SIZE])
{
    if (!name)
        return STATUS_FAILED;
    const int n = snprintf(out, ADAPTER_MODULE_SIZE, "%s", name);
    mem_free(name);
    return n < ADAPTER_MODULE_SIZE ? STATUS_OK
                                   : status_fail("layer name `%s` is too long for an adapter file", layer);
}

/* What PEFT's path of a layer is brought to. */
static Status plain_module(PartId part, const char *path, char out[ADAPTER_MODULE_SIZE])
{
    return take_module(joined(SPELLED_KOHYA, SPELLINGS[SPELLED_KOHYA].parts[part], path, ""), path, out);
}

Status adapter_modules(const AdapterLayer *l, char out[ADAPTER_NAMES][ADAPTER_MODULE_SIZE], int *count)
{
    TRY(take_module(spelled(SPELLED_KOHYA, l, ""), l->name, out[0]));
    TRY(plain_module(l->part, l->name, out[1]));
    *count = strcmp(out[0], out[1]) ? 2 : 1;
    return STATUS_OK;
}

/* Reading ------------------------------------------------------------------------------------------------ */

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool ends_with(const char *text, size_t size, const char *end)
{
    const size_t length = strlen(end);
    return size >= length && memcmp(text + size - length, end, length) == 0;
}

/* Length of the path before the ending; 0: the key does not end so. PEFT in memory writes the adapter's name
 * into its endings: ".lora_A.default.weight", ".hada_w1_a.default". */
static size_t path_before(const char *key, const char *ending, AdapterSpelling s)
{
    const size_t size = strlen(key), length = strlen(ending);
    if (ends_with(key, size, ending))
        return size - length;
    const char *last = ends_with(ending, length, ".weight") ? ".weight" : "";
    if (s != SPELLED_PEFT || !ends_with(key, size, last))
        return 0;
    char stem[32]; /* ".lora_A." */
    snprintf(stem, sizeof stem, "%.*s.", (int)(length - strlen(last)), ending);
    const char *at = strstr(key, stem);
    return at && (size_t)(at - key) + strlen(stem) + strlen(last) < size ? (size_t)(at - key) : 0;
}

/* Finds the ending in the table; returns the length of the path before it, 0: it is none. */
static size_t find_ending(const char *key, AdapterKey *out)
{
    const size_t size = strlen(key);
    for (int k = 0; k < KIND_COUNT; k++)
        for (int s = 0; s < ADAPTER_SPELLINGS; s++)
            for (int r = 0; r < ADAPTER_TENSORS; r++)
                for (int i = 0; i < ALTERNATIVES && (*KINDS[k].endings)[s][r][i]; i++) {
                    const size_t length = path_before(key, (*KINDS[k].endings)[s][r][i], (AdapterSpelling)s);
                    if (!length)
                        continue;
                    out->type = ADAPTER_KEY_TENSOR;
                    out->spelling = (AdapterSpelling)s;
                    out->kind = KINDS[k].kind;
                    out->role = r;
                    return length;
                }
    for (size_t i = 0; i < sizeof MAGNITUDES / sizeof *MAGNITUDES; i++) {
        const size_t length = path_before(key, MAGNITUDES[i].ending, MAGNITUDES[i].spelling);
        if (!length)
            continue;
        out->type = ADAPTER_KEY_MAGNITUDE;
        out->spelling = MAGNITUDES[i].spelling;
        return length;
    }
    for (int s = 0; s < ADAPTER_SPELLINGS; s++)
        if (SPELLINGS[s].alpha && ends_with(key, size, SPELLINGS[s].alpha)) {
            out->type = ADAPTER_KEY_ALPHA;
            out->spelling = SPELLED_PEFT;
            return size - strlen(SPELLINGS[s].alpha);
        }
    return 0;
}

static const char *other_kind(const char *key)
{
    for (size_t i = 0; i < sizeof OTHER_KINDS / sizeof *OTHER_KINDS; i++)
        if (strstr(key, OTHER_KINDS[i].part))
            return OTHER_KINDS[i].kind;
    const size_t size = strlen(key);
    return ends_with(key, size, ".diff") || ends_with(key, size, ".diff_b") ? "full differences" : NULL;
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
    if (ends_with(path, size, ".to_out") && size + 3 <= ADAPTER_MODULE_SIZE)
        memcpy(path + size, ".0", 3);
}

/* The module that a path names, whose layers' names begin where the part's prefix ends. */
static Status name_module(const char *path, AdapterKey *out)
{
    if (begins_with(path, "lora_unet_") || begins_with(path, "lora_te")) {
        out->spelling = SPELLED_KOHYA;
        out->part = begins_with(path, "lora_te2_") ? PART_TEXT_2
                    : begins_with(path, "lora_te") ? PART_TEXT
                                                   : PART_UNET;
        const size_t size = strlen(path);
        if (size >= ADAPTER_MODULE_SIZE)
            return status_fail("%s: the name is too long", path);
        memcpy(out->module, path, size + 1);
        return STATUS_OK;
    }
    if (out->spelling == SPELLED_KOHYA) /* an ending that both have, behind a path with dots */
        out->spelling = SPELLED_PEFT;
    if (begins_with(path, "base_model.model."))
        path += strlen("base_model.model.");
    out->part = PART_UNET;
    if (begins_with(path, "unet.")) {
        path += strlen("unet.");
    } else if (begins_with(path, "text_encoder.")) {
        path += strlen("text_encoder.");
        out->part = PART_TEXT;
    } else if (begins_with(path, "text_encoder_2.")) {
        path += strlen("text_encoder_2.");
        out->part = PART_TEXT_2;
    } else if (begins_with(path, "text_model.") || begins_with(path, "encoder.layers.")) {
        out->part = PART_TEXT;
    }
    char full[ADAPTER_MODULE_SIZE + 32];
    /* transformers 5 leaves text_model out */
    const bool is_short = out->part != PART_UNET && begins_with(path, "encoder.");
    snprintf(full, sizeof full, "%s%s", is_short ? "text_model." : "", path);
    return plain_module(out->part, full, out->module);
}

void adapter_key_parse(const char *key, AdapterKey *out)
{
    *out = (AdapterKey){.type = ADAPTER_KEY_UNKNOWN};
    const size_t length = find_ending(key, out);
    const char *other = length ? NULL : other_kind(key);
    char path[ADAPTER_MODULE_SIZE + 8];
    if (length && length < ADAPTER_MODULE_SIZE - 8) {
        snprintf(path, sizeof path, "%.*s", (int)length, key);
        drop_processor(path);
        if (name_module(path, out) == STATUS_OK)
            return;
    }
    *out = (AdapterKey){.type = other ? ADAPTER_KEY_OTHER : ADAPTER_KEY_UNKNOWN, .other = other};
}
