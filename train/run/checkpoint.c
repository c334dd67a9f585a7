#include "checkpoint.h"

#include "infer/adapters/keys.h"
#include "infer/files/file_sum.h"
#include "infer/files/tensor_list.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/state8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATE_VERSION 1
#define STATE_LIMIT (1u << 20)

/* A file's content of each parameter: its part of a block, under its name and a suffix (".m"; "": none). */
typedef struct Content {
    Tensor *block;
    const char *suffix;
} Content;

/* The optimizer's blocks; returns how many. */
static int optimizer_content(const Parameters *p, Content what[UPDATE_STATES])
{
    const int kinds = optimizer_states(p->optimizer);
    for (int i = 0; i < kinds; i++)
        what[i] = (Content){p->states[i], p->optimizer->states[i]};
    return kinds;
}

static char *name_of(const Parameters *p, int i, const Content *what)
{
    return mem_printf("%s%s%s", p->items[i].name, *what->suffix ? "." : "", what->suffix);
}

/* Writing ---------------------------------------------------------------------------------------------- */

/* A tensor that another process keeps. */
typedef struct Elsewhere {
    const Share *share;
    int owner;
} Elsewhere;

static Status fetch_tensor(const Tensor *t, void *arg)
{
    const Elsewhere *e = arg;
    comm_alive(e->share->comm);
    if (!e->share->made_up)
        return comm_bring(e->share->comm, e->owner, t->data, tensor_bytes(t));
    memset(t->data, 0, tensor_bytes(t));
    return STATUS_OK;
}

/* What process 0 needs for the tensors of others: a place for the largest, and whose each is. */
typedef struct Fetching {
    void *room;
    Elsewhere *from; /* by place in the list */
} Fetching;

static Status begin_fetching(const Parameters *p, Fetching *f)
{
    size_t largest = 0;
    *f = (Fetching){0};
    if (share_is_whole(&p->share))
        return STATUS_OK;
    for (int i = 0; i < p->count; i++)
        if (tensor_bytes(p->items[i].weight) > largest)
            largest = tensor_bytes(p->items[i].weight);
    f->room = mem_alloc(largest + 2 * STATE8_ALIGN); /* codes and magnitudes take no more */
    f->from = mem_calloc((size_t)p->count, sizeof *f->from);
    return f->room && f->from ? STATUS_OK : STATUS_FAILED;
}

static void end_fetching(Fetching *f)
{
    mem_free(f->room);
    mem_free(f->from);
}

/* The list's last tensor, of parameter i, is another process's. */
static void take_from(const Parameters *p, int i, Fetching *f, TensorList *l, Tensor *part)
{
    f->from[i] = (Elsewhere){&p->share, share_owner(&p->share, p->segments, i)};
    part->data = f->room;
    part->home = NULL;
    if (!l->failed) {
        l->items[l->count - 1].fetch = fetch_tensor;
        l->items[l->count - 1].arg = &f->from[i];
    }
}

/* One file with the given contents of every parameter. Files of weights (no suffix) say alpha as the exported
 * file does, so that they can be copied out and used as a LoRA. */
static Status write_tensors(const char *folder, const char *file, const Parameters *p, const Content *what,
                            int kinds)
{
    TensorList l = {0};
    Tensor *parts = mem_calloc((size_t)(p->count * kinds), sizeof *parts), *part = parts;
    Tensor *blocks[UPDATE_STATES] = {0};
    char *path = path_join(folder, file);
    Fetching fetching;
    bool there = begin_fetching(p, &fetching) == STATUS_OK && parts && path;
    for (int k = 0; k < kinds && there; k++)
        there = (blocks[k] = flat_on_host(what[k].block)) != NULL;
    for (int i = 0; there && i < p->count; i++)
        for (int k = 0; k < kinds; k++, part++) {
            *part = parameters_part(p, blocks[k], i);
            tensorlist_add(&l, name_of(p, i, &what[k]), part, part->dtype);
            if (!part->data)
                take_from(p, i, &fetching, &l, part);
        }
    for (int i = 0; !*what[0].suffix && i < p->module_count; i++) {
        const AdapterLayer layer = {p->model, p->modules[i].part, p->modules[i].layer->name};
        tensorlist_add(&l, adapter_alpha_key(SPELLED_KOHYA, &layer), p->alpha, DTYPE_F32);
    }
    const Status s = there ? tensorlist_write(&l, path, NULL, 0) : STATUS_FAILED;
    tensorlist_free(&l);
    for (int k = 0; k < kinds; k++)
        flat_leave(blocks[k], what[k].block);
    end_fetching(&fetching);
    mem_free(path);
    mem_free(parts);
    return s;
}

static Status send_tensors(const Parameters *p, const Content *what, int kinds)
{
    const Share *share = &p->share;
    Fetching f;
    Status s = begin_fetching(p, &f);
    for (int i = share->first; i < share->first + share->count; i++)
        for (int k = 0; k < kinds && s == STATUS_OK; k++) {
            const Tensor part = parameters_part(p, what[k].block, i);
            s = tensor_get(&part, f.room, part.dtype);
            if (s == STATUS_OK)
                s = comm_bring(share->comm, share->comm->rank, f.room, tensor_bytes(&part));
        }
    end_fetching(&f);
    return s;
}

Status checkpoint_contribute(const Parameters *p)
{
    Content states[UPDATE_STATES];
    const int kinds = optimizer_content(p, states);
    if (share_is_whole(&p->share))
        return STATUS_OK;
    Status s = kinds > 0 ? send_tensors(p, states, kinds) : STATUS_OK;
    if (s == STATUS_OK && p->averages)
        s = send_tensors(p, &(Content){p->averages, ""}, 1);
    return s == STATUS_OK ? s : comm_give_up(p->share.comm, s);
}

static json_t *number_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* What tells how the run learns, beside the loss. */
static void write_learning(json_t *j, const Parameters *p, const CheckpointState *state)
{
    json_t *bands = json_array();
    for (int i = 0; i < PASS_BANDS; i++)
        json_array_append_new(bands, number_or_null(state->bands[i]));
    json_object_set_new(j, "loss_bands", bands);
    json_object_set_new(j, "update_norm", number_or_null(state->moved.unet));
    json_object_set_new(j, "update_norm_text_encoder", number_or_null(state->moved.text));
    json_object_set_new(j, "change_norm", number_or_null(state->change_norm));
    json_object_set_new(j, "skipped", json_integer(state->skipped));
    json_object_set_new(j, "standstill", json_integer(state->still.unet));
    json_object_set_new(j, "standstill_text_encoder", json_integer(state->still.text));
    if (p->groups & 1 << GROUP_TEXT_2) {
        json_object_set_new(j, "update_norm_text_encoder_2", number_or_null(state->moved.text_2));
        json_object_set_new(j, "standstill_text_encoder_2", json_integer(state->still.text_2));
    }
    if (state->scale.on) {
        json_object_set_new(j, "loss_scale", json_real(state->scale.factor));
        json_object_set_new(j, "loss_scale_good", json_integer(state->scale.good));
    }
    json_object_set_new(j, "loss_subject", number_or_null(state->loss_subject));
    json_object_set_new(j, "loss_prior", number_or_null(state->loss_prior));
}

static json_t *datasets_json(const Origins *o)
{
    json_t *list = json_array();
    for (int i = 0; i < o->count; i++)
        json_array_append_new(list, json_string(o->datasets[i]));
    return list;
}

static void read_hash(const json_t *j, char hash[SHA256_HEX_SIZE])
{
    snprintf(hash, SHA256_HEX_SIZE, "%s", json_is_string(j) ? json_string_value(j) : "");
}

/* Checkpoints of before had none. */
static void read_origins(const json_t *state, Origins *o)
{
    const json_t *list = json_object_get(state, "datasets");
    read_hash(json_object_get(state, "model"), o->model);
    for (o->count = 0; o->count < ORIGINS_MAX && o->count < (int)json_array_size(list); o->count++)
        read_hash(json_array_get(list, (size_t)o->count), o->datasets[o->count]);
}

/* Sums ------------------------------------------------------------------------------------------------- */

#define PARTS_MAX 3

/* The files of tensors that make a checkpoint of these; returns how many. */
static int list_parts(const Parameters *p, const char *files[PARTS_MAX])
{
    int count = 0;
    files[count++] = "weights.safetensors";
    if (optimizer_states(p->optimizer) > 0)
        files[count++] = "optimizer.safetensors";
    if (p->averages)
        files[count++] = "ema.safetensors";
    return count;
}

/* {"weights.safetensors": "0123456789abcdef", …} */
static Status parts_json(const char *folder, const Parameters *p, json_t **out)
{
    const char *files[PARTS_MAX];
    const int count = list_parts(p, files);
    Status s = (*out = json_object()) ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        char hex[SUM_HEX_SIZE], *path = path_join(folder, files[i]);
        s = path ? file_sum(path, hex) : STATUS_FAILED;
        if (s == STATUS_OK)
            json_object_set_new(*out, files[i], json_string(hex));
        mem_free(path);
    }
    if (s != STATUS_OK)
        json_decref(*out);
    return s;
}

/* Of everything in the state but the sum, however it is laid out. */
static Status state_sum(json_t *state, char hex[SUM_HEX_SIZE])
{
    json_t *rest = json_copy(state);
    json_object_del(rest, "sum");
    char *text = json_text(rest, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return STATUS_FAILED;
    text_sum(text, strlen(text), hex);
    free(text);
    return STATUS_OK;
}

/* Checkpoints of before have none. */
static Status check_state(const char *path, json_t *state)
{
    char hex[SUM_HEX_SIZE];
    const char *sum = json_string_value(json_object_get(state, "sum"));
    if (!sum)
        return STATUS_OK;
    TRY(state_sum(state, hex));
    return strcmp(sum, hex) == 0 ? STATUS_OK : status_fail("%s: is not what was written", path);
}

static Status check_part(const char *path, const char *sum)
{
    char hex[SUM_HEX_SIZE];
    if (!sum)
        return STATUS_OK;
    TRY(file_sum(path, hex));
    return strcmp(sum, hex) == 0 ? STATUS_OK
                                 : status_fail("%s: its bytes are not those that were written", path);
}

static Status write_state(const char *folder, const Parameters *p, const CheckpointState *state)
{
    json_t *j =
        json_pack("{s:i,s:I,s:I,s:b,s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:s,s:o,s:s}", "version", STATE_VERSION,
                  "step", (json_int_t)state->step, "log_bytes", (json_int_t)state->log_bytes, "duties_done",
                  state->duties_done, "updates", (json_int_t)p->updates, "loss", number_or_null(state->loss),
                  "lr", number_or_null(state->lr), "grad_norm", number_or_null(state->grad_norm), "seconds",
                  number_or_null(state->seconds), "validation_before",
                  number_or_null(state->validation_before), "validation", number_or_null(state->validation),
                  "elapsed", number_or_null(state->elapsed), "model", state->origins.model, "datasets",
                  datasets_json(&state->origins), "made_with", state->made_with ? state->made_with : "");
    if (j) {
        json_object_set_new(j, "best_step", json_integer(state->best_step));
        json_object_set_new(j, "best_loss", number_or_null(state->best_loss));
        json_object_set_new(j, "validation_seconds", json_real(state->validation_seconds));
        json_object_set_new(j, "preview_seconds", json_real(state->preview_seconds));
    }
    json_t *parts = NULL;
    char hex[SUM_HEX_SIZE];
    Status s = j ? parts_json(folder, p, &parts) : STATUS_FAILED;
    if (s == STATUS_OK) {
        write_learning(j, p, state);
        json_object_set_new(j, "parts", parts);
        s = state_sum(j, hex);
    }
    if (s == STATUS_OK)
        json_object_set_new(j, "sum", json_string(hex));
    char *text = json_text(j, JSON_INDENT(2)), *path = path_join(folder, "state.json");
    if (s == STATUS_OK)
        s = text && path ? file_write_atomic(path, text, strlen(text)) : STATUS_FAILED;
    free(text);
    mem_free(path);
    return s;
}

static Status write_all(const char *folder, const Parameters *p, const CheckpointState *state)
{
    TRY(dir_make(folder));
    Content states[UPDATE_STATES];
    const int kinds = optimizer_content(p, states);
    TRY(write_tensors(folder, "weights.safetensors", p, &(Content){p->flat.weights, ""}, 1));
    if (kinds > 0)
        TRY(write_tensors(folder, "optimizer.safetensors", p, states, kinds));
    if (p->averages)
        TRY(write_tensors(folder, "ema.safetensors", p, &(Content){p->averages, ""}, 1));
    TRY(write_state(folder, p, state));
    return dir_sync(folder);
}

Status checkpoint_write(const char *run, const Parameters *p, const CheckpointState *state, int keep,
                        int64_t every)
{
    char *all = path_join(run, "checkpoints");
    char *part = all ? path_in(all, ".step-%06lld.part-%ld", (long long)state->step, (long)getpid()) : NULL;
    char *final = all ? path_in(all, "step-%06lld", (long long)state->step) : NULL;
    Status s = part && final ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_is_dir(part))
        s = dir_remove(part);
    if (s == STATUS_OK)
        s = write_all(part, p, state);
    if (s == STATUS_OK)
        s = checkpoint_place(all, part, final);
    if (s == STATUS_OK)
        checkpoint_prune(run, state->step, keep, every, state->best_step);
    const KeptStatus kept = status_keep(s);
    if (s != STATUS_OK && part && file_is_dir(part))
        dir_remove(part);
    mem_free(all);
    mem_free(part);
    mem_free(final);
    status_in(status_again(&kept), "saving the state after step %lld", (long long)state->step);
    if (s != STATUS_OK && !share_is_whole(&p->share) && !p->share.made_up)
        comm_give_up(p->share.comm, s); /* the others are on their way to give what they keep */
    return s;
}

/* Reading ---------------------------------------------------------------------------------------------- */

/* Alpha is the configuration's, which is compared elsewhere; checkpoints of before have none. */
static int count_but_alphas(const TensorFile *f)
{
    int count = 0;
    for (int i = 0; i < tensorfile_count(f); i++) {
        AdapterKey k;
        adapter_key_parse(tensorfile_entry(f, i)->name, &k);
        count += k.type != ADAPTER_KEY_ALPHA;
    }
    return count;
}

static Status read_tensors(const char *folder, const char *file, const Parameters *p, const Content *what,
                           int kinds)
{
    char *path = path_join(folder, file);
    TensorFile *f = NULL;
    Status s = path ? tensorfile_open(path, &f) : STATUS_FAILED;
    const int tensors = s == STATUS_OK ? count_but_alphas(f) : 0;
    if (s == STATUS_OK && tensors != p->count * kinds)
        s = status_refuse(
            "%s: holds %d tensors, this configuration trains %d; go on with the run's own config.yaml", path,
            tensors, p->count * kinds);
    for (int i = 0; s == STATUS_OK && i < p->count * kinds; i++) {
        const Content *content = &what[i % kinds];
        Tensor t = parameters_part(p, content->block, i / kinds);
        if (!t.data)
            continue; /* another process keeps it */
        char *name = name_of(p, i / kinds, content);
        const TensorEntry *e = name ? tensorfile_find(f, name) : NULL;
        const void *numbers = e ? tensor_entry_mapped(e, t.dtype) : NULL;
        if (!numbers || !tensor_entry_is_shaped(e, t.ndim, t.shape))
            s = status_refuse("%s: %s is missing or of another shape; go on with the run's own config.yaml",
                              path, p->items[i / kinds].name);
        else
            s = tensor_put(&t, numbers, t.dtype);
        if (s == STATUS_OK)
            tensorfile_release(f); /* or the file would count in the run's peak beside what it fills */
        mem_free(name);
    }
    tensorfile_close(f);
    mem_free(path);
    return s;
}

static double number_in(const json_t *j, const char *key)
{
    const json_t *value = json_object_get(j, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Checkpoints of before had none: 0. */
static double seconds_in(const json_t *j, const char *key)
{
    const double seconds = number_in(j, key);
    return seconds > 0 ? seconds : 0;
}

/* Up to the patience; checkpoints of before had none, and count from 0. */
static int count_in(const json_t *j, const char *key)
{
    const json_int_t n = json_integer_value(json_object_get(j, key));
    return n < 0 ? 0 : n < LEARNING_PATIENCE ? (int)n : LEARNING_PATIENCE;
}

static void read_learning(const json_t *j, CheckpointState *state)
{
    for (size_t i = 0; i < PASS_BANDS; i++) {
        const json_t *band = json_array_get(json_object_get(j, "loss_bands"), i);
        state->bands[i] = json_is_number(band) ? json_number_value(band) : NAN;
    }
    state->moved = (Moved){.unet = number_in(j, "update_norm"),
                           .text = number_in(j, "update_norm_text_encoder"),
                           .text_2 = number_in(j, "update_norm_text_encoder_2")};
    state->change_norm = number_in(j, "change_norm");
    state->skipped = json_integer_value(json_object_get(j, "skipped"));
    state->still = (Standstill){.unet = count_in(j, "standstill"),
                                .text = count_in(j, "standstill_text_encoder"),
                                .text_2 = count_in(j, "standstill_text_encoder_2")};
    const json_t *scale = json_object_get(j, "loss_scale");
    if (scale)
        state->scale = (LossScale){.factor = json_number_value(scale),
                                   .good = json_integer_value(json_object_get(j, "loss_scale_good")),
                                   .on = true};
    state->loss_subject = number_in(j, "loss_subject");
    state->loss_prior = number_in(j, "loss_prior");
}

/* *parts: the sums that it has of the other files. Caller: json_decref. */
static Status read_state(const char *folder, Parameters *p, CheckpointState *state, json_t **parts)
{
    char *path = path_join(folder, "state.json"), *text = NULL;
    size_t size = 0;
    Status s = path ? file_read(path, STATE_LIMIT, &text, &size) : STATUS_FAILED;
    json_error_t error;
    json_t *j = s == STATUS_OK ? json_read(text, size, 0, &error) : NULL;
    if (s == STATUS_OK && !j)
        s = status_fail("%s:%d: %s", path, error.line, error.text);
    if (s == STATUS_OK && json_integer_value(json_object_get(j, "version")) != STATE_VERSION)
        s = status_refuse("%s: was written by another version of Atelier", path);
    if (s == STATUS_OK)
        s = check_state(path, j);
    if (s == STATUS_OK) {
        const char *made_with = json_string_value(json_object_get(j, "made_with"));
        *state = (CheckpointState){.step = json_integer_value(json_object_get(j, "step")),
                                   .log_bytes = json_integer_value(json_object_get(j, "log_bytes")),
                                   .duties_done = json_is_true(json_object_get(j, "duties_done")),
                                   .loss = number_in(j, "loss"),
                                   .lr = number_in(j, "lr"),
                                   .grad_norm = number_in(j, "grad_norm"),
                                   .seconds = number_in(j, "seconds"),
                                   .validation_before = number_in(j, "validation_before"),
                                   .validation = number_in(j, "validation"),
                                   .elapsed = number_in(j, "elapsed"),
                                   .best_step = json_integer_value(json_object_get(j, "best_step")),
                                   .best_loss = number_in(j, "best_loss"),
                                   .validation_seconds = seconds_in(j, "validation_seconds"),
                                   .preview_seconds = seconds_in(j, "preview_seconds"),
                                   .made_with = mem_strdup(made_with ? made_with : "")};
        read_learning(j, state);
        read_origins(j, &state->origins);
        const json_t *updates = json_object_get(j, "updates"); /* earlier: average_updates */
        p->updates = json_integer_value(updates ? updates : json_object_get(j, "average_updates"));
        *parts = json_incref(json_object_get(j, "parts"));
        s = state->made_with ? STATUS_OK : STATUS_FAILED;
    }
    json_decref(j);
    mem_free(text);
    mem_free(path);
    return s;
}

/* A part that cannot be read, or is not what was written, is damage; one that does not fit is a matter of the
 * configuration. */
static Status open_parts(const char *folder, const Parameters *p, const json_t *sums)
{
    const char *files[PARTS_MAX];
    const int count = list_parts(p, files);
    for (int i = 0; i < count; i++) {
        TensorFile *f = NULL;
        char *path = path_join(folder, files[i]);
        Status s = path ? tensorfile_open(path, &f) : STATUS_FAILED;
        tensorfile_close(f);
        if (s == STATUS_OK)
            s = check_part(path, json_string_value(json_object_get(sums, files[i])));
        mem_free(path);
        TRY(s);
    }
    return STATUS_OK;
}

static Status read_all(const char *folder, const Parameters *p)
{
    Content states[UPDATE_STATES];
    const int kinds = optimizer_content(p, states);
    TRY(read_tensors(folder, "weights.safetensors", p, &(Content){p->flat.weights, ""}, 1));
    if (kinds > 0)
        TRY(read_tensors(folder, "optimizer.safetensors", p, states, kinds));
    if (p->averages)
        TRY(read_tensors(folder, "ema.safetensors", p, &(Content){p->averages, ""}, 1));
    return STATUS_OK;
}

Status checkpoint_read(const char *folder, Parameters *p, CheckpointState *state, bool *damaged)
{
    json_t *sums = NULL;
    *damaged = true;
    Status s = read_state(folder, p, state, &sums);
    if (s == STATUS_OK)
        s = open_parts(folder, p, sums);
    json_decref(sums);
    TRY(s);
    *damaged = false;
    return read_all(folder, p);
}
