/* The parts that a model is made of, one row of a table each: where files have it, how it is read, made and
 * written. Loading, saving, describing, `model info` and single files go through these rows, so that another
 * part (a second text encoder) is another row. */
#ifndef ATL_PARTS_H
#define ATL_PARTS_H

#include "infer/files/keymap.h"
#include "kernels/base/json.h"
#include "model.h"

/* Whose names a single file uses. */
typedef enum SingleBuild { BUILD_SD1, BUILD_SD2, BUILD_SDXL, BUILD_COUNT } SingleBuild;

/* How a build names a part's tensors: after the prefix as diffusers does, or by a key map, which gives *count
 * names of one tensor's rows; false: a key it does not know. */
typedef struct SingleNames {
    const char *prefix;
    bool (*rename)(const char *key, const void *config, char names[KEYMAP_PARTS][KEYMAP_MAX], int *count);
    /* The other way; *third as keymap_openclip_back has it. */
    bool (*name_back)(const char *name, const void *config, char key[KEYMAP_MAX], int *third);
    const char *turned; /* diffusers' name of a matrix that lies there with rows and columns changed */
} SingleNames;

/* A kind of network: its functions, with types left out. config: UNetConfig, …; network: UNet, …. */
typedef struct PartKind {
    const char *library, *class_name; /* as model_index.json has them */
    const char *stem;                 /* of its files of weights */
    Status (*parse)(const char *json, const char *origin, void *config);
    char *(*json)(const void *config); /* config.json as diffusers writes it; mem_free */
    Status (*create)(const void *config, Weights *w, void **network);
    void (*destroy)(void *network); /* NULL allowed */
    LayerSet *(*layers)(void *network);
    void (*facts)(const void *config, json_t *facts); /* what `model info` says of its shape */
} PartKind;

typedef struct Part {
    const char *folder;    /* and its name in model_index.json */
    const char *tokenizer; /* folder of the one that belongs to it, or NULL */
    const PartKind *kind;
    size_t config;     /* its place in ModelShapes */
    size_t network;    /* its pointer's place in Model */
    uint64_t stream;   /* of random weights, each part its own; never another for a part that there is */
    bool drawn;        /* random where the model is */
    unsigned families; /* bits of the ModelFamilys that have it */
    const char *const *unneeded; /* words in the names of tensors that may be there for nothing */
    SingleNames single[BUILD_COUNT];
} Part;

extern const Part PARTS[PART_COUNT];

bool part_of_family(PartId id, ModelFamily f);
void *part_config(PartId id, ModelShapes *shapes);
/* NULL: the model was loaded without it. */
void *part_network(PartId id, const Model *m);
void part_set_network(PartId id, Model *m, void *network);
LayerSet *part_layers(PartId id, const Model *m);

#endif
