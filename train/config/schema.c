/* The table of keys, and how it is looked at. Rows stand in the order in which a configuration is written
 * out. */
#include "schema.h"

#include "infer/samplers/sampler.h"
#include "kernels/devices/devices.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define AT(field) offsetof(Config, field)
#define IN(field) offsetof(ConfigDataset, field)
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static_assert(DTYPE_F32 == 0 && DTYPE_BF16 == 1 && DTYPE_F16 == 2, "DTYPE_CHOICES has the order of DType");
static_assert(SWITCH_AUTO == 0 && SWITCH_ON == 1 && SWITCH_OFF == 2,
              "KEY_SWITCH_OR has the order of its choices");
static_assert(MASK_AUTO == 0 && MASK_ALPHA == 1 && MASK_NONE == 2, "MASK_CHOICES has the order of MaskFrom");
static_assert(CAPTION_LINES_JOIN == 0 && CAPTION_LINES_PICK == 1 && CAPTION_LINES_FIRST == 2,
              "CAPTION_LINES_CHOICES has the order of CaptionLines");
static_assert(offsetof(Config, output.single) == offsetof(Config, output.kohya) + 2 * sizeof(bool),
              "KEY_FLAGS");

static const SchemaSection SECTIONS[] = {
    {"model", "The model that is fine-tuned."},
    {"dataset", "The pictures: one dataset, or a list of them."},
    {"dataset.caption", "What is done to a caption each time its picture comes up."},
    {"dataset.augment", "What is done to a picture each time it comes up, before it is encoded."},
    {"method", "What is trained."},
    {"train", "How long, in which pieces, and on what."},
    {"optimizer", "How the weights are changed."},
    {"loss", "How a wrong answer is counted."},
    {"prior", "Prior preservation (DreamBooth): pictures of the subject's class, drawn by the model as it "
              "is, are trained on "
              "beside the subject's own, so that the class stays what it was."},
    {"validation", "Pictures held out, to see whether the model learns or only remembers."},
    {"preview", "Pictures drawn during the run, with the code of `atelier sample`."},
    {"safety", "What prompts, previews and class pictures are checked for, and previews marked with."},
    {"output", "What is written, where and when."},
};

/* clang-format off */
static const SchemaKey KEYS[] = {
/* model */
{.path = "model.base", .freedom = KEY_PLACE, .type = KEY_PATH, .offset = AT(model.base), .required = true,
 .help = "The model to start from: a diffusers folder, a .safetensors or .ckpt file, or builtin:tiny.",
 .more = "Stable Diffusion 1.x and 2.x are understood. builtin:tiny comes with Atelier and draws 64×64 pictures."},
{.path = "model.dtype", .type = KEY_CHOICE, .offset = AT(model.dtype), .choices = DTYPE_CHOICES, .preset = "bf16",
 .help = "What frozen weights and saved activations are stored in.",
 .more = "16 bits halve the memory. Trained weights and their gradients are f32 always, and so is the optimizer's state but "
         "for optimizer.kind: adamw8bit. f16 does not reach down to small gradients: the loss is scaled by a power of two on "
         "its way back, which is halved, and the update skipped, where that is too much. bf16 needs none of it."},
{.path = "model.tf32", .type = KEY_SWITCH, .offset = AT(model.tf32), .preset = "false",
 .help = "With model.dtype: f32: let a GPU's tensor cores multiply, which round what they multiply to TF32, 11 of 24 bits.",
 .more = "As allow_tf32 of other trainers. Sums stay f32, and so does all that is stored. For GPUs of the Ampere generation and later; "
         "elsewhere f32 is multiplied as it is, which is said."},
{.path = "model.quantise", .type = KEY_CHOICE, .offset = AT(model.quantise), .choices = "none|int8", .preset = "none",
 .help = "Store the frozen weights of UNet and text encoder in 8 bits, a scale for each output.",
 .more = "Half the memory of 16 bits. They are decoded on their way into each product, which takes some time; an adapter is trained over "
         "what they have become, and is exported as always."},
{.path = "model.init", .type = KEY_CHOICE, .offset = AT(model.init), .choices = "pretrained|random",
 .preset = "pretrained",
 .help = "Start from the model's weights, or from random ones of the same shapes.",
 .more = "random trains UNet and text encoder from scratch and is meant for method.kind: full; the VAE and the "
         "tokenizer are always the model's."},
{.path = "model.prediction", .type = KEY_CHOICE, .offset = AT(model.prediction), .choices = "auto" OBJECTIVE_WORDS,
 .preset = "auto",
 .help = "What the model is asked for.",
 .more = "auto takes what the model says. Single files of Stable Diffusion 2.x mostly do not: they are taken to predict v, "
         "as the 768-pixel models do; the 512-pixel base needs epsilon." OBJECTIVE_SENTENCES},
{.path = "model.vae", .freedom = KEY_PLACE, .type = KEY_PATH, .offset = AT(model.vae), .preset_note = "the model's own",
 .help = "Another VAE: a diffusers folder, a file (.safetensors, .ckpt, .pt), or a model whose VAE is taken."},
{.path = "model.ema", .type = KEY_SWITCH, .offset = AT(model.ema), .preset = "false",
 .help = "Start from the averages of the UNet's weights that some single files have beside them (model_ema.*)."},

/* dataset */
{.path = "dataset.path", .freedom = KEY_PLACE, .type = KEY_PATH, .offset = IN(path), .required = true,
 .help = "A dataset file made by `atelier data build`, or a folder of pictures.",
 .more = "A folder is built into a dataset in the run's folder before the first step."},
{.path = "dataset.repeats", .type = KEY_INT, .offset = IN(repeats), .min = 0, .max = 100000, .preset = "0",
 .preset_note = "the dataset's own",
 .help = "How often each picture comes in an epoch.",
 .more = "0 takes what the dataset says: the number before a kohya folder's name (\"10_sks cat\"), else 1. With "
         "several datasets this weighs one against the other."},
{.path = "dataset.skip_bad", .type = KEY_SWITCH, .offset = IN(skip_bad), .preset = "false",
 .help = "Leave out pictures of a folder that cannot be read, and name them; without it the first one stops the run."},
{.path = "dataset.folder_names", .type = KEY_CHOICE, .offset = IN(folder_names), .choices = FOLDER_NAMES_CHOICES, .preset = "auto",
 .help = "What names of folders inside of a folder of pictures say.",
 .more = "kohya: \"10_sks cat\" is 10 repeats, and the caption of pictures without one. plain: nothing. auto: as kohya, but a "
         "number that is hardly meant so (a year, a camera's folder) stops the run and names the folder."},
{.path = "dataset.weight", .type = KEY_FLOAT, .offset = IN(weight), .min = 0, .max = 1000, .preset = "1",
 .help = "How much the loss of its pictures counts.",
 .more = "Unlike dataset.repeats it does not change how often they come."},
{.path = "dataset.mask", .type = KEY_CHOICE, .offset = IN(mask), .choices = MASK_CHOICES, .preset = "auto",
 .help = "Where masks come from, which say what of a picture counts: white does, black does not.",
 .more = "auto: NAME.mask.png (or .webp, .jpg; NAME-masklabel.png) beside NAME.jpg, where there is one. alpha: that, else the picture's "
         "alpha channel, as sd-scripts' alpha_mask. none: all of every picture counts."},
{.path = "dataset.resolution", .type = KEY_INTS, .offset = IN(resolution), .min = 16, .max = 4096, .multiple = 8,
 .preset_note = "train.resolution",
 .help = "The dataset's own resolution, as train.resolution.",
 .more = "In a list each picture is trained in each."},
{.path = "dataset.buckets", .type = KEY_SWITCH, .offset = IN(buckets), .preset = "true",
 .help = "Train pictures in their own shapes: each in the size (\"bucket\") nearest to its shape of all that have the resolution's area.",
 .more = "The sizes are those of kohya's sd-scripts. A step has pictures of one size. off cuts a square out of each."},
{.path = "dataset.bucket_step", .type = KEY_INT, .offset = IN(bucket_step), .min = 0, .max = 1024, .multiple = 8, .preset = "0",
 .preset_note = "64; the model's own step where it was made for pictures smaller than 256",
 .help = "Sides of buckets are multiples of this.", .more = "A multiple of the model's own step (64 for Stable Diffusion)."},
{.path = "dataset.bucket_min", .type = KEY_INT, .offset = IN(bucket_min), .min = 0, .max = 4096, .multiple = 8, .preset = "0",
 .preset_note = "half of the resolution", .help = "The smallest side of a bucket."},
{.path = "dataset.bucket_max", .type = KEY_INT, .offset = IN(bucket_max), .min = 0, .max = 8192, .multiple = 8, .preset = "0",
 .preset_note = "twice the resolution", .help = "The largest side of a bucket."},
{.path = "dataset.enlarge", .type = KEY_SWITCH, .offset = IN(enlarge), .preset = "true",
 .help = "Enlarge pictures that have less than the resolution's area.",
 .more = "off leaves them at their own size, less what dataset.bucket_step cuts off; sd-scripts calls that bucket_no_upscale."},
{.path = "dataset.crop", .type = KEY_CHOICE, .offset = IN(crop), .choices = "centre|random|none", .preset = "centre",
 .help = "What is left of a picture whose shape is not quite that of its size: the middle, another part each time, or all of it, squeezed."},
{.path = "dataset.caption.dropout", .type = KEY_FLOAT, .offset = IN(caption.dropout), .min = 0, .max = 1,
 .preset = "0", .help = "Share of the times that a picture is shown with an empty caption.",
 .more = "Keeps the model able to draw without a prompt, which guidance needs. 0.1 is usual in long trainings."},
{.path = "dataset.caption.shuffle", .type = KEY_SWITCH, .offset = IN(caption.shuffle), .preset = "false",
 .help = "Put the comma-separated parts of the caption in another order each time."},
{.path = "dataset.caption.keep_tokens", .type = KEY_INT, .offset = IN(caption.keep_tokens), .min = 0, .max = 1000,
 .preset = "0", .help = "Parts at the beginning of the caption that are not shuffled."},
{.path = "dataset.caption.keep_separator", .type = KEY_TEXT, .offset = IN(caption.keep_separator), .preset_note = "none",
 .help = "What stands in a caption behind the parts that are kept, as in \"sks dog ||| grass, sky\"; a second one begins further kept parts at the end.",
 .more = "Counts instead of keep_tokens in captions that have it, and is taken out of them, as sd-scripts' keep_tokens_separator."},
{.path = "dataset.caption.separator", .type = KEY_TEXT, .offset = IN(caption.separator), .preset = ",",
 .help = "What stands between the parts of a caption; they are put together again with \", \"."},
{.path = "dataset.caption.tag_dropout", .type = KEY_FLOAT, .offset = IN(caption.tag_dropout), .min = 0, .max = 1, .preset = "0",
 .help = "Share of a caption's parts that is left out each time, but for those that are kept."},
{.path = "dataset.caption.wildcards", .type = KEY_SWITCH, .offset = IN(caption.wildcards), .preset = "false",
 .help = "Take one of the words in {red|green|blue} each time; {{ and }} are braces."},
{.path = "dataset.caption.lines", .type = KEY_CHOICE, .offset = IN(caption.lines), .choices = CAPTION_LINES_CHOICES, .preset = "join",
 .help = "What a caption file of several lines is: one caption (join); several, of which one is taken each time (pick); its first line (first).",
 .more = "sd-scripts has pick with enable_wildcard, first without. NAME.1.txt, NAME.2.txt beside NAME.txt are several captions always."},
{.path = "dataset.caption.prefix", .type = KEY_TEXT, .offset = IN(caption.prefix), .preset_note = "none",
 .help = "Put before every caption, with a blank between them."},
{.path = "dataset.caption.suffix", .type = KEY_TEXT, .offset = IN(caption.suffix), .preset_note = "none",
 .help = "Put behind every caption, with a blank between them.",
 .more = "Prefix and suffix are parts like others: keep_tokens counts them, and captions that are dropped lose them, as in sd-scripts."},
{.path = "dataset.caption.missing", .type = KEY_TEXT, .offset = IN(caption.missing), .preset_note = "none: they stop the run",
 .help = "The caption of pictures that have none.",
 .more = "Without it they are named, and the run does not begin. \"\" trains them without words."},
{.path = "dataset.augment.flip", .type = KEY_SWITCH, .offset = IN(augment.flip), .preset = "false",
 .help = "Mirror half of the pictures, left to right.",
 .more = "Not for faces that should be recognised, lettering, or anything with a left and a right."},
{.path = "dataset.augment.shift", .type = KEY_FLOAT, .offset = IN(augment.shift), .min = 0, .max = 0.5, .preset = "0",
 .help = "Move the picture by up to this share of its side."},
{.path = "dataset.augment.scale", .type = KEY_FLOAT, .offset = IN(augment.scale), .min = 0, .max = 0.5, .preset = "0",
 .help = "Make the picture larger or smaller by up to this share."},

/* method */
{.path = "method.kind", .type = KEY_CHOICE, .offset = AT(method.kind), .choices = "lora|full", .preset = "lora",
 .help = "lora trains small adapters beside frozen weights; full trains the UNet itself.",
 .more = "A LoRA is a file of some megabytes that other programs load on top of their model. full needs 16 bytes of "
         "memory for each weight, and gives a whole model."},
{.path = "method.rank", .type = KEY_INT, .offset = AT(method.rank), .min = 1, .max = 1024, .preset = "16",
 .help = "The adapters' rank: how much they can learn.",
 .more = "4 is enough for one thing or person, 16 to 32 for a style; file size and memory grow in proportion."},
{.path = "method.alpha", .type = KEY_FLOAT, .offset = AT(method.alpha), .min = 0.001, .max = 10000,
 .preset_note = "method.rank", .help = "The adapters' output is multiplied by alpha / rank.",
 .more = "Equal to the rank it multiplies by 1. A smaller alpha acts like a smaller learning rate."},
{.path = "method.targets", .type = KEY_CHOICE, .offset = AT(method.targets), .choices = "attention|attention+mlp",
 .preset = "attention+mlp", .help = "Which layers of the UNet get an adapter.",
 .more = "attention: queries, keys, values and outputs (diffusers' set, 128 modules in SD1.5, 560 in SDXL). attention+mlp adds the "
         "projections around and the layers between them (kohya's set, 192 and 722)."},
{.path = "method.text_encoder", .type = KEY_SWITCH_AND, .offset = AT(method.text_encoder), .choices = "false|true|first|second",
 .preset = "false", .help = "Train the text encoder too; of SDXL's two both, or one of them.",
 .more = "Helps to teach a new word; costs memory and time, and the captions can no longer be encoded beforehand. SDXL's first is "
         "CLIP-L, its second OpenCLIP bigG (sd-scripts' te1 and te2)."},
{.path = "method.init", .type = KEY_CHOICE, .offset = AT(method.init), .choices = "kaiming|gaussian",
 .preset = "kaiming", .help = "How an adapter begins.",
 .more = "kaiming as sd-scripts does it (uniform, by the number of inputs), gaussian as diffusers does (normal, by "
         "the rank). The second half begins at zero, so that the first step starts from the model as it is."},
{.path = "method.clip_skip", .type = KEY_INT, .offset = AT(method.clip_skip), .min = 0, .max = 31, .preset = "0",
 .help = "How many of the text encoder's last layers are left out.",
 .more = "As diffusers counts: 0 uses all. Other programs call that 1. Some anime models want 1 (2 there)."},

/* train */
{.path = "train.steps", .freedom = KEY_FREE_IF_LEVEL, .type = KEY_INT64, .offset = AT(train.steps), .min = 0, .max = 1e9, .preset = "1000",
 .help = "Optimizer steps of the run.", .more = "Each sees batch × accumulate pictures. Give this or train.epochs."},
{.path = "train.epochs", .freedom = KEY_FREE_IF_LEVEL, .type = KEY_INT64, .offset = AT(train.epochs), .min = 0, .max = 1e9, .preset = "0",
 .preset_note = "train.steps counts",
 .help = "Instead of train.steps: how often the whole dataset is gone through, every picture with its repeats.",
 .more = "Comes to ⌈epochs × pictures × repeats ÷ (batch × accumulate)⌉ steps."},
{.path = "train.batch", .type = KEY_INT, .offset = AT(train.batch), .min = 1, .max = 4096, .preset = "1",
 .help = "Pictures computed at once.", .more = "Memory grows with it. What matters to the result is batch × accumulate."},
{.path = "train.accumulate", .type = KEY_INT, .offset = AT(train.accumulate), .min = 1, .max = 4096, .preset = "1",
 .help = "Batches whose gradients are added up for one step.",
 .more = "accumulate: 4 with batch: 1 sees the same pictures and random numbers as batch: 4, in a quarter of the memory."},
{.path = "train.resolution", .type = KEY_INTS, .offset = AT(train.resolution), .min = 0, .max = 4096, .multiple = 8,
 .preset = "0", .preset_note = "the size the model was made for",
 .help = "Side in pixels of the square in whose area pictures are trained: 512 is as many pixels as 512×512 has.",
 .more = "With dataset.buckets: off it is the square that they are scaled and cut to. A multiple of 8, and of the model's own step "
         "(64 for Stable Diffusion). In a list, as [512, 768], each picture is trained in each."},
{.path = "train.mode", .freedom = KEY_FREE, .type = KEY_CHOICE, .offset = AT(train.mode), .choices = "auto|minimal|balanced|speed",
 .preset = "auto", .help = "How memory is traded for time; no mode changes a byte of the result.",
 .more = "speed keeps every activation. balanced has train.checkpointing on. minimal also keeps no result of a checkpointed block, and has "
         "train.pack_weights off. auto takes the fastest of them that leaves a quarter of the free memory free; `atelier train --plan` prints what "
         "each takes. A setting given by itself stands, whatever the mode."},
{.path = "train.checkpointing", .freedom = KEY_FREE, .type = KEY_SWITCH_OR, .offset = AT(train.checkpointing), .choices = "auto|on|off",
 .preset = "auto", .help = "Compute most activations a second time instead of keeping them.",
 .more = "A fifth slower, in much less memory, with the same result to the last byte. What takes long for its size (3×3 convolutions, "
         "attention over a large map) is kept all the same, but in train.mode minimal. auto: as train.mode says."},
{.path = "train.pack_weights", .freedom = KEY_FREE, .type = KEY_SWITCH_OR, .offset = AT(train.pack_weights), .choices = "auto|on|off",
 .preset = "auto", .help = "Keep frozen convolutions in the orders that the processor multiplies them in: one more time, and once more for the backward pass.",
 .more = "Faster for the memory of those weights. Most need no such order (3×3 of large maps; with AVX2 of small ones too; all of 16 bits "
         "where the processor multiplies bf16). With train.checkpointing the first alone is kept. auto: as train.mode says."},
{.path = "train.offload", .freedom = KEY_FREE, .type = KEY_CHOICE, .offset = AT(train.offload), .choices = "auto|off|idle|all",
 .preset = "auto", .help = "What waits in the machine's memory while the GPU does not need it: nothing; the text encoder and the VAE (idle); the UNet too (all).",
 .more = "Each weight is fetched while the one before it is multiplied, so that the GPU holds two at a time. The result is the same "
         "to the last byte. With method.kind: full and all, what is trained lies in the machine's memory with its gradients and "
         "the optimizer's state, and the processor makes the updates. auto: nothing in train.mode speed, idle in balanced, all in "
         "minimal. On the processor it makes no difference."},
{.path = "train.seed", .type = KEY_UINT64, .offset = AT(train.seed), .preset = "42",
 .help = "Where all random numbers of the training come from.", .more = "The same seed gives the same file again."},
{.path = "train.device", .freedom = KEY_PLACE, .type = KEY_TEXT, .offset = AT(train.device), .preset = DEVICE_AUTO,
 .help = DEVICE_HELP, .more = "A run is gone on with on the kind of device that auto took when it began."},
{.path = "train.reproducible", .type = KEY_CHOICE, .offset = AT(train.reproducible), .choices = "exact|fast",
 .preset = "exact", .unless = {"method.kind", METHOD_FULL, "fast"}, .help = "How the gradients of a step's micro-batches are summed.",
 .more = "exact: in an order that does not depend on the number of processes, which then changes no byte of the result; "
         "takes log2(train.accumulate) further blocks of gradients. fast: as they come; with several processes each keeps "
         "its share of the optimizer's state. With train.accumulate: 1 both give the same bytes."},
{.path = "train.timeout", .freedom = KEY_FREE, .type = KEY_INT, .offset = AT(train.timeout), .min = 1, .max = 86400, .preset = "600",
 .help = "Seconds that one of several processes may keep the others waiting.",
 .more = "Then it is taken to hang, and the run ends with its name; the last checkpoint stays."},
{.path = "train.threads", .freedom = KEY_FREE, .type = KEY_INT, .offset = AT(train.threads), .min = 0, .max = 1024, .preset = "0",
 .preset_note = "physical cores", .help = "Threads that compute."},
{.path = "train.loader_threads", .freedom = KEY_FREE, .type = KEY_INT, .offset = AT(train.loader_threads), .min = 0, .max = 64,
 .preset = "0", .preset_note = "2", .help = "Threads that read and decode pictures ahead of time."},
{.path = "train.cache_latents", .freedom = KEY_FREE, .type = KEY_SWITCH, .offset = AT(train.cache_latents), .preset = "true",
 .preset_note = "true, unless a dataset asks for crop: random, shift or scale",
 .help = "Encode each picture once, before the first step.",
 .more = "Saves the VAE's time and memory at every step. The only augmentation that goes with it is flip."},
{.path = "train.cache_text", .freedom = KEY_FREE, .type = KEY_SWITCH, .offset = AT(train.cache_text), .preset = "true",
 .preset_note = "true, unless the text encoder is trained or captions are shuffled or drawn",
 .help = "Encode each caption once, before the first step."},
{.path = "train.max_grad_norm", .type = KEY_FLOAT, .offset = AT(train.max_grad_norm), .min = 0, .max = 1e6,
 .preset = "1.0", .help = "Gradients longer than this are shortened to it; 0 leaves them alone.",
 .more = "Longer all together; with train.fused_backward each tensor's by itself."},
{.path = "train.fused_backward", .type = KEY_SWITCH, .offset = AT(train.fused_backward), .preset = "false",
 .help = "Move each weight as soon as the backward pass has its gradient, whose memory then serves the next one's.",
 .more = "For method.kind: full: no memory for the gradients of all weights at once, 4 bytes for each; with train.offload: all, too, the GPU "
         "makes the updates. Gradients are clipped tensor by tensor, each by its own norm, so that the result is another; with "
         "train.max_grad_norm: 0 it is the same to the last byte. A gradient that is not finite ends the run when other weights have moved "
         "already: it goes on from the last checkpoint. As sd-scripts' fused_backward_pass."},
{.path = "train.ema", .type = KEY_FLOAT, .offset = AT(train.ema), .min = 0, .max = 0.999999, .preset = "0",
 .preset_note = "off", .help = "Decay of a running mean of the trained weights; 0 is off.",
 .more = "When it is on, previews, validation and the result use the mean. 0.999 suits some thousand steps, 0.9999 "
         "long ones; the decay rises to it during the first steps."},

/* optimizer */
{.path = "optimizer.kind", .type = KEY_CHOICE, .offset = AT(optimizer.kind), .choices = OPTIMIZER_WORDS + 1, .preset = "adamw",
 .help = "The optimizer.", .more = OPTIMIZER_SENTENCES + 1},
{.path = "optimizer.lr", .type = KEY_DOUBLE, .offset = AT(optimizer.lr), .min = 0, .max = 10, .preset = "1.0e-4",
 .unless = {"method.kind", METHOD_FULL, "5.0e-6"}, .help = "Learning rate.",
 .more = "1e-4 suits adapters; a whole model wants 5e-6 when fine-tuned, or 2e-6 with the text encoder. "
         "0 trains the text encoder alone, by optimizer.text_encoder_lr."},
{.path = "optimizer.text_encoder_lr", .type = KEY_DOUBLE, .offset = AT(optimizer.text_encoder_lr), .min = 1e-12, .max = 10,
 .preset_note = "optimizer.lr", .help = "Learning rate of the text encoder; usually half of the UNet's."},
{.path = "optimizer.text_encoder_2_lr", .type = KEY_DOUBLE, .offset = AT(optimizer.text_encoder_2_lr), .min = 1e-12, .max = 10,
 .preset_note = "optimizer.text_encoder_lr", .help = "Learning rate of SDXL's second text encoder, where it is another than the first's."},
{.path = "optimizer.weight_decay", .type = KEY_DOUBLE, .offset = AT(optimizer.settings.weight_decay), .min = 0, .max = 10,
 .preset = "0.01", .help = "Every step takes this share × the learning rate off each weight."},
{.path = "optimizer.beta1", .type = KEY_DOUBLE, .offset = AT(optimizer.settings.beta1), .min = 0, .max = 0.999999,
 .preset = "0.9", .help = "Decay of the mean of the gradients."},
{.path = "optimizer.beta2", .type = KEY_DOUBLE, .offset = AT(optimizer.settings.beta2), .min = 0, .max = 0.999999,
 .preset = "0.999", .help = "Decay of the mean of the squared gradients."},
{.path = "optimizer.eps", .type = KEY_DOUBLE, .offset = AT(optimizer.settings.eps), .min = 1e-16, .max = 1, .preset = "1.0e-8",
 .help = "Added to the root of that mean before dividing by it."},
{.path = "optimizer.schedule", .type = KEY_CHOICE, .offset = AT(optimizer.schedule),
 .choices = "constant|linear|cosine", .preset = "cosine",
 .help = "How the learning rate goes on after the warm-up: level, straight to zero, or in a half cosine."},
{.path = "optimizer.warmup", .type = KEY_INT64, .offset = AT(optimizer.warmup), .min = 0, .max = 1e9, .preset = "0",
 .help = "Steps in which the learning rate rises from zero to its full value. A run no longer than that warms up over a tenth of it."},

/* loss */
{.path = "loss.snr_gamma", .type = KEY_FLOAT, .offset = AT(loss.snr_gamma), .min = 0, .max = 1000, .preset = "0",
 .help = "Weight of the easy, little noised steps (min-SNR-γ, Hang et al. 2023); 0 is off.",
 .more = "5 is the paper's value. Without it the loss is the plain mean of squares, as in diffusers and sd-scripts."},
{.path = "loss.debiased", .type = KEY_SWITCH, .offset = AT(loss.debiased), .preset = "false",
 .help = "Gives the much noised steps more weight, 1/√SNR (debiased estimation, Yu et al. 2023).",
 .more = "There a picture's composition is decided; a model trained from nothing learns what its words mean sooner. "
         "Works together with snr_gamma."},
{.path = "loss.noise_offset", .type = KEY_FLOAT, .offset = AT(loss.noise_offset), .min = 0, .max = 1, .preset = "0",
 .help = "Adds this much of one random number per channel to the noise; 0 is off.",
 .more = "Around 0.05 to 0.1 lets the model learn very dark and very bright pictures."},

{.path = "loss.mask_floor", .type = KEY_FLOAT, .offset = AT(loss.mask_floor), .min = 0, .max = 1, .preset = "0",
 .help = "How much the parts of a picture count that its mask leaves out.",
 .more = "0 is sd-scripts' masked_loss; 0.1, OneTrainer's unmasked weight, keeps backgrounds from going wild."},
{.path = "loss.mask_normalise", .type = KEY_SWITCH, .offset = AT(loss.mask_normalise), .preset = "false",
 .help = "Let a picture count as much as one without a mask, however little of it its mask leaves.",
 .more = "Divides by the mean of the mask, as OneTrainer's masked area normalisation; without it, as in sd-scripts, a small subject "
         "counts little."},

/* prior */
{.path = "prior.path", .type = KEY_PATH, .offset = AT(prior.path), .preset_note = "none",
 .help = "The class pictures: a folder, which is made and filled where it lacks pictures; or a dataset file.",
 .more = "Pictures drawn once stay and are used again by later runs, so it lies outside the run's folder. Pictures of your "
         "own count as well. Each is trained as prior.prompt, whatever captions it has."},
{.path = "prior.prompt", .type = KEY_TEXT, .offset = AT(prior.prompt), .preset_note = "none",
 .help = "What the class is called, as in \"a dog\": what is drawn, and every class picture's caption.",
 .more = "The subject's own captions have the rare word besides: \"a sks dog\"."},
{.path = "prior.weight", .type = KEY_FLOAT, .offset = AT(prior.weight), .min = 0, .max = 1000, .preset = "0",
 .preset_note = "1 where prior.path or prior.prompt is given, else 0",
 .help = "How much the class pictures' loss counts beside the subject's; 0 is off.",
 .more = "As in diffusers: loss = mean over the batch + weight × mean over as many class pictures. loss.snr_gamma and "
         "loss.debiased, where they are on, weigh the pictures of both, as in sd-scripts."},
{.path = "prior.pictures", .type = KEY_INT, .offset = AT(prior.pictures), .min = 1, .max = 99999, .preset = "100",
 .help = "How many class pictures are used; those that the folder lacks are drawn before the first step.",
 .more = "100 to 200 are usual. Of a folder that has more the first ones by name are taken."},
{.path = "prior.steps", .type = KEY_INT, .offset = AT(prior.steps), .min = 1, .max = 1000, .preset = "50",
 .help = "Sampling steps of a class picture."},
{.path = "prior.cfg", .type = KEY_FLOAT, .offset = AT(prior.guidance), .min = 0, .max = 100, .preset = "7.5",
 .help = "Guidance scale of a class picture."},
{.path = "prior.negative", .type = KEY_TEXT, .offset = AT(prior.negative), .preset = "",
 .help = "What class pictures should not show."},
{.path = "prior.seed", .type = KEY_UINT64, .offset = AT(prior.seed), .preset = "0",
 .help = "Seed of the first class picture; the next ones count up.",
 .more = "`atelier sample` with that seed, prompt and settings draws the same picture."},
{.path = "prior.sampler", .type = KEY_TEXT, .offset = AT(prior.sampler), .choices = SAMPLER_WORDS, .preset = SAMPLER_AUTO,
 .preset_note = "what the model says", .help = "The sampler of class pictures."},
{.path = "prior.resolution", .type = KEY_INT, .offset = AT(prior.resolution), .min = 0, .max = 4096, .multiple = 8,
 .preset = "0", .preset_note = "the sizes that the subject's pictures are trained at",
 .help = "Side of a class picture, in pixels: all are drawn square.",
 .more = "Without it they are drawn in the subject's sizes, each as often as it comes, and none is cut. Where the subject is "
         "trained at more than the model was made for, give that size: it draws a larger picture badly."},

/* validation */
{.path = "validation.share", .type = KEY_FLOAT, .offset = AT(validation.share), .min = 0, .max = 0.9, .preset = "0",
 .preset_note = "off", .help = "Share of the pictures that is held out; 0 is off.",
 .more = "The loss on them, with fixed noise, begins to rise when the model learns its pictures by heart."},
{.path = "validation.every", .freedom = KEY_FREE, .type = KEY_INT64, .offset = AT(validation.every), .min = 1, .max = 1e9, .preset = "100",
 .help = "Steps between two measurements."},

/* preview */
{.path = "preview.every", .freedom = KEY_FREE, .type = KEY_INT64, .offset = AT(preview.every), .min = 0, .max = 1e9, .preset = "100",
 .preset_note = "100; 0 where there are no prompts", .help = "Steps between two grids of pictures; 0 is off."},
{.path = "preview.prompts", .freedom = KEY_FREE, .type = KEY_TEXTS, .offset = AT(preview.prompts), .count_offset = AT(preview.prompt_count),
 .preset_note = "none", .help = "What is drawn: a list of prompts, one picture each."},
{.path = "preview.negative", .freedom = KEY_FREE, .type = KEY_TEXT, .offset = AT(preview.negative), .preset = "",
 .help = "What the pictures should not show."},
{.path = "preview.prompts_2", .freedom = KEY_FREE, .type = KEY_TEXTS, .offset = AT(preview.prompts_2),
 .count_offset = AT(preview.prompt_2_count), .preset_note = "the same as preview.prompts",
 .help = "SDXL: what its second text encoder is told instead, a text for each of preview.prompts.",
 .more = "`atelier sample --prompt-2`, diffusers' prompt_2; \"\" is the same as the prompt."},
{.path = "preview.negative_2", .freedom = KEY_FREE, .type = KEY_TEXT, .offset = AT(preview.negative_2), .preset = "",
 .help = "SDXL: what its second text encoder is told instead of preview.negative."},
{.path = "preview.steps", .freedom = KEY_FREE, .type = KEY_INT, .offset = AT(preview.steps), .min = 1, .max = 1000, .preset = "20",
 .help = "Sampling steps of a picture."},
{.path = "preview.cfg", .freedom = KEY_FREE, .type = KEY_FLOAT, .offset = AT(preview.guidance), .min = 0, .max = 100, .preset = "7.5",
 .help = "Guidance scale: how closely a picture keeps to its prompt; 1 or less is none."},
{.path = "preview.seed", .freedom = KEY_FREE, .type = KEY_UINT64, .offset = AT(preview.seed), .preset = "1",
 .help = "Seed of the first picture; the next ones count up."},
{.path = "preview.sampler", .freedom = KEY_FREE, .type = KEY_TEXT, .offset = AT(preview.sampler), .choices = SAMPLER_WORDS,
 .preset = SAMPLER_AUTO, .preset_note = "what the model says", .help = "The sampler."},
{.path = "preview.schedule", .freedom = KEY_FREE, .type = KEY_TEXT, .offset = AT(preview.schedule), .choices = SCHEDULE_WORDS,
 .preset = SCHEDULE_AUTO, .preset_note = "what the model says",
 .help = "At which noise levels the sampler's steps stand."},
{.path = "preview.width", .freedom = KEY_FREE, .type = KEY_INT, .offset = AT(preview.width), .min = 0, .max = 4096, .multiple = 8,
 .preset = "0", .preset_note = "the size the model was made for", .help = "Width in pixels."},
{.path = "preview.height", .freedom = KEY_FREE, .type = KEY_INT, .offset = AT(preview.height), .min = 0, .max = 4096, .multiple = 8,
 .preset = "0", .preset_note = "the size the model was made for", .help = "Height in pixels."},

/* safety */
{.path = "safety.check", .freedom = KEY_FREE, .type = KEY_CHOICE, .offset = AT(safety.check), .choices = "off|auto|on", .preset = "off",
 .help = "Look at previews and class pictures with the model's own safety checker.",
 .more = "It lies in the model's folder safety_checker and stays in memory beside the model. A preview that it flags is made "
         "black; a class picture ends the run, for a black one would be trained on. auto: where the model has one."},
{.path = "safety.prompt_filter", .freedom = KEY_PLACE, .type = KEY_PATH, .offset = AT(safety.prompt_filter), .preset_note = "none",
 .help = "A file of words and phrases, one a line, # before comments, that prompts may not have in them."},
{.path = "safety.watermark", .freedom = KEY_FREE, .type = KEY_TEXT, .offset = AT(safety.watermark), .preset = "off",
 .help = "An invisible text in previews: off, on (StableDiffusionV1) or a text of your own.",
 .more = "Class pictures are never marked: the mark would be learned."},

/* output */
{.path = "output.dir", .freedom = KEY_PLACE, .type = KEY_PATH, .offset = AT(output.dir), .preset_note = "runs/ and the configuration's name",
 .help = "The run's folder: configuration, log, previews, checkpoints and result."},
{.path = "output.save_every", .freedom = KEY_FREE, .type = KEY_INT64, .offset = AT(output.save_every), .min = 0, .max = 1e9,
 .preset = "250", .help = "Steps between two checkpoints; 0 saves only at the end."},
{.path = "output.keep", .freedom = KEY_FREE, .type = KEY_INT, .offset = AT(output.keep), .min = 1, .max = 1000000, .preset = "3",
 .help = "How many checkpoints stay; older ones are removed.",
 .more = "With held-out pictures (validation.share) the checkpoint of the step with the least validation loss stays besides."},
{.path = "output.events", .freedom = KEY_FREE, .type = KEY_SWITCH, .offset = AT(output.events), .preset = "true",
 .help = "What log.jsonl has, and the previews, for TensorBoard too: `tensorboard --logdir` and the run's folder."},
{.path = "output.formats", .freedom = KEY_FREE, .type = KEY_FLAGS, .offset = AT(output.kohya), .choices = "kohya|peft|single", .preset = "kohya",
 .unless = {"method.kind", METHOD_FULL, ""},
 .help = "The LoRA's formats: kohya (A1111, ComfyUI, diffusers and others), peft (diffusers, PEFT). A whole model's: "
         "single, a checkpoint file for A1111 and ComfyUI beside the diffusers folder.",
 .more = "With method.kind: full the folder `model` is always written; [single] adds `model.safetensors`, which "
         "`atelier model convert` makes of the folder too."},
{.path = "output.dtype", .freedom = KEY_FREE, .type = KEY_CHOICE, .offset = AT(output.dtype), .choices = DTYPE_CHOICES, .preset = "f16",
 .help = "What the result's weights are stored in."},
};
/* clang-format on */
static_assert(sizeof KEYS / sizeof *KEYS <= SCHEMA_MAX_KEYS, "SCHEMA_MAX_KEYS");

/* Looking ---------------------------------------------------------------------------------------------- */

const SchemaKey *schema_keys(int *count)
{
    *count = COUNT(KEYS);
    return KEYS;
}

const SchemaSection *schema_sections(int *count)
{
    *count = COUNT(SECTIONS);
    return SECTIONS;
}

int schema_find(const char *path)
{
    for (int i = 0; i < COUNT(KEYS); i++)
        if (strcmp(KEYS[i].path, path) == 0)
            return i;
    return -1;
}

int schema_find_section(const char *path)
{
    for (int i = 0; i < COUNT(SECTIONS); i++)
        if (strcmp(SECTIONS[i].path, path) == 0)
            return i;
    return -1;
}

bool schema_of_dataset(const SchemaKey *k)
{
    return strncmp(k->path, "dataset.", strlen("dataset.")) == 0;
}

int schema_children(const char *section, char names[][SCHEMA_NAME], int max)
{
    const size_t length = strlen(section);
    int count = 0;
    for (int i = 0; i < COUNT(KEYS); i++) {
        const char *rest = KEYS[i].path;
        if (length) {
            if (strncmp(rest, section, length) != 0 || rest[length] != '.')
                continue;
            rest += length + 1;
        }
        char name[SCHEMA_NAME];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(rest, "."), rest);
        if (count < max && (count == 0 || strcmp(names[count - 1], name) != 0))
            memcpy(names[count++], name, sizeof name);
    }
    return count;
}

void *schema_field(const SchemaKey *k, Config *c, int dataset)
{
    return (char *)(schema_of_dataset(k) ? (void *)&c->datasets[dataset] : (void *)c) + k->offset;
}

const void *schema_field_const(const SchemaKey *k, const Config *c, int dataset)
{
    return (const char *)(schema_of_dataset(k) ? (const void *)&c->datasets[dataset] : (const void *)c) +
           k->offset;
}

double schema_number(const SchemaKey *k, const Config *c, int dataset)
{
    const void *field = schema_field_const(k, c, dataset);
    switch (k->type) {
    case KEY_INT:
    case KEY_CHOICE:
    case KEY_SWITCH_OR:
    case KEY_SWITCH_AND:
        return *(const int *)field;
    case KEY_INT64:
        return (double)*(const int64_t *)field;
    case KEY_UINT64:
        return (double)*(const uint64_t *)field;
    case KEY_FLOAT:
        return (double)*(const float *)field;
    case KEY_DOUBLE:
        return *(const double *)field;
    case KEY_SWITCH:
        return *(const bool *)field;
    case KEY_TEXTS:
        return *(const int *)((const char *)c + k->count_offset);
    case KEY_INTS:
        return ((const Resolutions *)field)->count;
    default:
        return 0;
    }
}

const char *schema_preset(const SchemaKey *k, const Config *c, int dataset)
{
    const SchemaPreset *p = &k->unless;
    if (p->other && schema_number(&KEYS[schema_find(p->other)], c, dataset) == p->value)
        return p->preset;
    return k->preset;
}

static const char *const YES[] = {"true", "yes", "on", "True", "Yes", "On", "TRUE", "YES", "ON"};
static const char *const NO[] = {"false", "no", "off", "False", "No", "Off", "FALSE", "NO", "OFF"};
static_assert(sizeof YES == sizeof NO, "each way of saying yes has its no");

const char *schema_switch_word(int i, bool *yes)
{
    if (i >= 2 * COUNT(YES))
        return NULL;
    *yes = i % 2 == 0;
    return (*yes ? YES : NO)[i / 2];
}

bool schema_yes_or_no(const char *word, bool *yes)
{
    const char *spelling;
    for (int i = 0; (spelling = schema_switch_word(i, yes)) != NULL; i++)
        if (strcmp(word, spelling) == 0)
            return true;
    return false;
}

bool schema_choice(const char *choices, int i, char name[SCHEMA_NAME])
{
    for (; i > 0 && choices; i--) {
        choices = strchr(choices, '|');
        choices = choices ? choices + 1 : NULL;
    }
    if (!choices)
        return false;
    snprintf(name, SCHEMA_NAME, "%.*s", (int)strcspn(choices, "|"), choices);
    return true;
}
