/* `atelier model info`: what a model is made of. Configurations are read and checked as for loading; of the
 * weights only the files' headers are looked at. */
#include "infer/models/model.h"
#include "infer/files/keymap.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "train/objectives/objective.h"
#include "commands.h"
#include "dispatch.h"
#include "facts.h"

#include <stdio.h>
#include <string.h>

/* Tensors counted: those of floats; position numbers and the like are no parameters. */
typedef struct Count {
    json_int_t parameters, bytes;
    bool types[ELEMENT_TYPES];
} Count;

static void count_file(const TensorFile *f, const char *prefix, Count *count)
{
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        if (!element_is_float(e->type) || strncmp(e->name, prefix, strlen(prefix)) != 0)
            continue;
        count->parameters += tensor_entry_count(e);
        count->bytes += (json_int_t)e->bytes;
        count->types[e->type] = true;
    }
}

static json_t *count_facts(const Count *count)
{
    json_t *o = json_object(), *types = json_array();
    json_object_set_new(o, "weights_missing", count->parameters ? json_null() : json_true());
    for (int t = 0; t < ELEMENT_TYPES; t++)
        if (count->types[t])
            json_array_append_new(types, json_string(element_name((ElementType)t)));
    json_object_set_new(o, "parameters", json_integer(count->parameters));
    json_object_set_new(o, "dtypes", types);
    json_object_set_new(o, "bytes", json_integer(count->bytes));
    return o;
}

/* Does this file of a part's folder hold weights that would be loaded? STEM.safetensors, or else its shards,
 * or else the fp16 variant of either: rank 0, 1, 2; -1: none of them. */
static int weight_file_rank(const char *name, const char *stem)
{
    const size_t n = strlen(name), s = strlen(stem), end = strlen(".safetensors");
    if (n < s + end || strncmp(name, stem, s) != 0 || strcmp(name + n - end, ".safetensors") != 0)
        return -1;
    if (strstr(name, ".fp16"))
        return 2;
    return n == s + end ? 0 : 1;
}

static Status count_folder(const char *folder, const char *stem, Count *count)
{
    char **names;
    int n, best = 3;
    TRY(dir_list(folder, &names, &n));
    for (int i = 0; i < n; i++) {
        const int rank = weight_file_rank(names[i], stem);
        best = rank >= 0 && rank < best ? rank : best;
    }
    Status s = STATUS_OK;
    for (int i = 0; i < n && s == STATUS_OK; i++) {
        if (weight_file_rank(names[i], stem) != best)
            continue;
        TensorFile *f;
        char *path = path_join(folder, names[i]);
        s = path ? tensorfile_open(path, &f) : STATUS_FAILED;
        if (s == STATUS_OK) {
            count_file(f, "", count);
            tensorfile_close(f);
        }
        mem_free(path);
    }
    dir_list_free(names, n);
    return s;
}

static const struct {
    const char *name, *stem, *prefixes[2]; /* folder, its files' stem; names in a single file */
} PARTS[] = {
    {"text_encoder", "model", {KEYMAP_CLIP, KEYMAP_OPENCLIP}},
    {"unet", "diffusion_pytorch_model", {KEYMAP_UNET, NULL}},
    {"vae", "diffusion_pytorch_model", {KEYMAP_VAE, NULL}},
};
#define PART_COUNT (sizeof PARTS / sizeof *PARTS)

static Status count_parts(const Model *m, const char *path, Count counts[PART_COUNT])
{
    TensorFile *f = NULL;
    if (!m->folder)
        TRY(tensorfile_open(path, &f));
    Status s = STATUS_OK;
    for (size_t i = 0; i < PART_COUNT && s == STATUS_OK; i++) {
        if (f) {
            for (int k = 0; k < 2 && PARTS[i].prefixes[k]; k++)
                count_file(f, PARTS[i].prefixes[k], &counts[i]);
            continue;
        }
        char *folder = path_join(path, PARTS[i].name);
        s = folder ? STATUS_OK : STATUS_FAILED;
        if (folder && file_is_dir(folder))
            s = count_folder(folder, PARTS[i].stem, &counts[i]);
        mem_free(folder);
    }
    tensorfile_close(f);
    return s;
}

/* Shapes ----------------------------------------------------------------------------------------------- */

static json_t *channel_list(const int *channels, int levels)
{
    json_t *list = json_array();
    for (int i = 0; i < levels; i++)
        json_array_append_new(list, json_integer(channels[i]));
    return list;
}

static Status add_shapes(const Model *m, json_t *const *parts, UNetConfig *unet)
{
    ClipConfig clip;
    VaeConfig vae;
    TRY(unet_config_parse(m->config_json[CONFIG_UNET], m->name, unet));
    json_object_set_new(parts[1], "channels", channel_list(unet->channels, unet->levels));
    json_object_set_new(parts[1], "layers_per_block", json_integer(unet->layers_per_block));
    json_object_set_new(parts[1], "text_width", json_integer(unet->cross_attention_dim));
    if (m->config_json[CONFIG_TEXT]) {
        TRY(clip_config_parse(m->config_json[CONFIG_TEXT], m->name, &clip));
        json_object_set_new(parts[0], "width", json_integer(clip.hidden));
        json_object_set_new(parts[0], "layers", json_integer(clip.layers));
        json_object_set_new(parts[0], "heads", json_integer(clip.heads));
        json_object_set_new(parts[0], "vocabulary", json_integer(clip.vocab_size));
    }
    if (m->config_json[CONFIG_VAE]) {
        TRY(vae_config_parse(m->config_json[CONFIG_VAE], m->name, &vae));
        json_object_set_new(parts[2], "channels", channel_list(vae.channels, vae.levels));
        json_object_set_new(parts[2], "latent_channels", json_integer(vae.latent_channels));
        json_object_set_new(parts[2], "scaling_factor", json_real((double)vae.scaling_factor));
    }
    return STATUS_OK;
}

/* By what sets the two families apart: the width of the text, and how the transformers are joined on. */
static const char *kind_of(const UNetConfig *unet)
{
    if (unet->cross_attention_dim == 768 && unet->channels[0] == 320)
        return "Stable Diffusion 1.x";
    if (unet->cross_attention_dim == 1024 && unet->channels[0] == 320)
        return "Stable Diffusion 2.x";
    return unet->linear_projection ? "Stable Diffusion 2.x's architecture in another size"
                                   : "Stable Diffusion 1.x's architecture in another size";
}

static Status collect(const Model *m, const char *path, json_t *facts)
{
    Count counts[PART_COUNT] = {0};
    json_t *parts[PART_COUNT];
    json_int_t parameters = 0;
    UNetConfig unet;
    TRY(count_parts(m, path, counts));
    for (size_t i = 0; i < PART_COUNT; i++) {
        parts[i] = count_facts(&counts[i]);
        parameters += counts[i].parameters;
    }
    const Status s = add_shapes(m, parts, &unet);
    json_object_set_new(facts, "model", json_string(m->name));
    json_object_set_new(facts, "path", json_string(path));
    json_object_set_new(facts, "layout", json_string(m->folder ? "diffusers folder" : "single file"));
    if (s == STATUS_OK)
        json_object_set_new(facts, "kind", json_string(kind_of(&unet)));
    json_object_set_new(facts, "prediction_type", json_string(objective_for(m->schedule.prediction)->name));
    json_object_set_new(facts, "default_size", json_integer(m->default_size));
    json_object_set_new(facts, "size_multiple", json_integer(m->size_multiple));
    json_object_set_new(facts, "parameters", json_integer(parameters));
    for (size_t i = 0; i < PART_COUNT; i++)
        json_object_set_new(facts, PARTS[i].name, parts[i]);
    return s;
}

static Status info(int argc, char **argv)
{
    bool as_json = false, done;
    OptionList names = {0};
    const Option options[] = {
        {.name = "json", .kind = OPTION_FLAG, .out = &as_json, .help = "Prints JSON."},
    };
    const Command command = {
        .name = "model info",
        .usage = "FOLDER|FILE|builtin:NAME [--json]",
        .summary = "Says what a model is: its kind and parts, their parameters and what they are stored in, "
                   "the size of "
                   "pictures it was made for, and what its UNet predicts. The weights are not loaded.",
        .example = "atelier model info builtin:tiny",
        .options = options,
        .option_count = 1,
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
    if (s == STATUS_OK)
        s = model_load(names.items[0], 0, DTYPE_F32, &m);
    if (s == STATUS_OK)
        s = collect(m, path, facts);
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

int command_model(int argc, char **argv)
{
    static const Subcommand COMMANDS[] = {
        {"info", "FOLDER|FILE|builtin:NAME", "say what a model is made of", command_info, false},
    };
    static const Family FAMILY = {
        .name = "model",
        .summary = "Stable Diffusion models: diffusers folders, single files, built-in ones.",
        .commands = COMMANDS,
        .count = sizeof COMMANDS / sizeof *COMMANDS,
    };
    return dispatch(&FAMILY, argc, argv);
}
