/* Models in one file, as most are handed around: a whole Stable Diffusion 1.x, 2.x or XL model, or a VAE
 * alone.
 * There is no config.json, tokenizer or schedule, so that the configurations are read off the tensors' names
 * and shapes; what this program wrote itself has them in its metadata.
 */
#ifndef ATL_SINGLE_FILE_H
#define ATL_SINGLE_FILE_H

#include "parts.h"

#define SD1_SAMPLE_SIZE 64 /* latents' side: 512 pixels */
#define SD2_SAMPLE_SIZE 96 /* 768 pixels, of models that predict v */
#define SDXL_SAMPLE_SIZE 128
#define SDXL_SCALING_FACTOR 0.13025f /* of its VAE */

typedef struct SingleFile {
    TensorFile *file;
    ModelShapes shapes; /* vae.levels is 0 where the file has none */
    SingleBuild build;
    bool ema;              /* the UNet's weights are the averages that training kept of them (model_ema.*) */
    bool prediction_known; /* false: SD2 and the file does not say */
    bool zero_snr;         /* a mark says that its noise schedule ends in noise alone */
    PredictionType prediction; /* what the name or the file says; SD2's usual v where nothing does */
} SingleFile;

/* Other kinds of files (GGUF, a LoRA, SDXL's refiner, a depth model, …) are recognised, named and refused. */
Status single_file_open(const char *path, SingleFile *out);
void single_file_close(SingleFile *f);
Status single_file_weights(const SingleFile *f, PartId part, DType dtype, Weights **out);
bool single_file_has_ema(const SingleFile *f);
bool single_file_has_vae(const SingleFile *f);

/* What a diffusers folder says in its small files stands in the metadata of a single file that this program
 * wrote, so that it reads from it all that it read from the folder: the text of FOLDER/PATH under this and
 * PATH. */
#define SINGLE_TEXT "atelier:"
const char *single_text(const TensorFile *f, const char *path); /* NULL: the file does not say */
/* The tokenizer of this folder's name; *out NULL: it has none. */
Status single_tokenizer(const SingleFile *f, const char *folder, Tokenizer **out);
/* What others read off the same file: the shapes that its tensors tell, whatever its metadata say. */
Status single_file_read_tensors(const char *path, ModelShapes *out);

/* A VAE in a file: diffusers', or the original code's with or without "first_stage_model."; a whole model's
 * too. */
typedef struct VaeFile {
    TensorFile *file;
    ModelShapes shapes; /* the VAE's alone */
    const char *prefix;
    bool original; /* the names are the original code's, not diffusers' */
} VaeFile;
Status vae_file_open(const char *path, VaeFile *out);
void vae_file_close(VaeFile *f);
Status vae_file_weights(const VaeFile *f, DType dtype, Weights **out);

#endif
