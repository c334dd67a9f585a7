/* What `atelier sample` is asked for: its options, read and checked as far as words can be. */
#include "options.h"

#include "infer/compat/elsewhere.h"
#include "infer/compat/sampler_names.h"
#include "infer/samplers/sampler.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/text.h"
#include "kernels/devices/devices.h"
#include "given.h"
#include "loras.h"

#include <stdio.h>
#include <string.h>

/* "1,5,9", each with the batch - 1 seeds after it. */
static Status parse_seeds(SampleArguments *a)
{
    int listed = 1;
    for (const char *p = a->seeds_text; *p; p++)
        listed += *p == ',';
    if ((int64_t)listed * a->batch > SAMPLE_MAX_PICTURES)
        return status_refuse("sample: more than %d pictures at once", SAMPLE_MAX_PICTURES);
    a->seeds = mem_calloc((size_t)listed * (size_t)a->batch, sizeof *a->seeds);
    if (!a->seeds)
        return STATUS_FAILED;
    const char *p = a->seeds_text;
    for (int i = 0; i < listed; i++) {
        char word[32];
        const size_t length = strcspn(p, ",");
        uint64_t seed;
        snprintf(word, sizeof word, "%.*s", (int)(length < 31 ? length : 31), p);
        if (!text_to_uint(word, &seed))
            return status_refuse("sample: --seed %s: `%s` is no whole number of 0 or more%s", a->seeds_text,
                                 word, strcmp(word, "-1") ? "" : "; for any seed, --seed $RANDOM");
        if (seed > UINT64_MAX - (uint64_t)(a->batch - 1))
            return status_refuse("sample: --seed %s: the seeds of --batch %d would go past the largest, %llu",
                                 word, a->batch, (unsigned long long)UINT64_MAX);
        for (int k = 0; k < a->batch; k++)
            a->seeds[a->picture_count++] = seed + (uint64_t)k;
        p += length + 1;
    }
    return STATUS_OK;
}

/* What each sampler and each schedule is, for the help: a line for each. */
static void describe_samplers(char *out, size_t size)
{
    int count;
    const SamplerKind *kinds = sampler_kinds(&count);
    size_t used = (size_t)snprintf(out, size, "The way from noise to picture.");
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "\n%s: %s.", kinds[i].name, kinds[i].description);
}

static void describe_schedules(char *out, size_t size)
{
    int count;
    const GridKind *kinds = grid_kinds(&count);
    size_t used = (size_t)snprintf(out, size, "At which noise levels the steps stand.");
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "\n%s: %s.", kinds[i].name, kinds[i].description);
}

/* What belongs to the whole command is nothing that a sheet could try. */
static Status check_sheets(const Command *c, const OptionList *sheets)
{
    for (int i = 0; i < sheets->count; i++) {
        const char *text = sheets->items[i];
        const size_t length = strcspn(text, "=");
        const Option *o = options_find(c, text, length);
        if ((o && o->use == OPTION_ONCE) || !strncmp(text, "help=", 5))
            return status_refuse("sample: --sheet %s: `%.*s` is no setting of a picture", text, (int)length,
                                 text);
    }
    return STATUS_OK;
}

static Status parse(int argc, char **argv, SampleArguments *a, bool *done)
{
    char samplers[1024], schedules[1024];
    int elsewhere;
    describe_samplers(samplers, sizeof samplers);
    describe_schedules(schedules, sizeof schedules);
    SampleRequest *r = &a->request;
    SampleBegin *b = &r->begin;
    const Option table[] = {
        {NULL, OPTION_HEADING, NULL, .help = "What to draw"},
        {"model", OPTION_TEXT, &a->model, .value = "M",
         .help = "A diffusers folder, a single .safetensors or .ckpt file, or builtin:tiny.",
         .use = OPTION_UNKEPT},
        {"vae", OPTION_TEXT, &a->vae, .value = "V",
         .help = "Another VAE: a diffusers folder, a file (.safetensors, .ckpt, .pt; diffusers' names or the "
                 "original ones), or a model whose VAE is taken.",
         .shown = "the model's own"},
        {"ema", OPTION_FLAG, &a->ema,
         .help = "Draws with the averages of the UNet's weights that some single files have beside them "
                 "(model_ema.*)."},
        {"lora", OPTION_LIST, &a->lora_texts, .value = "FILE[:SCALE[:PART=SCALE...]]",
         .help =
             "An adapter: a file with kohya's, PEFT's or diffusers' names (LoRA, LoHa, LoKr, DoRA), or "
             "PEFT's folder, or a run's; and how strongly it counts: :0.8, or :1 where nothing is said. te= "
             "and unet= are "
             "other scales for the text encoder and the UNet; down.1=, mid=, up.2= factors for blocks of the "
             "UNet. May be given several times.",
         .use = OPTION_UNKEPT},
        {"lora-dir", OPTION_TEXT, &a->lora_dir, .value = "DIR",
         .help =
             "Where the LoRAs are that prompts name: <lora:NAME:0.8>, as A1111 has them, with the same parts "
             "behind the scale.",
         .use = OPTION_UNKEPT},
        {"embedding", OPTION_LIST, &a->words.embeddings, .value = "FILE",
         .help = "A word whose vectors were trained (textual inversion): A1111's or diffusers' file. Prompts "
                 "call "
                 "it by the file's name without its ending, or by the word in it (<cat-toy>). May be given "
                 "several "
                 "times."},
        {"embedding-dir", OPTION_TEXT, &a->words.embedding_dir, .value = "DIR", .help = "All of a folder.",
         .use = OPTION_UNKEPT},
        {"prompt", OPTION_TEXT, &r->prompt, .value = "TEXT", .help = "What the picture shows.",
         .use = OPTION_UNKEPT},
        {"negative", OPTION_TEXT, &r->negative, .value = "TEXT", .help = "What it should not show.",
         .use = OPTION_UNKEPT},
        {"prompt-2", OPTION_TEXT, &r->prompt_2, .value = "TEXT",
         .help = "SDXL: what its second text encoder, which also makes the vector of the whole text, is told "
                 "instead of --prompt (diffusers' prompt_2).",
         .use = OPTION_UNKEPT, .shown = "the same as --prompt"},
        {"negative-prompt-2", OPTION_TEXT, &r->negative_2, .value = "TEXT",
         .help = "SDXL: the same instead of --negative.", .use = OPTION_UNKEPT,
         .shown = "the same as --negative"},
        {"compat", OPTION_TEXT, &a->words.compat, .value = "PROGRAM", .choices = COMPAT_CHOICES,
         .help =
             "Whose conventions are followed where programs differ, so that the same words, seed and numbers "
             "give that program's picture.",
         .shown = COMPAT_DEFAULT},
        {"prompt-syntax", OPTION_TEXT, &a->words.syntax, .value = "HOW",
         .choices = PROMPT_SYNTAX_AUTO "|" PROMPT_SYNTAX_CHOICES,
         .help = "What is read into prompts besides words. a1111: (red:1.3), [red], BREAK, [cat:dog:0.5], "
                 "[cat|dog]. comfy: (red:1.3), embedding:NAME. Both read prompts of any length.",
         .shown = "auto: as --compat says; plain with diffusers"},
        {"long-prompts", OPTION_FLAG, &a->words.long_prompts,
         .help =
             "Plain prompts of any length, too, in chunks of 75 tokens; otherwise the rest is cut off, as in "
             "diffusers."},
        {"clip-skip", OPTION_INT, &a->words.clip_skip, .value = "N", .max = 64,
         .help =
             "Leaves out the last N layers of the text encoder, as diffusers counts; with --compat a1111 or "
             "comfy the last N - 1, as those count.",
         .shown = "none left out", .given = &a->words.clip_skip_given},
        {"prediction", OPTION_TEXT, &a->prediction, .value = "KIND",
         .choices = "auto|epsilon|v_prediction|sample",
         .help =
             "What the model predicts. Single files of Stable Diffusion 2.x mostly do not say it and are "
             "taken to "
             "predict v, as the 768-pixel models do; the 512-pixel base needs epsilon. sample: the picture "
             "itself, as models for one step do.",
         .shown = "auto: what the model says"},
        {NULL, OPTION_HEADING, NULL, .help = "Several pictures"},
        {"prompts", OPTION_TEXT, &a->prompts, .value = "FILE",
         .help =
             "Prompts, one a line (-: from standard input), each with options of its own after it: \"a red "
             "heart --steps 30\". sd-scripts' --n --w --h --d --l --s and lines of A1111's kind are read "
             "too.",
         .use = OPTION_ONCE},
        {"matrix", OPTION_FLAG, &a->matrix,
         .help = "The prompt is base|part|part: a sheet of the base with every choice of the parts.",
         .use = OPTION_ONCE},
        {"sheet", OPTION_LIST, &a->sheet_texts, .value = "KEY=A,B,C",
         .help =
             "One sheet of pictures over any option: --sheet steps=10,20,30 --sheet sampler=ddim,euler gives "
             "columns and rows, a third one blocks. Whole numbers as 1..9 or 1..9+2, values that hold commas "
             "as "
             "A|B. Besides options: lora=0.4,0.7,1.0 is the strength of all LoRAs, checkpoint=RUN the "
             "checkpoints of a run (drawn as its previews where nothing else is said), replace=cat,dog puts "
             "dog in the place of cat in the prompt.",
         .use = OPTION_ONCE},
        {"sheet-pictures", OPTION_TEXT, &a->sheet_pictures, .value = "DIR",
         .help = "Writes each picture of a sheet for itself too.", .use = OPTION_ONCE},
        {"again", OPTION_TEXT, &a->again, .value = "PICTURE[:N]",
         .help = "Makes a picture again as it says that it was made, or the Nth of a sheet; what is given "
                 "besides "
                 "counts. Pictures of A1111 are read too (with its conventions). Says whether every pixel is "
                 "the same.",
         .use = OPTION_ONCE},
        {NULL, OPTION_HEADING, NULL, .help = "How"},
        {"steps", OPTION_INT, &r->steps, .value = "N", .min = 1, .max = 100000, .help = "Sampling steps.",
         .shown = "20", .use = OPTION_UNKEPT},
        {"cfg", OPTION_FLOAT, &a->guidance, .value = "S", .min = 0, .max = 1000,
         .help = "Guidance scale: how far to go from the negative prompt towards the prompt. 1 or less: no "
                 "guidance.",
         .shown = "7.5", .use = OPTION_UNKEPT},
        {"guidance-rescale", OPTION_FLOAT, &r->guidance_rescale, .value = "R", .min = 0, .max = 1,
         .help =
             "How far guidance keeps to the spread of the unguided prediction, against overexposure; 0.7 is "
             "usual for models whose schedule ends in pure noise.",
         .shown = "0"},
        {"sampler", OPTION_TEXT, &r->sampler, .value = "NAME", .help = samplers,
         .shown = "auto: what the model says", .use = OPTION_UNKEPT},
        {"schedule", OPTION_TEXT, &r->schedule, .value = "NAME", .help = schedules,
         .shown = "auto: what the model says"},
        {"eta", OPTION_FLOAT, &a->eta, .value = "E", .min = 0, .max = 1,
         .help = "Sampler ddim: the share of each step's noise that is fresh. 1: as in DDPM.", .shown = "0"},
        {"seed", OPTION_TEXT, &a->seeds_text, .value = "N[,N...]",
         .help = "One picture for each. The noise is PyTorch's for that seed.", .shown = "0",
         .use = OPTION_UNKEPT},
        {"rng", OPTION_TEXT, &r->rng, .value = "cpu|cuda[:GPU]",
         .help =
             "Whose noise: that of PyTorch's generator on the processor, or on a GPU. Small pictures "
             "(512x512 "
             "on all but the smallest GPUs) have the same noise on every GPU; for larger ones name the GPU, "
             "as in cuda:rtx3060, or its multiprocessors and the threads on each, as in cuda:28x1536.",
         .shown = NOISE_DEFAULT},
        {"batch", OPTION_INT, &a->batch, .value = "N", .min = 1, .max = SAMPLE_MAX_PICTURES,
         .help = "N pictures for each seed: with seed, seed + 1, and so on.", .shown = "1",
         .use = OPTION_ONCE},
        {"width", OPTION_INT, &r->size.width, .value = "W", .min = 1, .max = PICTURE_MAX_SIDE,
         .help = "Width in pixels.", .shown = "the size the model was made for", .use = OPTION_UNKEPT},
        {"height", OPTION_INT, &r->size.height, .value = "H", .min = 1, .max = PICTURE_MAX_SIDE,
         .help = "Height in pixels.", .shown = "the size the model was made for", .use = OPTION_UNKEPT},
        {"original-size", OPTION_TEXT, &a->original_size, .value = "WxH",
         .help = "SDXL: what size the picture is said to have had before it was made smaller; small ones "
                 "give blurred pictures.",
         .shown = "the picture's own"},
        {"target-size", OPTION_TEXT, &a->target_size, .value = "WxH",
         .help = "SDXL: what size it is said to be made for.", .shown = "the picture's own"},
        {"crop-top", OPTION_INT, &r->sizes.top, .value = "N", .max = SIZE_MOST,
         .help = "SDXL: how many rows are said to be cut off above; other than 0, subjects are cut off.",
         .shown = "0"},
        {"crop-left", OPTION_INT, &r->sizes.left, .value = "N", .max = SIZE_MOST,
         .help = "SDXL: how many columns are said to be cut off on the left.", .shown = "0"},
        {"negative-original-size", OPTION_TEXT, &a->negative_original_size, .value = "WxH",
         .help = "SDXL: the same said with the negative prompt, such as 512x512: away from small pictures.",
         .shown = "as with the prompt"},
        {"negative-target-size", OPTION_TEXT, &a->negative_target_size, .value = "WxH",
         .help = "SDXL: likewise.", .shown = "as with the prompt"},
        {"dtype", OPTION_TEXT, &a->dtype, .value = "TYPE", .choices = DTYPE_CHOICES,
         .help = "What weights and activations are stored in. 16 bits take half the memory.", .shown = "f32",
         .given = &a->dtype_given, .use = OPTION_UNKEPT},
        {"tf32", OPTION_FLAG, &a->tf32,
         .help =
             "With --dtype f32, on a GPU of the Ampere generation or later: lets its tensor cores multiply, "
             "which round what they multiply to TF32, 11 of 24 bits.",
         .use = OPTION_UNKEPT},
        {"quantise", OPTION_TEXT, &a->quantise, .value = "HOW", .choices = "none|int8|int8-dynamic",
         .help =
             "Stores the weights of UNet and text encoder in 8 bits: half the memory of 16. "
             "int8-dynamic: what "
             "they are multiplied with in the UNet is rounded to 8 bits as well, which is faster on a GPU "
             "and on a processor that has such products (AVX-512 VNNI, AVX-VNNI), and coarser.",
         .shown = "none", .given = &a->quantise_given},
        {"max-memory", OPTION_TEXT, &a->max_memory, .value = "SIZE",
         .help = "Takes what of --vae-tile, --dtype and --quantise is not said so that no more than this "
                 "(2G, 1500M) is "
                 "needed of the device's memory, and says what it took.",
         .shown = "no limit", .use = OPTION_UNKEPT},
        {"device", OPTION_TEXT, &a->device, .value = DEVICE_VALUES, .help = DEVICE_HELP, .shown = DEVICE_AUTO,
         .use = OPTION_UNKEPT},
        {"offload", OPTION_TEXT, &a->offload, .value = "WHAT", .choices = "auto|" OFFLOAD_CHOICES,
         .help = "What waits in the machine's memory while the GPU does not need it: text encoder and VAE "
                 "(idle), "
                 "the UNet's weights too (all). Slower, in less of the GPU's memory. On the processor: what "
                 "gives back its "
                 "memory, to be read again.",
         .shown = "auto: idle; on the processor the text encoder alone", .use = OPTION_UNKEPT},
        {"threads", OPTION_INT, &a->threads, .value = "N", .min = 0, .max = 4096,
         .help = "Threads that compute. 0: as many as there are physical cores.", .shown = "0",
         .use = OPTION_UNKEPT},
        {"safety", OPTION_TEXT, &a->guard.safety, .value = "WHETHER", .choices = SAFETY_CHOICES,
         .help = "Looks at each picture with the model's own safety checker (its folder safety_checker), and "
                 "makes black what that flags.",
         .shown = "auto: where the model has one", .use = OPTION_UNKEPT},
        {"prompt-filter", OPTION_TEXT, &a->guard.prompt_filter, .value = "FILE",
         .help =
             "Refuses prompts with one of the words or phrases in this file, one a line, # before comments.",
         .use = OPTION_UNKEPT},
        {"watermark", OPTION_TEXT, &a->guard.watermark, .value = "on|off|TEXT",
         .help = "Writes an invisible text into each picture: on writes StableDiffusionV1, as the original "
                 "release did. `atelier picture watermark` reads it.",
         .shown = "off"},
        {"variation", OPTION_FLOAT, &a->variation, .value = "S", .min = 0, .max = 1,
         .help =
             "Goes this share of the way from the seed's noise to that of --variation-seed: pictures like "
             "the one without it.",
         .shown = "0"},
        {"variation-seed", OPTION_UINT64, &r->variation_seed, .value = "N", .help = "The other seed.",
         .shown = "0"},
        {"tiling", OPTION_TEXT, &a->tiling, .value = "AXES", .choices = "off|x|y|xy",
         .help = "Makes a picture that fits to itself, for a texture: left to right, top to bottom, or both.",
         .shown = "off"},
        {"hires", OPTION_FLOAT, &r->hires.scale, .value = "SCALE", .min = 1, .max = 16,
         .help = "A second pass: draws over the picture enlarged by this factor a side (A1111's hires fix).",
         .shown = "1: none"},
        {"hires-steps", OPTION_INT, &r->hires.steps, .value = "N", .max = 100000,
         .help = "Its steps, of which the share is done that --hires-strength says. 0: as many as --steps.",
         .shown = "0"},
        {"hires-strength", OPTION_FLOAT, &r->hires.strength, .value = "S", .min = 0, .max = 1,
         .help = "How much it draws anew.", .shown = "0.7"},
        {"hires-upscale", OPTION_TEXT, &a->hires_upscale, .value = "WHAT", .choices = "latent|lanczos",
         .help = "What is enlarged: the latents (softer), or the picture by Lanczos.", .shown = "latent"},
        {"cfg-interval", OPTION_TEXT, &a->cfg_interval, .value = "LOW:HIGH",
         .help = "Guidance only at noise levels (sigma) above LOW, up to HIGH: half the work at the others, "
                 "and often a "
                 "better picture. Stable Diffusion's go from about 14.6 to 0.03.",
         .shown = "at all"},
        {"cfg-every", OPTION_INT, &r->fewer.guide_every, .value = "N", .min = 1, .max = 1000,
         .help = "Computes the half without the prompt only at every Nth step, and keeps its direction in "
                 "between.",
         .shown = "1"},
        {"deepcache", OPTION_INT, &r->fewer.deep_every, .value = "N", .min = 1, .max = 1000,
         .help =
             "Computes the deep part of the UNet only at every Nth step, and keeps its result in between.",
         .shown = "1"},
        {"vae-tile", OPTION_TEXT, &a->vae_tile, .value = "N|auto|off",
         .help =
             "The VAE works by overlapping tiles of N x N pixels, for large pictures in little memory. auto: "
             "where --max-memory asks for it.",
         .shown = "auto"},
        {NULL, OPTION_HEADING, NULL, .help = "From a picture"},
        {"init", OPTION_TEXT, &a->begin.init, .value = "FILE",
         .help = "Begins from this picture (PNG, JPEG or WebP) instead of from noise. Without --width and "
                 "--height in its own size, rounded down."},
        {"strength", OPTION_FLOAT, &b->strength, .value = "S", .min = 0, .max = 1,
         .help = "How much of it is drawn anew: the share of the steps that are done.",
         .shown = "0.8, with --mask 1"},
        {"fit", OPTION_TEXT, &a->begin.fit, .value = "HOW", .choices = FIT_CHOICES,
         .help = "A picture of another shape than the size asked for is pulled to it, cut to it around the "
                 "middle, or made to fit in with its edges repeated around it.",
         .shown = "stretch"},
        {"mask", OPTION_TEXT, &a->begin.mask, .value = "FILE",
         .help = "Inpainting: paints the picture of --init anew where this one is white, and leaves it where "
                 "it is black. Any model can; one made for it (nine channels) sees more of the picture."},
        {"mask-blur", OPTION_INT, &b->blur, .value = "N", .max = 512,
         .help = "Softens the mask's edge by N pixels.", .shown = "0"},
        {"mask-padding", OPTION_INT, &b->padding, .value = "N", .max = PICTURE_MAX_SIDE,
         .help = "Works at nothing but the masked part and N pixels around it, at the full --width and "
                 "--height, and puts it back into the picture.",
         .shown = "the whole picture"},
        {"mask-content", OPTION_TEXT, &a->begin.content, .value = "WHAT", .choices = CONTENT_CHOICES,
         .help = "What is under the mask at the beginning: the picture, the colours around it, noise, or "
                 "nothing. Counts with a strength below 1.",
         .shown = "original"},
        {"mask-soft", OPTION_FLAG, &b->soft,
         .help = "Grey in the mask mixes old and new at each step, instead of counting as white or black."},
        {"mask-paste", OPTION_TEXT, &a->begin.paste, .value = "WHEN", .choices = PASTE_CHOICES,
         .help = "Puts the picture's own pixels back where the mask is black, byte for byte.",
         .shown = "auto: with --mask-padding or --compat a1111"},
        {NULL, OPTION_HEADING, NULL, .help = "What to write"},
        {"out", OPTION_TEXT, &a->out, .value = "FILE|DIR|-",
         .help = "A .png, .jpg or .webp file (several pictures: FILE-SEED.png), a folder, or - for one "
                 "picture to "
                 "standard output. A picture of before is replaced, any other file is left alone.",
         .shown = "atelier-SEED.png in the current folder, numbered where the name is taken",
         .use = OPTION_ONCE},
        {"format", OPTION_TEXT, &a->format, .value = "KIND", .choices = "png|jpeg|webp",
         .help = "Of pictures whose file is not named by --out.", .shown = "png", .use = OPTION_UNKEPT},
        {"quality", OPTION_INT, &a->quality, .value = "Q", .min = 1, .max = 100,
         .help = "Of JPEG and WebP; 100: a WebP without loss.", .shown = "95", .use = OPTION_UNKEPT},
        {"live", OPTION_TEXT, &a->live, .value = "WHERE",
         .help =
             "Shows how the picture comes about: in the terminal (auto: as it can, or kitty, iterm, sixel, "
             "blocks), or as a .png file that is written again after each step.",
         .shown = "off", .use = OPTION_ONCE},
        {"save-latents", OPTION_TEXT, &a->save_latents, .value = "FILE",
         .help = "Writes the final latents of all pictures, as safetensors: `latents`, f32, (N,4,h,w).",
         .use = OPTION_ONCE},
        {"trace", OPTION_TEXT, &a->trace, .value = "DIR",
         .help = "Writes what went in and came out of each sampling step, as safetensors, one file a step.",
         .use = OPTION_ONCE},
        {"json", OPTION_FLAG, &a->json, .help = "Prints the files and settings as JSON.", .use = OPTION_ONCE},
    };
    const Command command = {
        .name = "sample",
        .usage = "--model M --prompt TEXT [options]",
        .summary = "Makes pictures from a prompt, and prints the names of their files. Each "
                   "holds how it was made, in the PNG text that A1111 and others read "
                   "(`parameters`).",
        .example = "atelier sample --model builtin:tiny --prompt \"a red heart\" --seed 1,2,3\n"
                   "atelier sample --model sd15/ --lora runs/cat/lora.safetensors:0.8 \\\n"
                   "    --prompt \"a photo of sks cat\" --dtype bf16 --out cat.png",
        .options = table,
        .option_count = sizeof table / sizeof *table,
        .elsewhere = options_elsewhere(&elsewhere),
        .elsewhere_count = elsewhere};
    TRY(options_parse(&command, argc, argv, done));
    if (*done)
        return STATUS_OK;
    TRY(check_sheets(&command, &a->sheet_texts));
    return given_options(&command, argc, argv, &a->options);
}

Status sample_arguments_check(const SampleArguments *a)
{
    const char *const missing = !a->model ? "model" : !a->request.prompt && !a->prompts ? "prompt" : NULL;
    return missing ? status_refuse("sample: --%s is missing; see `atelier sample --help`", missing)
                   : STATUS_OK;
}

static Status parse_interval(const char *text, SampleFewer *out)
{
    char low[32];
    double above = -1, below = -1;
    const char *colon = strchr(text, ':');
    snprintf(low, sizeof low, "%.*s", colon ? (int)(colon - text) : 0, text);
    if (!colon || !text_to_float(low, &above) || !text_to_float(colon + 1, &below) || !(above >= 0) ||
        !(below > above))
        return status_refuse("sample: --cfg-interval %s: is not two noise levels as 0.3:5, the lower first",
                             text);
    out->guided_above = (float)above;
    out->guided_below = (float)below;
    return STATUS_OK;
}

/* "1024x768"; NULL: *out is left as it is. */
static Status parse_size(const char *option, const char *text, Size *out)
{
    uint64_t width = 0, height = 0;
    char word[32];
    const size_t n = text ? strcspn(text, "x") : 0;
    if (!text)
        return STATUS_OK;
    snprintf(word, sizeof word, "%.*s", (int)(n < 31 ? n : 31), text);
    if (text[n] != 'x' || !text_to_uint(word, &width) || !text_to_uint(text + n + 1, &height) || width < 1 ||
        height < 1 || width > SIZE_MOST || height > SIZE_MOST)
        return status_refuse("sample: --%s %s: is no size as 1024x768, width first", option, text);
    *out = (Size){(int)width, (int)height};
    return STATUS_OK;
}

static Status parse_sizes(SampleArguments *a)
{
    SampleRequest *r = &a->request;
    TRY(parse_size("original-size", a->original_size, &r->sizes.original));
    TRY(parse_size("target-size", a->target_size, &r->sizes.target));
    TRY(parse_size("negative-original-size", a->negative_original_size, &r->negative_sizes.original));
    return parse_size("negative-target-size", a->negative_target_size, &r->negative_sizes.target);
}

/* A sampler of another name than here. */
static Status check_sampler(const char *name)
{
    const char *schedule, *ours;
    if (!strcmp(name, SAMPLER_AUTO) || sampler_kind(name) ||
        !(ours = sampler_named_elsewhere(name, &schedule)))
        return STATUS_OK;
    return status_refuse("sample: --sampler \"%s\" is another program's word: here it is --sampler %s%s%s",
                         name, ours, schedule ? " --schedule " : "", schedule ? schedule : "");
}

static Status check_way(SampleArguments *a)
{
    SampleRequest *r = &a->request;
    uint64_t tile = 0;
    TRY(check_sampler(r->sampler));
    r->variation = (float)a->variation;
    r->eta = (float)a->eta;
    r->wrap = (strchr(a->tiling, 'x') ? WRAP_X : 0) | (strchr(a->tiling, 'y') ? WRAP_Y : 0);
    r->hires.pixels = !strcmp(a->hires_upscale, "lanczos");
    if (strcmp(a->vae_tile, "off") && strcmp(a->vae_tile, "auto") &&
        (!text_to_uint(a->vae_tile, &tile) || tile < 1 || tile > PICTURE_MAX_SIDE))
        return status_refuse("sample: --vae-tile %s: is neither a number of pixels nor auto nor off",
                             a->vae_tile);
    r->vae_tile = (int)tile;
    TRY(parse_sizes(a));
    return a->cfg_interval ? parse_interval(a->cfg_interval, &r->fewer) : STATUS_OK;
}

Status sample_arguments_read(int argc, char **argv, SampleArguments *a, bool *done)
{
    *a = (SampleArguments){.prediction = "auto",
                           .dtype = "f32",
                           .device = DEVICE_AUTO,
                           .offload = "auto",
                           .quantise = "none",
                           .seeds_text = "0",
                           .tiling = "off",
                           .hires_upscale = "latent",
                           .vae_tile = "auto",
                           .begin = begin_arguments_default(),
                           .batch = 1,
                           .words = prompt_options_default()};
    a->request = sample_request_default();
    a->request.prompt = NULL;
    a->guidance = (double)a->request.guidance;
    TRY(parse(argc, argv, a, done));
    if (*done)
        return STATUS_OK;
    a->request.guidance = (float)a->guidance;
    TRY(begin_arguments_check(&a->begin, &a->request.begin));
    TRY(check_way(a));
    TRY(prompt_options_apply(&a->words, &a->request));
    if ((!a->guard.safety || !strcmp(a->guard.safety, "auto")) &&
        !compat_of(a->request.compat)->checks_pictures)
        a->guard.safety = "off"; /* not even loaded */
    TRY(sample_loras_read(a));
    return parse_seeds(a);
}

void sample_arguments_free(SampleArguments *a)
{
    sample_loras_free(a);
    begin_arguments_free(&a->begin);
    mem_free(a->seeds);
    mem_free(a->options);
    mem_free(a->own_prompt);
    mem_free(a->own_negative);
    mem_free(a->own_prompt_2);
    mem_free(a->own_negative_2);
}
