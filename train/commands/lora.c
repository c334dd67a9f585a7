/* `atelier lora info`: what an adapter's file holds, whoever wrote it. */
#include "infer/adapters/adapters.h"
#include "infer/adapters/family.h"
#include "infer/adapters/keys.h"
#include "infer/adapters/settings.h"
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

/* One layer's adapter. */
typedef struct Module {
    AdapterKey key; /* of one of its tensors */
    bool convolution;
    int64_t rank;
} Module;

typedef struct LoraFacts {
    json_int_t parameters, bytes;
    bool types[ELEMENT_TYPES];
    Module *modules;
    int count, alphas, lengths, others; /* lengths: DoRA's */
    double alpha_min, alpha_max;        /* of the tensors for it */
    char other[ADAPTER_MODULE_SIZE];    /* the first key that is not an adapter's */
    const char *other_kind;
} LoraFacts;

static int by_module(const void *a, const void *b)
{
    return strcmp(((const Module *)a)->key.module, ((const Module *)b)->key.module);
}

/* The rank that a tensor alone tells; 0: its role has none. */
static int64_t rank_of(const TensorEntry *e, const AdapterKey *k)
{
    Adapter a = {.kind = k->kind};
    if (e->ndim < 1 || e->ndim > TENSOR_MAX_DIMS)
        return 0;
    a.tensors[k->role] = tensor_shape_only(DTYPE_F32, e->ndim, e->shape);
    const int64_t rank = a.tensors[k->role] ? k->kind->rank(&a) : 0;
    adapter_free_tensors(&a);
    return rank;
}

static void look_at_alpha(const TensorEntry *e, LoraFacts *f)
{
    double alpha = 0;
    tensor_entry_number(e, &alpha); /* what is no number counts as 0 */
    f->alpha_min = f->alphas == 0 || alpha < f->alpha_min ? alpha : f->alpha_min;
    f->alpha_max = f->alphas == 0 || alpha > f->alpha_max ? alpha : f->alpha_max;
    f->alphas++;
}

static void look_at_entry(const TensorEntry *e, LoraFacts *f)
{
    AdapterKey k;
    adapter_key_parse(e->name, &k);
    f->bytes += (json_int_t)e->bytes;
    if (k.type == ADAPTER_KEY_ALPHA) {
        look_at_alpha(e, f);
    } else if (k.type == ADAPTER_KEY_TENSOR) {
        f->parameters += (json_int_t)tensor_entry_count(e);
        f->types[e->type] = true;
        f->modules[f->count++] = (Module){k, e->ndim == 4 && e->shape[2] > 1, rank_of(e, &k)};
    } else if (k.type == ADAPTER_KEY_MAGNITUDE) {
        f->lengths++;
        f->parameters += (json_int_t)tensor_entry_count(e);
        f->types[e->type] = true;
    } else if (f->others++ == 0) {
        snprintf(f->other, sizeof f->other, "%s", e->name);
        f->other_kind = k.other;
    }
}

/* A module each of what was seen of its tensors. */
static void join_modules(LoraFacts *f)
{
    int kept = 0;
    qsort(f->modules, (size_t)f->count, sizeof *f->modules, by_module);
    for (int i = 0; i < f->count; i++) {
        Module *last = kept ? &f->modules[kept - 1] : NULL;
        const Module *m = &f->modules[i];
        if (!last || by_module(last, m) != 0) {
            f->modules[kept++] = *m;
            continue;
        }
        last->convolution |= m->convolution;
        last->rank = m->rank ? m->rank : last->rank;
    }
    f->count = kept;
}

static Status look_at(const TensorFile *file, LoraFacts *f)
{
    *f = (LoraFacts){.modules = mem_alloc(sizeof *f->modules * (size_t)(tensorfile_count(file) + 1))};
    if (!f->modules)
        return STATUS_FAILED;
    for (int i = 0; i < tensorfile_count(file); i++)
        look_at_entry(tensorfile_entry(file, i), f);
    join_modules(f);
    return STATUS_OK;
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

/* "lora", or the kinds side by side. */
static json_t *kind_facts(const LoraFacts *f)
{
    static const AdapterKind *const KINDS[] = {
#define KIND(name) &adapter_##name,
        ATL_ADAPTERS(KIND)};
    json_t *all = json_array();
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
        for (int i = 0; i < f->count; i++)
            if (f->modules[i].key.kind == KINDS[k]) {
                json_array_append_new(all, json_string(KINDS[k]->name));
                break;
            }
    if (json_array_size(all) != 1)
        return all;
    json_t *one = json_incref(json_array_get(all, 0));
    json_decref(all);
    return one;
}

/* Without an alpha, in the file or in PEFT's settings, readers take the rank. */
static json_t *alpha_facts(const LoraFacts *f, const AdapterSettings *settings)
{
    double alpha;
    if (f->alphas)
        return range_facts(f->alpha_min, f->alpha_max, false);
    return adapter_settings_alpha(settings, f->modules[0].key.part, &alpha) ? json_real(alpha) : json_null();
}

static json_t *collect(const char *path, const TensorFile *file, const LoraFacts *f,
                       const AdapterSettings *settings, bool *broken)
{
    json_t *o = json_object(), *types = json_array();
    int text = 0, second = 0, convolutions = 0;
    int64_t low = 0, high = 0;
    char why[128];
    const char *family = adapter_family(file, why, sizeof why);
    for (int t = 0; t < ELEMENT_TYPES; t++)
        if (f->types[t])
            json_array_append_new(types, json_string(element_name((ElementType)t)));
    for (int i = 0; i < f->count; i++) {
        const Module *m = &f->modules[i];
        text += m->key.part == PART_TEXT;
        second += m->key.part == PART_TEXT_2;
        convolutions += m->convolution;
        low = m->rank && (!low || m->rank < low) ? m->rank : low;
        high = m->rank > high ? m->rank : high;
    }
    json_object_set_new(o, "file", json_name(path));
    json_object_set_new(o, "kind", kind_facts(f));
    json_object_set_new(o, "format", json_string(adapter_spelling_name(f->modules[0].key.spelling)));
    json_object_set_new(o, "rank", high ? range_facts((double)low, (double)high, true) : json_null());
    json_object_set_new(o, "alpha", alpha_facts(f, settings));
    json_object_set_new(o, "unet_modules", json_integer(f->count - text - second));
    json_object_set_new(o, "text_encoder_modules", json_integer(text));
    json_object_set_new(o, "text_encoder_2_modules", second ? json_integer(second) : json_null());
    json_object_set_new(o, "convolutions", convolutions ? json_integer(convolutions) : json_null());
    json_object_set_new(o, "dora_modules", f->lengths ? json_integer(f->lengths) : json_null());
    json_object_set_new(o, "made_for", family ? json_string(family) : json_null());
    json_object_set_new(o, "parameters", json_integer(f->parameters));
    json_object_set_new(o, "dtypes", types);
    json_object_set_new(o, "bytes", json_integer(f->bytes));
    json_object_set_new(o, "other_keys", f->others ? json_integer(f->others) : json_null());
    json_object_set_new(o, "hash", hash_facts(file, broken));
    json_object_set_new(o, "metadata", metadata_facts(file));
    return o;
}

static Status print_facts(const char *path, const TensorFile *file, const LoraFacts *f, bool as_json)
{
    bool broken;
    AdapterSettings *settings = NULL;
    if (f->count == 0 && f->other_kind)
        return status_refuse("%s: is an adapter of another kind (%s), which is not read", path,
                             f->other_kind);
    if (f->count == 0)
        return status_refuse(
            "%s: is not a LoRA: no key names a low-rank pair; `atelier model info` knows models", path);
    TRY(adapter_settings_read(file, f->modules[0].key.spelling != SPELLED_KOHYA && !f->alphas, &settings));
    json_t *facts = collect(path, file, f, settings, &broken);
    adapter_settings_free(settings);
    TRY(facts_print(facts, as_json));
    if (f->others)
        log_warn("%s: %d keys are not an adapter's that is read%s%s, %s the first", path, f->others,
                 f->other_kind ? " but of " : "", f->other_kind ? f->other_kind : "", f->other);
    if (broken)
        return status_fail(
            "%s: its content does not match its sshs_model_hash; it was changed or damaged after it was "
            "written",
            path);
    return STATUS_OK;
}

static Status print_info(const char *path, bool as_json)
{
    TensorFile *file;
    LoraFacts f;
    TRY(adapter_file_open(path, &file));
    Status s = look_at(file, &f);
    if (s == STATUS_OK)
        s = print_facts(path, file, &f, as_json);
    mem_free(f.modules);
    tensorfile_close(file);
    return s;
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
        .summary = "Says what an adapter's file holds: its kind (lora, loha or lokr), format, rank, alpha, "
                   "modules, metadata, and whether its content is what its hash says. kohya's, "
                   "PEFT's and diffusers' files are read; of PEFT the folder may be named too. The exit "
                   "status is 1 if the hash does not match.",
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
    return print_info(files.items[0], as_json);
}

static int command_info(int argc, char **argv)
{
    return command_end(info(argc, argv));
}

int command_lora(int argc, char **argv)
{
    static const Subcommand COMMANDS[] = {
        {"info", "FILE", "say what an adapter's file holds", command_info, false},
    };
    static const Family FAMILY = {
        .name = "lora",
        .summary = "Files of adapters: LoRA, LoHa and LoKr, as kohya, PEFT and diffusers name them.",
        .commands = COMMANDS,
        .count = sizeof COMMANDS / sizeof *COMMANDS,
    };
    return dispatch(&FAMILY, argc, argv);
}
