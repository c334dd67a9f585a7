/* What a run hands over: LoRA files that other programs load, or a whole model in diffusers' layout.
 *
 * Nothing in them differs between two equal runs: no time, host, path or folder of output. */
#ifndef ATL_EXPORT_H
#define ATL_EXPORT_H

#include "infer/adapters/keys.h"
#include "train/pictures/sources.h"
#include "train/step/parameters.h"

typedef struct Export {
    const Config *config;
    const Model *model;
    const Parameters *parameters; /* with the averages in the weights' place, where they are on */
    const Sources *sources;       /* for the metadata; NULL: left out */
    int64_t steps, epoch_samples; /* pictures × repeats */
} Export;

/* The files of adapters that a configuration asks for, by their names in the run's folder; returns how many.
 */
typedef struct ExportFile {
    AdapterSpelling spelling;
    const char *name;
} ExportFile;
int export_files(const Config *config, ExportFile out[ADAPTER_SPELLINGS]);
/* The adapter as kohya's one file (sd-scripts, A1111, ComfyUI), or as PEFT's (diffusers). */
Status export_adapter(const Export *e, AdapterSpelling spelling, const char *path);
/* A diffusers folder; an existing one is replaced as a whole. */
Status export_model(const Export *e, const char *folder);
/* Such a folder as a single file. */
#define EXPORT_SINGLE "model.safetensors"
Status export_single(const char *folder, const char *path);

#endif
