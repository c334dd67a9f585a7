/* A Stable Diffusion model: its parts, wherever they come from (diffusers folder, single file, built in). */
#ifndef ATL_MODEL_H
#define ATL_MODEL_H

#include "infer/schedules/schedule.h"
#include "infer/text/tokenizer.h"
#include "clip.h"
#include "family.h"
#include "unet.h"
#include "vae.h"

/* In the order in which a picture goes through them; parts.h has a row for each. */
typedef enum PartId { PART_TEXT, PART_TEXT_2, PART_UNET, PART_VAE, PART_COUNT } PartId;

typedef enum ModelPart { /* bits */
                         MODEL_TEXT =
                             1 << PART_TEXT | 1 << PART_TEXT_2, /* all text encoders that there are */
                         MODEL_UNET = 1 << PART_UNET,
                         MODEL_VAE = 1 << PART_VAE,
                         MODEL_TOKENIZER = 1 << PART_COUNT,
                         MODEL_ALL = (1 << (PART_COUNT + 1)) - 1
} ModelPart;

/* What of a model waits in the host's memory while it is not needed, on a device with memory of its own:
 * nothing; the parts that not every step needs (text encoder, VAE); the UNet's weights too. */
typedef enum Offload { OFFLOAD_OFF, OFFLOAD_IDLE, OFFLOAD_ALL } Offload;
#define OFFLOAD_CHOICES "off|idle|all" /* in that order */

/* The parts' configurations. */
typedef struct ModelShapes {
    ClipConfig clip, clip_2; /* the second is SDXL's */
    UNetConfig unet;
    VaeConfig vae;
} ModelShapes;

typedef struct Model {
    char *name;       /* as asked for: "builtin:tiny", a path */
    char *folder;     /* diffusers folder, or NULL for a single file */
    TensorFile *file; /* the single file, or NULL */
    char *vae_path;   /* folder or file of the VAE in place of the model's own, or NULL */
    bool ema;         /* the UNet's weights are the averages of a single file */
    Clip *clip;
    Clip *clip_2; /* SDXL's second text encoder; NULL: there is none */
    UNet *unet;
    Vae *vae;
    Tokenizer *tokenizer;
    Tokenizer *tokenizer_2; /* of the second text encoder, or NULL */
    ModelFamily family;
    NoiseSchedule schedule;
    bool zero_negative; /* no negative prompt is zeros, not the states of "" (SDXL, where diffusers draws) */
    bool inpainting;    /* the UNet takes a mask and the masked picture's latents beside the noisy ones */
    bool random;        /* UNet and text encoder began from random weights */
    int default_size;   /* UNet's sample_size × VAE factor, pixels */
    Offload offload;
    int size_multiple; /* VAE factor × 2^(UNet levels − 1) */
    /* Texts of the parts' configurations, as model_save writes them; or NULL. */
    char *config_json[PART_COUNT];
    char *scheduler_json;
} Model;

typedef struct ModelRequest {
    const char *name; /* "builtin:tiny", a diffusers folder, a single file */
    const char
        *vae;    /* another VAE: its folder or file, or a model's whose VAE is taken; NULL: the model's own */
    bool ema;    /* the averages of the UNet's weights that a single file has beside them (model_ema.*) */
    int parts;   /* ModelPart bits; a UNet's configuration is always read */
    DType dtype; /* what frozen weights are stored in */
    int wide;    /* ModelPart bits of what is stored as f32 instead */
    int quantised; /* ModelPart bits of parts whose weights are stored in 8 bits (layerset_quantise) */
    int narrow;    /* of those that are multiplied in 8 bits, too (layerset_narrow) */
    /* Random weights of the shapes that the configurations give: training from scratch, tests. The VAE,
     * tokenizer and schedule are read. */
    bool random;
    uint64_t seed;
    bool described; /* layers get shapes and no weights (weights_describe): for plans */
} ModelRequest;
Status model_open(const ModelRequest *r, Model **out);
/* The parts asked for as they lie in the files. */
Status model_load(const char *name, int parts, DType dtype, Model **out);
/* A model of these shapes with random weights, which no file describes: for `bench` and tests. quantised: the
 * parts whose weights are in 8 bits. */
Status model_make(const char *name, const ModelShapes *shapes, int parts, int quantised, DType dtype,
                  uint64_t seed, Model **out);
/* Is the part one that models of m's family have? */
bool model_has(const Model *m, PartId part);
/* The tensors of one part where m came from; *out NULL: there are none. */
Status model_weights(const Model *m, PartId part, Weights **out);
/* Names what UNet and text encoder are, however their folder is called: 16 hex digits that follow from the
 * weights as they are stored. The model may be described. */
#define MODEL_HASH_SIZE 17
Status model_hash(const Model *m, char hex[MODEL_HASH_SIZE]);
/* Moves the parts' weights into the device's memory, or, by m->offload, to where they are fetched from; of a
 * described model only the device is noted. */
Status model_place(Model *m, const Device *dev);
void model_free(Model *m);
/* What the UNet predicts, where the model's file does not say it or says it wrongly; model_save writes it. */
Status model_set_prediction(Model *m, PredictionType prediction);
/* What may be given for a model, for messages. */
#define MODEL_KINDS                                                                                          \
    "file or folder (a model is a diffusers folder, a .safetensors or .ckpt file or builtin:NAME)"
bool model_is_builtin(const char *name);
/* Where `builtin:NAME` lies: $ATELIER_MODELS, ../share/atelier beside the program, the source tree. Caller:
 * mem_free. */
Status model_find(const char *name, char **path);
/* Writes a diffusers folder (configs and tokenizer copied from m, weights from the parts' layers as dtype).
 * Parts that m was loaded without are read from where it came, and so are frozen ones that it holds in
 * another 16-bit type than asked for. */
Status model_save(const Model *m, const char *folder, DType dtype);
/* The folder's small files alone: configurations, which name dtype if it is not NULL, schedule and tokenizer;
 * not model_index.json, which makes a folder whole. m has configurations of all parts. */
Status model_save_texts(const Model *m, const char *folder, const DType *dtype);
/* The memory that model_save takes for the largest part that it reads again. m has all parts, or their
 * shapes. */
size_t model_save_bytes(const Model *m, DType dtype);

#endif
