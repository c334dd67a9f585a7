/* Reading a configuration: YAML's nodes are walked along the schema, every key stored as it comes; then
 * defaults fill what was not given, those that depend on other keys last; then what contradicts itself is
 * refused; then paths are made absolute. Messages name the place of the key, or the --set that gave it. */
#include "config.h"

#include "infer/models/model.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "kernels/devices/devices.h"
#include "config_paths.h"
#include "config_value.h"
#include "other_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SET_SHOWN 150  /* bytes of a --set that messages repeat */
#define PATH_NAMES 256 /* longest path of a key in messages */

typedef struct Reader {
    Config *config;
    YamlDoc *doc;
    const char *text; /* NULL: the file's */
    const YamlNode *root;
    /* where each key was given, NULL: not given; a dataset's keys for each dataset */
    const YamlNode *given[SCHEMA_MAX_KEYS];
    const YamlNode *dataset_given[CONFIG_MAX_LIST][SCHEMA_MAX_KEYS];
    const YamlNode *dataset_at[CONFIG_MAX_LIST];
} Reader;

static const YamlNode **given_place(Reader *r, int key, int dataset)
{
    int count;
    return schema_of_dataset(&schema_keys(&count)[key]) ? &r->dataset_given[dataset][key] : &r->given[key];
}

static const YamlNode *given(Reader *r, const char *path, int dataset)
{
    return *given_place(r, schema_find(path), dataset);
}

/* Unknown keys ----------------------------------------------------------------------------------------- */

/* Another key's whole path that ends in this name, where only one does: train.lr is optimizer.lr. */
static const char *same_name_elsewhere(const char *name)
{
    int count;
    const SchemaKey *keys = schema_keys(&count);
    const char *found = NULL;
    for (int i = 0; i < count; i++) {
        const char *last = strrchr(keys[i].path, '.') + 1;
        if (strcmp(last, name) != 0)
            continue;
        if (found)
            return NULL;
        found = keys[i].path;
    }
    return found;
}

/* The nearest name in the section, or among all keys; "" if there is none. */
static void nearest_key(const char *section, const char *name, char *out, size_t size)
{
    char names[SCHEMA_MAX_KEYS][SCHEMA_NAME];
    const char *words[SCHEMA_MAX_KEYS], *last[SCHEMA_MAX_KEYS];
    int keys;
    const SchemaKey *table = schema_keys(&keys);
    const int count = schema_children(section, names, SCHEMA_MAX_KEYS);
    const char *same = same_name_elsewhere(name);
    for (int i = 0; i < count; i++)
        words[i] = names[i];
    for (int i = 0; i < keys; i++)
        last[i] = strrchr(table[i].path, '.') + 1;
    const char *near = same ? NULL : text_nearest(name, words, count);
    const char *far = same || near ? NULL : text_nearest(name, last, keys);
    out[0] = 0;
    if (near)
        snprintf(out, size, "%s%s%s", section, *section ? "." : "", near);
    else if (same)
        snprintf(out, size, "%s", same);
    else if (far)
        for (int i = 0; i < keys; i++)
            if (last[i] == far)
                snprintf(out, size, "%s", table[i].path);
}

static Status refuse_unknown(const YamlPair *pair, const char *section)
{
    char names[SCHEMA_MAX_KEYS][SCHEMA_NAME], near[PATH_NAMES], list[1024] = "";
    const YamlNode at = {.origin = pair->origin, .line = pair->line, .column = pair->column};
    const char *dot = *section ? "." : "";
    if (schema_find(pair->key) >= 0)
        return yaml_refuse(
            &at, "unknown key %s%s%s; keys are nested: write \"%.*s:\", and the rest indented below it",
            section, dot, pair->key, (int)strcspn(pair->key, "."), pair->key);
    if (pair->key[0] >= '0' && pair->key[0] <= '9')
        return yaml_refuse(&at,
                           "unknown key %s%s%s; is it a part of a number? Those are written without commas, "
                           "with a point for decimals",
                           section, dot, pair->key);
    const char *answer = same_name_elsewhere(pair->key) ? NULL : other_name_answer(pair->key);
    if (answer)
        return yaml_refuse(&at, "unknown key %s%s%s; %s", section, dot, pair->key, answer);
    nearest_key(section, pair->key, near, sizeof near);
    if (near[0])
        return yaml_refuse(&at, "unknown key %s%s%s; did you mean %s?", section, dot, pair->key, near);
    const int count = schema_children(section, names, SCHEMA_MAX_KEYS);
    for (int i = 0; i < count; i++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    return yaml_refuse(&at, "unknown key %s%s%s; the keys %s%s are: %s", section, dot, pair->key,
                       *section ? "of " : "there", section, list);
}

/* Walking ---------------------------------------------------------------------------------------------- */

static Status refuse_section(const YamlNode *n, const char *section)
{
    const char *what = n->kind == YAML_IS_LIST ? "a list" : "a value";
    if (!*section)
        return yaml_refuse(n, "a configuration is made of keys (model: …), and this is %s", what);
    return yaml_refuse(n, "%s wants keys below it, not %s (see: atelier config explain %s)", section, what,
                       section);
}

static Status read_section(Reader *r, const YamlNode *map, const char *section, int dataset);

static Status read_datasets(Reader *r, const YamlNode *n)
{
    Config *c = r->config;
    const int count = n->kind == YAML_IS_LIST ? n->count : 1;
    if (n->kind == YAML_IS_TEXT && !yaml_is_empty(n))
        return yaml_refuse(n,
                           "dataset wants keys below it: path, and what else it needs (dataset: {path: %s})",
                           strlen(n->text) < 100 ? n->text : "FOLDER");
    if (count > CONFIG_MAX_LIST)
        return yaml_refuse(n, "dataset has %d items; %d are allowed", count, CONFIG_MAX_LIST);
    for (int i = 0; i < count; i++) {
        const YamlNode *item = n->kind == YAML_IS_LIST ? n->items[i] : n;
        if (item->kind == YAML_IS_LIST)
            return yaml_refuse(item, "a list in the list of datasets; each is a map with a path");
        if (item->kind == YAML_IS_TEXT && !yaml_is_empty(item))
            return refuse_section(item, "dataset");
        r->dataset_at[i] = item;
        c->dataset_count = i + 1;
        if (item->kind == YAML_IS_MAP)
            TRY(read_section(r, item, "dataset", i));
    }
    return STATUS_OK;
}

static Status read_pair(Reader *r, const YamlPair *pair, const char *section, int dataset)
{
    char path[PATH_NAMES];
    int count;
    const int length = snprintf(path, sizeof path, "%s%s%s", section, *section ? "." : "", pair->key);
    if (length >= (int)sizeof path || strchr(pair->key, '.'))
        return refuse_unknown(pair, section);
    const int key = schema_find(path);
    if (key >= 0) {
        *given_place(r, key, dataset) = pair->value;
        return value_read(&schema_keys(&count)[key], pair->value, r->config, dataset);
    }
    if (schema_find_section(path) < 0)
        return refuse_unknown(pair, section);
    if (strcmp(path, "dataset") == 0)
        return read_datasets(r, pair->value);
    if (yaml_is_empty(pair->value))
        return STATUS_OK;
    return read_section(r, pair->value, path, dataset);
}

static Status read_section(Reader *r, const YamlNode *map, const char *section, int dataset)
{
    if (map->kind != YAML_IS_MAP)
        return refuse_section(map, section);
    for (int i = 0; i < map->count; i++)
        TRY(read_pair(r, &map->pairs[i], section, dataset));
    return STATUS_OK;
}

/* --set ------------------------------------------------------------------------------------------------ */

/* The value's node: a text as it stands for a key that takes one value, YAML for the rest and for quoted
 * texts. */
static Status parse_set_value(YamlDoc *d, const char *origin, const char *path, const char *text,
                              YamlNode **out)
{
    int count;
    char name[PATH_NAMES] = ""; /* the path without numbers of datasets */
    for (const char *part = path; *part;) {
        const size_t length = strcspn(part, ".");
        const size_t used = strlen(name);
        if (strspn(part, "0123456789") != length)
            snprintf(name + used, sizeof name - used, "%s%.*s", used ? "." : "", (int)length, part);
        part += length + (part[length] == '.');
    }
    const int key = schema_find(name);
    const bool one = key >= 0 && schema_keys(&count)[key].type != KEY_TEXTS &&
                     schema_keys(&count)[key].type != KEY_INTS && schema_keys(&count)[key].type != KEY_FLAGS;
    const size_t length = strlen(text);
    const bool quoted = length >= 2 && (text[0] == '"' || text[0] == '\'') && text[length - 1] == text[0];
    if (text_invalid_utf8(text, length) >= 0)
        return status_refuse("%s: the value is not UTF-8", path);
    const bool cleared = length == 0 && schema_find_section(name) >= 0; /* "prior=": nothing of the section */
    if (!cleared && (length == 0 || (one && !quoted)))
        return yaml_scalar(d, origin, text, out);
    TRY(yaml_parse(d, origin, cleared ? "{}" : text, cleared ? 2 : length, out));
    yaml_forget_lines(*out);
    return STATUS_OK;
}

static Status apply_set(Reader *r, YamlNode **root, const char *set)
{
    char origin[SET_SHOWN + 16] = "--set ", path[PATH_NAMES];
    const size_t length = strcspn(set, "=");
    YamlNode *value;
    size_t shown = strnlen(set, SET_SHOWN);
    while (shown && ((unsigned char)set[shown] & 0xC0) == 0x80) /* not inside a character */
        shown--;
    strncat(origin, set, shown);
    strcat(origin, set[shown] ? "…" : "");
    if (set[length] != '=' || length == 0 || length >= sizeof path)
        return status_refuse("%s: it is written KEY=VALUE, as in --set train.steps=500", origin);
    snprintf(path, sizeof path, "%.*s", (int)length, set);
    if (text_invalid_utf8(path, length) >= 0)
        return status_refuse("--set: the key is not UTF-8");
    TRY(parse_set_value(r->doc, origin, path, set + length + 1, &value));
    return yaml_set(r->doc, root, path, value);
}

/* Defaults and contradictions -------------------------------------------------------------------------- */

/* Calls visit for each key, for a dataset's key once for each dataset. */
static Status for_each_key(Reader *r, Status (*visit)(Reader *r, int key, int dataset))
{
    int count;
    const SchemaKey *keys = schema_keys(&count);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < (schema_of_dataset(&keys[i]) ? r->config->dataset_count : 1); d++)
            TRY(visit(r, i, d));
    return STATUS_OK;
}

static Status refuse_missing(Reader *r, const SchemaKey *k, int dataset)
{
    const YamlNode top = {.origin = r->config->origin}, *at = &top;
    char wants[320];
    if (schema_of_dataset(k))
        at = r->dataset_at[dataset];
    else if (r->root->kind == YAML_IS_MAP)
        for (int i = 0; i < r->root->count; i++)
            if (strncmp(r->root->pairs[i].key, k->path, strcspn(k->path, ".")) == 0 &&
                r->root->pairs[i].value)
                at = r->root->pairs[i].value;
    return yaml_refuse(at, "%s is missing; it wants %s", k->path, schema_wants(k, wants, sizeof wants));
}

static Status fill_in(Reader *r, int key, int dataset)
{
    int count;
    const SchemaKey *k = &schema_keys(&count)[key];
    if (*given_place(r, key, dataset))
        return STATUS_OK;
    return k->required ? refuse_missing(r, k, dataset) : value_preset(k, r->config, dataset);
}

/* The defaults that depend on other keys: the schema's preset_note says the same in words. */
static Status resolve(Reader *r)
{
    Config *c = r->config;
    if (!given(r, "method.alpha", 0))
        c->method.alpha = (float)c->method.rank;
    if (!given(r, "train.steps", 0) && c->train.epochs > 0)
        c->train.steps = 0;
    if (c->method.text_encoder && c->optimizer.text_encoder_lr == 0 &&
        !given(r, "optimizer.text_encoder_lr", 0))
        c->optimizer.text_encoder_lr = c->optimizer.lr;
    if (c->method.text_encoder && c->optimizer.lr == 0 && c->optimizer.text_encoder_lr == 0 &&
        c->optimizer.text_encoder_2_lr == 0)
        return yaml_refuse(
            given(r, "optimizer.lr", 0),
            "optimizer.lr is 0, and so is optimizer.text_encoder_lr: nothing would be trained; give "
            "the UNet or the text encoder a rate");
    if (!given(r, "prior.weight", 0) && (given(r, "prior.path", 0) || given(r, "prior.prompt", 0)))
        c->prior.weight = 1;
    if (!given(r, "preview.every", 0) && c->preview.prompt_count == 0)
        c->preview.every = 0;
    bool varied = false, moved = false;
    for (int i = 0; i < c->dataset_count; i++) {
        ConfigDataset *d = &c->datasets[i];
        d->buckets_open = !given(r, "dataset.buckets", i);
        varied |= d->caption.shuffle || d->caption.wildcards || d->caption.tag_dropout > 0 ||
                  d->caption.keep_separator;
        moved |= d->crop == CROP_RANDOM || d->augment.shift > 0 || d->augment.scale > 0;
    }
    if (!given(r, "train.cache_text", 0) && (c->method.text_encoder || varied))
        c->train.cache_text = false;
    if (!given(r, "train.cache_latents", 0) && moved)
        c->train.cache_latents = false;
    if (c->output.dir)
        return STATUS_OK;
    const char *name = path_base(c->origin), *dot = strrchr(name, '.');
    c->output.dir =
        mem_printf("runs/%.*s", (int)(dot && dot != name ? dot - name : (long)strlen(name)), name);
    return c->output.dir ? STATUS_OK : STATUS_FAILED;
}

static Status check_idle(Reader *r, int key, int dataset)
{
    int count;
    const SchemaKey *k = &schema_keys(&count)[key];
    const YamlNode *at = *given_place(r, key, dataset);
    const SchemaRule *rule = at ? schema_idle(k, r->config, dataset) : NULL;
    if (rule && rule->excuse == SWITCHED_OFF && *given_place(r, schema_find(rule->other), dataset))
        return STATUS_OK;
    return rule ? yaml_refuse(at, "%s %s", k->path, rule->why) : STATUS_OK;
}

/* What keeps parts of a caption does nothing where no part moves. */
static Status check_kept(Reader *r)
{
    const Config *c = r->config;
    for (int i = 0; i < c->dataset_count; i++) {
        const ConfigDataset *d = &c->datasets[i];
        const YamlNode *at = given(r, "dataset.caption.keep_tokens", i);
        if (at && d->caption.keep_tokens > 0 && !d->caption.shuffle && d->caption.tag_dropout <= 0)
            return yaml_refuse(at,
                               "dataset.caption.keep_tokens does nothing without caption.shuffle: true (or "
                               "tag_dropout); remove it, or shuffle");
    }
    return STATUS_OK;
}

/* Prior preservation: what belongs together, and class pictures apart from the subject's. */
static Status check_prior(Reader *r)
{
    const Config *c = r->config;
    static const char *const wanted[] = {"prior.path", "prior.prompt"};
    const char *const values[] = {c->prior.path, c->prior.prompt};
    if (c->prior.weight <= 0)
        return STATUS_OK;
    for (int i = 0; i < 2; i++) {
        const YamlNode *at = given(r, wanted[i], 0);
        const char *what = i ? "the class's name, as in \"a dog\"" : "a folder for the class pictures";
        if (!at) {
            const YamlNode *other = given(r, wanted[1 - i], 0);
            return yaml_refuse(other ? other : given(r, "prior.weight", 0), "%s is missing; it wants %s",
                               wanted[i], what);
        }
        if (!values[i] || !*values[i])
            return yaml_refuse(at, "%s is empty; it wants %s", wanted[i], what);
    }
    for (int i = 0; i < c->dataset_count; i++) {
        const char *pictures = c->datasets[i].path;
        if (path_lies_in(pictures, c->prior.path) || path_lies_in(c->prior.path, pictures))
            return yaml_refuse(
                given(r, "prior.path", 0),
                "prior.path %s and dataset %s lie in one another; class pictures would be taken "
                "for the subject's: name another folder",
                c->prior.path, pictures);
    }
    return STATUS_OK;
}

/* A run's previews are pictures too: the next run would train on them. */
static Status check_output(Reader *r)
{
    const Config *c = r->config;
    const YamlNode *at = given(r, "output.dir", 0);
    for (int i = 0; i < c->dataset_count + config_has_prior(c); i++) {
        const bool prior = i == c->dataset_count;
        const char *pictures = prior ? c->prior.path : c->datasets[i].path;
        if (path_lies_in(c->output.dir, pictures))
            return yaml_refuse(
                at ? at : r->root,
                "output.dir %s lies in the %s folder, %s; the next run would take what is written "
                "there for pictures: name another folder",
                c->output.dir, prior ? "class pictures'" : "dataset's", pictures);
    }
    return STATUS_OK;
}

/* The configuration that a run keeps, beside its checkpoints. */
static bool is_a_runs_own(const Config *c)
{
    char *checkpoints = path_in(c->base_dir, "checkpoints");
    const bool own =
        strcmp(path_base(c->origin), "config.yaml") == 0 && checkpoints && file_exists(checkpoints);
    mem_free(checkpoints);
    return own;
}

/* A LoRA and a whole model have formats of their own. What runs of before keep has kohya in it, whatever is
 * trained, where nothing was asked for. */
static Status check_formats(Reader *r)
{
    Config *c = r->config;
    const YamlNode *at = given(r, "output.formats", 0);
    if (c->method.kind == METHOD_FULL && c->output.kohya && !c->output.peft && !c->output.single &&
        is_a_runs_own(c))
        c->output.kohya = false;
    if (c->method.kind == METHOD_FULL && (c->output.peft || c->output.kohya))
        return yaml_refuse(
            at, "output.formats: kohya and peft are formats of a LoRA; with method.kind: full, which "
                "saves a diffusers folder, it is [single] or nothing");
    if (c->method.kind == METHOD_LORA && c->output.single)
        return yaml_refuse(
            at, "output.formats: single is a whole model in one file, which method.kind: full makes; a "
                "LoRA's are kohya and peft");
    return STATUS_OK;
}

/* A picture after the other takes a seed more, and none is taken twice. */
static Status check_seed(Reader *r, const char *key, uint64_t seed, int pictures)
{
    const YamlNode *at = given(r, key, 0);
    if (pictures < 2 || seed <= UINT64_MAX - (uint64_t)(pictures - 1))
        return STATUS_OK;
    return yaml_refuse(at ? at : r->root, "%s: %d pictures from %llu on would go past the largest seed, %llu",
                       key, pictures, (unsigned long long)seed, (unsigned long long)UINT64_MAX);
}

/* What no single key's range can say. */
static Status check_together(Reader *r)
{
    const Config *c = r->config;
    const YamlNode *at;
    if (c->train.steps == 0 && c->train.epochs == 0) {
        at = given(r, "train.steps", 0);
        return yaml_refuse(at ? at : r->root,
                           "train.steps and train.epochs are both 0; one has to be at least 1");
    }
    at = given(r, "train.device", 0);
    if (at && !device_word_is_good(c->train.device))
        return yaml_refuse(at, "train.device wants one of %s, not \"%s\"", DEVICE_FORMS, c->train.device);
    for (int i = 0; i < c->dataset_count; i++)
        if (c->datasets[i].crop == CROP_RANDOM && c->train.cache_latents)
            return yaml_refuse(given(r, "dataset.crop", i),
                               "dataset.crop: random does not go with train.cache_latents: true (cached "
                               "latents can only be mirrored); remove one of them");
    TRY(check_formats(r));
    if (c->preview.prompt_2_count && c->preview.prompt_2_count != c->preview.prompt_count)
        return yaml_refuse(given(r, "preview.prompts_2", 0),
                           "preview.prompts_2 has %d texts, preview.prompts %d; each needs one (\"\" is the "
                           "same as the prompt)",
                           c->preview.prompt_2_count, c->preview.prompt_count);
    TRY(check_seed(r, "preview.seed", c->preview.seed, c->preview.prompt_count));
    return config_has_prior(c) ? check_seed(r, "prior.seed", c->prior.seed, c->prior.pictures) : STATUS_OK;
}

/* Paths ------------------------------------------------------------------------------------------------ */

static Status make_absolute(Reader *r, int key, int dataset)
{
    int count;
    const SchemaKey *k = &schema_keys(&count)[key];
    char **field = schema_field(k, r->config, dataset);
    if (k->type != KEY_PATH || !*field || model_is_builtin(*field))
        return STATUS_OK;
    for (size_t n = strlen(*field); n > 1 && (*field)[n - 1] == '/'; n--)
        (*field)[n - 1] = 0; /* "cat/" names what "cat" does: files are named after the last component */
    const Status s = config_make_absolute(r->config, field);
    const YamlNode *at = *given_place(r, key, dataset);
    return s == STATUS_REFUSED && at ? yaml_refuse(at, "%s: %s", k->path, status_message()) : s;
}

/* The whole -------------------------------------------------------------------------------------------- */

static Status read_all(Reader *r, const char *path, const char *const *sets, int set_count)
{
    Config *c = r->config;
    YamlNode *root;
    TRY(r->text ? yaml_parse(r->doc, path, r->text, strlen(r->text), &root) : yaml_read(r->doc, path, &root));
    TRY(config_folder(path, &c->base_dir));
    for (int i = 0; i < set_count; i++)
        TRY(apply_set(r, &root, sets[i]));
    r->root = root;
    TRY(read_section(r, root, "", 0));
    if (c->dataset_count == 0)
        return status_refuse("%s: dataset is missing; it wants a path (dataset: {path: FOLDER})", path);
    TRY(for_each_key(r, fill_in));
    TRY(resolve(r));
    TRY(for_each_key(r, check_idle));
    TRY(check_together(r));
    TRY(for_each_key(r, make_absolute));
    TRY(check_kept(r));
    TRY(check_prior(r));
    return check_output(r);
}

/* text NULL: what is in the file. */
static Status read_from(const char *path, const char *text, const char *const *sets, int set_count,
                        Config **out)
{
    *out = NULL;
    Reader *r = mem_calloc(1, sizeof *r);
    Config *c = mem_calloc(1, sizeof *c);
    Status s = r && c ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK) {
        r->config = c;
        r->text = text;
        c->origin = mem_strdup(path);
        s = c->origin ? yaml_doc_new(&r->doc) : STATUS_FAILED;
    }
    if (s == STATUS_OK)
        s = read_all(r, path, sets, set_count);
    if (r)
        yaml_doc_free(r->doc);
    mem_free(r);
    if (s == STATUS_OK)
        *out = c;
    else
        config_free(c);
    return s;
}

Status config_read(const char *path, const char *const *sets, int set_count, Config **out)
{
    return read_from(path, NULL, sets, set_count, out);
}

Status config_read_text(const char *text, const char *folder, const char *const *sets, int set_count,
                        Config **out)
{
    *out = NULL;
    char *path = path_join(folder ? folder : ".", "configuration");
    const Status s = path ? read_from(path, text, sets, set_count, out) : STATUS_FAILED;
    mem_free(path);
    return s;
}

Status config_set_device(Config *c, const char *word)
{
    char *copy = mem_strdup(word);
    if (!copy)
        return STATUS_FAILED;
    mem_free(c->train.device);
    c->train.device = copy;
    return STATUS_OK;
}

void config_free(Config *c)
{
    int count;
    const SchemaKey *keys = schema_keys(&count);
    if (!c)
        return;
    for (int i = 0; i < count; i++)
        for (int d = 0; d < (schema_of_dataset(&keys[i]) ? c->dataset_count : 1); d++)
            value_free(&keys[i], c, d);
    for (int i = 0; i < c->relative_count; i++) {
        mem_free(c->relatives[i].path);
        mem_free(c->relatives[i].written);
    }
    mem_free(c->relatives);
    mem_free(c->origin);
    mem_free(c->base_dir);
    mem_free(c);
}
