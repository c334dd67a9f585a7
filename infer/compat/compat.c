#include "compat.h"

#include <stddef.h>
#include <string.h>

static const Compat PROGRAMS[] = {
    {.name = "diffusers",
     .label = "diffusers",
     .clip_skip_none = 0,
     .skip = SKIP_OF_PROMPT,
     .sdxl_skip = SKIP_OF_PROMPT,
     .zero_negative = ZEROS_ABSENT,
     .prompts = PROMPT_PLAIN,
     .strength = STRENGTH_SHARE,
     .hires = STRENGTH_SHARE,
     .draws_latents = true,
     .checks_pictures = true,
     .sampling = SAMPLER_DIFFUSERS,
     .rng = "cpu"},
    {.name = "a1111",
     .label = "AUTOMATIC1111",
     .clip_skip_none = 1,
     .skip = SKIP_OF_BOTH,
     .sdxl_skip = SKIP_NOTHING,
     .zero_negative = ZEROS_EMPTY,
     .prompts = PROMPT_A1111,
     .strength = STRENGTH_SHARE_AND_ONE,
     .hires = STRENGTH_LONGER_GRID,
     .inpaint = INPAINT_CALLS,
     .pastes = true,
     .sampling = SAMPLER_A1111,
     .rng = "cuda"},
    {.name = "comfy",
     .label = "ComfyUI",
     .clip_skip_none = 1,
     .skip = SKIP_OF_BOTH,
     .sdxl_skip = SKIP_FROM_LAST,
     .zero_negative = ZEROS_NEVER,
     .prompts = PROMPT_COMFY,
     .strength = STRENGTH_LONGER_GRID,
     .hires = STRENGTH_LONGER_GRID,
     .inpaint = INPAINT_BOTH,
     .mask = MASK_MIDDLE,
     .sampling = SAMPLER_COMFY,
     .rng = "cpu",
     .noise_apart = true},
};

const Compat *compat_find(const char *name)
{
    for (size_t i = 0; i < sizeof PROGRAMS / sizeof *PROGRAMS; i++)
        if (!strcmp(PROGRAMS[i].name, name ? name : COMPAT_DEFAULT))
            return &PROGRAMS[i];
    return NULL;
}

const Compat *compat_of(const Compat *row)
{
    return row ? row : compat_find(NULL);
}
