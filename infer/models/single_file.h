/* A whole Stable Diffusion 1.x or 2.x model in one safetensors file, as most models are handed around: no
 * config.json, tokenizer or schedule, so that the configurations are read off the tensors' names and shapes.
 */
#ifndef ATL_SINGLE_FILE_H
#define ATL_SINGLE_FILE_H

#include "parts.h"

#define SD1_SAMPLE_SIZE 64 /* latents' side: 512 pixels */
#define SD2_SAMPLE_SIZE 96 /* 768 pixels, of models that predict v */

typedef struct SingleFile {
    TensorFile *file;
    ModelShapes shapes;
    SingleBuild build;
    bool prediction_known;     /* false: SD2 and the file does not say */
    PredictionType prediction; /* what the name or the file says; SD2's usual v where nothing does */
} SingleFile;

/* Other kinds of files (pickled, GGUF, a LoRA, SDXL, inpainting, …) are recognised, named and refused. */
Status single_file_open(const char *path, SingleFile *out);
void single_file_close(SingleFile *f);
Status single_file_weights(const SingleFile *f, PartId part, DType dtype, Weights **out);

#endif
