/* Where a model comes from, a diffusers folder or a single file, and what its configurations say, for
 * model.c. */
#ifndef ATL_MODEL_SOURCE_H
#define ATL_MODEL_SOURCE_H

#include "model.h"
#include "single_file.h"

typedef struct Source {
    const ModelRequest *r;
    char *path;
    bool is_folder;
    char *vae; /* folder or file of the VAE in place of the model's own, or NULL */
    SingleFile single;
    VaeFile vae_file; /* where it is a file */
    ModelShapes shapes;
} Source;

/* Finds what r names; nothing is read of a model yet. Every one is closed, whatever the status. */
Status source_open(const ModelRequest *r, Source *src);
/* The same where m came from. r is only asked for a VAE, and for nothing random. */
Status source_of_model(const Model *m, const ModelRequest *r, Source *src);
void source_close(Source *src);
/* Reads the configurations into src->shapes and m, which gets their texts, and checks that the parts fit each
 * other. */
Status source_read(Source *src, Model *m);

#endif
