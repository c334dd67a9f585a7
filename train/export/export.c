#include "export.h"

#include "infer/convert/carry.h"
#include "infer/convert/convert.h"
#include "infer/files/tensor_list.h"
#include "infer/safety/licence.h"
#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "export_metadata.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LEGACY_FROM 0x100000 /* sshs_legacy_hash looks at these bytes of the file */
#define LEGACY_SIZE 0x10000
#define FILE_LIMIT ((size_t)4 << 30)

/* Adapters ---------------------------------------------------------------------------------------------- */

static void add_module(const Export *e, const LoraModule *m, AdapterSpelling spelling, TensorList *l)
{
    const DType dtype = e->config->output.dtype;
    const AdapterLayer layer = {e->model, m->part, m->layer->name};
    const Adapter *a = &m->adapter;
    if (adapter_spelling_has_alpha(spelling))
        tensorlist_add(l, adapter_alpha_key(spelling, &layer), e->parameters->alpha, dtype);
    for (int r = 0; r < ADAPTER_TENSORS; r++)
        if (a->tensors[r])
            tensorlist_add(l, adapter_key(spelling, &layer, a->kind, r), a->tensors[r], dtype);
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

static Status write_plain(const char *path, const TensorList *l, ExportMetadata *m)
{
    return tensorlist_write(l, path, m->items, m->count);
}

/* The formats that are written. A spelling without one is only read. */
static const struct {
    const char *name;
    Status (*metadata)(const Export *e, ExportMetadata *m);
    Status (*write)(const char *path, const TensorList *l, ExportMetadata *m);
} FORMATS[ADAPTER_SPELLINGS] = {
    [SPELLED_KOHYA] = {"lora.safetensors", export_metadata_kohya, write_hashed},
    [SPELLED_PEFT] = {"lora.peft.safetensors", export_metadata_peft, write_plain},
};

int export_files(const Config *config, ExportFile out[ADAPTER_SPELLINGS])
{
    const bool wanted[ADAPTER_SPELLINGS] = {
        [SPELLED_KOHYA] = config->output.kohya, [SPELLED_PEFT] = config->output.peft};
    int count = 0;
    for (int s = 0; s < ADAPTER_SPELLINGS; s++)
        if (wanted[s])
            out[count++] = (ExportFile){(AdapterSpelling)s, FORMATS[s].name};
    return count;
}

Status export_adapter(const Export *e, AdapterSpelling spelling, const char *path)
{
    if (!FORMATS[spelling].write)
        return status_fail("files with %s's older names are only read", adapter_spelling_name(spelling));
    TensorList l = {0};
    ExportMetadata m = {0};
    for (int i = 0; i < e->parameters->module_count; i++)
        add_module(e, &e->parameters->modules[i], spelling, &l);
    Status s = FORMATS[spelling].metadata(e, &m);
    if (s == STATUS_OK)
        s = export_metadata_licence(e, &m);
    if (s == STATUS_OK)
        s = FORMATS[spelling].write(path, &l, &m);
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
    if (s == STATUS_OK)
        s = licence_carry(e->model, part);
    if (s == STATUS_OK)
        s = carry_parts(e->model, part);
    if (s == STATUS_OK)
        s = carry_index(e->model, part);
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

Status export_single(const char *folder, const char *path)
{
    Model *m = NULL;
    ConvertResult made = {0};
    TRY(model_open(&(ModelRequest){.name = folder, .parts = MODEL_ALL, .dtype = DTYPE_F32, .described = true},
                   &m));
    const Status s = single_write(m, path, &(ConvertRequest){0}, &made);
    model_free(m);
    return status_in(s, "writing the model");
}
