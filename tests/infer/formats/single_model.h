/* A small model of random weights as a diffusers folder, a single file and a .ckpt, for tests: the names of
 * both layouts come from diffusers' own converters (scripts/reference/single_files.py), so that nothing here
 * knows the key map under test. */
#ifndef ATL_TEST_SINGLE_MODEL_H
#define ATL_TEST_SINGLE_MODEL_H

#include "infer/models/model.h"

typedef struct Variant {
    const char *kind; /* the folder in tests/golden/single */
    DType dtype;
    PredictionType prediction;
    int64_t global_step; /* 0: the file does not say */
    bool told;           /* the user says what it predicts */
    bool v_pred;         /* the mark of v models made by others than SD2's authors */
    bool zero_snr;       /* the mark of a schedule that ends in noise alone, of some of those */
    bool training_state; /* EMA, betas, position numbers beside the weights, as in files saved by a trainer */
    bool bare_clip;      /* no "text_model." in the text encoder's names */
    bool flat_attention; /* the autoencoder's attention as (C,C), not (C,C,1,1) */
    bool linear;         /* the transformers' proj_in and proj_out as (C,C) in a model of SD1's build */
    bool last_layer;     /* OpenCLIP's 24th layer and projection, which SD2 does not use */
    bool inpainting;     /* 9 channels into the UNet */
    bool ema;            /* the UNet's weights stand under model_ema.*, beside others under their own names */
} Variant;

typedef struct Row {
    char *single, *part, *key;
    int ndim;
    int64_t shape[4];
    bool turned; /* rows and columns of the single file's are changed */
    float *values;
} Row;

extern char work[64], single_path[96], folder_path[96], saved_path[96], ckpt_path[96];
int make_work(void **state); /* the folder that all of them lie in */
int remove_work(void **state);
void ok(Status s);

int64_t row_size(const Row *r);
int read_rows(const Variant *v, char **text, Row **rows);
void free_rows(char *text, Row *rows, int n);

/* Tensors of a file to be written. */
typedef struct Items Items;
Items *items_new(void);
void add_item(Items *l, const char *name, DType dtype, DType written, int ndim, const int64_t *shape,
              const void *values, void *own);
void write_items(Items *l, const char *path); /* and frees l */

/* All three of v, from its rows. */
void write_single(const Variant *v, const Row *rows, int n);
void write_folder(const Variant *v, const Row *rows, int n);
void write_ckpt_of(const char *single, const char *path); /* the same tensors as torch.save has them */

#endif
