/* A run's configuration: one struct, filled from YAML through one schema (train/config/schema.c). */
#ifndef ATL_CONFIG_H
#define ATL_CONFIG_H

#include "data/dataset/caption_styles.h"
#include "data/dataset/folders.h"
#include "data/loader/mask.h"
#include "data/pictures/size.h"
#include "kernels/tensor.h"
#include "train/objectives/objective.h"
#include "train/optimizers/optimizers.h"

#define CONFIG_MAX_LIST 64
#define CONFIG_MAX_SIZES 8

typedef enum Crop { CROP_CENTRE, CROP_RANDOM, CROP_NONE } Crop; /* none: squeezed, nothing is cut away */

/* Sides of squares in pixels, in whose area pictures are trained. */
typedef struct Resolutions {
    int sides[CONFIG_MAX_SIZES];
    int count;
} Resolutions;

typedef struct ConfigDataset {
    char *path;             /* FILE.h5, or a folder that is built on the spot */
    int repeats;            /* 0: the dataset's own (kohya's folder name), else this */
    Resolutions resolution; /* none: train.resolution */
    bool buckets, enlarge;
    bool buckets_open;                       /* dataset.buckets was not given */
    int bucket_step, bucket_min, bucket_max; /* 0: as the model and the resolution have it */
    Crop crop;
    bool skip_bad;
    FolderNames folder_names;
    float weight; /* of its samples' loss */
    MaskFrom mask;
    struct {
        float dropout;
        bool shuffle, wildcards;
        float tag_dropout;
        int keep_tokens;
        char *separator, *keep_separator; /* between parts; around those that may change places, or NULL */
        char *prefix, *suffix;            /* NULL: none */
        CaptionLines lines;
        char *missing; /* for pictures that have none; NULL: such a picture stops the run */
    } caption;
    struct {
        bool flip;
        float shift, scale;
    } augment;
} ConfigDataset;

typedef enum MethodKind { METHOD_LORA, METHOD_FULL } MethodKind;
typedef enum Targets { TARGETS_ATTENTION, TARGETS_ATTENTION_MLP } Targets;
typedef enum LoraInit { LORA_INIT_KAIMING, LORA_INIT_GAUSSIAN } LoraInit; /* sd-scripts' and diffusers' */
typedef enum Switch { SWITCH_AUTO, SWITCH_ON, SWITCH_OFF } Switch; /* yes, no, or as Atelier finds best */
typedef enum TrainMode { MODE_AUTO, MODE_MINIMAL, MODE_BALANCED, MODE_SPEED, MODE_COUNT } TrainMode;
typedef enum Reproducible { SUMS_EXACT, SUMS_FAST } Reproducible;
typedef enum ScheduleKind {
    SCHEDULE_CONSTANT,
    SCHEDULE_LINEAR,
    SCHEDULE_COSINE
} ScheduleKind; /* all after warm-up */
/* What frozen weights of products are stored in, if not in model.dtype. */
typedef enum Quantise { QUANTISE_NONE, QUANTISE_INT8 } Quantise;
/* Which text encoders are trained beside the UNet: of a model with one, all and the first are the same. */
typedef enum TrainedTexts { TEXTS_FROZEN, TEXTS_ALL, TEXTS_FIRST, TEXTS_SECOND } TrainedTexts;
typedef enum ModelInit { MODEL_INIT_PRETRAINED, MODEL_INIT_RANDOM } ModelInit;

/* A path that was written relative, and the absolute one it became. */
typedef struct ConfigRelative {
    char *path, *written;
} ConfigRelative;

typedef enum SafetyCheck { SAFETY_CHECK_OFF, SAFETY_CHECK_AUTO, SAFETY_CHECK_ON } SafetyCheck;

typedef struct Config {
    char *origin;   /* path of the YAML file */
    char *base_dir; /* its folder: relative paths start here */
    ConfigRelative *relatives;
    int relative_count;
    struct {
        char *base;     /* builtin:tiny, folder, file */
        DType dtype;    /* frozen weights and saved activations */
        bool tf32;      /* products of f32 may be rounded to TF32 */
        ModelInit init; /* random: UNet and text encoder start from random weights (training from scratch) */
        Quantise quantise;
        int prediction; /* 0: as the model says; else 1 + its place in the table of objectives */
        char *vae;      /* another VAE, folder or file, or NULL */
        bool ema;       /* start from the averages of a single file */
    } model;
    ConfigDataset datasets[CONFIG_MAX_LIST];
    int dataset_count;
    struct {
        MethodKind kind;
        int rank;
        float alpha;
        Targets targets;
        TrainedTexts text_encoder;
        LoraInit init;
        int clip_skip;
    } method;
    struct {
        int64_t steps, epochs; /* one of them; the other 0 */
        int batch, accumulate;
        Resolutions resolution; /* one of 0: the size the model was made for */
        TrainMode mode;         /* for what is left open of the next three */
        Switch checkpointing;
        Switch pack_weights;
        int offload; /* 0: auto, or 1 + Offload (infer/models/model.h) */
        uint64_t seed;
        Reproducible reproducible;      /* how gradients are summed */
        int timeout;                    /* seconds that a process may keep the others waiting */
        char *device;                   /* kernels/devices/devices.h */
        int threads, loader_threads;    /* 0: chosen */
        bool cache_latents, cache_text; /* encoded once, into the run's cache file */
        float max_grad_norm;            /* 0: no clipping; 1 */
        bool fused_backward;            /* each weight moves as soon as its gradient is there */
        float ema;                      /* decay; 0: off */
    } train;
    struct {
        int kind;                   /* its place in the table of optimizers */
        double lr, text_encoder_lr; /* text_encoder_lr 0: lr */
        double text_encoder_2_lr;   /* of a model's second text encoder; 0: text_encoder_lr */
        OptimizerSettings settings;
        ScheduleKind schedule;
        int64_t warmup;
    } optimizer;
    struct {
        float snr_gamma;
        float noise_offset;
        bool debiased;
        float mask_floor;
        bool mask_normalise;
    } loss; /* 0: off */
    struct {
        float weight; /* of the class pictures' loss; 0: no prior preservation */
        char *path, *prompt;
        int pictures;
        /* how those that are missing are drawn */
        char *negative, *sampler;
        int steps, resolution; /* 0: the size the model was made for */
        float guidance;        /* key: prior.cfg */
        uint64_t seed;
    } prior;
    struct {
        float share;
        int64_t every;
    } validation; /* share of the pictures held out; 0: off */
    struct {
        int64_t every; /* 0: off */
        char *prompts[CONFIG_MAX_LIST];
        int prompt_count;
        char *prompts_2[CONFIG_MAX_LIST]; /* for SDXL's second text encoder */
        int prompt_2_count;               /* as many as prompts, or 0 */
        char *negative, *negative_2, *sampler, *schedule;
        int steps, width, height; /* 0: the size the model was made for */
        float guidance;           /* key: preview.cfg */
        uint64_t seed;
    } preview;
    struct {
        SafetyCheck check;
        char *prompt_filter; /* a file, or NULL */
        char *watermark;     /* "off", "on" or a text */
    } safety;                /* of previews and class pictures */
    struct {
        char *dir;
        int64_t save_every;
        int keep;
        bool events;
        bool kohya, peft, single; /* output.formats */
        DType dtype;
    } output;
} Config;

/* Prior preservation: each batch holds as many class pictures as pictures. */
static inline bool config_has_prior(const Config *c)
{
    return c->prior.weight > 0;
}
/* Whether a model's text encoder is trained: its first (0), or its second (1) of two. */
static inline bool config_trains_text(const Config *c, int encoder)
{
    return c->method.text_encoder == TEXTS_ALL ||
           c->method.text_encoder == (encoder ? TEXTS_SECOND : TEXTS_FIRST);
}
/* The largest of some resolutions, once train.resolution is filled in. */
static inline int resolutions_largest(const Resolutions *r)
{
    int most = 0;
    for (int i = 0; i < r->count; i++)
        most = r->sides[i] > most ? r->sides[i] : most;
    return most;
}
/* The dataset's own, or the run's. */
static inline const Resolutions *config_resolutions(const Config *c, const ConfigDataset *d)
{
    return d->resolution.count ? &d->resolution : &c->train.resolution;
}
/* The square of the run's largest resolution. */
static inline Size config_size(const Config *c)
{
    return size_square(resolutions_largest(&c->train.resolution));
}
/* Samples that are computed at once. */
static inline int config_samples(const Config *c)
{
    return c->train.batch * (config_has_prior(c) ? 2 : 1);
}

/* Reads path, applies `--set key.path=value` overrides (their errors name the option). NULL-safe free. */
Status config_read(const char *path, const char *const *sets, int set_count, Config **out);
/* The same of a text, whose relative paths start at the folder; NULL: the current one. */
Status config_read_text(const char *text, const char *folder, const char *const *sets, int set_count,
                        Config **out);
void config_free(Config *c);
/* Puts another word into train.device. */
Status config_set_device(Config *c, const char *word);
/* The whole configuration as YAML, every key written out (what `config show` prints and a run keeps). Caller:
 * mem_free. */
Status config_write(const Config *c, char **yaml);
/* All values that a result depends on or a run is steered by, as lines "train.seed: 42"; nothing about where
 * things lie. Caller: mem_free. */
Status config_list(const Config *c, char **lines);
/* JSON Schema for editors; one key explained (NULL: all); the reference page in Markdown. Caller: mem_free.
 */
Status config_json_schema(char **text);
Status config_explain(const char *key, char **text);
Status config_reference(char **markdown);

#endif
