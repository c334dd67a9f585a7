/* The library's handles (train/atelier.h): the same picture as the program draws, several models and threads
 * in one process, each with its own listener, stopping, adapters, training from a text. Breaks if one handle
 * hears of another's work, if a stop is not heard, or if a host could crash it by a second call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/atelier.h"

#include <fcntl.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SD1 TEST_GOLDEN "/models/sd1"
#define SD2 TEST_GOLDEN "/models/sd2"
#define LORA TEST_GOLDEN "/lora/kohya.safetensors"

static char work[64];

static void assert_ok(int status)
{
    if (status != ATL_OK)
        fail_msg("%s", atl_message());
}

/* A listener that counts, and can ask for an end or make another call from inside. */
typedef struct Heard {
    atomic_int messages, steps;
    int stop_at; /* step; 0: never */
    void (*then)(struct Heard *h);
    AtlModel *model;
    AtlRun *run;
    int inner;          /* status of the call from inside */
    atomic_int threads; /* OpenMP's, at the last step */
} Heard;

static void hear(void *arg, int level, const char *text)
{
    Heard *h = arg;
    (void)level;
    (void)text;
    h->messages++;
}

static int follow(void *arg, const char *label, const char *unit, int64_t done, int64_t total,
                  const char *note)
{
    Heard *h = arg;
    (void)unit;
    (void)total;
    (void)note;
    if (strcmp(label, "sample") && strcmp(label, "train"))
        return 0;
    h->steps++;
    h->threads = omp_get_max_threads();
    if (h->then)
        h->then(h);
    return h->stop_at && done >= h->stop_at;
}

static AtlModel *open_model(const char *name, Heard *h)
{
    AtlModel *m = NULL;
    assert_ok(atl_model_open(
        name,
        &(AtlModelOptions){
            .size = sizeof(AtlModelOptions), .device = "cpu", .threads = 1, .listener = {hear, follow, h}},
        &m));
    return m;
}

static AtlPicture draw(AtlModel *m, uint64_t seed)
{
    AtlPicture p;
    assert_ok(atl_sample(
        m, &(AtlSample){.size = sizeof(AtlSample), .prompt = "a red heart", .steps = 3, .seed = seed}, &p));
    return p;
}

static void assert_same(const AtlPicture *a, const AtlPicture *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->rgb, b->rgb, 3 * (size_t)a->width * (size_t)a->height);
}

static int run_quietly(int argc, char **words)
{
    const int keep = dup(1), null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    const int status = atl_main(argc, words);
    fflush(stdout);
    dup2(keep, 1);
    close(keep);
    close(null);
    return status;
}

static void the_picture_is_the_programs(void **state)
{
    (void)state;
    Heard h = {0};
    AtlModel *m = open_model(SD1, &h);
    AtlPicture mine = draw(m, 5), theirs, again;
    char path[128], out[160];
    snprintf(path, sizeof path, "%s/program.png", work);
    snprintf(out, sizeof out, "--out=%s", path);
    char *words[] = {"atelier", "sample", "--model",  SD1,   "--prompt",  "a red heart", "--steps", "3",
                     "--seed",  "5",      "--device", "cpu", "--threads", "1",           out,       NULL};
    assert_ok(run_quietly((int)(sizeof words / sizeof *words) - 1, words));
    assert_ok(atl_picture_read(path, &theirs));
    assert_same(&mine, &theirs);
    assert_int_equal(h.steps, 4); /* PNDM asks once more */
    assert_non_null(strstr(mine.settings, "\"seed\":\"5\""));
    snprintf(path, sizeof path, "%s/mine.png", work);
    assert_ok(atl_picture_write(&mine, path));
    assert_ok(atl_picture_read(path, &again));
    assert_same(&mine, &again);
    assert_string_equal(again.settings, mine.settings);
    int width, height, multiple;
    atl_model_size(m, &width, &height, &multiple);
    assert_int_equal(mine.width, width);
    assert_int_equal(mine.height, height);
    assert_int_equal(width % multiple, 0);
    assert_null(atl_model_licence(m));
    atl_picture_free(&mine);
    atl_picture_free(&theirs);
    atl_picture_free(&again);
    atl_model_close(m);
}

typedef struct Drawer {
    AtlModel *model;
    AtlPicture pictures[4];
} Drawer;

static void *draw_all(void *arg)
{
    Drawer *d = arg;
    for (uint64_t i = 0; i < 4; i++)
        d->pictures[i] = draw(d->model, i);
    return NULL;
}

static void models_in_threads_know_nothing_of_each_other(void **state)
{
    (void)state;
    const char *const names[] = {SD1, SD2, SD1};
    Heard heard[3] = {{0}};
    Drawer together[3], alone[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        alone[i].model = together[i].model = open_model(names[i], &heard[i]);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, draw_all, &together[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(heard[i].steps, i == 1 ? 12 : 16);
        draw_all(&alone[i]);
        for (int k = 0; k < 4; k++) {
            assert_same(&alone[i].pictures[k], &together[i].pictures[k]);
            atl_picture_free(&alone[i].pictures[k]);
            atl_picture_free(&together[i].pictures[k]);
        }
        atl_model_close(together[i].model);
    }
}

/* OpenMP keeps them for each thread, and the model was opened in another one. */
static void *draw_with_three(void *arg)
{
    omp_set_num_threads(3);
    AtlPicture p = draw(arg, 1);
    atl_picture_free(&p);
    assert_int_equal(omp_get_max_threads(), 3);
    return NULL;
}

static void a_model_keeps_its_threads_wherever_it_is_drawn_with(void **state)
{
    (void)state;
    Heard h = {0};
    pthread_t thread;
    AtlModel *m = open_model(SD1, &h);
    assert_int_equal(pthread_create(&thread, NULL, draw_with_three, m), 0);
    pthread_join(thread, NULL);
    assert_int_equal(h.threads, 1);
    atl_model_close(m);
}

static void draw_inside(Heard *h)
{
    AtlPicture p;
    h->inner = atl_sample(h->model, &(AtlSample){.size = sizeof(AtlSample), .prompt = "x", .steps = 1}, &p);
    atl_picture_free(&p);
}

static void a_handle_does_one_thing_and_can_be_stopped(void **state)
{
    (void)state;
    Heard h = {0}, other = {0};
    AtlPicture p;
    AtlModel *m = open_model(SD1, &h), *second = open_model(SD1, &other);
    AtlPicture before = draw(m, 1);
    h = (Heard){.then = draw_inside, .model = m};
    AtlPicture same = draw(m, 1);
    assert_int_equal(h.inner, ATL_REFUSED);
    assert_same(&before, &same);
    atl_picture_free(&same);
    h = (Heard){.then = draw_inside, .model = second}; /* another may, from inside too */
    same = draw(m, 1);
    assert_int_equal(h.inner, ATL_OK);
    assert_same(&before, &same);
    atl_picture_free(&same);
    h = (Heard){.stop_at = 2};
    const AtlSample s = {.size = sizeof s, .prompt = "a red heart", .steps = 3, .seed = 1};
    assert_int_equal(atl_sample(m, &s, &p), ATL_INTERRUPTED);
    assert_int_equal(h.steps, 2);
    assert_null(p.rgb);
    h = (Heard){0};
    same = draw(m, 1);
    assert_same(&before, &same);
    atl_picture_free(&same);
    atl_picture_free(&before);
    atl_model_close(m);
    atl_model_close(second);
}

static void adapters_come_and_go(void **state)
{
    (void)state;
    Heard h = {0};
    AtlModel *m = open_model(SD1, &h);
    AtlPicture before = draw(m, 3);
    assert_ok(atl_model_add_lora(m, LORA, 1));
    AtlPicture with = draw(m, 3);
    assert_memory_not_equal(with.rgb, before.rgb, 3 * (size_t)with.width * (size_t)with.height);
    assert_non_null(strstr(with.settings, "kohya.safetensors"));
    assert_int_not_equal(atl_model_add_lora(m, SD1 "/unet/config.json", 1), ATL_OK);
    assert_int_equal(atl_model_add_lora(m, "nowhere.safetensors", 1), ATL_REFUSED);
    assert_ok(atl_model_remove_loras(m));
    AtlPicture after = draw(m, 3);
    assert_same(&before, &after);
    atl_picture_free(&before);
    atl_picture_free(&with);
    atl_picture_free(&after);
    atl_model_close(m);
}

/* From a picture, and over its left half, which changes more than the right one. */
static void pictures_are_begun_from_and_painted_over(void **state)
{
    (void)state;
    Heard h = {0};
    AtlModel *m = open_model(SD1, &h);
    AtlPicture first = draw(m, 3), second, none;
    unsigned char *white = calloc(3, (size_t)first.width * (size_t)first.height);
    AtlPicture mask = {.width = first.width, .height = first.height, .rgb = white};
    for (int y = 0; y < mask.height; y++)
        memset(white + 3 * y * mask.width, 255, 3 * (size_t)(mask.width / 2));
    AtlSample s = {.size = sizeof s,
                   .prompt = "a cat",
                   .sampler = "ddim",
                   .steps = 4,
                   .seed = 9,
                   .init = &first,
                   .strength = 0.5};
    h.steps = 0;
    assert_ok(atl_sample(m, &s, &second));
    assert_int_equal(h.steps, 2);
    assert_memory_not_equal(first.rgb, second.rgb, 3 * (size_t)first.width * (size_t)first.height);
    atl_picture_free(&second);
    unsigned char *black = calloc(3, (size_t)first.width * (size_t)first.height);
    const AtlPicture corner = {.width = first.width, .height = first.height, .rgb = black};
    for (int y = 0; y < 4; y++)
        memset(black + 3 * y * corner.width, 255, 12);
    AtlPicture kept; /* but for a corner of its left half what the VAE makes of the picture as it is */
    s.mask = &corner;
    assert_ok(atl_sample(m, &s, &kept));
    s.mask = &mask;
    assert_ok(atl_sample(m, &s, &second));
    long left = 0, right = 0;
    for (int y = 0; y < kept.height; y++)
        for (int i = 0; i < 3 * kept.width; i++) {
            const int d = abs(kept.rgb[3 * y * kept.width + i] - second.rgb[3 * y * kept.width + i]);
            *(i < 3 * kept.width / 2 ? &left : &right) += d;
        }
    if (left <= right) /* the random VAE mixes all of a picture */
        fail_msg("what is painted over changed by %ld, the rest by %ld", left, right);
    atl_picture_free(&kept);
    atl_picture_free(&second);
    free(black);
    s.strength = 2;
    assert_int_equal(atl_sample(m, &s, &none), ATL_REFUSED);
    s = (AtlSample){.size = sizeof s, .prompt = "a cat", .mask = &mask};
    assert_int_equal(atl_sample(m, &s, &none), ATL_REFUSED);
    /* a host of the first version, whose struct ended before these fields */
    s = (AtlSample){
        .size = offsetof(AtlSample, init), .prompt = "a red heart", .steps = 3, .seed = 3, .init = (void *)1};
    assert_ok(atl_sample(m, &s, &second));
    assert_same(&first, &second);
    atl_picture_free(&second);
    atl_picture_free(&first);
    free(white);
    atl_model_close(m);
}

/* Draws, and returns whether it is another picture than `plain`, with `says` in its settings. */
static void assert_other(AtlModel *m, const AtlPicture *plain, AtlSample s, const char *says, int side)
{
    AtlPicture p;
    s.size = sizeof s;
    s.prompt = s.prompt ? s.prompt : "a (a1111:1.5) heart";
    s.steps = 3;
    s.seed = 3;
    assert_ok(atl_sample(m, &s, &p));
    assert_int_equal(p.width, side);
    if (!strstr(p.settings, says))
        fail_msg("%s is not in %s", says, p.settings);
    if (side == plain->width)
        assert_memory_not_equal(p.rgb, plain->rgb, 3 * (size_t)side * (size_t)side);
    atl_picture_free(&p);
}

static void every_way_of_drawing_counts(void **state)
{
    (void)state;
    Heard h = {0};
    AtlPicture plain, tiled;
    AtlModel *m = open_model(SD1, &h);
    const char *const words[] = {TEST_GOLDEN "/../fuzz/corpus/embedding/a1111.safetensors"};
    const AtlSample s = {.size = sizeof s, .prompt = "a (a1111:1.5) heart", .steps = 3, .seed = 3};
    assert_ok(atl_sample(m, &s, &plain));
    assert_non_null(strstr(plain.settings, "\"sampler\":\"pndm\"")); /* what the model's file says */
    const int side = plain.width;
    assert_other(m, &plain, (AtlSample){.sampler = "euler", .schedule = "karras"}, "\"schedule\":\"karras\"",
                 side);
    assert_other(m, &plain, (AtlSample){.rng = "cuda", .sampler = "ddim", .eta = 1}, "[\"eta\",\"1\"]", side);
    assert_other(m, &plain, (AtlSample){.guidance_rescale = 0.5}, "\"guidance_rescale\":0.5", side);
    assert_other(m, &plain, (AtlSample){.variation = 0.25f, .variation_seed = 8}, "\"variation_seed\":\"8\"",
                 side);
    assert_other(m, &plain, (AtlSample){.compat = "comfy"}, "\"compat\":\"comfy\"", side);
    assert_other(m, &plain, (AtlSample){.embeddings = words, .embedding_count = 1}, "a1111.safetensors",
                 side);
    assert_other(m, &plain, (AtlSample){.hires_scale = 2, .hires_steps = 2, .hires_strength = 0.5},
                 "\"hires_steps\":2", 2 * side);
    assert_other(m, &plain, (AtlSample){.hires_scale = 2, .hires_upscale = "lanczos"},
                 "\"hires_upscale\":\"lanczos\"", 2 * side);
    AtlSample large = s;
    large.width = large.height = 256;
    large.steps = 1;
    large.vae_tile = 128;
    assert_ok(atl_sample(m, &large, &tiled));
    assert_non_null(strstr(tiled.settings, "\"vae_tile\":128"));
    atl_picture_free(&tiled);
    atl_picture_free(&plain);
    atl_model_close(m);
}

static void the_program_draws_it_again(void **state)
{
    (void)state;
    Heard h = {0};
    AtlPicture mine, theirs;
    char path[128], out[160];
    AtlModel *m = open_model(SD1, &h);
    const AtlSample s = {.size = sizeof s,
                         .prompt = "a (red:1.3) heart",
                         .sampler = "euler_a",
                         .steps = 3,
                         .seed = 4,
                         .clip_skip = 1,
                         .schedule = "karras",
                         .rng = "cpu",
                         .guidance_rescale = 0.3,
                         .hires_scale = 2,
                         .hires_steps = 4,
                         .hires_strength = 0.5,
                         .hires_upscale = "lanczos",
                         .variation = 0.2f,
                         .variation_seed = 11,
                         .compat = "a1111"};
    assert_ok(atl_sample(m, &s, &mine));
    snprintf(path, sizeof path, "%s/said.png", work);
    snprintf(out, sizeof out, "--out=%s/again.png", work);
    assert_ok(atl_picture_write(&mine, path));
    char *words[] = {"atelier",  "sample", "--again",   path, "--model", SD1,
                     "--device", "cpu",    "--threads", "1",  out,       NULL};
    assert_ok(run_quietly((int)(sizeof words / sizeof *words) - 1, words));
    assert_ok(atl_picture_read(out + strlen("--out="), &theirs));
    assert_same(&mine, &theirs);
    atl_picture_free(&mine);
    atl_picture_free(&theirs);
    atl_model_close(m);
}

static void values_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    Heard h = {0};
    AtlPicture p;
    AtlModel *m = open_model(SD1, &h);
    const struct {
        AtlSample sample;
        const char *says;
    } wrong[] = {{{.schedule = "magic"}, "magic"},
                 {{.rng = "dice"}, "dice"},
                 {{.guidance_rescale = 2}, "AtlSample.guidance_rescale"},
                 {{.variation = -1}, "AtlSample.variation"},
                 {{.compat = "paint"}, "AtlSample.compat"},
                 {{.hires_scale = 0.5}, "AtlSample.hires_scale"},
                 {{.hires_steps = -1}, "AtlSample.hires_steps"},
                 {{.hires_strength = 2}, "AtlSample.hires_strength"},
                 {{.hires_upscale = "magic"}, "AtlSample.hires_upscale"},
                 {{.vae_tile = -1}, "AtlSample.vae_tile"},
                 {{.embedding_count = 1}, "AtlSample.embedding_count"},
                 {{.embeddings = (const char *const[]){"nowhere.pt"}, .embedding_count = 1}, "nowhere.pt"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        AtlSample s = wrong[i].sample;
        s.size = sizeof s;
        s.prompt = "x";
        assert_int_not_equal(atl_sample(m, &s, &p), ATL_OK);
        if (!strstr(atl_message(), wrong[i].says))
            fail_msg("%s does not say %s", atl_message(), wrong[i].says);
    }
    atl_model_close(m);
}

static void what_is_wrong_is_refused_with_a_reason(void **state)
{
    (void)state;
    AtlModel *m = NULL;
    AtlRun *run = NULL;
    AtlPicture p;
    AtlModelOptions o = {.size = 3};
    assert_int_equal(atl_model_open(SD1, &o, &m), ATL_REFUSED);
    assert_non_null(strstr(atl_message(), "AtlModelOptions.size"));
    assert_null(m);
    o = (AtlModelOptions){.size = sizeof o, .dtype = "f31"};
    assert_int_equal(atl_model_open(SD1, &o, &m), ATL_REFUSED);
    assert_non_null(strstr(atl_message(), "f31"));
    o = (AtlModelOptions){.size = sizeof o, .safety = "on"};
    assert_int_equal(atl_model_open(SD1, &o, &m), ATL_REFUSED);
    assert_non_null(strstr(atl_message(), "no safety checker"));
    o = (AtlModelOptions){.size = sizeof o, .offload = "perhaps"};
    assert_int_equal(atl_model_open(SD1, &o, &m), ATL_REFUSED);
    assert_int_equal(atl_model_open("nowhere", NULL, &m), ATL_REFUSED);
    assert_int_equal(atl_model_open(NULL, NULL, &m), ATL_REFUSED);
    atl_model_close(NULL);
    assert_ok(atl_model_open(SD1, NULL, &m));
    assert_int_equal(atl_sample(m, &(AtlSample){.size = sizeof(AtlSample)}, &p), ATL_REFUSED);
    assert_int_equal(atl_sample(m, NULL, &p), ATL_REFUSED);
    const AtlSample odd = {.size = sizeof odd, .prompt = "x", .width = 33},
                    none = {.size = sizeof none, .prompt = "x", .sampler = "magic"};
    assert_int_equal(atl_sample(m, &odd, &p), ATL_REFUSED);
    assert_int_equal(atl_sample(m, &none, &p), ATL_REFUSED);
    atl_model_close(m);
    assert_int_equal(atl_run_open(&(AtlRunOptions){.size = sizeof(AtlRunOptions)}, &run), ATL_REFUSED);
    assert_int_equal(
        atl_run_open(&(AtlRunOptions){.size = sizeof(AtlRunOptions), .text = "train: {steps: x}"}, &run),
        ATL_REFUSED);
    assert_int_equal(
        atl_run_open(&(AtlRunOptions){.size = sizeof(AtlRunOptions), .config = "nowhere.yaml"}, &run),
        ATL_REFUSED);
    assert_int_equal(atl_picture_read("nowhere.png", &p), ATL_REFUSED);
    assert_int_equal(atl_picture_write(&p, "nothing.png"), ATL_REFUSED);
    atl_run_close(NULL);
}

/* Training --------------------------------------------------------------------------------------------- */

static const char TEXT[] = "model: {base: " SD1 ", dtype: f32}\n"
                           "dataset: {path: pictures, caption: {missing: thing}}\n"
                           "train: {steps: 4, batch: 1, resolution: 32, threads: 1, device: cpu}\n"
                           "output: {dir: whole, save_every: 1}\n";

static AtlRun *open_run(const char *folder, const char *resume, Heard *h)
{
    AtlRun *run = NULL;
    char set[128];
    snprintf(set, sizeof set, "output.dir=%s/%s", work, folder);
    const char *const sets[] = {set};
    assert_ok(atl_run_open(&(AtlRunOptions){.size = sizeof(AtlRunOptions),
                                            .text = TEXT,
                                            .folder = work,
                                            .set = sets,
                                            .set_count = 1,
                                            .resume = resume,
                                            .listener = {hear, follow, h}},
                           &run));
    return run;
}

static void go_inside(Heard *h)
{
    h->inner = atl_run_go(h->run);
}

static long output_size(void)
{
    struct stat st;
    char path[128];
    snprintf(path, sizeof path, "%s/stdout", work);
    return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

static void a_run_trains_stops_and_goes_on_to_the_same_bytes(void **state)
{
    (void)state;
    char line[512];
    Heard h = {0}, second = {0};
    AtlRun *run = open_run("whole", NULL, &h), *other = open_run("other", NULL, &second);
    h = (Heard){.then = go_inside, .run = other};
    snprintf(line, sizeof line, "%s/stdout", work);
    fflush(stdout);
    const int keep = dup(1), file = open(line, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(file, 1);
    const int status = atl_run_go(run);
    fflush(stdout);
    dup2(keep, 1);
    close(keep);
    close(file);
    assert_ok(status);
    assert_int_equal(output_size(), 0);
    assert_int_equal(h.steps, 4);
    assert_true(h.messages > 0);
    assert_int_equal(second.steps + second.messages, 0);
    assert_int_equal(h.inner, ATL_REFUSED);
    assert_int_equal(atl_run_go(run), ATL_REFUSED);
    snprintf(line, sizeof line, "%s/whole", work);
    assert_string_equal(atl_run_folder(run), line);
    atl_run_close(run);
    atl_run_close(other);

    h = (Heard){.stop_at = 2};
    run = open_run("parts", NULL, &h);
    assert_int_equal(atl_run_go(run), ATL_INTERRUPTED);
    atl_run_close(run);
    h = (Heard){0};
    run = open_run("parts", "auto", &h);
    assert_ok(atl_run_go(run));
    assert_int_equal(h.steps, 2);
    atl_run_close(run);
    snprintf(line, sizeof line, "cmp -s %s/whole/lora.safetensors %s/parts/lora.safetensors", work, work);
    assert_int_equal(system(line), 0);
    run = open_run("never", NULL, &h);
    atl_run_stop(run);
    assert_int_equal(atl_run_go(run), ATL_INTERRUPTED);
    atl_run_close(run);
}

static int make_work(void **state)
{
    (void)state;
    char line[256];
    strcpy(work, "/tmp/atelier-library-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    snprintf(line, sizeof line,
             "mkdir %s/pictures && cp data/examples/banana.jpg data/examples/bell.jpg %s/pictures", work,
             work);
    return system(line);
}

static int remove_work(void **state)
{
    (void)state;
    char line[128];
    snprintf(line, sizeof line, "rm -r %s", work);
    return system(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_picture_is_the_programs),
        cmocka_unit_test(models_in_threads_know_nothing_of_each_other),
        cmocka_unit_test(a_model_keeps_its_threads_wherever_it_is_drawn_with),
        cmocka_unit_test(a_handle_does_one_thing_and_can_be_stopped),
        cmocka_unit_test(adapters_come_and_go),
        cmocka_unit_test(pictures_are_begun_from_and_painted_over),
        cmocka_unit_test(every_way_of_drawing_counts),
        cmocka_unit_test(the_program_draws_it_again),
        cmocka_unit_test(values_out_of_range_are_refused_by_name),
        cmocka_unit_test(what_is_wrong_is_refused_with_a_reason),
        cmocka_unit_test(a_run_trains_stops_and_goes_on_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, make_work, remove_work);
}
