/* The JSON files of a diffusers folder. The first letter says which: u, v, c, s for the configurations of
 * UNet, VAE, text encoder, SDXL's second one (p) and scheduler; i for the index of weights in several files.
 */
#include "fuzz.h"

#include "infer/models/clip.h"
#include "infer/models/model_config.h"
#include "infer/models/unet.h"
#include "infer/models/vae.h"
#include "infer/samplers/sampler.h"
#include "infer/weights/weights.h"
#include "kernels/base/mem.h"

#include <stdlib.h>

static void read_index(const char *text, size_t size)
{
    Weights *w;
    fuzz_put("model.safetensors.index.json", text, size);
    const Status s = weights_open_folder(fuzz_folder(), "model", DTYPE_F32, &w);
    fuzz_check(s);
    if (s == STATUS_OK)
        weights_close(w);
}

/* What was accepted is written out and has to be accepted again. */
static void again(char *json, Status (*parse)(const char *json))
{
    if (!json || parse(json) != STATUS_OK)
        fuzz_fail(json ? status_message() : "out of memory");
    mem_free(json);
}

static Status unet(const char *json)
{
    UNetConfig k;
    return unet_config_parse(json, "config.json", &k);
}

static Status vae(const char *json)
{
    VaeConfig k;
    return vae_config_parse(json, "config.json", &k);
}

static Status clip(const char *json)
{
    ClipConfig k;
    return clip_config_parse(json, "config.json", &k);
}

static Status projected(const char *json)
{
    ClipConfig k;
    return clip_projected_config_parse(json, "config.json", &k);
}

/* The index that is written beside this scheduler_config.json. */
static void write_indices(const char *json)
{
    for (int family = 0; family < FAMILY_COUNT; family++)
        for (int inpainting = 0; inpainting < 2; inpainting++) {
            const Model m = {
                .scheduler_json = (char *)json, .family = (ModelFamily)family, .inpainting = inpainting};
            mem_free(model_index_json(&m));
        }
}

/* What was accepted of a schedule can be walked along by every sampler, or is refused by it. */
static void walk_all(const NoiseSchedule *schedule)
{
    int count;
    const SamplerKind *kinds = sampler_kinds(&count);
    Noise noise;
    noise_seed(&noise, NOISE_CPU, 1);
    const NoiseSource source = noise_source(&noise);
    for (int i = 0; i < count; i++) {
        Sampler *s;
        float x = 1, input;
        const SamplerChoice choice = {.name = kinds[i].name};
        const Status made = sampler_new(&choice, schedule, 7, 1, &s);
        fuzz_check(made);
        for (int call = 0; made == STATUS_OK && call < sampler_steps(s); call++) {
            sampler_input(s, call, &x, &input);
            sampler_step(s, call, &input, &source, &x);
        }
        sampler_free(s);
    }
}

static void read_config(char which, const char *json)
{
    UNetConfig u;
    VaeConfig v;
    ClipConfig c;
    NoiseSchedule n;
    Status s = STATUS_OK;
    if (which == 'u' && (s = unet_config_parse(json, "config.json", &u)) == STATUS_OK)
        again(unet_config_json(&u), unet);
    else if (which == 'v' && (s = vae_config_parse(json, "config.json", &v)) == STATUS_OK)
        again(vae_config_json(&v), vae);
    else if (which == 'c' && (s = clip_config_parse(json, "config.json", &c)) == STATUS_OK)
        again(clip_config_json(&c), clip);
    else if (which == 'p' && (s = clip_projected_config_parse(json, "config.json", &c)) == STATUS_OK)
        again(clip_config_json(&c), projected);
    else if (which == 's' && (s = schedule_parse(json, "scheduler_config.json", &n)) == STATUS_OK) {
        walk_all(&n);
        schedule_free(&n);
    }
    fuzz_check(s);
    mem_free(config_with_dtype(json, DTYPE_F16));
    write_indices(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;
    size_t length;
    if (size == 0)
        return 0;
    const uint8_t *rest = data + 1;
    size_t left = size - 1;
    fuzz_part(&rest, &left, &text, &length);
    if (data[0] == 'i')
        read_index(text, length);
    else
        read_config((char)data[0], text);
    free(text);
    return 0;
}
