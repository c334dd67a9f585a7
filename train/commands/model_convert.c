/* `atelier model convert`: a diffusers folder as a single file, a single file as a folder, or either anew. */
#include "model_convert.h"

#include "infer/convert/convert.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/options.h"
#include "commands.h"
#include "dispatch.h"

#include <stdio.h>
#include <unistd.h>

typedef struct Arguments {
    OptionList names;
    const char *vae, *dtype;
    bool ema;
} Arguments;

static Status parse(int argc, char **argv, Arguments *a, bool *done)
{
    const Option options[] = {
        {.name = "dtype",
         .kind = OPTION_TEXT,
         .out = &a->dtype,
         .value = "TYPE",
         .choices = DTYPE_CHOICES,
         .help = "Stores every tensor in this type.",
         .shown = "each as it is, bit for bit"},
        {.name = "vae",
         .kind = OPTION_TEXT,
         .out = &a->vae,
         .value = "V",
         .help = "Another VAE in place of the model's own: a folder, a file, or a model whose VAE is taken."},
        {.name = "ema",
         .kind = OPTION_FLAG,
         .out = &a->ema,
         .help = "Takes the averages of the UNet's weights that some single files have beside them "
                 "(model_ema.*)."},
    };
    const Command command = {
        .name = "model convert",
        .usage = "MODEL OUT [--dtype TYPE] [--vae V] [--ema]",
        .summary =
            "Writes a model in the other layout: as a single file, where OUT ends in .safetensors, which "
            "AUTOMATIC1111, ComfyUI and others take as a checkpoint; or as a diffusers folder. MODEL is a "
            "folder, a .safetensors or .ckpt file, or builtin:tiny. What stands beside the model's own "
            "tensors (averages, a safety checker, a training's state) is left out.",
        .example = "atelier model convert builtin:tiny tiny.safetensors",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .positional = &a->names,
        .min_positional = 2,
        .max_positional = 2,
        .positional_name = "a model and what to write",
    };
    return options_parse(&command, argc, argv, done);
}

static Status convert(int argc, char **argv)
{
    Arguments a = {0};
    ConvertResult result;
    DType dtype;
    bool done;
    TRY(parse(argc, argv, &a, &done));
    if (done)
        return STATUS_OK;
    if (a.dtype)
        TRY(dtype_parse(a.dtype, &dtype));
    const char *to = a.names.items[1];
    const ConvertRequest r = {
        .from = a.names.items[0], .to = to, .vae = a.vae, .ema = a.ema, .dtype = a.dtype ? &dtype : NULL};
    TRY(model_convert(&r, &result));
    log_info("%s: %d tensors, %.2f GB, a %s", to, result.tensors, (double)path_bytes(to) / 1e9,
             result.single ? "single file" : "diffusers folder");
    if (result.single && !result.told_alone)
        log_info("  copy it to models/Stable-diffusion (AUTOMATIC1111) or models/checkpoints (ComfyUI)");
    return dprintf(STDOUT_FILENO, "%s\n", to) < 0 ? status_fail("standard output cannot be written to: %m")
                                                  : STATUS_OK;
}

int command_model_convert(int argc, char **argv)
{
    return command_end(convert(argc, argv));
}
