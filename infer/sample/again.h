/* A picture made once more: the command line that its own settings come to. */
#ifndef ATL_SAMPLE_AGAIN_H
#define ATL_SAMPLE_AGAIN_H

#include "data/pictures/picture.h"
#include "infer/axes/words.h"

typedef struct Again {
    Words words;      /* options, as the command line has them */
    char *weights;    /* model_hash of what it was made with, or NULL */
    Picture original; /* without pixels where its format loses some */
} Again;

/* file: a picture that atelier made, or one of those of a sheet: FILE:N; or one that A1111 made. lora_dir:
 * where LoRAs are looked for too, or NULL. *out is again_free's in any case. */
Status again_read(const char *file, const char *lora_dir, Again *out);
/* The part of it that reads settings (PICTURE_SETTINGS) of a picture whose folder is `beside`; number 0: the
 * only one. */
typedef struct AgainPlaces {
    const char *beside, *lora_dir; /* where files are looked for besides the current folder; NULL: nowhere */
} AgainPlaces;
Status again_settings(Again *a, const char *text, int64_t number, const AgainPlaces *places);
void again_free(Again *a);
/* Says whether the picture has become the same. */
void again_compare(const Again *a, const char *file, const Picture *made);

#endif
