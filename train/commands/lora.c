/* `atelier lora info`: what a LoRA file holds, whoever wrote it. */
#include "infer/adapters/lora_names.h"
#include "infer/files/tensor_file.h"
#include "infer/models/single_file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/sha256.h"
#include "commands.h"
#include "dispatch.h"
#include "facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct LoraFacts {
    json_int_t parameters, bytes;
    bool types[ELEMENT_TYPES];
    int unet, text, convolutions, alphas, others;
    bool kohya;
    int64_t rank_min, rank_max;  /* of all modules */
    double alpha_min, alpha_max; /* of those that have one */
    char other[LORA_NAME_SIZE];  /* the first key that is not a LoRA's */
    const char *other_kind;
} LoraFacts;

static void look_at_down(const TensorEntry *e, const LoraKey *key, LoraFacts *f)
{
    const int64_t rank = e->ndim ? e->shape[0] : 0;
    const bool first = f->unet + f->text == 0;
    *(strncmp(key->module, "lora_te", 7) == 0 ? &f->text : &f->unet) += 1;
    f->rank_min = first || rank < f->rank_min ? rank : f->rank_min;
    f->rank_max = first || rank > f->rank_max ? rank : f->rank_max;
    f->convolutions += e->ndim == 4 && e->shape[2] > 1;
    f->kohya |= key->kohya;
}

static void look_at_entry(const TensorEntry *e, LoraFacts *f)
{
    LoraKey key;
    lora_key_parse(e->name, &key);
    f->bytes += (json_int_t)e->bytes;
    if (key.role == LORA_ALPHA) {
        double alpha = 0;
        tensor_entry_number(e, &alpha); /* what is no number counts as 0 */
        f->alpha_min = f->alphas == 0 || alpha < f->alpha_min ? alpha : f->alpha_min;
        f->alpha_max = f->alphas == 0 || alpha > f->alpha_max ? alpha : f->alpha_max;
        f->alphas++;
    } else if (key.role == LORA_KEY_DOWN || key.role == LORA_KEY_UP) {
        f->parameters += (json_int_t)tensor_entry_count(e);
        f->types[e->type] = true;
        if (key.role == LORA_KEY_DOWN)
            look_at_down(e, &key, f);
    } else if (f->others++ == 0) {
        snprintf(f->other, sizeof f->other, "%s", e->name);
        f->other_kind = key.role == LORA_OTHER_KIND ? key.kind : NULL;
    }
}

/* SHA-256 of all bytes after the header, which is what sd-scripts writes as sshs_model_hash. The data of a
 * file has no gaps, so it reaches from the first tensor's to the last one's end. */
static void content_hash(const TensorFile *f, char hex[SHA256_HEX_SIZE])
{
    uint8_t hash[SHA256_SIZE];
    const int count = tensorfile_count(f);
    const TensorEntry *first = count ? tensorfile_entry(f, 0) : NULL;
    const TensorEntry *last = count ? tensorfile_entry(f, count - 1) : NULL;
    const char *begin = first ? first->data : "";
    sha256(begin, first ? (size_t)((const char *)last->data + last->bytes - begin) : 0, hash);
    sha256_hex(hash, hex);
}

/* A number, or [smallest, largest] where modules differ. */
static json_t *range_facts(double low, double high, bool whole)
{
    if (low == high)
        return whole ? json_integer((json_int_t)low) : json_real(low);
    return whole ? json_pack("[I,I]", (json_int_t)low, (json_int_t)high) : json_pack("[f,f]", low, high);
}

static json_t *metadata_facts(const TensorFile *f)
{
    json_t *o = json_object();
    for (int i = 0; i < tensorfile_metadata_count(f); i++) {
        const TensorMeta entry = tensorfile_metadata_entry(f, i);
        json_object_set_new(o, entry.key, json_string(entry.value));
    }
    return o;
}

static json_t *hash_facts(const TensorFile *f, bool *broken)
{
    char hex[SHA256_HEX_SIZE];
    const char *written = tensorfile_metadata(f, "sshs_model_hash");
    content_hash(f, hex);
    /* sd-scripts writes it with or without "0x" */
    const bool same = written && strcmp(written + (strncmp(written, "0x", 2) == 0 ? 2 : 0), hex) == 0;
    *broken = written && !same;
    json_t *o = json_object();
    json_object_set_new(o, "content", json_string(hex));
    json_object_set_new(o, "written", written ? json_string(written) : json_null());
    json_object_set_new(o, "matches", written ? json_boolean(same) : json_null());
    return o;
}

static json_t *collect(const char *path, const TensorFile *file, const LoraFacts *f, bool *broken)
{
    json_t *o = json_object(), *types = json_array();
    for (int t = 0; t < ELEMENT_TYPES; t++)
        if (f->types[t])
            json_array_append_new(types, json_string(element_name((ElementType)t)));
    json_object_set_new(o, "file", json_string(path));
    json_object_set_new(o, "format", json_string(f->kohya ? "kohya" : "peft"));
    json_object_set_new(o, "rank", range_facts((double)f->rank_min, (double)f->rank_max, true));
    /* without one readers take the rank */
    json_object_set_new(o, "alpha", f->alphas ? range_facts(f->alpha_min, f->alpha_max, false) : json_null());
    json_object_set_new(o, "unet_modules", json_integer(f->unet));
    json_object_set_new(o, "text_encoder_modules", json_integer(f->text));
    json_object_set_new(o, "convolutions", f->convolutions ? json_integer(f->convolutions) : json_null());
    json_object_set_new(o, "parameters", json_integer(f->parameters));
    json_object_set_new(o, "dtypes", types);
    json_object_set_new(o, "bytes", json_integer(f->bytes));
    json_object_set_new(o, "other_keys", f->others ? json_integer(f->others) : json_null());
    json_object_set_new(o, "hash", hash_facts(file, broken));
    json_object_set_new(o, "metadata", metadata_facts(file));
    return o;
}

static Status print_info(const char *path, const TensorFile *file, bool as_json)
{
    LoraFacts f = {0};
    bool broken;
    for (int i = 0; i < tensorfile_count(file); i++)
        look_at_entry(tensorfile_entry(file, i), &f);
    if (f.unet + f.text == 0 && f.other_kind)
        return status_refuse("%s: is an adapter of another kind (%s), not a LoRA", path, f.other_kind);
    if (f.unet + f.text == 0)
        return status_refuse(
            "%s: is not a LoRA: no key names a low-rank pair; `atelier model info` knows models", path);
    TRY(facts_print(collect(path, file, &f, &broken), as_json));
    if (f.others)
        log_warn("%s: %d keys are not a LoRA's%s%s, %s the first", path, f.others,
                 f.other_kind ? " but of " : "", f.other_kind ? f.other_kind : "", f.other);
    if (broken)
        return status_fail(
            "%s: its content does not match its sshs_model_hash; it was changed or damaged after it was "
            "written",
            path);
    return STATUS_OK;
}

static Status info(int argc, char **argv)
{
    bool as_json = false, done;
    OptionList files = {0};
    const Option options[] = {
        {.name = "json", .kind = OPTION_FLAG, .out = &as_json, .help = "Prints JSON."},
    };
    const Command command = {
        .name = "lora info",
        .usage = "FILE [--json]",
        .summary = "Says what a LoRA file holds: its format, rank and alpha, modules, metadata, and whether "
                   "its content "
                   "is what its hash says. kohya's, PEFT's and diffusers' files are read. The exit status is "
                   "1 if the "
                   "hash does not match.",
        .example = "atelier lora info runs/cat/lora.safetensors",
        .options = options,
        .option_count = 1,
        .positional = &files,
        .min_positional = 1,
        .max_positional = 1,
        .positional_name = "FILE",
    };
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    TensorFile *file;
    TRY(tensorfile_open(files.items[0], &file));
    const Status s = print_info(files.items[0], file, as_json);
    tensorfile_close(file);
    return s;
}

static int command_info(int argc, char **argv)
{
    return command_end(info(argc, argv));
}

int command_lora(int argc, char **argv)
{
    static const Subcommand COMMANDS[] = {
        {"info", "FILE", "say what a LoRA file holds", command_info, false},
    };
    static const Family FAMILY = {
        .name = "lora",
        .summary = "LoRA files, of kohya's, PEFT's and diffusers' kinds.",
        .commands = COMMANDS,
        .count = sizeof COMMANDS / sizeof *COMMANDS,
    };
    return dispatch(&FAMILY, argc, argv);
}
