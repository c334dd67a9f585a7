/* What `atelier sample` is asked for. */
#ifndef ATL_SAMPLE_OPTIONS_H
#define ATL_SAMPLE_OPTIONS_H

#include "kernels/base/options.h"
#include "begin_arguments.h"
#include "picture_text.h"
#include "prompt_options.h"

#define SAMPLE_MAX_LORAS 16
#define SAMPLE_MAX_PICTURES 4096

typedef struct SampleArguments {
    const char *vae; /* in place of the model's own */
    bool ema;
    const char *model, *prediction, *dtype, *device, *offload, *quantise, *seeds_text, *out, *save_latents,
        *trace, *prompts, *sheet_pictures, *format, *again, *live, *tiling, *hires_upscale, *vae_tile,
        *lora_dir, *cfg_interval, *max_memory, *original_size, *target_size, *negative_original_size,
        *negative_target_size;
    BeginArguments begin;
    OptionList lora_texts, sheet_texts;
    SampleRequest request;
    GuardRequest guard;
    PromptOptions words;
    double guidance, eta, variation;
    int threads, batch, quality;
    bool json, matrix, dtype_given, quantise_given, tf32;
    char *own_prompt, *own_negative, *own_prompt_2,
        *own_negative_2;              /* where request's are none of the command line's words */
    char *options;                    /* what else was given, for the picture's settings (given.h); or NULL */
    UsedLora loras[SAMPLE_MAX_LORAS]; /* of the command line, then of the prompt */
    int lora_count;
    uint64_t *seeds; /* one a picture */
    int picture_count;
} SampleArguments;

/* *done: help was asked for and has been printed. *a is sample_arguments_free's in any case. */
Status sample_arguments_read(int argc, char **argv, SampleArguments *a, bool *done);
/* Refuses what is not enough to draw anything. */
Status sample_arguments_check(const SampleArguments *a);
void sample_arguments_free(SampleArguments *a);

#endif
