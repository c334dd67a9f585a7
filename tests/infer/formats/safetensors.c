/* safetensors written by hand: the program's own writer knows only what the engine has. */
#include "formats.h"

#include "infer/files/safetensors.h"

#include <stdio.h>
#include <stdlib.h>

static void write_file(const char *path, const TensorEntry *tensors, int count, const TensorMeta *meta,
                       int meta_count)
{
    char *header;
    size_t size, offset = 0;
    FILE *text = open_memstream(&header, &size), *out = fopen(path, "wb");
    for (int i = 0; i < meta_count; i++)
        fprintf(text, "%s\"%s\":\"%s\"%s", i ? "," : "{\"__metadata__\":{", meta[i].key, meta[i].value,
                i + 1 < meta_count ? "" : "}");
    for (int i = 0; i < count; i++) {
        const TensorEntry *e = &tensors[i];
        fprintf(text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i || meta_count ? "," : "{", e->name,
                e->type == ELEMENT_OTHER ? e->type_name : safetensors_type_name(e->type));
        for (int k = 0; k < e->ndim; k++)
            fprintf(text, k ? ",%lld" : "%lld", (long long)e->shape[k]);
        fprintf(text, "],\"data_offsets\":[%zu,%zu]}", offset, offset + e->bytes);
        offset += e->bytes;
    }
    fprintf(text, "}");
    fclose(text);
    fwrite((uint64_t[]){size}, 8, 1, out);
    fwrite(header, size, 1, out);
    for (int i = 0; i < count; i++)
        fwrite(tensors[i].data, 1, tensors[i].bytes, out);
    fclose(out);
    free(header);
}

static bool holds(ElementType t)
{
    (void)t;
    return true;
}

const FormatTest format_test_safetensors = {.write = write_file, .holds = holds, .has_metadata = true};
