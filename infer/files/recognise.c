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

Status refuse_other_files(const char *path, const uint8_t *head, size_t n)
{
    for (size_t i = 0; i < sizeof MAGIC / sizeof *MAGIC; i++)
        if (n >= MAGIC[i].count && !memcmp(head, MAGIC[i].bytes, MAGIC[i].count))
            return status_refuse("%s: %s", path, MAGIC[i].what);
    return STATUS_OK;
}

#define LORA "is a LoRA, not a model; give it with --lora beside the model it was made for"

/* In this order: a LoRA of an SDXL model is a LoRA. */
static const struct {
    const char *part; /* of a key; "^" first: its beginning */
    const char *what;
} KINDS[] = {
    {"^lora_unet_", LORA},
    {"^lora_te", LORA},
    {".lora_A.", LORA},
    {".lora_down.", LORA},
    {".lora.down.", LORA},
    {"^controlnet_cond_embedding.", "is a ControlNet, not a model"},
    {"^text_model.", "is a text encoder alone; give the file or folder of the whole model"},
    {"^emb_params", "is a textual-inversion embedding, not a model"},
    {"^control_model.", "is a ControlNet, not a model"},
    {"^input_hint_block.", "is a ControlNet, not a model"},
    {"^conditioner.embedders.", "is an SDXL model; Stable Diffusion 1.x and 2.x are supported"},
    {"joint_blocks.", "is a Stable Diffusion 3 model; Stable Diffusion 1.x and 2.x are supported"},
    {"double_blocks.", "is a Flux model; Stable Diffusion 1.x and 2.x are supported"},
};

static bool has_part(const char *key, const char *part)
{
    return part[0] == '^' ? !strncmp(key, part + 1, strlen(part + 1)) : strstr(key, part) != NULL;
}

Status refuse_other_models(const char *path, const TensorFile *f)
{
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
        for (int i = 0; i < tensorfile_count(f); i++)
            if (has_part(tensorfile_entry(f, i)->name, KINDS[k].part))
                return status_refuse("%s: %s", path, KINDS[k].what);
    const TensorEntry *first = tensorfile_find(f, KEYMAP_UNET "input_blocks.0.0.weight");
    if (first && first->ndim == 4 && first->shape[1] != 4)
        return status_refuse("%s: its UNet takes %lld channels (%s); models with 4 are supported", path,
                             (long long)first->shape[1],
                             first->shape[1] == 9   ? "an inpainting model"
                             : first->shape[1] == 5 ? "a depth model"
                             : first->shape[1] == 8 ? "an instruct-pix2pix model"
                                                    : "a special model");
    if (first)
        return STATUS_OK;
    if (tensorfile_find(f, KEYMAP_VAE "encoder.conv_in.weight") ||
        tensorfile_find(f, "encoder.conv_in.weight"))
        return status_refuse("%s: is an autoencoder (VAE) alone; give the file or folder of the whole model",
                             path);
    if (tensorfile_find(f, "conv_in.weight"))
        return status_refuse(
            "%s: is one part of a diffusers model; give the folder that holds model_index.json", path);
    return status_refuse("%s: holds no Stable Diffusion model (no %sinput_blocks.0.0.weight)", path,
                         KEYMAP_UNET);
}
