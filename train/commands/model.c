/* `atelier model convert`, and `atelier model info`: what a model is made of. Configurations are read and
 * checked as for loading; of the weights only the files' headers are looked at. */
#include "infer/convert/convert.h"
#include "infer/files/recognise.h"
#include "infer/models/parts.h"
#include "infer/models/single_file.h"
#include "infer/safety/licence.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/devices/devices.h"
#include "train/objectives/objective.h"
#include "train/plan/cards.h"
#include "commands.h"
#include "dispatch.h"
#include "facts.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void total_facts(const WeightsTotal *t, json_t *o)
{
    json_t *types = json_array();
    json_object_set_new(o, "weights_missing", t->numbers ? json_null() : json_true());
    for (int i = 0; i < ELEMENT_TYPES; i++)
        if (t->types[i])
            json_array_append_new(types, json_string(element_name((ElementType)i)));
    json_object_set_new(o, "parameters", json_integer(t->numbers));
    json_object_set_new(o, "dtypes", types);
    json_object_set_new(o, "bytes", json_integer(t->bytes));
}

/* The families' own models are told by the width of the text and of the UNet. */
static const char *kind_of(const UNetConfig *unet)
{
    const ModelFamily family = family_of(unet);
    if (family == FAMILY_SDXL)
        return unet->cross_attention_dim == 2048 && unet->channels[0] == 320
                   ? "Stable Diffusion XL"
                   : "Stable Diffusion XL's architecture in another size";
    if (unet->cross_attention_dim == 768 && unet->channels[0] == 320)
        return "Stable Diffusion 1.x";
    if (unet->cross_attention_dim == 1024 && unet->channels[0] == 320)
        return "Stable Diffusion 2.x";
    return family == FAMILY_SD2 ? "Stable Diffusion 2.x's architecture in another size"
                                : "Stable Diffusion 1.x's architecture in another size";
}

static json_t *kind_fact(const Model *m, const UNetConfig *unet)
{
    return json_sprintf("%s%s", kind_of(unet), m->inpainting ? ", inpainting" : "");
}

/* One part: what is stored of it, and its shape. */
static Status part_facts(const Model *m, PartId id, ModelShapes *shapes, json_t *o, json_int_t *parameters)
{
    WeightsTotal total = {0};
    Weights *w = NULL;
    TRY(model_weights(m, id, &w));
    if (w)
        total = weights_total(w);
    weights_close(w);
    *parameters += total.numbers;
    total_facts(&total, o);
    if (!m->config_json[id])
        return STATUS_OK;
    TRY(PARTS[id].kind->parse(m->config_json[id], m->name, part_config(id, shapes)));
    PARTS[id].kind->facts(part_config(id, shapes), o);
    return STATUS_OK;
}

static void add_licence(const Model *m, json_t *facts)
{
    const Licence l = licence_of(m);
    json_object_set_new(facts, "license", l.name[0] ? json_string(l.name) : json_null());
    if (l.name[0])
        json_object_set_new(facts, "license_source", json_string(l.source));
    if (l.restricts)
        json_object_set_new(facts, "license_says",
                            json_string("its use restrictions go with everything made from the model"));
}

static Status collect(const Model *m, const char *path, json_t *facts)
{
    json_t *parts[PART_COUNT];
    json_int_t parameters = 0;
    ModelShapes shapes;
    Status s = STATUS_OK;
    for (int i = 0; i < PART_COUNT; i++) {
        parts[i] = model_has(m, (PartId)i) ? json_object() : NULL;
        if (s == STATUS_OK && parts[i])
            s = part_facts(m, (PartId)i, &shapes, parts[i], &parameters);
    }
    json_object_set_new(facts, "model", json_name(m->name));
    json_object_set_new(facts, "path", json_name(path));
    json_object_set_new(facts, "layout", json_string(m->folder ? "diffusers folder" : "single file"));
    if (m->file)
        json_object_set_new(facts, "format", json_string(tensorfile_format(m->file)));
    json_object_set_new(facts, "file_bytes", json_integer((json_int_t)path_bytes(path)));
    if (s == STATUS_OK)
        json_object_set_new(facts, "kind", kind_fact(m, &shapes.unet));
    add_licence(m, facts);
    json_object_set_new(facts, "prediction_type", json_string(objective_for(m->schedule.prediction)->name));
    if (m->schedule.alphas_cumprod[m->schedule.train_steps - 1] <= 0)
        json_object_set_new(facts, "zero_terminal_snr", json_true());
    json_object_set_new(facts, "inpainting", json_boolean(m->inpainting));
    json_object_set_new(facts, "ema_weights", json_boolean(m->file && tensorfile_holds(m->file, KEYMAP_EMA)));
    json_object_set_new(facts, "default_size", json_integer(m->default_size));
    json_object_set_new(facts, "size_multiple", json_integer(m->size_multiple));
    json_object_set_new(facts, "parameters", json_integer(parameters));
    for (int i = 0; i < PART_COUNT; i++)
        if (parts[i])
            json_object_set_new(facts, PARTS[i].folder, parts[i]);
    return s;
}

/* Files that are no model ------------------------------------------------------------------------------- */

static WeightsTotal total_of(const TensorFile *f)
{
    WeightsTotal t = {0};
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        if (!element_is_float(e->type))
            continue;
        t.numbers += tensor_entry_count(e);
        t.bytes += (int64_t)e->bytes;
        t.types[e->type] = true;
    }
    return t;
}

static void vae_facts(const char *path, json_t *facts)
{
    VaeFile v;
    if (vae_file_open(path, &v) != STATUS_OK)
        return;
    json_object_set_new(facts, "names", json_string(v.original ? "the original code's" : "diffusers'"));
    PARTS[PART_VAE].kind->facts(&v.shapes.vae, facts);
    vae_file_close(&v);
}

/* Textual inversion: the width tells which text encoder it is for, its rows how many tokens it takes. */
static void embedding_facts(const TensorFile *f, json_t *facts)
{
    const TensorEntry *widest = NULL;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        if (element_is_float(e->type) && e->ndim >= 1 && e->ndim <= 2)
            widest = e;
    }
    if (!widest)
        return;
    const json_int_t width = widest->shape[widest->ndim - 1];
    json_object_set_new(facts, "tokens", json_integer(widest->ndim == 2 ? widest->shape[0] : 1));
    json_object_set_new(facts, "width", json_integer(width));
    if (tensorfile_find(f, "clip_l") && tensorfile_find(f, "clip_g"))
        json_object_set_new(facts, "made_for", json_string("Stable Diffusion XL"));
    else if (width == 768 || width == 1024)
        json_object_set_new(facts, "made_for",
                            json_string(width == 768 ? "Stable Diffusion 1.x" : "Stable Diffusion 2.x"));
}

static void other_facts(const TensorFile *f, const FileKind *kind, json_t *facts)
{
    const WeightsTotal total = total_of(f);
    json_object_set_new(facts, "file", json_name(tensorfile_path(f)));
    json_object_set_new(facts, "kind", json_string(kind->word));
    json_object_set_new(facts, "what", json_string(kind->what));
    json_object_set_new(facts, "format", json_string(tensorfile_format(f)));
    json_object_set_new(facts, "tensors", json_integer(tensorfile_count(f)));
    total_facts(&total, facts);
    json_object_del(facts, "weights_missing");
    if (!strcmp(kind->word, "vae"))
        vae_facts(tensorfile_path(f), facts);
    if (!strcmp(kind->word, "embedding"))
        embedding_facts(f, facts);
    if (!strcmp(kind->word, "lora"))
        json_object_set_new(facts, "more", json_string("atelier lora info"));
}

/* *other: it was a file of something else than a model, and facts say what. */
static Status look_at_file(const char *path, json_t *facts, bool *other)
{
    TensorFile *f;
    *other = false;
    if (file_is_dir(path))
        return STATUS_OK;
    TRY(tensorfile_open(path, &f));
    const FileKind *kind = file_kind(f);
    *other = strcmp(kind->word, "model") != 0 && strcmp(kind->word, "unknown") != 0;
    if (*other)
        other_facts(f, kind, facts);
    tensorfile_close(f);
    return STATUS_OK;
}

static Status info(int argc, char **argv)
{
    bool as_json = false, fits = false, done;
    const char *device = DEVICE_AUTO;
    OptionList names = {0};
    const Option options[] = {
        {.name = "fits",
         .kind = OPTION_FLAG,
         .out = &fits,
         .help =
             "Says too what can be done with the model in 8, 12, 16 and 24 GB of memory, with which "
             "settings, "
             "and how long it takes: a picture as `atelier sample` makes it, a training step at batch 1 and "
             "the "
             "model's own size. Worked out from shapes and arithmetic, not measured: for a GPU at half of "
             "the peak of a usual card with so much memory, for the processor at the rate of a product that "
             "is "
             "timed."},
        {.name = "device",
         .kind = OPTION_TEXT,
         .out = &device,
         .value = DEVICE_VALUES,
         .help = "With --fits: whose memory. " DEVICE_HELP,
         .shown = DEVICE_AUTO},
        {.name = "json", .kind = OPTION_FLAG, .out = &as_json, .help = "Prints JSON."},
    };
    const Command command = {
        .name = "model info",
        .usage = "FOLDER|FILE|builtin:NAME [--fits] [--json]",
        .summary =
            "Says what a model is: its kind and parts, their parameters and what they are stored in, "
            "the size of pictures it was made for, whether it has averages (EMA) and is for inpainting, and "
            "what its UNet predicts. Of a LoRA, a VAE, an embedding or another program's file it says what "
            "that is. The weights are not loaded.",
        .example = "atelier model info builtin:tiny --fits",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .positional = &names,
        .min_positional = 1,
        .max_positional = 1,
        .positional_name = "a model",
    };
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    char *path = NULL;
    Model *m = NULL;
    json_t *facts = json_object();
    Status s = model_find(names.items[0], &path);
    bool other = false;
    if (s == STATUS_OK)
        s = look_at_file(path, facts, &other);
    if (s == STATUS_OK && !other)
        s = model_load(names.items[0], 0, DTYPE_F32, &m);
    if (s == STATUS_OK && !other)
        s = collect(m, path, facts);
    if (s == STATUS_OK && !other && fits)
        s = cards_facts(names.items[0], device, facts);
    if (s == STATUS_OK)
        s = facts_print(json_incref(facts), as_json);
    json_decref(facts);
    model_free(m);
    mem_free(path);
    return s;
}

static int command_info(int argc, char **argv)
{
    return command_end(info(argc, argv));
}

/* Converting --------------------------------------------------------------------------------------------- */

typedef struct ConvertArguments {
    OptionList names;
    const char *vae, *dtype;
    bool ema;
} ConvertArguments;

/* The words of both commands that write a model: what tells them apart is in `told`. */
static Status parse_convert(int argc, char **argv, const Command *told, const char *dtype_help,
                            ConvertArguments *a, bool *done)
{
    const Option options[] = {
        {.name = "dtype",
         .kind = OPTION_TEXT,
         .out = &a->dtype,
         .value = "TYPE",
         .choices = DTYPE_CHOICES,
         .help = dtype_help,
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
    Command command = *told;
    command.usage = "MODEL OUT [--dtype TYPE] [--vae V] [--ema]";
    command.options = options;
    command.option_count = sizeof options / sizeof *options;
    command.positional = &a->names;
    command.min_positional = command.max_positional = 2;
    command.positional_name = "a model and what to write";
    return options_parse(&command, argc, argv, done);
}

/* Writes what is asked for. */
static Status write_model(const ConvertArguments *a, bool quantise)
{
    ConvertResult result;
    DType dtype;
    if (a->dtype)
        TRY(dtype_parse(a->dtype, &dtype));
    const char *to = a->names.items[1];
    const ConvertRequest r = {.from = a->names.items[0],
                              .to = to,
                              .vae = a->vae,
                              .ema = a->ema,
                              .dtype = a->dtype ? &dtype : NULL,
                              .quantise = quantise};
    TRY(model_convert(&r, &result));
    log_info("%s: %d tensors, %.2f GB, a %s", to, result.tensors, (double)path_bytes(to) / 1e9,
             result.single ? "single file" : "diffusers folder");
    if (quantise && !result.quantised)
        log_info("  no weight was left to round: it is a model in 8 bits already");
    else if (quantise)
        log_info("  %d of them in 8 bits; other programs do not read these", result.quantised);
    else if (result.single && !result.told_alone)
        log_info("  copy it to models/Stable-diffusion (AUTOMATIC1111) or models/checkpoints (ComfyUI)");
    return dprintf(STDOUT_FILENO, "%s\n", to) < 0 ? status_fail("standard output cannot be written to: %m")
                                                  : STATUS_OK;
}

static Status convert(int argc, char **argv)
{
    static const Command told = {
        .name = "model convert",
        .summary =
            "Writes a model in the other layout: as a single file, where OUT ends in .safetensors, which "
            "AUTOMATIC1111, ComfyUI and others take as a checkpoint; or as a diffusers folder. MODEL is a "
            "folder, a .safetensors or .ckpt file, or builtin:tiny. Averages and a training's "
            "state are left out, and from a single file a folder's other parts (a safety checker); a folder "
            "keeps those.",
        .example = "atelier model convert builtin:tiny tiny.safetensors",
    };
    ConvertArguments a = {0};
    bool done;
    TRY(parse_convert(argc, argv, &told, "Stores every tensor in this type.", &a, &done));
    return done ? STATUS_OK : write_model(&a, false);
}

static int command_convert(int argc, char **argv)
{
    return command_end(convert(argc, argv));
}

/* Quantising --------------------------------------------------------------------------------------------- */

static Status quantise(int argc, char **argv)
{
    static const Command told = {
        .name = "model quantize",
        .summary =
            "Writes a model whose UNet and text encoders have their weights in 8 bits, with a scale for each "
            "output: half the size of 16 bits. It is used as any model: to draw with, to train a LoRA over, "
            "by this program alone. The UNet's first and last convolution and its time embedding, norms, "
            "biases and the VAE stay as they are. OUT is a single file, where it ends in .safetensors, or a "
            "folder.",
        .example = "atelier model quantize builtin:tiny tiny-int8.safetensors",
    };
    ConvertArguments a = {0};
    bool done;
    TRY(parse_convert(argc, argv, &told, "Stores everything else in this type.", &a, &done));
    return done ? STATUS_OK : write_model(&a, true);
}

static int command_quantise(int argc, char **argv)
{
    return command_end(quantise(argc, argv));
}

int command_model(int argc, char **argv)
{
    static const Subcommand COMMANDS[] = {
        {"info", "FOLDER|FILE|builtin:NAME", "say what a model is made of", command_info, false},
        {"convert", "MODEL OUT [--dtype TYPE]", "write it as a single file or as a folder", command_convert,
         false},
        {"quantize", "MODEL OUT [--dtype TYPE]", "write it with weights in 8 bits", command_quantise, false},
    };
    static const Family FAMILY = {
        .name = "model",
        .summary = "Stable Diffusion models: diffusers folders, single files, built-in ones.",
        .commands = COMMANDS,
        .count = sizeof COMMANDS / sizeof *COMMANDS,
    };
    return dispatch(&FAMILY, argc, argv);
}
