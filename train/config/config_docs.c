/* What the schema says about itself: one key explained, the reference page, the JSON Schema for editors. */
#include "kernels/base/buffer.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "schema.h"

#include <stdlib.h>
#include <string.h>

/* The default as a person reads it. */
static void add_preset(const SchemaKey *k, Buffer *out)
{
    const SchemaPreset *u = &k->unless;
    char word[SCHEMA_NAME];
    int count;
    if (k->required)
        buffer_add(out, "has to be given");
    else if (k->preset && k->preset_note && strncmp(k->preset_note, k->preset, strlen(k->preset)) != 0)
        buffer_add(out, "%s (%s)", k->preset, k->preset_note);
    else if (k->preset_note)
        buffer_add(out, "%s", k->preset_note);
    else
        buffer_add(out, "%s", *k->preset ? k->preset : "\"\"");
    if (u->other && schema_choice(schema_keys(&count)[schema_find(u->other)].choices, (int)u->value, word))
        buffer_add(out, "; %s with %s: %s", *u->preset ? u->preset : "none", u->other, word);
}

/* Explaining ------------------------------------------------------------------------------------------- */

static void explain_key(const SchemaKey *k, Buffer *out)
{
    char wants[320];
    Buffer preset = {0};
    add_preset(k, &preset);
    buffer_add(out, "%s\n", k->path);
    buffer_add(out, "  wants    ");
    buffer_add_wrapped(out, 11, 11, schema_wants(k, wants, sizeof wants));
    buffer_add(out, "  default  ");
    buffer_add_wrapped(out, 11, 11, preset.failed ? "" : preset.data);
    buffer_add(out, "\n  ");
    buffer_add_wrapped(out, 2, 2, k->help);
    if (k->more) {
        buffer_add(out, "  ");
        buffer_add_wrapped(out, 2, 2, k->more);
    }
    int count;
    const SchemaRule *rules = schema_rules(&count);
    for (int i = 0; i < count; i++)
        if (schema_rule_is_for(&rules[i], k->path)) {
            buffer_add(out, "  It ");
            buffer_add_wrapped(out, 5, 2, rules[i].why);
        }
    out->failed |= preset.failed;
    mem_free(preset.data);
}

/* Keys of the section and of those inside of it, a line each. */
static void explain_section(const SchemaSection *s, Buffer *out)
{
    int count;
    const SchemaKey *keys = schema_keys(&count);
    const size_t length = strlen(s->path);
    buffer_add(out, "%s\n  ", s->path);
    buffer_add_wrapped(out, 2, 2, s->help);
    for (int i = 0; i < count; i++)
        if (strncmp(keys[i].path, s->path, length) == 0 && keys[i].path[length] == '.') {
            const int width = 28;
            buffer_add(out, "  %-*s ", width, keys[i].path);
            buffer_add_wrapped(out, width + 3, width + 3, keys[i].help);
        }
}

Status config_explain(const char *key, char **text)
{
    int sections, keys;
    const SchemaSection *s = schema_sections(&sections);
    const SchemaKey *k = schema_keys(&keys);
    const char *words[SCHEMA_MAX_KEYS], *last[SCHEMA_MAX_KEYS];
    Buffer out = {0};
    bool found = false;
    for (int i = 0; i < sections; i++)
        if (key ? strcmp(key, s[i].path) == 0 : !strchr(s[i].path, '.')) {
            buffer_add(&out, "%s", found ? "\n" : "");
            explain_section(&s[i], &out);
            found = true;
        }
    for (int i = 0; i < keys; i++) {
        words[i] = k[i].path;
        last[i] = strrchr(k[i].path, '.') + 1;
        if (key && (strcmp(key, words[i]) == 0 || strcmp(key, last[i]) == 0)) {
            buffer_add(&out, "%s", found ? "\n" : "");
            explain_key(&k[i], &out);
            found = true;
        }
    }
    if (found)
        return buffer_take(&out, text);
    mem_free(out.data);
    const char *near = text_nearest(key, words, keys);
    if (!near)
        near = text_nearest(key, last, keys);
    if (near)
        return status_refuse("no key is named %s; did you mean %s?", key, near);
    return status_refuse("no key is named %s; atelier config explain lists them all", key);
}

/* The reference page ----------------------------------------------------------------------------------- */

static const char INTRODUCTION[] =
    "# Configuration\n"
    "\n"
    "<!-- Made by `atelier config reference`; a test compares them. Change train/config/schema.c or "
    "train/config/config_docs.c. -->\n"
    "\n"
    "A run is described by one YAML file:\n"
    "\n"
    "```yaml\n"
    "model: {base: builtin:tiny}\n"
    "dataset:\n"
    "  - {path: pictures/cat, caption: {dropout: 0.1}}\n"
    "method: {kind: lora, rank: 16}\n"
    "train: {steps: 1000, batch: 4, seed: 42}\n"
    "optimizer: {lr: 1.0e-4, schedule: cosine, warmup: 50}\n"
    "preview: {every: 100, prompts: [a photo of sks cat, sks cat in the snow]}\n"
    "output: {dir: runs/cat, formats: [kohya]}\n"
    "```\n"
    "\n"
    "Only `model.base` and a dataset's `path` have to be given. `atelier config check FILE` says what is "
    "wrong with a file, "
    "with line and column; `atelier config show FILE` prints it with every default written out; `atelier "
    "config explain "
    "KEY` prints what this page says about a key; `atelier config schema` prints a JSON Schema, with which "
    "an editor "
    "completes and checks keys as they are typed.\n"
    "\n"
    "How it is read:\n"
    "\n"
    "- The key decides what its value is, never the look of the word: a prompt `no` is a text, `0.0001`, "
    "`1e-4` and "
    "`1.0E-4` are the same number. Text that contains `: ` or ` #`, or begins with a bracket, a quote, `&`, "
    "`*` or `@`, "
    "goes in quotes.\n"
    "- Switches are `true`, `false`, `yes`, `no`, `on` or `off`, in capitals too (`True`, `ON`).\n"
    "- Relative paths start at the configuration's own folder, those of `--set` too; `~/` is the home "
    "folder. `~name` and `$NAME` are refused.\n"
    "- Anchors and aliases (`&name`, `*name`) work; merge keys (`<<`), tags and several documents in one "
    "file do not.\n"
    "- A key that does nothing in a run is an error, so that nobody waits for its effect "
    "([below](#keys-that-do-nothing)).\n"
    "- `--set KEY=VALUE` on the command line replaces a value of the file: `--set train.steps=500`, `--set "
    "'preview.prompts=[a red heart, a blue fish]'`. One of several datasets is named by its place, counted "
    "from 0: "
    "`--set dataset.1.repeats=5`. `--set SECTION=` takes a section out of the file.\n";

/* text with what Markdown would take for the end of a table's cell escaped. */
static void add_cell(Buffer *out, const char *text)
{
    for (; *text; text++)
        buffer_add(out, *text == '|' ? "\\|" : "%c", *text);
}

static void add_row(const SchemaKey *k, Buffer *out)
{
    char wants[320];
    buffer_add(out, "| `%s` | ", k->path);
    add_cell(out, schema_wants(k, wants, sizeof wants));
    buffer_add(out, " | ");
    add_preset(k, out);
    buffer_add(out, " | ");
    add_cell(out, k->help);
    if (k->more) {
        buffer_add(out, " ");
        add_cell(out, k->more);
    }
    buffer_add(out, " |\n");
}

Status config_reference(char **markdown)
{
    int sections, keys, rules;
    const SchemaSection *s = schema_sections(&sections);
    const SchemaKey *k = schema_keys(&keys);
    const SchemaRule *r = schema_rules(&rules);
    Buffer out = {0};
    buffer_add(&out, "%s", INTRODUCTION);
    for (int i = 0; i < sections; i++) {
        const size_t length = strlen(s[i].path);
        if (strchr(s[i].path, '.'))
            continue;
        buffer_add(&out, "\n## %s\n\n%s\n\n| key | wants | default | what it does |\n|---|---|---|---|\n",
                   s[i].path, s[i].help);
        for (int j = 0; j < keys; j++)
            if (strncmp(k[j].path, s[i].path, length) == 0 && k[j].path[length] == '.')
                add_row(&k[j], &out);
    }
    buffer_add(&out,
               "\n## Keys that do nothing\n\nThese are refused, by line. A section that is switched off on "
               "purpose is not: "
               "`preview.every`, `validation.share`, `output.save_every` or `prior.weight`, written as 0, "
               "silence the rest of it.\n\n");
    for (int i = 0; i < rules; i++)
        buffer_add(&out, "- `%s` %s\n", r[i].key, r[i].why);
    return buffer_take(&out, markdown);
}

/* JSON Schema ------------------------------------------------------------------------------------------ */

static json_t *choices_of(const SchemaKey *k)
{
    json_t *list = json_array();
    char word[SCHEMA_NAME];
    for (int i = 0; schema_choice(k->choices, i, word); i++)
        json_array_append_new(list, json_string(word));
    return list;
}

/* true and false, the words that an editor may take for texts, and the third one where there is one. */
static json_t *switch_words(const SchemaKey *k)
{
    json_t *list = json_array();
    const char *word;
    char further[SCHEMA_NAME];
    bool yes;
    for (int i = 0; i < 2; i++)
        json_array_append_new(list, json_boolean(i == 0));
    for (int i = 0; (word = schema_switch_word(i, &yes)) != NULL; i++)
        json_array_append_new(list, json_string(word));
    if (k->type == KEY_SWITCH_OR && schema_choice(k->choices, 0, further))
        json_array_append_new(list, json_string(further));
    for (int i = 2; k->type == KEY_SWITCH_AND && schema_choice(k->choices, i, further); i++)
        json_array_append_new(list, json_string(further));
    return list;
}

/* What an editor takes for a text: in YAML the words true and 5 are not, but here they may be. */
static json_t *any_text(void)
{
    return json_pack("{s:[s,s,s]}", "type", "string", "number", "boolean");
}

static json_t *number_schema(const SchemaKey *k)
{
    const bool real = k->type == KEY_FLOAT || k->type == KEY_DOUBLE;
    json_t *o = json_pack("{s:s}", "type", real ? "number" : "integer");
    if (k->type == KEY_UINT64) {
        json_object_set_new(o, "minimum", json_integer(0));
        return o;
    }
    json_object_set_new(o, "minimum", real ? json_real(k->min) : json_integer((json_int_t)k->min));
    json_object_set_new(o, "maximum", real ? json_real(k->max) : json_integer((json_int_t)k->max));
    if (k->multiple)
        json_object_set_new(o, "multipleOf", json_integer(k->multiple));
    return o;
}

static json_t *key_schema(const SchemaKey *k)
{
    switch (k->type) {
    case KEY_TEXT:
    case KEY_PATH:
        return k->choices ? json_pack("{s:o}", "enum", choices_of(k)) : any_text();
    case KEY_CHOICE:
        return json_pack("{s:o}", "enum", choices_of(k));
    case KEY_SWITCH:
    case KEY_SWITCH_OR:
    case KEY_SWITCH_AND:
        return json_pack("{s:o}", "enum", switch_words(k));
    case KEY_TEXTS:
        return json_pack("{s:[o,{s:s,s:i,s:o}]}", "anyOf", any_text(), "type", "array", "maxItems",
                         CONFIG_MAX_LIST, "items", any_text());
    case KEY_INTS:
        return json_pack("{s:[o,{s:s,s:i,s:i,s:o}]}", "anyOf", number_schema(k), "type", "array", "minItems",
                         1, "maxItems", CONFIG_MAX_SIZES, "items", number_schema(k));
    case KEY_FLAGS:
        return json_pack("{s:[{s:o},{s:s,s:i,s:{s:o}}]}", "anyOf", "enum", choices_of(k), "type", "array",
                         "minItems", 1, "items", "enum", choices_of(k));
    default:
        return number_schema(k);
    }
}

/* The default as JSON, where it is one value. */
static json_t *preset_json(const SchemaKey *k)
{
    char word[SCHEMA_NAME];
    if (!k->preset || k->type == KEY_TEXTS || k->unless.other)
        return NULL;
    if (k->type == KEY_FLAGS)
        return schema_choice(k->preset, 0, word) ? json_pack("[s]", word) : NULL;
    if (k->type == KEY_TEXT || k->type == KEY_PATH || k->type == KEY_CHOICE || k->type == KEY_SWITCH_OR)
        return json_string(k->preset);
    if (k->type == KEY_SWITCH || k->type == KEY_SWITCH_AND)
        return json_boolean(strcmp(k->preset, "true") == 0);
    return k->type == KEY_FLOAT || k->type == KEY_DOUBLE ? json_real(strtod(k->preset, NULL))
                                                         : json_integer(strtoll(k->preset, NULL, 10));
}

static json_t *key_with_words(const SchemaKey *k)
{
    json_t *o = key_schema(k), *preset = preset_json(k);
    char *words = mem_printf("%s%s%s", k->help, k->more ? " " : "", k->more ? k->more : "");
    json_object_set_new(o, "description", json_string(words ? words : k->help));
    if (preset)
        json_object_set_new(o, "default", preset);
    mem_free(words);
    return o;
}

static json_t *section_schema(const char *section);

static json_t *child_schema(const char *path)
{
    int count;
    const int key = schema_find(path);
    if (key >= 0)
        return key_with_words(&schema_keys(&count)[key]);
    json_t *map = section_schema(path);
    if (strcmp(path, "dataset") != 0)
        return map;
    return json_pack("{s:s,s:[{s:s,s:i,s:i,s:O},o]}", "description",
                     schema_sections(&count)[schema_find_section(path)].help, "anyOf", "type", "array",
                     "minItems", 1, "maxItems", CONFIG_MAX_LIST, "items", map, map);
}

/* A map's schema: its keys, and no others. */
static json_t *section_schema(const char *section)
{
    char names[SCHEMA_MAX_KEYS][SCHEMA_NAME];
    int count;
    const int children = schema_children(section, names, SCHEMA_MAX_KEYS),
              place = schema_find_section(section);
    json_t *properties = json_object(), *required = json_array();
    for (int i = 0; i < children; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s%s%.*s", section, *section ? "." : "", SCHEMA_NAME - 1, names[i]);
        const int key = schema_find(path);
        json_object_set_new(properties, names[i], child_schema(path));
        if (key >= 0 && schema_keys(&count)[key].required)
            json_array_append_new(required, json_string(names[i]));
    }
    if (!*section) {
        json_array_append_new(required, json_string("model"));
        json_array_append_new(required, json_string("dataset"));
    }
    json_t *o = json_object();
    if (place >= 0)
        json_object_set_new(o, "description", json_string(schema_sections(&count)[place].help));
    json_object_set_new(o, "type", json_string("object"));
    json_object_set_new(o, "additionalProperties", json_false());
    json_object_set_new(o, "required", required);
    json_object_set_new(o, "properties", properties);
    return o;
}

Status config_json_schema(char **text)
{
    json_t *root = json_object();
    json_object_set_new(root, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
    json_object_set_new(root, "title", json_string("Atelier: a training run's configuration"));
    json_t *body = section_schema("");
    json_object_update(root, body);
    json_decref(body);
    char *made = json_text(root, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    *text = made ? mem_printf("%s\n", made) : NULL;
    free(made);
    return *text ? STATUS_OK : STATUS_FAILED;
}
