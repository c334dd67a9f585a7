#include "origins.h"

#include "kernels/base/json.h"
#include "train/pictures/hashing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A configuration without what its writer notes about itself ("_diffusers_version"), however it is laid out.
 */
static Status hash_json(Sha256 *s, const char *text)
{
    json_error_t error;
    json_t *j = text ? json_parse(text, 0, &error) : NULL;
    if (text && !j)
        return status_fail("the model's configuration: %s", error.text);
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(j, next, key, value) if (key[0] == '_') json_object_del(j, key);
    char *sorted = j ? json_text(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    hash_text(s, sorted);
    free(sorted);
    return !text || sorted ? STATUS_OK : STATUS_FAILED;
}

static Status find_model(const Model *m, char hex[SHA256_HEX_SIZE])
{
    Sha256 s;
    sha256_init(&s);
    const char *const configs[] = {m->config_json[PART_UNET], m->config_json[PART_VAE],
                                   m->config_json[PART_TEXT], m->scheduler_json};
    for (int i = 0; i < 4; i++) /* in this order, or runs that began before would not be gone on with */
        TRY(hash_json(&s, configs[i]));
    TRY(hash_layers(&s, unet_layers(m->unet)));
    TRY(hash_layers(&s, clip_layers(m->clip)));
    TRY(hash_layers(&s, vae_layers(m->vae)));
    TRY(tokenizer_hash(m->tokenizer, &s));
    if (m->clip_2) {
        TRY(hash_json(&s, m->config_json[PART_TEXT_2]));
        TRY(hash_layers(&s, clip_layers(m->clip_2)));
        TRY(tokenizer_hash(m->tokenizer_2, &s));
    }
    hash_finish(&s, hex);
    return STATUS_OK;
}

/* Pictures and captions in their order, and how often they come. */
static void find_pictures(const Source *source, char hex[SHA256_HEX_SIZE])
{
    Sha256 s;
    uint8_t all[SHA256_SIZE];
    dataset_source_sha256(source->dataset, all);
    sha256_init(&s);
    sha256_update(&s, all, sizeof all);
    sha256_update(&s, &source->repeats, sizeof source->repeats);
    hash_finish(&s, hex);
}

Status origins_find(const Setup *s, Origins *out)
{
    *out = (Origins){0};
    TRY(find_model(s->model, out->model));
    const int count = s->sources->count + (s->sources->prior != NULL);
    for (; out->count < count && out->count < ORIGINS_MAX; out->count++)
        find_pictures(&s->sources->items[out->count], out->datasets[out->count]);
    return STATUS_OK;
}

void origins_compare(const Origins *now, const Origins *then, const Setup *s, char *text, size_t size)
{
    text[0] = 0;
    if (!then->model[0])
        return;
    if (strcmp(now->model, then->model) != 0)
        snprintf(text, size, "the model %s is not the one that the run began with", s->model->name);
    for (int i = 0; i < now->count && i < then->count; i++)
        if (strcmp(now->datasets[i], then->datasets[i]) != 0) {
            const size_t used = strlen(text);
            snprintf(text + used, size - used,
                     "%sthe pictures or captions of %s, or their repeats, are not those "
                     "that the run began with",
                     used ? "; " : "", dataset_path(s->sources->items[i].dataset));
        }
}
