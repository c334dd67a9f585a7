#include "export_metadata.h"

#include "infer/models/parts.h"
#include "infer/safety/licence.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "tags.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TAGS                                                                                             \
    500 /* of a dataset, the most frequent: the header is read whole by everybody who opens the file */

Status export_metadata_add(ExportMetadata *m, const char *key, char *value)
{
    if (!value)
        return STATUS_FAILED;
    if (m->count == METADATA_MAX) {
        mem_free(value);
        return status_fail("more than %d metadata entries", METADATA_MAX);
    }
    m->items[m->count++] = (TensorMeta){.key = key, .value = value};
    return STATUS_OK;
}

void export_metadata_free(ExportMetadata *m)
{
    for (int i = 0; i < m->count; i++)
        mem_free((void *)m->items[i].value);
    m->count = 0;
}

/* JSON as Python's json.dumps writes it, with sorted keys; frees j. Caller: mem_free. NULL: out of memory. */
static char *metadata_text(json_t *j)
{
    char *text = json_text(j, JSON_SORT_KEYS | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
    char *copy = text ? mem_strdup(text) : NULL;
    free(text);
    return copy;
}

/* Pictures--------------------------------------------------------------------------------------------- */

/* {"n_repeats", "img_count"} of a dataset under its name; where repeats differ, of kohya's folders, whose
 * names say so. */
static Status add_folders(const Source *s, const char *label, json_t *folders)
{
    for (int i = 0, times; s->distinct < s->trained_count && i < s->trained_count; i += times) {
        for (times = 1; i + times < s->trained_count && s->trained[i + times] == s->trained[i];)
            times++;
        const char *picture = dataset_name(s->dataset, s->trained[i]), *slash = strrchr(picture, '/');
        char *path = slash ? mem_printf("%.*s", (int)(slash - picture), picture) : mem_strdup(label);
        if (!path)
            return STATUS_FAILED;
        const char *name = path_base(path);
        const json_int_t before =
            json_integer_value(json_object_get(json_object_get(folders, name), "img_count"));
        json_object_set_new(folders, name,
                            json_pack("{s:i,s:I}", "n_repeats", times, "img_count", before + 1));
        mem_free(path);
    }
    if (s->distinct == s->trained_count)
        json_object_set_new(folders, label,
                            json_pack("{s:i,s:i}", "n_repeats", s->repeats, "img_count", s->distinct));
    return STATUS_OK;
}

/* {"tag": number of pictures with it}; NULL: out of memory. */
static json_t *tag_frequency(const Source *s)
{
    Tags *tags = tags_new();
    Status status = tags ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < s->trained_count && status == STATUS_OK; i++)
        if (i == 0 || s->trained[i] != s->trained[i - 1])
            status = tags_add(tags, dataset_caption(s->dataset, s->trained[i]));
    json_t *j = status == STATUS_OK ? tags_most_frequent(tags, MAX_TAGS) : NULL;
    tags_free(tags);
    return j;
}

/* sd-scripts' words for prior preservation: regularisation images. */
static Status prior_metadata(const Export *e, ExportMetadata *m)
{
    const Source *prior = e->sources->prior;
    if (!prior)
        return STATUS_OK;
    char *label = source_label(e->config, e->sources->count);
    json_t *folder = label ? json_pack("{s:{s:i,s:i}}", label, "n_repeats", prior->repeats, "img_count",
                                       prior->trained_count)
                           : NULL;
    mem_free(label);
    TRY(export_metadata_add(m, "ss_reg_dataset_dirs", metadata_text(folder)));
    return export_metadata_add(m, "ss_prior_loss_weight", mem_printf("%g", (double)e->config->prior.weight));
}

/* {"buckets": {"0": {"resolution": [w, h], "count": samples of an epoch}, …}}; NULL: out of memory. */
static json_t *bucket_info(const RunSizes *sizes)
{
    json_t *buckets = json_object();
    char number[16];
    for (int i = 0, n = 0; buckets && i < sizes->count; i++) {
        const RunSize *z = &sizes->items[i];
        if (z->samples == 0)
            continue;
        snprintf(number, sizeof number, "%d", n++);
        json_object_set_new(buckets, number,
                            json_pack("{s:[i,i],s:I}", "resolution", z->size.width, z->size.height, "count",
                                      (json_int_t)z->samples));
    }
    return buckets ? json_pack("{s:o}", "buckets", buckets) : NULL;
}

static Status dataset_metadata(const Export *e, ExportMetadata *m)
{
    json_t *folders = json_object(), *frequency = json_object();
    int64_t shown = 0;
    Status s = folders && frequency ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < e->sources->count && s == STATUS_OK; i++) {
        const Source *source = &e->sources->items[i];
        char *label = source_label(e->config, i);
        json_t *tags = label ? tag_frequency(source) : NULL;
        if (!tags) {
            s = STATUS_FAILED;
        } else {
            s = add_folders(source, label, folders);
            json_object_set_new(frequency, label, tags);
        }
        shown += (int64_t)source->entries.count * source->repeats;
        mem_free(label);
    }
    if (s != STATUS_OK) {
        json_decref(folders);
        json_decref(frequency);
        return s;
    }
    const Source *reg = e->sources->prior;
    const Status a = export_metadata_add(m, "ss_dataset_dirs", metadata_text(folders));
    const Status b = export_metadata_add(m, "ss_tag_frequency", metadata_text(frequency));
    TRY(a);
    TRY(b);
    TRY(export_metadata_add(m, "ss_bucket_info", metadata_text(bucket_info(&e->sources->sizes))));
    TRY(export_metadata_add(m, "ss_num_train_images", mem_printf("%lld", (long long)shown)));
    TRY(export_metadata_add(m, "ss_num_reg_images", mem_printf("%d", reg ? reg->trained_count : 0)));
    return prior_metadata(e, m);
}

/* Run -------------------------------------------------------------------------------------------------- */

static Status model_metadata(const Export *e, ExportMetadata *m)
{
    const UNetConfig *u = unet_config(e->model->unet);
    const bool xl = e->model->family == FAMILY_SDXL, v2 = !xl && u->cross_attention_dim == 1024;
    const bool v = e->model->schedule.prediction == PREDICT_V;
    TRY(export_metadata_add(m, "ss_v2", mem_printf(v2 ? "True" : "False")));
    TRY(export_metadata_add(m, "ss_base_model_version",
                            mem_printf(xl   ? "sdxl_base_v1-0"
                                       : v2 ? (v ? "sd_v2_v" : "sd_v2")
                                            : "sd_v1")));
    TRY(export_metadata_add(m, "ss_sd_model_name", mem_printf("%s", path_base(e->config->model.base))));
    TRY(export_metadata_add(m, "ss_network_module", mem_printf("networks.lora")));
    TRY(export_metadata_add(m, "ss_network_dim", mem_printf("%d", e->config->method.rank)));
    TRY(export_metadata_add(m, "ss_network_alpha", mem_printf("%g", (double)e->config->method.alpha)));
    TRY(export_metadata_add(m, "ss_network_args", mem_printf("{}")));
    /* counted from 1, as the programs that read it do */
    return export_metadata_add(m, "ss_clip_skip",
                               e->config->method.clip_skip ? mem_printf("%d", e->config->method.clip_skip + 1)
                                                           : mem_printf("None"));
}

/* Of so much each it takes to have all n; the last may be less. */
static int64_t parts(int64_t n, int64_t each)
{
    return (n + each - 1) / each;
}

/* One number, or of two encoders a list, as Python writes it; 0 stands for one that is not trained. */
static char *text_rates(const Export *e)
{
    const Config *c = e->config;
    const double first = c->optimizer.text_encoder_lr > 0 ? c->optimizer.text_encoder_lr : c->optimizer.lr,
                 second = c->optimizer.text_encoder_2_lr > 0 ? c->optimizer.text_encoder_2_lr : first;
    if (!c->method.text_encoder)
        return mem_printf("None");
    if (!e->model->clip_2)
        return mem_printf("%g", first);
    return mem_printf("[%g, %g]", config_trains_text(c, 0) ? first : 0,
                      config_trains_text(c, 1) ? second : 0);
}

static Status train_metadata(const Export *e, ExportMetadata *m)
{
    static const char *const schedules[] = {"constant_with_warmup", "linear", "cosine"};
    const Config *c = e->config;
    TRY(export_metadata_add(m, "ss_learning_rate", mem_printf("%g", (double)c->optimizer.lr)));
    TRY(export_metadata_add(m, "ss_unet_lr", mem_printf("%g", (double)c->optimizer.lr)));
    TRY(export_metadata_add(m, "ss_text_encoder_lr", text_rates(e)));
    TRY(export_metadata_add(m, "ss_optimizer",
                            optimizer_at(c->optimizer.kind)->describe(&c->optimizer.settings)));
    TRY(export_metadata_add(m, "ss_lr_scheduler", mem_printf("%s", schedules[c->optimizer.schedule])));
    TRY(export_metadata_add(m, "ss_lr_warmup_steps", mem_printf("%lld", (long long)c->optimizer.warmup)));
    TRY(export_metadata_add(m, "ss_max_grad_norm", mem_printf("%g", (double)c->train.max_grad_norm)));
    TRY(export_metadata_add(m, "ss_max_train_steps", mem_printf("%lld", (long long)e->steps)));
    TRY(export_metadata_add(m, "ss_steps", mem_printf("%lld", (long long)e->steps)));
    TRY(export_metadata_add(m, "ss_num_batches_per_epoch",
                            mem_printf("%lld", (long long)parts(e->epoch_samples, c->train.batch))));
    TRY(export_metadata_add(
        m, "ss_num_epochs",
        mem_printf("%lld",
                   (long long)parts(e->steps * c->train.batch * c->train.accumulate, e->epoch_samples))));
    TRY(export_metadata_add(m, "ss_batch_size_per_device", mem_printf("%d", c->train.batch)));
    TRY(export_metadata_add(m, "ss_total_batch_size",
                            mem_printf("%d", c->train.batch * c->train.accumulate)));
    TRY(export_metadata_add(m, "ss_gradient_accumulation_steps", mem_printf("%d", c->train.accumulate)));
    TRY(export_metadata_add(m, "ss_gradient_checkpointing",
                            mem_printf(c->train.checkpointing == SWITCH_ON ? "True" : "False")));
    TRY(export_metadata_add(m, "ss_mixed_precision",
                            mem_printf("%s", c->model.dtype == DTYPE_F32    ? "no"
                                             : c->model.dtype == DTYPE_BF16 ? "bf16"
                                                                            : "fp16")));
    TRY(export_metadata_add(m, "ss_resolution",
                            mem_printf("(%d, %d)", config_size(c).width, config_size(c).height)));
    TRY(export_metadata_add(m, "ss_seed", mem_printf("%llu", (unsigned long long)c->train.seed)));
    TRY(export_metadata_add(m, "ss_min_snr_gamma",
                            c->loss.snr_gamma > 0 ? mem_printf("%g", (double)c->loss.snr_gamma)
                                                  : mem_printf("None")));
    TRY(export_metadata_add(m, "ss_debiased_estimation", mem_printf(c->loss.debiased ? "True" : "False")));
    return export_metadata_add(m, "ss_noise_offset",
                               c->loss.noise_offset > 0 ? mem_printf("%g", (double)c->loss.noise_offset)
                                                        : mem_printf("None"));
}

/* Stability's ModelSpec, by which programs tell SDXL's files. The title is no name of a file or a run: equal
 * runs write equal files. */
static Status spec_metadata(const Export *e, ExportMetadata *m)
{
    const Size size = config_size(e->config);
    const bool v = e->model->schedule.prediction == PREDICT_V;
    if (e->model->family != FAMILY_SDXL)
        return STATUS_OK;
    TRY(export_metadata_add(m, "modelspec.sai_model_spec", mem_strdup("1.0.1")));
    TRY(export_metadata_add(m, "modelspec.architecture", mem_strdup("stable-diffusion-xl-v1-base/lora")));
    TRY(export_metadata_add(m, "modelspec.implementation",
                            mem_strdup("https://github.com/Stability-AI/generative-models")));
    TRY(export_metadata_add(m, "modelspec.title",
                            mem_printf("LoRA for %s", path_base(e->config->model.base))));
    TRY(export_metadata_add(m, "modelspec.resolution", mem_printf("%dx%d", size.width, size.height)));
    return export_metadata_add(m, "modelspec.prediction_type", mem_strdup(v ? "v" : "epsilon"));
}

Status export_metadata_kohya(const Export *e, ExportMetadata *m)
{
    TRY(model_metadata(e, m));
    TRY(train_metadata(e, m));
    TRY(spec_metadata(e, m));
    return e->sources ? dataset_metadata(e, m) : STATUS_OK;
}

/* peft's LoraConfig of one part, under "unet.", "text_encoder." or "text_encoder_2.". */
static Status peft_part(const Export *e, json_t *all, PartId part)
{
    const char *name = PARTS[part].folder;
    json_t *modules = json_array();
    if (!modules)
        return status_memory("out of memory");
    for (int i = 0; i < e->parameters->module_count; i++)
        if (e->parameters->modules[i].part == part)
            json_array_append_new(modules, json_string(e->parameters->modules[i].layer->name));
    char key[64];
    snprintf(key, sizeof key, "%s.r", name);
    json_object_set_new(all, key, json_integer(e->config->method.rank));
    snprintf(key, sizeof key, "%s.lora_alpha", name);
    json_object_set_new(all, key, json_real((double)e->config->method.alpha));
    snprintf(key, sizeof key, "%s.target_modules", name);
    json_object_set_new(all, key, modules);
    return STATUS_OK;
}

Status export_metadata_peft(const Export *e, ExportMetadata *m)
{
    json_t *all = json_object();
    Status s = all ? peft_part(e, all, PART_UNET) : STATUS_FAILED;
    if (s == STATUS_OK && e->parameters->groups & 1 << GROUP_TEXT)
        s = peft_part(e, all, PART_TEXT);
    if (s == STATUS_OK && e->parameters->groups & 1 << GROUP_TEXT_2)
        s = peft_part(e, all, PART_TEXT_2);
    if (s != STATUS_OK) {
        json_decref(all);
        return s;
    }
    TRY(export_metadata_add(m, "lora_adapter_metadata", metadata_text(all)));
    return export_metadata_add(m, "format", mem_printf("pt"));
}

Status export_metadata_licence(const Export *e, ExportMetadata *m)
{
    const Licence l = licence_of(e->model);
    return l.name[0] ? export_metadata_add(m, "modelspec.license", mem_strdup(l.name)) : STATUS_OK;
}
