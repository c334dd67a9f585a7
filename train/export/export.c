#include "export.h"

#include "infer/files/tensor_list.h"
#include "kernels/adapter.h"
#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "export_metadata.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LEGACY_FROM 0x100000 /* sshs_legacy_hash looks at these bytes of the file */
#define LEGACY_SIZE 0x10000
#define FILE_LIMIT ((size_t)4 << 30)

/* kohya ------------------------------------------------------------------------------------------------ */

static void add_kohya_tensors(const Export *e, TensorList *l)
{
    const DType dtype = e->config->output.dtype;
    for (int i = 0; i < e->parameters->module_count; i++) {
        const LoraModule *m = &e->parameters->modules[i];
        tensorlist_add(l, mem_printf("%s.alpha", m->kohya), e->parameters->alpha, dtype);
        tensorlist_add(l, mem_printf("%s.lora_down.weight", m->kohya), m->adapter.tensors[LORA_DOWN], dtype);
        tensorlist_add(l, mem_printf("%s.lora_up.weight", m->kohya), m->adapter.tensors[LORA_UP], dtype);
    }
}

/* The hashes that A1111 shows: of everything after the header, and the old one of a piece in the middle. Both
 * are of the file with the "ss_" metadata alone, as sd-scripts computes them. */
static Status add_hashes(const char *path, ExportMetadata *m)
{
    char *data, model[SHA256_HEX_SIZE], legacy[SHA256_HEX_SIZE];
    uint8_t hash[SHA256_SIZE];
    size_t size;
    uint64_t header;
    TRY(file_read(path, FILE_LIMIT, &data, &size));
    memcpy(&header, data, sizeof header);
    sha256(data + 8 + header, size - 8 - (size_t)header, hash);
    sha256_hex(hash, model);
    const size_t from = size < LEGACY_FROM ? size : LEGACY_FROM;
    sha256(data + from, size - from < LEGACY_SIZE ? size - from : LEGACY_SIZE, hash);
    sha256_hex(hash, legacy);
    mem_free(data);
    TRY(export_metadata_add(m, "sshs_model_hash", mem_strdup(model)));
    return export_metadata_add(m, "sshs_legacy_hash", mem_printf("%.8s", legacy));
}

static Status write_hashed(const char *path, const TensorList *l, ExportMetadata *m)
{
    char *first = path_aside(path, "hashed");
    Status s = first ? tensorlist_write(l, first, m->items, m->count) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = add_hashes(first, m);
    if (first)
        remove(first);
    mem_free(first);
    return s == STATUS_OK ? tensorlist_write(l, path, m->items, m->count) : s;
}

Status export_kohya(const Export *e, const char *path)
{
    TensorList l = {0};
    ExportMetadata m = {0};
    add_kohya_tensors(e, &l);
    Status s = export_metadata_kohya(e, &m);
    if (s == STATUS_OK)
        s = write_hashed(path, &l, &m);
    tensorlist_free(&l);
    export_metadata_free(&m);
    return s;
}

/* PEFT ------------------------------------------------------------------------------------------------- */

Status export_peft(const Export *e, const char *path)
{
    const DType dtype = e->config->output.dtype;
    TensorList l = {0};
    ExportMetadata m = {0};
    for (int i = 0; i < e->parameters->module_count; i++) {
        const LoraModule *module = &e->parameters->modules[i];
        const char *part = module->text_encoder ? "text_encoder" : "unet", *name = module->layer->name;
        tensorlist_add(&l, mem_printf("%s.%s.lora_A.weight", part, name), module->adapter.tensors[LORA_DOWN],
                       dtype);
        tensorlist_add(&l, mem_printf("%s.%s.lora_B.weight", part, name), module->adapter.tensors[LORA_UP],
                       dtype);
    }
    Status s = export_metadata_peft(e, &m);
    if (s == STATUS_OK)
        s = tensorlist_write(&l, path, m.items, m.count);
    tensorlist_free(&l);
    export_metadata_free(&m);
    return s;
}

/* Whole model ------------------------------------------------------------------------------------------ */

Status export_model(const Export *e, const char *folder)
{
    char *part = path_aside(folder, "part");
    char *old = path_aside(folder, "old");
    Status s = part && old ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_is_dir(part))
        s = dir_remove(part);
    if (s == STATUS_OK)
        s = model_save(e->model, part, e->config->output.dtype);
    if (s == STATUS_OK && file_is_dir(folder) && rename(folder, old) != 0)
        s = status_fail("%s: cannot be replaced: %s", folder, strerror(errno));
    if (s == STATUS_OK && rename(part, folder) != 0)
        s = status_fail("%s: cannot get its final name: %s", part, strerror(errno));
    if (part && file_is_dir(part))
        dir_remove(part);
    if (old && file_is_dir(old))
        dir_remove(old);
    mem_free(part);
    mem_free(old);
    return status_in(s, "writing the model");
}
