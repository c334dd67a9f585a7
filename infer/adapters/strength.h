/* How strongly an adapter counts: as a whole, and other than that in parts and blocks of the model.
 *
 *     0.8                     all of it
 *     0.8:te=0.5              the text encoders' part 0.5; unet= likewise, and te1= and te2= one of two
 *     0.5:0.8                 as A1111 has it: the text encoders' part, then the UNet's
 *     0.8:mid=0:down.1=0.5    of the UNet's strength nothing in the middle, half in the second block down
 *     0.8:lbw=1,0,…           17 or 26 factors in the order of A1111's LoRA Block Weight extension; of SDXL
 * 12 or 20
 *
 * A "," does for a ":" before a word: 0.8,te=0.5,mid=0. Blocks are named as in the model's files: "down.1" is
 * down_blocks.1, "up.2.attentions.0" up_blocks.2.attentions.0, "te.3" layer 3 of the text encoders, "te2.3"
 * of the second alone, and any other name, "conv_in", a path in the UNet. Of several that fit a layer the
 * longest counts. */
#ifndef ATL_ADAPTER_STRENGTH_H
#define ATL_ADAPTER_STRENGTH_H

#include "infer/models/model.h"

#define STRENGTH_BLOCKS 64
#define STRENGTH_NAME 48
#define STRENGTH_LIST 26

typedef struct BlockStrength {
    char name[STRENGTH_NAME]; /* "down_blocks.1" */
    int parts;                /* ModelPart bits */
    bool listed;              /* of lbw, where models need not have it */
    float factor;
} BlockStrength;

typedef struct AdapterStrength {
    float whole;
    float parts[PART_COUNT]; /* of each part; NAN: as the whole */
    BlockStrength blocks[STRENGTH_BLOCKS];
    int count;
    float list[STRENGTH_LIST]; /* lbw's factors, as they were given */
    int list_count;
} AdapterStrength;

/* An adapter's file with the strength that it is taken at. */
typedef struct UsedLora {
    const char *path; /* as given */
    AdapterStrength strength;
} UsedLora;

AdapterStrength adapter_strength(float whole);
/* What is written as above, all of the text; refuses what is not. */
Status adapter_strength_parse(const char *text, AdapterStrength *out);
/* Back to text without the whole: ":te=0.5:down.1=0"; "" where that says all. Caller: mem_free. */
char *adapter_strength_text(const AdapterStrength *s);
bool adapter_strength_same(const AdapterStrength *a, const AdapterStrength *b);

/* What counts for a part's layer. */
float adapter_strength_of(const AdapterStrength *s, PartId part, const char *layer);
/* Refuses a block that the model has not. */
Status adapter_strength_check(const AdapterStrength *s, const Model *m);

#endif
