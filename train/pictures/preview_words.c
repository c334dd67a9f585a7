#include "preview_words.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "preview.h"

static Status add_sizes(const SampleRequest *r, Words *out)
{
    if (r->size.width)
        TRY(words_add(out, "--width=%d", r->size.width));
    return r->size.height ? words_add(out, "--height=%d", r->size.height) : STATUS_OK;
}

static Status add_first_preview(const Config *config, Words *out)
{
    const SampleRequest r = preview_request(config, 0);
    TRY(words_add(out, "--prompt=%s", r.prompt));
    if (r.negative && *r.negative)
        TRY(words_add(out, "--negative=%s", r.negative));
    if (r.prompt_2 && *r.prompt_2)
        TRY(words_add(out, "--prompt-2=%s", r.prompt_2));
    if (*r.negative_2)
        TRY(words_add(out, "--negative-prompt-2=%s", r.negative_2));
    TRY(words_add(out, "--steps=%d", r.steps));
    TRY(words_add(out, "--cfg=%g", (double)r.guidance));
    if (r.sampler)
        TRY(words_add(out, "--sampler=%s", r.sampler));
    TRY(words_add(out, "--seed=%llu", (unsigned long long)r.seed));
    return add_sizes(&r, out);
}

static Status add_all(const Config *config, Words *out)
{
    TRY(words_add(out, "--model=%s", config->model.base));
    if (config->model.vae)
        TRY(words_add(out, "--vae=%s", config->model.vae));
    TRY(words_add(out, "--dtype=%s", dtype_name(config->model.dtype)));
    if (config->model.tf32)
        TRY(words_add(out, "--tf32"));
    if (config->method.clip_skip)
        TRY(words_add(out, "--clip-skip=%d", config->method.clip_skip));
    return config->preview.prompt_count ? add_first_preview(config, out) : STATUS_OK;
}

Status preview_words(const char *run, Words *out)
{
    Config *config = NULL;
    char *path = path_in(run, "config.yaml");
    Status s = path ? config_read(path, NULL, 0, &config) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = add_all(config, out);
    config_free(config);
    mem_free(path);
    return s;
}
