/* Whose build a model is: which parts it has, what its UNet is told, and what other programs take for granted
 * of it. */
#ifndef ATL_MODEL_FAMILY_H
#define ATL_MODEL_FAMILY_H

typedef enum ModelFamily { FAMILY_SD1, FAMILY_SD2, FAMILY_SDXL, FAMILY_COUNT } ModelFamily;

typedef struct UNetConfig UNetConfig;

/* Fine-tuned models are of the family of the model that they began as. */
ModelFamily family_of(const UNetConfig *unet);
const char *family_name(ModelFamily f); /* "SD1.x", "SD2.x", "SDXL": for messages */

#endif
