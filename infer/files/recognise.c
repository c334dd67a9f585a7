/* What a file is that was given as a model or a LoRA and is none: told by its first bytes or its tensors'
 * names, so that the message can say what to do instead. */
#include "recognise.h"

#include "keymap.h"

#include <string.h>

#define PICKLED                                                                                              \
    "is a pickle that torch.save did not write; of pickled files only torch.save's are read (.ckpt, .pt, "   \
    ".bin)"
#define WEB_PAGE "is a web page, not what was to be downloaded (a login or licence page?)"

static const struct {
    const char *bytes;
    size_t count;
    const char *what;
} MAGIC[] = {
    {"\x80\x02", 2, PICKLED},
    {"\x80\x03", 2, PICKLED},
    {"\x80\x04", 2, PICKLED},
    {"GGUF", 4, "is a GGUF file, quantised for another program; take the .safetensors file"},
    {"version https://git-lfs", 23,
     "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"},
    {"\x89HDF\r\n\x1a\n", 8, "is an HDF5 file (a dataset?), not a safetensors file"},
    {"\x89PNG", 4, "is a picture, not a safetensors file"},
    {"\xff\xd8\xff", 3, "is a picture, not a safetensors file"},
    {"RIFF", 4, "is a picture, not a safetensors file"},
    {"GIF8", 4, "is a picture, not a safetensors file"},
    {"<!DOCTYPE", 9, WEB_PAGE},
    {"<!doctype", 9, WEB_PAGE},
    {"<html", 5, WEB_PAGE},
};

/* Letters and line ends alone; the length that a safetensors file begins with has zeros. */
static bool is_text(const uint8_t *head, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((head[i] < ' ' && !strchr("\t\r\n", head[i])) || head[i] == 0 || head[i] > '~')
            return false;
    return n >= 16;
}

Status refuse_other_files(const char *path, const uint8_t *head, size_t n)
{
    for (size_t i = 0; i < sizeof MAGIC / sizeof *MAGIC; i++)
        if (n >= MAGIC[i].count && !memcmp(head, MAGIC[i].bytes, MAGIC[i].count))
            return status_refuse("%s: %s", path, MAGIC[i].what);
    if (is_text(head, n))
        return status_refuse("%s: is a text, not a safetensors file", path);
    return STATUS_OK;
}

#define LORA "lora", "is a LoRA", ", not a model; give it with --lora beside the model it was made for"
#define CONTROLNET "controlnet", "is a ControlNet", ", not a model"
#define EMBEDDING "embedding", "is a textual-inversion embedding", ", not a model"
#define WHOLE "; give the file or folder of the whole model"
#define SUPPORTED "; Stable Diffusion 1.x, 2.x and XL are supported"
#define EDM(of) "edm", "is a model with a noise schedule of its own (EDM, as " of " has it)", SUPPORTED
#define UNCLIP                                                                                               \
    "unclip", "is a Stable Diffusion 2 unCLIP model, which draws after a picture's embedding",               \
        "; such models are not supported: take the model it was made from, with --init for a picture to "    \
        "begin with"
#define VAE "vae", "is an autoencoder (VAE) alone", WHOLE ", and this one with --vae"

/* In this order: a LoRA of an SDXL model is a LoRA, SDXL's refiner has a UNet and a VAE too. */
static const FileKind KINDS[] = {
    {"^lora_unet_", LORA},
    {"^lora_te", LORA},
    {"^lycoris_", LORA},
    {".lora_A.", LORA},
    {".lora_down.", LORA},
    {".lora.down.", LORA},
    {".lora_linear_layer.", LORA},
    {".hada_w1_a", LORA},
    {".lokr_w1", LORA},
    {"^controlnet_cond_embedding.", CONTROLNET},
    {"^control_model.", CONTROLNET},
    {"^input_hint_block.", CONTROLNET},
    {"^conditioner.embedders.0.model.", "sdxl_refiner", "is SDXL's refiner",
     ", which only finishes what another model has drawn; give SDXL's base model"},
    {"^noise_augmentor.", UNCLIP},
    {"^edm_mean", EDM("Playground 2.5")},
    {".scaled_fp8", "scaled_fp8", "has weights in 8 bits with scales beside them (ComfyUI's scaled fp8)",
     "; take the file in 16 bits"},
    {"^edm_vpred.", EDM("CosXL")},
    {"joint_blocks.", "sd3", "is a Stable Diffusion 3 model", SUPPORTED},
    {"double_blocks.", "flux", "is a Flux model", SUPPORTED},
    {"^" KEYMAP_UNET "input_blocks.0.0.weight", "model", "is a Stable Diffusion model", ""},
    {"^text_model.", "text_encoder", "is a text encoder alone", WHOLE},
    {"^emb_params", EMBEDDING},
    {"^string_to_param", EMBEDDING},
    {"^clip_l", EMBEDDING},
    {"^ip_adapter.", "ip_adapter", "is an IP-Adapter", ", not a model"},
    {"^image_proj.", "ip_adapter", "is an IP-Adapter", ", not a model"},
    {"^concept_embeds", "safety_checker", "is a safety checker", ", not a model"},
    {".motion_modules.", "motion", "is an AnimateDiff motion module", ", not a model"},
    {"^body.0.rdb1.", "upscaler", "is an upscaler (ESRGAN)", ", not a model"},
    {"^model.0.weight", "upscaler", "is an upscaler (ESRGAN)", ", not a model"},
    {"^" KEYMAP_VAE "encoder.conv_in.weight", VAE},
    {"^encoder.conv_in.weight", VAE},
    {"^decoder.layers.", "taesd", "is a tiny autoencoder (TAESD)", WHOLE},
    {"^conv_in.weight", "unet", "is one part of a diffusers model",
     "; give the folder that holds model_index.json"},
};
static const FileKind UNKNOWN = {
    "", "unknown", "holds no Stable Diffusion model (no " KEYMAP_UNET "input_blocks.0.0.weight)", ""};

static bool has_part(const char *key, const char *part)
{
    return part[0] == '^' ? !strncmp(key, part + 1, strlen(part + 1)) : strstr(key, part) != NULL;
}

/* diffusers' embeddings: one tensor, named after the word that it stands for. */
static bool is_bare_embedding(const TensorFile *f)
{
    static const int64_t widths[] = {768, 1024, 1280};
    const TensorEntry *e = tensorfile_count(f) == 1 ? tensorfile_entry(f, 0) : NULL;
    for (int i = 0; e && i < 3; i++)
        if (e->ndim >= 1 && e->ndim <= 2 && e->shape[e->ndim - 1] == widths[i] && !strchr(e->name, '.'))
            return true;
    return false;
}

/* A UNet that is told of something besides the text is SDXL's, whose text encoders have other names, or
 * unCLIP's. */
static bool is_unclip(const TensorFile *f)
{
    return tensorfile_find(f, KEYMAP_UNET "label_emb.0.0.weight") && tensorfile_holds(f, "cond_stage_model.");
}

const FileKind *file_kind(const TensorFile *f)
{
    static const FileKind bare = {"", EMBEDDING}, unclip = {"", UNCLIP};
    if (is_unclip(f))
        return &unclip;
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
        for (int i = 0; i < tensorfile_count(f); i++)
            if (has_part(tensorfile_entry(f, i)->name, KINDS[k].part))
                return &KINDS[k];
    return is_bare_embedding(f) ? &bare : &UNKNOWN;
}

Status refuse_other_models(const char *path, const TensorFile *f)
{
    const FileKind *kind = file_kind(f);
    if (strcmp(kind->word, "model") != 0)
        return status_refuse("%s: %s%s", path, kind->what, kind->advice);
    const TensorEntry *first = tensorfile_find(f, KEYMAP_UNET "input_blocks.0.0.weight");
    const int64_t channels = first && first->ndim == 4 ? first->shape[1] : 4;
    if (channels == 4 || channels == 9)
        return STATUS_OK;
    return status_refuse(
        "%s: its UNet takes %lld channels (%s); models with 4, and inpainting models with 9, are "
        "supported",
        path, (long long)channels,
        channels == 5   ? "a depth model"
        : channels == 7 ? "an upscaling model"
        : channels == 8 ? "an instruct-pix2pix model"
                        : "a special model");
}
