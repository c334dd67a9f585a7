#include "preflight.h"

#include "infer/models/parts.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "train/export/export.h"
#include "trial.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define TRIAL_FOLDER ".trial"
#define SAMPLE_BYTES                                                                                         \
    ((size_t)64 << 20) /* of a state too large to be written whole: as many tensors as come to this */
#define QUICK 1.0      /* seconds: a step shorter than this is measured a second time, warm */

/* Reading back ----------------------------------------------------------------------------------------- */

static Status differs(const char *path, const char *name)
{
    return status_fail(
        "%s: %s is not what was written; the disk or its file system is not to be trusted with this run",
        path, name);
}

/* The file's tensor `name` holds t's numbers, as the type they were written in. */
static Status compare_tensor(const TensorFile *f, const char *name, const Tensor *t)
{
    enum { CHUNK = 4096 };
    uint8_t chunk[CHUNK * sizeof(float)];
    const TensorEntry *e = tensorfile_find(f, name);
    DType written;
    if (!e || !element_dtype(e->type, &written) || tensor_entry_count(e) != tensor_count(t))
        return differs(tensorfile_path(f), name);
    if (t->dtype != DTYPE_F32 && t->dtype != written)
        return STATUS_OK; /* frozen, and written from its file, not from the narrower copy (model_save) */
    const size_t to = dtype_size(written);
    for (int64_t i = 0, n = tensor_count(t); i < n; i += CHUNK) {
        const int64_t k = n - i < CHUNK ? n - i : CHUNK;
        TRY(tensor_get_part(t, i, k, chunk, written));
        if (memcmp(chunk, (const char *)e->data + (size_t)i * to, (size_t)k * to) != 0)
            return differs(tensorfile_path(f), name);
    }
    tensorfile_release(f); /* what is compared must not stay in the run's peak */
    return STATUS_OK;
}

/* One file of a checkpoint: of each parameter its part of the block, under its name and the suffix. */
static Status compare_file(const char *folder, const char *name, const Parameters *p, const Tensor *block,
                           const char *suffix)
{
    char *path = path_join(folder, name);
    TensorFile *f = NULL;
    Status s = path ? tensorfile_open(path, &f) : STATUS_FAILED;
    for (int i = 0; i < p->count && s == STATUS_OK; i++) {
        char *key = mem_printf("%s%s%s", p->items[i].name, *suffix ? "." : "", suffix);
        const Tensor part = parameters_part(p, block, i);
        if (!part.data) { /* another process keeps it */
            mem_free(key);
            continue;
        }
        s = key ? compare_tensor(f, key, &part) : STATUS_FAILED;
        mem_free(key);
    }
    tensorfile_close(f);
    mem_free(path);
    return s;
}

static Status compare_checkpoint(const char *folder, const Parameters *p)
{
    TRY(compare_file(folder, "weights.safetensors", p, p->flat.weights, ""));
    for (int i = 0; i < optimizer_states(p->optimizer); i++)
        TRY(compare_file(folder, "optimizer.safetensors", p, p->states[i], p->optimizer->states[i]));
    return p->averages ? compare_file(folder, "ema.safetensors", p, p->averages, "") : STATUS_OK;
}

/* Checkpoint ------------------------------------------------------------------------------------------- */

/* Written, found as a run that goes on would find it, compared, and read by the code that reads it then: the
 * bytes are the same, so that reading changes nothing. */
static Status try_checkpoint(Parameters *p, const char *trial, const CheckpointState *state, double *seconds)
{
    char *found = NULL;
    CheckpointState back = {0};
    bool damaged;
    const double began = seconds_now();
    TRY(checkpoint_write(trial, p, state, 1, 0));
    *seconds = seconds_now() - began;
    Status s = checkpoint_last(trial, CHECKPOINT_ANY, &found);
    if (s == STATUS_OK && !found)
        s = status_fail("%s: the checkpoint written there cannot be found again", trial);
    if (s == STATUS_OK)
        s = compare_checkpoint(found, p);
    if (s == STATUS_OK)
        s = checkpoint_read(found, p, &back, &damaged);
    if (s == STATUS_OK && back.step != state->step)
        s = differs(found, "the step");
    mem_free(back.made_with);
    mem_free(found);
    return s;
}

/* The first parameters, as many as come to SAMPLE_BYTES. */
static Status try_first_tensors(Setup *s, const char *trial, const CheckpointState *state, double *seconds)
{
    Parameters *p = s->parameters;
    Parameters first = *p;
    size_t bytes = 0;
    first.count = 0;
    const size_t blocks = 1 + parameters_all_optimizer_bytes(p) / parameters_block_bytes(p);
    while (first.count < p->count && (first.count == 0 || bytes < SAMPLE_BYTES))
        bytes += tensor_bytes(p->items[first.count++].weight) * blocks;
    TRY(try_checkpoint(&first, trial, state, seconds));
    *seconds *= (double)s->disk.checkpoint / (double)bytes;
    p->updates = first.updates;
    return STATUS_OK;
}

/* Makes sure of `bytes` on the disk, all at the same time, and gives them back. */
static Status reserve(const char *trial, size_t bytes)
{
    char *path = path_join(trial, "room");
    const int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    char text[32];
    Status s = STATUS_OK;
    if (path && fd < 0)
        s = status_fail("%s: cannot be made: %s", path, strerror(errno));
    const int failed = fd >= 0 ? posix_fallocate(fd, 0, (off_t)bytes) : 0;
    if (failed && failed != EOPNOTSUPP &&
        failed != EINVAL) /* a file system that cannot reserve is taken at its word */
        s = status_fail(
            "%s of disk cannot be had for a checkpoint and the result: %s; free some space, or set another "
            "output.dir",
            bytes_text(bytes, text, sizeof text), strerror(failed));
    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    mem_free(path);
    return path ? s : STATUS_FAILED;
}

/* Result ----------------------------------------------------------------------------------------------- */

/* An adapter file: every module's tensors under the names of that spelling. */
static Status compare_module(const Export *e, const TensorFile *f, const LoraModule *m,
                             AdapterSpelling spelling)
{
    const AdapterLayer layer = {e->model, m->part, m->layer->name};
    Status s = STATUS_OK;
    for (int r = 0; r < ADAPTER_TENSORS && s == STATUS_OK; r++) {
        if (!m->adapter.tensors[r])
            continue;
        char *key = adapter_key(spelling, &layer, m->adapter.kind, r);
        s = key ? compare_tensor(f, key, m->adapter.tensors[r]) : STATUS_FAILED;
        mem_free(key);
    }
    return s;
}

static Status try_adapter(const Export *e, const char *trial, const ExportFile *file)
{
    char *path = path_join(trial, file->name);
    TensorFile *f = NULL;
    Status s = path ? export_adapter(e, file->spelling, path) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = tensorfile_open(path, &f);
    for (int i = 0; i < e->parameters->module_count && s == STATUS_OK; i++)
        s = compare_module(e, f, &e->parameters->modules[i], file->spelling);
    tensorfile_close(f);
    mem_free(path);
    return s;
}

static Status compare_model_part(const char *folder, PartId id, const LayerSet *set)
{
    char *path = mem_printf("%s/%s/%s.safetensors", folder, PARTS[id].folder, PARTS[id].kind->stem);
    TensorFile *f = NULL;
    Status s = path ? tensorfile_open(path, &f) : STATUS_FAILED;
    for (int i = 0; i < set->count && s == STATUS_OK; i++) {
        const Layer *l = set->items[i];
        const Tensor *const tensors[] = {l->weight, l->bias};
        for (int k = 0; k < 2 && s == STATUS_OK; k++) {
            char *key = mem_printf("%s.%s", l->name, k ? "bias" : "weight");
            if (tensors[k])
                s = key ? compare_tensor(f, key, tensors[k]) : STATUS_FAILED;
            mem_free(key);
        }
    }
    tensorfile_close(f);
    mem_free(path);
    return s;
}

static Status try_model(const Export *e, const char *trial)
{
    char *folder = path_join(trial, "model");
    Status s = folder ? export_model(e, folder) : STATUS_FAILED;
    for (int i = 0; i < PART_COUNT && s == STATUS_OK; i++)
        if (model_has(e->model, (PartId)i))
            s = compare_model_part(folder, (PartId)i, part_layers((PartId)i, e->model));
    mem_free(folder);
    return s;
}

static Status try_result(const Setup *s, const char *trial)
{
    ExportFile files[ADAPTER_SPELLINGS];
    const Export e = setup_export(s);
    if (s->config->method.kind == METHOD_FULL)
        return try_model(&e, trial);
    const int count = export_files(s->config, files);
    for (int i = 0; i < count; i++)
        TRY(try_adapter(&e, trial, &files[i]));
    return STATUS_OK;
}

/* The whole -------------------------------------------------------------------------------------------- */

/* Removes what a killed run's trial left. */
static void clean(const char *folder)
{
    char *trial = path_join(folder, TRIAL_FOLDER);
    if (trial && file_is_dir(trial))
        dir_remove(trial);
    mem_free(trial);
}

static Status try_step(Setup *s, double *seconds)
{
    Trial t;
    TRY(trial_new(&s->shape, &t));
    Status status = trial_step(s, &t, seconds);
    if (status == STATUS_OK &&
        *seconds < QUICK) /* the first one also made oneDNN's code and packed weights */
        status = trial_step(s, &t, seconds);
    trial_free(&t);
    return status;
}

static Status try_files(Setup *s, const char *trial, const CheckpointState *state, size_t whole,
                        double *checkpoint, double *result)
{
    TRY(dir_make(trial));
    if (s->disk.checkpoint + s->disk.result > whole)
        TRY(reserve(trial, s->disk.checkpoint + s->disk.result));
    if (s->disk.checkpoint > whole)
        TRY(try_first_tensors(s, trial, state, checkpoint));
    else
        TRY(try_checkpoint(s->parameters, trial, state, checkpoint));
    *result = *checkpoint * (double)s->disk.result / (double)s->disk.checkpoint;
    if (s->disk.result > whole)
        return STATUS_OK;
    const double began = seconds_now();
    TRY(try_result(s, trial));
    *result = seconds_now() - began;
    layerset_rest(clip_layers(s->model->clip)); /* writing a model has looked at all of it */
    if (s->model->clip_2)
        layerset_rest(clip_layers(s->model->clip_2));
    layerset_rest(vae_layers(s->model->vae));
    return STATUS_OK;
}

Status preflight_files(Setup *s, const char *folder, const CheckpointState *state, size_t whole,
                       double *checkpoint, double *result)
{
    clean(folder);
    char *trial = path_join(folder, TRIAL_FOLDER);
    if (!trial)
        return STATUS_FAILED;
    s->parameters->share.made_up = true;
    const Status status = try_files(s, trial, state, whole, checkpoint, result);
    s->parameters->share.made_up = false;
    const Status removed = file_is_dir(trial) ? dir_remove(trial) : STATUS_OK;
    mem_free(trial);
    return status == STATUS_OK ? removed : status_in(status, "trying what the run will write");
}

Status preflight(Setup *s, const char *folder, const CheckpointState *state, Pace *pace)
{
    const double began = seconds_now();
    double micro;
    Progress progress;
    progress_begin(&progress, "trying", "part", 0, 2);
    progress_update(&progress, 0, "a step"); /* nothing tells how far that is */
    Status status = status_in(try_step(s, &micro), "trial step");
    progress_update(&progress, 1, "what will be written");
    if (status == STATUS_OK)
        status = preflight_files(s, folder, state, PREFLIGHT_WHOLE, &pace->checkpoint, &pace->result);
    progress_clear(&progress);
    TRY(status);
    const int processes = s->comm->size;
    pace->step = micro * s->step_flop / plan_flop(s->plan) *
                 ((s->config->train.accumulate + processes - 1) / processes);
    log_row(NULL, 11, "tried      a step, a checkpoint and the result, written and read back, in %.2g s",
            seconds_now() - began);
    return STATUS_OK;
}
