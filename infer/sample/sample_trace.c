#include "sample_trace.h"

#include "infer/files/marks.h"
#include "infer/files/safetensors.h"
#include "kernels/base/mem.h"

#define TRACE_TENSORS 9

/* A part of what the model was told. */
static const float *part_of(const SampleStep *s, int part)
{
    int64_t count;
    return s->conditioning + conditioning_part(&s->text, s->batch, 0, part, &count);
}

Status sample_trace_write(const SampleStep *s, void *folder)
{
    const float timesteps[2] = {s->timestep, s->timestep};
    const int64_t map[] = {1, s->channels, s->size.height, s->size.width},
                  maps[] = {s->batch, map[1], map[2], map[3]},
                  inputs[] = {s->batch, s->input_channels, map[2], map[3]};
    const int64_t text[] = {s->batch, s->text.tokens, s->text.width}, batch[] = {s->batch};
    const int64_t pooled[] = {s->batch, s->text.pooled}, sizes[] = {s->batch, s->text.extra};
    const int count = s->text.pooled ? TRACE_TENSORS : TRACE_TENSORS - 2;
    const struct {
        const char *name;
        const float *data;
        int ndim;
        const int64_t *shape;
    } parts[TRACE_TENSORS] = {
        {"latents", s->latents, 4, map},
        {"input", s->input, 4, inputs},
        {"timesteps", timesteps, 1, batch},
        {"conditioning", s->conditioning, 3, text},
        {"prediction", s->prediction, 4, maps},
        {"guided", s->guided, 4, map},
        {"result", s->result, 4, map},
        {"pooled", part_of(s, CONDITIONING_POOLED), 2, pooled},
        {"sizes", part_of(s, CONDITIONING_EXTRA), 2, sizes}, /* SDXL's, as the one before */
    };
    SafeItem items[TRACE_TENSORS];
    Tensor *tensors[TRACE_TENSORS] = {NULL};
    char *path = mem_printf("%s/step-%06d.safetensors", (const char *)folder, s->step);
    Status status = path ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; status == STATUS_OK && i < count; i++) {
        tensors[i] = tensor_over((void *)parts[i].data, DTYPE_F32, parts[i].ndim, parts[i].shape);
        items[i] = (SafeItem){.name = parts[i].name, .tensor = tensors[i], .dtype = DTYPE_F32, .ndim = -1};
        status = tensors[i] ? STATUS_OK : STATUS_FAILED;
    }
    const TensorMeta mark = mark_of(MARK_TRACE);
    if (status == STATUS_OK)
        status = mark_check(path, MARK_TRACE);
    if (status == STATUS_OK)
        status = safetensors_write(path, items, count, &mark, 1);
    for (int i = 0; i < TRACE_TENSORS; i++)
        tensor_free(tensors[i]);
    mem_free(path);
    return status;
}
