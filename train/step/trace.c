#include "trace.h"

#include "infer/files/marks.h"
#include "infer/files/tensor_list.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <string.h>

struct Trace {
    char *folder;
    int left; /* steps still to write; −1: all */
    StepShape shape;
    int64_t samples; /* of a step */
    /* (samples, …) of the step's size */
    Tensor *latents, *noise, *timesteps, *conditioning, *prediction, *target, *weights, *ids, *roots;
    Tensor *pooled, *sizes; /* where the model is told any */
};

static void drop_tensors(Trace *t)
{
    Tensor **const all[] = {&t->latents,    &t->noise,  &t->timesteps, &t->conditioning,
                            &t->prediction, &t->target, &t->weights,   &t->ids,
                            &t->roots,      &t->pooled, &t->sizes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        tensor_free(*all[i]);
        *all[i] = NULL;
    }
}

static bool make_tensors(Trace *t)
{
    const StepShape *s = &t->shape;
    const int64_t n = t->samples;
    const int64_t latent[] = {n, s->channels, s->size.height, s->size.width},
                  text[] = {n, s->text.tokens, s->text.width};
    t->latents = tensor_new(DTYPE_F32, 4, latent);
    t->noise = tensor_new(DTYPE_F32, 4, latent);
    t->prediction = tensor_new(DTYPE_F32, 4, latent);
    t->target = tensor_new(DTYPE_F32, 4, latent);
    t->timesteps = tensor_new(DTYPE_F32, 1, &n);
    t->weights = tensor_new(DTYPE_F32, 1, &n);
    t->roots = s->masked ? tensor_new(DTYPE_F32, 4, latent) : NULL;
    t->conditioning = tensor_new(DTYPE_F32, 3, text);
    t->pooled = s->text.pooled ? tensor_new(DTYPE_F32, 2, (int64_t[]){n, s->text.pooled}) : NULL;
    t->sizes = s->text.extra ? tensor_new(DTYPE_F32, 2, (int64_t[]){n, s->text.extra}) : NULL;
    t->ids = s->text_on_tape ? tensor_new(DTYPE_I32, 2, (int64_t[]){n, s->text.ids}) : NULL;
    return t->latents && t->noise && t->prediction && t->target && t->timesteps && t->weights &&
           t->conditioning && (t->ids || !s->text_on_tape) && (t->roots || !s->masked) &&
           (t->pooled || !s->text.pooled) && (t->sizes || !s->text.extra);
}

Status trace_new(const char *folder, int count, const StepShape *shape, int micro, Trace **out)
{
    Trace *t = mem_calloc(1, sizeof *t);
    if (!t)
        return STATUS_FAILED;
    t->left = count > 0 ? count : -1;
    t->shape = *shape;
    t->samples = (int64_t)shape->batch * micro;
    t->folder = mem_strdup(folder);
    if (!t->folder || !make_tensors(t)) {
        trace_free(t);
        return STATUS_FAILED;
    }
    *out = t;
    TRY(dir_make(folder));
    return status_in(mark_check_folder(folder, "step-", MARK_TRACE), "--trace");
}

void trace_free(Trace *t)
{
    if (!t)
        return;
    drop_tensors(t);
    mem_free(t->folder);
    mem_free(t);
}

static void put(Tensor *t, int micro, int batch, const void *from)
{
    const size_t bytes = tensor_bytes(t) / (size_t)t->shape[0] * (size_t)batch;
    memcpy((char *)t->data + (size_t)micro * bytes, from, bytes);
}

Status trace_aim(Trace *t, int i, Size latent, StepData *data)
{
    if (!size_equal(latent, t->shape.size)) { /* all of a step have one */
        drop_tensors(t);
        t->shape.size = latent;
        if (!make_tensors(t))
            return STATUS_FAILED;
    }
    data->prediction = (float *)t->prediction->data + i * t->shape.batch * step_latent_size(&t->shape);
    data->conditioning =
        (float *)t->conditioning->data + i * t->shape.batch * t->shape.text.tokens * t->shape.text.width;
    data->pooled = t->pooled ? (float *)t->pooled->data + i * t->shape.batch * t->shape.text.pooled : NULL;
    return STATUS_OK;
}

void trace_batch(Trace *t, int i, const Batch *b)
{
    const int B = t->shape.batch;
    put(t->latents, i, B, b->latents);
    put(t->noise, i, B, b->noise);
    put(t->target, i, B, b->target);
    put(t->timesteps, i, B, b->timesteps);
    put(t->weights, i, B, b->weights);
    if (t->sizes) {
        const ConditioningShape given = step_given(&b->shape);
        int64_t count;
        put(t->sizes, i, B, b->text + conditioning_part(&given, B, 0, CONDITIONING_EXTRA, &count));
    }
    if (t->roots)
        put(t->roots, i, B, b->roots);
    if (t->ids)
        put(t->ids, i, B, b->ids);
}

/* Writing ---------------------------------------------------------------------------------------------- */

/* name is taken over. */
static void item(TensorList *l, char *name, const Tensor *t)
{
    tensorlist_add(l, name, t, t->dtype);
}

static void inputs_and_outputs(const Trace *t, TensorList *l, const Tensor *loss)
{
    item(l, mem_strdup("latents"), t->latents);
    item(l, mem_strdup("noise"), t->noise);
    item(l, mem_strdup("timesteps"), t->timesteps);
    item(l, mem_strdup("conditioning"), t->conditioning);
    if (t->pooled)
        item(l, mem_strdup("pooled"), t->pooled);
    if (t->sizes)
        item(l, mem_strdup("sizes"), t->sizes);
    item(l, mem_strdup("prediction"), t->prediction);
    item(l, mem_strdup("target"), t->target);
    item(l, mem_strdup("loss"), loss);
    item(l, mem_strdup("loss_weights"), t->weights);
    if (t->roots)
        item(l, mem_strdup("mask_roots"), t->roots);
    if (t->ids)
        item(l, mem_strdup("ids"), t->ids);
}

/* The gradients as they are without the loss scaling: in f32, of which a power of two takes nothing but from
 * the smallest numbers. flat_leave. */
static Tensor *gradients_of(const Parameters *p, double scale)
{
    if (scale == 1)
        return flat_on_host(p->flat.gradients);
    Tensor *g = tensor_new(DTYPE_F32, 1, &p->flat.size);
    if (!g || tensor_get(p->flat.gradients, g->data, DTYPE_F32) != STATUS_OK) {
        tensor_free(g);
        return NULL;
    }
    float *x = g->data;
    for (int64_t i = 0; i < p->flat.size; i++)
        x[i] = (float)((double)x[i] / scale);
    return g;
}

/* parts: room for a tensor of each parameter. */
static void add_parts(TensorList *l, const Parameters *p, const char *what, const Tensor *block,
                      Tensor *parts)
{
    for (int i = 0; i < p->count; i++) {
        parts[i] = parameters_part(p, block, i);
        item(l, mem_printf("%s.%s", what, p->items[i].name), &parts[i]);
    }
}

/* loss NULL: before the first step. */
static Status write_step(Trace *t, const Parameters *p, int64_t step, const Tensor *loss, double scale)
{
    TensorList l = {0};
    char *path = path_in(t->folder, "step-%06lld.safetensors", (long long)step);
    Tensor *parts = mem_alloc(2 * (size_t)p->count * sizeof *parts);
    const bool there = loss && tensor_count(p->flat.gradients) == p->flat.size; /* or gone again: fused.h */
    Tensor *weights = flat_on_host(p->flat.weights), *gradients = there ? gradients_of(p, scale) : NULL;
    Status s = path && parts && weights && (gradients || !there) ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && loss)
        inputs_and_outputs(t, &l, loss);
    if (s == STATUS_OK && gradients)
        add_parts(&l, p, "grad", gradients, parts + p->count);
    if (s == STATUS_OK) {
        const TensorMeta mark = mark_of(MARK_TRACE);
        add_parts(&l, p, "weight", weights, parts);
        s = mark_check(path, MARK_TRACE);
        s = s == STATUS_OK ? tensorlist_write(&l, path, &mark, 1) : s;
    }
    tensorlist_free(&l);
    flat_leave(gradients, p->flat.gradients);
    flat_leave(weights, p->flat.weights);
    mem_free(parts);
    mem_free(path);
    return status_in(s, "--trace");
}

Status trace_start(Trace *t, const Parameters *p, int64_t step)
{
    return write_step(t, p, step, NULL, 1);
}

Status trace_step(Trace *t, const Parameters *p, int64_t step, double loss, double scale)
{
    if (t->left == 0)
        return STATUS_OK;
    Tensor *value = tensor_new(DTYPE_F32, 0, NULL);
    if (!value)
        return STATUS_FAILED;
    tensor_set_at(value, 0, loss);
    const Status s = write_step(t, p, step, value, scale);
    tensor_free(value);
    if (t->left > 0)
        t->left--;
    return s;
}
