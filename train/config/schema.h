/* The schema: every key of a configuration in one table (schema.c), and nothing about a key anywhere else.
 *
 * From it come reading and checking (config.c), `config show` and a run's own config.yaml (config_write.c),
 * and `config schema`, `config explain` and the reference page (config_docs.c). Adding a key is a field in
 * Config and a row here. A key that does nothing in a run is an error: the second table, of rules, says which
 * do nothing when. */
#ifndef ATL_SCHEMA_H
#define ATL_SCHEMA_H

#include "config.h"

typedef enum KeyType {
    KEY_TEXT,       /* char * */
    KEY_PATH,       /* char *; relative to the configuration's folder; "builtin:NAME" stays as it is */
    KEY_INT,        /* int */
    KEY_INTS,       /* Resolutions: a whole number, or a list of them */
    KEY_INT64,      /* int64_t */
    KEY_UINT64,     /* uint64_t */
    KEY_FLOAT,      /* float */
    KEY_DOUBLE,     /* double */
    KEY_SWITCH,     /* bool */
    KEY_SWITCH_OR,  /* Switch: yes, no, or the first word of `choices` ("auto|on|off") */
    KEY_SWITCH_AND, /* an enum: no, yes, or the place of a further word of `choices` ("false|true|first") */
    KEY_CHOICE,     /* an enum whose values are the places of the words in `choices` */
    KEY_TEXTS,      /* char *[CONFIG_MAX_LIST], and an int at count_offset */
    KEY_FLAGS       /* a list of choices: one bool after the other */
} KeyType;

/* What a run that is gone on with may do with a key. */
typedef enum KeyFreedom {
    KEY_FIXED,         /* another value ends in another result */
    KEY_FREE,          /* the result is the same, or is what is asked for now */
    KEY_FREE_IF_LEVEL, /* as long as the learning rate does not depend on the number of steps */
    KEY_PLACE          /* where something lies or is computed; what that is is compared */
} KeyFreedom;

/* Where the other key, of the same dataset if both are a dataset's, has this value, the default is this. */
typedef struct SchemaPreset {
    const char *other;
    double value; /* as schema_number gives it */
    const char *preset;
} SchemaPreset;

typedef struct SchemaKey {
    const char *path; /* "train.steps"; below "dataset." the field is in ConfigDataset */
    KeyType type;
    size_t offset, count_offset;
    const char *preset;      /* the default as it would stand in YAML; NULL: required, or see preset_note */
    const char *preset_note; /* the default in words, where it depends on others or means something */
    SchemaPreset unless;     /* another default where another key says so; other NULL: nowhere */
    double min, max;         /* numbers */
    int multiple;            /* whole numbers: 0, or what they have to be a multiple of */
    const char *choices;     /* "lora|full" */
    bool required;
    KeyFreedom freedom;
    const char *help; /* one line */
    const char *more; /* further sentences, or NULL */
} SchemaKey;

typedef struct SchemaSection {
    const char *path, *help;
} SchemaSection;

/* What makes a key that does nothing no mistake. */
typedef enum SchemaExcuse {
    NO_EXCUSE,
    WHILE_OFF,   /* it is 0 or false itself */
    SWITCHED_OFF /* the other key was written down: it switches its section off on purpose */
} SchemaExcuse;

/* key does nothing (or cannot be) where the other key has, or has not, the value. */
typedef struct SchemaRule {
    const char *key;   /* "preview.*": every key below preview but the other one itself */
    const char *other; /* in the same dataset, if both are a dataset's */
    bool is;           /* true: where other is value; false: where it is not */
    double value;      /* as schema_number gives it */
    SchemaExcuse excuse;
    const char *why; /* follows the key's name in the message */
} SchemaRule;

const SchemaKey *schema_keys(int *count);
const SchemaSection *schema_sections(int *count);
const SchemaRule *schema_rules(int *count);
#define SCHEMA_MAX_KEYS 128

/* The number of the key or section with this path, or -1. */
int schema_find(const char *path);
int schema_find_section(const char *path);
bool schema_of_dataset(const SchemaKey *k); /* a key below "dataset." */
/* Names directly below a section ("" is the top), in the table's order; returns how many (at most max). */
#define SCHEMA_NAME 32
int schema_children(const char *section, char names[][SCHEMA_NAME], int max);

/* The key's field; dataset is the number of the dataset for a dataset's key, else not looked at. */
void *schema_field(const SchemaKey *k, Config *c, int dataset);
const void *schema_field_const(const SchemaKey *k, const Config *c, int dataset);
/* The default in this configuration, or NULL. The key that it depends on stands before this one in the table.
 */
const char *schema_preset(const SchemaKey *k, const Config *c, int dataset);
/* Numbers, switches and choices as a number; how many there are in a list of texts; 0 for a text. */
double schema_number(const SchemaKey *k, const Config *c, int dataset);
bool schema_rule_is_for(const SchemaRule *r, const char *path);
/* The rule that makes the key do nothing in this configuration, or NULL; whether the other key was written
 * down is the caller's to ask. */
const SchemaRule *schema_idle(const SchemaKey *k, const Config *c, int dataset);

/* Whether the word is a spelling of yes or no, and of which: true, yes, on, false, no, off, in lower case, in
 * capitals, or begun with one. */
bool schema_yes_or_no(const char *word, bool *yes);
/* The spellings one after the other; NULL past the last. */
const char *schema_switch_word(int i, bool *yes);
/* The i-th word of "a|b|c" into name; false past the last. */
bool schema_choice(const char *choices, int i, char name[SCHEMA_NAME]);
/* "a whole number from 1 to 64", "true or false", "one of lora, full": what the key wants, into buf; returns
 * buf. */
const char *schema_wants(const SchemaKey *k, char *buf, size_t size);

#endif
