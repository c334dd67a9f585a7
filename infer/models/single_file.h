/* A whole Stable Diffusion 1.x or 2.x model in one safetensors file, as most models are handed around: no
 * config.json, tokenizer or schedule, so that the configurations are read off the tensors' names and shapes.
 */
#ifndef ATL_SINGLE_FILE_H
#define ATL_SINGLE_FILE_H

#include "infer/samplers/schedule.h"
#include "clip.h"
#include "unet.h"
#include "vae.h"

#define SD1_SAMPLE_SIZE 64 /* latents' side: 512 pixels */
#define SD2_SAMPLE_SIZE 96 /* 768 pixels, of models that predict v */

typedef struct SingleFile {
    TensorFile *file;
    UNetConfig unet;
    VaeConfig vae;
    ClipConfig clip;
    bool sd2;                  /* OpenCLIP's text encoder */
    bool prediction_known;     /* false: SD2 and the file does not say */
    PredictionType prediction; /* what the name or the file says; SD2's usual v where nothing does */
} SingleFile;

typedef enum SinglePart { SINGLE_UNET, SINGLE_VAE, SINGLE_CLIP } SinglePart;

/* Other kinds of files (pickled, GGUF, a LoRA, SDXL, inpainting, …) are recognised, named and refused. */
Status single_file_open(const char *path, SingleFile *out);
void single_file_close(SingleFile *f);
Status single_file_weights(const SingleFile *f, SinglePart part, DType dtype, Weights **out);

#endif
