/* The metadata in a LoRA file's header: what sd-scripts writes and other programs show, without what differs
 * between two equal runs. */
#ifndef ATL_EXPORT_METADATA_H
#define ATL_EXPORT_METADATA_H

#include "infer/files/safetensors.h"
#include "export.h"

#define METADATA_MAX 64

typedef struct ExportMetadata {
    TensorMeta items[METADATA_MAX];
    int count;
} ExportMetadata;

/* Adds key = value (value is taken over; NULL: out of memory). */
Status export_metadata_add(ExportMetadata *m, const char *key, char *value);
void export_metadata_free(ExportMetadata *m);

/* sd-scripts' "ss_…" keys. */
Status export_metadata_kohya(const Export *e, ExportMetadata *m);
/* "format" and diffusers' "lora_adapter_metadata". */
Status export_metadata_peft(const Export *e, ExportMetadata *m);
/* "modelspec.license", where the base's files name one. */
Status export_metadata_licence(const Export *e, ExportMetadata *m);

#endif
