/* Atelier as a library: pictures from Stable Diffusion, and its fine-tuning, inside of a C program.
 *
 *     #include <atelier.h>
 *     #include <stdio.h>
 *     int main(void)
 *     {
 *         AtlModel *model;
 *         AtlPicture picture = {0};
 *         AtlSample heart = {.size = sizeof heart, .prompt = "a red heart", .seed = 42};
 *         int status = atl_model_open("builtin:tiny", NULL, &model);
 *         if (!status)
 *             status = atl_sample(model, &heart, &picture);
 *         if (!status)
 *             status = atl_picture_write(&picture, "heart.png");
 *         if (status)
 *             fprintf(stderr, "%s\n", atl_message());
 *         atl_picture_free(&picture);
 *         atl_model_close(model);
 *         return status;
 *     }
 *
 *     cc heart.c $(pkg-config --cflags --libs atelier)
 *
 * Functions that can fail return an AtlStatus, which is the exit status that the program `atelier` would end
 * with; atl_message() says what went wrong, where, and what to do. Nothing aborts, exits, or writes to a
 * standard stream; no signal handler, allocator, locale or OpenMP setting of the process is changed.
 *
 * Handles (AtlModel, AtlRun) know nothing of each other. There may be several models in a process, used from
 * several threads; one handle does one thing at a time, and a second call meanwhile is refused. What a
 * process has once is: the processor's large products, which take turns one by one; the graphics card, on
 * which whole calls do; a training run, beside which a second is refused.
 *
 * Structs that are passed in begin with their own size, by which the library knows which fields the caller's
 * header had; later versions add fields at the end. A field that is 0 or NULL is at its default, which stands
 * beside it. Texts are UTF-8. */
#ifndef ATL_ATELIER_H
#define ATL_ATELIER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum AtlStatus {
    ATL_OK = 0,
    ATL_FAILED = 1,       /* while working: files, memory, damaged data */
    ATL_REFUSED = 2,      /* what was asked for is wrong */
    ATL_INTERRUPTED = 130 /* it was asked to stop; a run's state is saved */
} AtlStatus;

const char *atl_version(void); /* "0.1.0" */
/* What went wrong in the last call of this thread that failed; valid until the next one fails. */
const char *atl_message(void);

/* Who is told, of one handle. Both functions are called by the thread that called the library, messages also
 * by the threads that it works with; either may be NULL. */
typedef struct AtlListener {
    /* level: 0 an error, 1 a warning, 2 what is going on. text has no line end. */
    void (*message)(void *arg, int level, const char *text);
    /* How far long work has come: "train", "step", 250 of 1000 (0: not known), "loss 0.1234". Called whenever
     * another unit is done. Not 0: please stop, as atl_model_stop and atl_run_stop do. */
    int (*progress)(void *arg, const char *label, const char *unit, int64_t done, int64_t total,
                    const char *note);
    void *arg; /* what both get */
} AtlListener;

/* Pictures --------------------------------------------------------------------------------------------- */

typedef struct AtlPicture {
    int width, height;
    unsigned char *rgb; /* height rows of width pixels, red, green, blue, without gaps */
    char *settings;     /* how it was made, as JSON; NULL: not known */
    int flagged;        /* by the safety checker, which has made it black */
} AtlPicture;
/* Frees what the library has put into it, and clears it. */
void atl_picture_free(AtlPicture *picture);
/* Reads a PNG, JPEG or WebP file: turned upright, over white where it is transparent. */
int atl_picture_read(const char *path, AtlPicture *out);
/* Writes a PNG with the settings in it; replaces what is there. */
int atl_picture_write(const AtlPicture *picture, const char *path);

/* Models ----------------------------------------------------------------------------------------------- */

typedef struct AtlModel AtlModel;

typedef struct AtlModelOptions {
    size_t size;          /* sizeof(AtlModelOptions) */
    const char *dtype;    /* "f32", "bf16", "f16": what weights and activations are stored in; NULL: "f32" */
    const char *device;   /* "cpu", "cuda", "cuda:1"; NULL: "auto" */
    const char *offload;  /* "off", "idle", "all": what waits in the machine's memory; NULL: "idle" */
    const char *quantise; /* "int8": weights in 8 bits; "int8-dynamic": their products, too; NULL: "none" */
    int threads;          /* 0: as many as there are physical cores */
    const char *safety;   /* "on", "off"; NULL: looks at pictures where the model has a safety checker */
    const char *prompt_filter; /* a file of words that prompts may not have in them; NULL: none */
    const char *watermark;     /* "on", or a text that is written invisibly into each picture; NULL: none */
    AtlListener listener;
    int tf32; /* 1: with "f32", on GPUs that have it, products are rounded to TF32 */
} AtlModelOptions;

/* Loads a model: a diffusers folder, a single file, or "builtin:tiny". options NULL: all defaults. *out is
 * NULL after a failure; atl_model_close takes NULL. */
int atl_model_open(const char *name, const AtlModelOptions *options, AtlModel **out);
void atl_model_close(AtlModel *model);
/* The size that it was made for, and what sides have to be multiples of; each pointer may be NULL. */
void atl_model_size(const AtlModel *model, int *width, int *height, int *multiple);
/* The licence that its files name, as "creativeml-openrail-m"; NULL: they name none. Lives with the model. */
const char *atl_model_licence(const AtlModel *model);
/* Puts an adapter (LoRA and its kin, of any kind that `atelier sample --lora` takes) on the model, that
 * strongly; several add up. A key in it that fits nothing is a failure. */
int atl_model_add_lora(AtlModel *model, const char *path, float scale);
/* Takes all of them off. */
int atl_model_remove_loras(AtlModel *model);
/* From any thread: what the model is doing ends soon, with ATL_INTERRUPTED. */
void atl_model_stop(AtlModel *model);

/* Sampling --------------------------------------------------------------------------------------------- */

typedef struct AtlSample {
    size_t size;          /* sizeof(AtlSample) */
    const char *prompt;   /* has to be given; "" is a prompt */
    const char *negative; /* what the picture should not show; NULL: "", or what SDXL takes for none */
    int width, height;    /* pixels; 0: the size the model was made for */
    int steps;            /* 0: 20 */
    float guidance;       /* 0: 7.5; 1: without */
    const char *sampler;  /* one of `atelier sample --help`; NULL: what the model says */
    uint64_t seed;        /* the noise is PyTorch's for that seed */
    int clip_skip;        /* last layers of the text encoder that are left out */
    /* From another picture, and over a part of it; pictures of another size are pulled to the one that is
     * drawn. */
    const AtlPicture *init;  /* what is begun from; NULL: noise alone */
    double strength;         /* share of the steps that are done, to 1; 0: 0.8, with a mask 1 */
    const AtlPicture *mask;  /* white: painted anew; NULL: everything */
    int mask_blur;           /* pixels by which its edge is softened */
    const char *schedule;    /* of noise levels: "karras", another of `atelier sample --help`; NULL: "auto" */
    const char *rng;         /* whose noise: "cpu", "cuda", "cuda:rtx3060"; NULL: as compat has it */
    double guidance_rescale; /* 0 to 1: how far guidance keeps to the unguided prediction's spread; 0: not */
    /* A second pass over the picture enlarged, from noise alone. */
    double hires_scale;        /* of each side, to 16; 0 or 1: none */
    int hires_steps;           /* 0: as many as steps */
    double hires_strength;     /* share of them that is done, to 1; 0: 0.7 */
    const char *hires_upscale; /* what is enlarged: "latent", or "lanczos": the picture; NULL: "latent" */
    int vae_tile;              /* the VAE works by tiles of so many pixels a side; 0: at once */
    float variation;           /* share of the way to variation_seed's noise, to 1; 0: the seed's alone */
    uint64_t variation_seed;
    /* Whose conventions: "diffusers", "a1111", "comfy"; NULL: "diffusers". The other two read emphasis and
     * long prompts, and check no pictures unless AtlModelOptions.safety is "on". clip_skip counts the same
     * with all; <lora:...> in a prompt is not read: atl_model_add_lora. */
    const char *compat;
    const char *const *embeddings; /* files of words for prompts (textual inversion); read at each call */
    int embedding_count;
    /* What an SDXL model is told of sizes; 0: as the picture is, and with the negative prompt as with the
     * prompt. Both sides or neither; other models refuse them. */
    int original_width, original_height, target_width, target_height, crop_top, crop_left;
    int negative_original_width, negative_original_height, negative_target_width, negative_target_height;
    double eta; /* sampler ddim: the share of each step's noise that is fresh, to 1 */
    /* What SDXL's second text encoder is told instead; NULL or "": the same. Other models refuse them. */
    const char *prompt_2, *negative_2;
} AtlSample;

/* Draws a picture: the same that `atelier sample` draws. *out is the caller's to free, and empty after a
 * failure.
 */
int atl_sample(AtlModel *model, const AtlSample *sample, AtlPicture *out);

/* Training --------------------------------------------------------------------------------------------- */

typedef struct AtlRun AtlRun;

typedef struct AtlRunOptions {
    size_t size;            /* sizeof(AtlRunOptions) */
    const char *config;     /* a configuration's file; or */
    const char *text;       /* the configuration itself, as YAML or JSON */
    const char *folder;     /* that paths in the text start at; NULL: the current folder */
    const char *const *set; /* "train.steps=500": values that replace the configuration's */
    int set_count;
    const char *resume; /* "auto", a run's folder, or RUN@STEP: goes on from a checkpoint; NULL: a new run */
    AtlListener listener;
} AtlRunOptions;

/* Reads and checks the configuration; nothing is loaded or written yet. */
int atl_run_open(const AtlRunOptions *options, AtlRun **out);
/* Trains to the end, as `atelier train` does; once for each handle. ATL_INTERRUPTED: it was asked to stop,
 * and the state after the last whole step is saved; a run opened with resume "auto" goes on from there. */
int atl_run_go(AtlRun *run);
/* From any thread: the run saves its state and ends. */
void atl_run_stop(AtlRun *run);
/* Where its results are: the configuration's output.dir. Lives with the run. */
const char *atl_run_folder(const AtlRun *run);
void atl_run_close(AtlRun *run); /* NULL allowed */

/* The program ------------------------------------------------------------------------------------------ */

/* Runs a command as the shell would, argv[0] being the program's name: what is asked for goes to standard
 * output, everything else to the two functions below. Returns the exit status. One at a time in a process. */
int atl_main(int argc, char **argv);

/* Messages of atl_main, and of what no handle is told of. NULL, as it is at first: they go nowhere. */
typedef void (*AtlLog)(void *arg, int level, const char *text);
void atl_set_log(AtlLog log, void *arg);

/* And how far its work has come. NULL, as it is at first: nobody is told. */
typedef void (*AtlProgress)(void *arg, const char *label, const char *unit, int64_t done, int64_t total,
                            const char *note);
void atl_set_progress(AtlProgress progress, void *arg);

/* For the program `atelier` itself, which owns its process: messages and progress go to standard error,
 * SIGINT and SIGTERM end a run in order, running out of memory inside a library is noticed. Not for a host
 * program. */
void atl_own_process(void);

#ifdef __cplusplus
}
#endif

#endif
