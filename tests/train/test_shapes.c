/* Runs over pictures of many shapes, each in its bucket, at two resolutions, with class pictures, pictures
 * held out and previews: the same bytes with caches and without, with any number of loader threads, and gone
 * on with; a plan that covers every size. */
#include "runs.h"

#include "tests/data/pictures.h"
#include "train/pictures/encoded.h"
#include "train/plan/setup.h"

static const Size SHAPES[] = {{64, 40},  {40, 64}, {32, 32}, {100, 50},
                              {50, 100}, {33, 31}, {64, 44}, {90, 90}};
enum { SHAPES_COUNT = sizeof SHAPES / sizeof *SHAPES };

static int open_shapes(void **state)
{
    char name[64];
    if (open_work(state) != 0)
        return -1;
    char *folder = path_join(work, "shapes"), *class = path_join(work, "class");
    assert_ok(dir_make(folder));
    assert_ok(dir_make(class));
    for (int i = 0; i < SHAPES_COUNT; i++) {
        snprintf(name, sizeof name, "%d.png", i);
        write_png(folder, name, SHAPES[i].width, SHAPES[i].height, i);
        snprintf(name, sizeof name, "%d.txt", i);
        write_text(folder, name, "a thing, red, blue");
    }
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "class-%05d.png", i);
        write_png(class, name, 32 + 8 * (i % 3), 32, 40 + i);
    }
    mem_free(folder);
    mem_free(class);
    return 0;
}

#define EVERYTHING                                                                                           \
    "dataset.path=shapes", "dataset.resolution=[32, 48]", "dataset.augment.flip=true", "train.steps=4",      \
        "train.batch=1", "train.accumulate=2", "validation.share=0.2", "validation.every=2",                 \
        "prior.path=class", "prior.prompt=a thing", "prior.pictures=5", "preview.prompts=[a thing]",         \
        "preview.steps=1", "preview.every=4", "output.keep=3"

static void assert_same(const char *a, const char *b)
{
    assert_same_file(a, b, "lora.safetensors");
    assert_same_file(a, b, "checkpoints/step-000004/optimizer.safetensors");
    assert_same_file(a, b, "samples/step-000004.png");
    for (int i = 0; i < 4; i++)
        assert_true(number(a, i, "loss") == number(b, i, "loss"));
    assert_true(number(a, 3, "validation_loss") == number(b, 3, "validation_loss"));
}

static void caches_threads_and_batches_change_no_byte(void **state)
{
    (void)state;
    train(config_for("cached", SD1, EVERYTHING, (char *)NULL), NULL);
    train(config_for("pixels", SD1, EVERYTHING, "train.cache_latents=false", "train.loader_threads=3",
                     (char *)NULL),
          NULL);
    assert_same("cached", "pixels");
}

/* The folder put back to its checkpoint of step 2. */
static void a_resumed_run_ends_in_the_same_bytes(void **state)
{
    (void)state;
    train(config_for("again", SD1, EVERYTHING, (char *)NULL), NULL);
    char *command = mem_printf("cd %s/again && rm -rf checkpoints/step-000004 lora.safetensors samples && "
                               "head -n 2 log.jsonl >log && mv log log.jsonl",
                               work);
    assert_int_equal(system(command), 0);
    train(config_for("again", SD1, EVERYTHING, (char *)NULL), "auto");
    assert_same("again", "cached");
    mem_free(command);
}

static Setup *setup_of(Config *config, const char *name)
{
    Setup *s;
    char *folder = path_join(work, name);
    assert_ok(dir_make(folder));
    if (setup_new(config, NULL, comm_alone(), folder, true, false, NULL, &s) != STATUS_OK)
        fail_msg("%s", status_message());
    mem_free(folder);
    return s;
}

/* Every size that comes is planned, and the arena is as large as the largest of them. */
static void every_size_is_planned(void **state)
{
    (void)state;
    Config *config = config_for("planned", SD1, "dataset.path=shapes", "train.resolution=[32, 64]",
                                "validation.share=0.2", (char *)NULL);
    Setup *s = setup_of(config, "planned");
    size_t most = 0;
    int entries = 0, held = 0;
    assert_true(s->sizes.count > 5);
    for (int i = 0; i < s->sizes.count; i++) {
        const RunSize *z = &s->sizes.items[i];
        const Plan *plan;
        assert_ok(setup_plan(s, z->size, &plan));
        if (z->samples && plan_peak_bytes(plan) > most)
            most = plan_peak_bytes(plan);
        entries += z->entries;
        held += z->held;
    }
    assert_int_equal(entries + held, 2 * SHAPES_COUNT); /* each picture at each resolution */
    assert_int_equal(s->sources->epoch_samples, entries);
    assert_true(plan_peak_bytes(s->plan) == most && s->arena_bytes >= most);
    assert_true(size_area(size_multiplied(s->shape.size, vae_factor(s->model->vae))) > 48 * 48);
    setup_free(s);
    config_free(config);
}

/* Class pictures go to every size that is trained, the wider ones to wider sizes, each at least once. */
static void class_pictures_come_in_the_subjects_sizes(void **state)
{
    (void)state;
    Config *config = config_for("classes", SD1, "dataset.path=shapes", "prior.path=class",
                                "prior.prompt=a thing", "prior.pictures=5", (char *)NULL);
    Setup *s = setup_of(config, "classes");
    char *folder = path_join(work, "classes");
    assert_ok(sources_open_prior(s->sources, config, folder, SOURCES_ANEW, NULL));
    const Entries *e = &s->sources->prior->entries;
    int times[5] = {0};
    for (int i = 0; i < s->sizes.count; i++) {
        int here = 0;
        for (int k = 0; k < e->count; k++)
            here += size_equal(e->fits[k].bucket, s->sizes.items[i].size);
        assert_true(here >= 1);
    }
    for (int k = 0; k < e->count; k++)
        times[e->pictures[k]]++;
    for (int i = 0; i < 5; i++)
        assert_true(times[i] >= 1);
    mem_free(folder);
    setup_free(s);
    config_free(config);
}

/* Drawn in the sizes that the subject comes in, so that none is cut; the same ones where some were lost. */
static void class_pictures_are_drawn_in_the_subjects_sizes(void **state)
{
    (void)state;
    enum { WANTED = 14 };
#define DRAWN                                                                                                \
    EVERYTHING, "train.steps=2", "prior.path=drawn", "prior.pictures=14", "prior.steps=1", "preview.every=0"
    train(config_for("first", SD1, DRAWN, (char *)NULL), NULL);
    Config *config = config_for("looked", SD1, DRAWN, (char *)NULL);
    Setup *s = setup_of(config, "looked");
    char *folder = path_join(work, "looked");
    assert_ok(sources_open_prior(s->sources, config, folder, SOURCES_ANEW, NULL));
    const Entries *e = &s->sources->prior->entries;
    assert_true(e->count == WANTED && s->sizes.count > 5);
    for (int i = 0; i < WANTED; i++)
        assert_true(size_equal(dataset_size(s->sources->prior->dataset, e->pictures[i]), e->fits[i].bucket));
    mem_free(folder);
    setup_free(s);
    config_free(config);
    char *command = mem_printf("cd %s && cp -r drawn kept && rm drawn/class-0000[147]*", work);
    assert_int_equal(system(command), 0);
    mem_free(command);
    train(config_for("second", SD1, DRAWN, (char *)NULL), NULL);
    assert_same_file("first", "second", "lora.safetensors");
    for (int i = 0; i < WANTED; i++) {
        char name[32];
        snprintf(name, sizeof name, "class-%05d.png", i);
        assert_same_file("drawn", "kept", name);
    }
}

/* Square pictures make one bucket, and the run is the one without buckets to the last byte. */
static void square_pictures_train_as_without_buckets(void **state)
{
    (void)state;
    train(config_for("on", SD1, "validation.share=0.2", (char *)NULL), NULL);
    train(config_for("off", SD1, "validation.share=0.2", "dataset.buckets=off", (char *)NULL), NULL);
    assert_same_file("on", "off", "lora.safetensors");
    assert_true(number("on", 5, "validation_loss") == number("off", 5, "validation_loss"));
}

/* dataset.crop and dataset.enlarge. */
static void settings_reach_the_pictures(void **state)
{
    (void)state;
    Config *config = config_for("whole", SD1, "dataset.path=shapes", "dataset.crop=none", (char *)NULL);
    Setup *s = setup_of(config, "whole");
    const Entries *e = &s->sources->items[0].entries;
    for (int i = 0; i < e->count; i++)
        assert_true(size_equal(e->fits[i].bucket, e->fits[i].scaled));
    setup_free(s);
    config_free(config);
    config = config_for("own", SD1, "dataset.path=shapes", "dataset.enlarge=off", "train.resolution=64",
                        (char *)NULL);
    s = setup_of(config, "own");
    e = &s->sources->items[0].entries;
    for (int i = 0; i < e->count; i++)
        if (size_area(SHAPES[e->pictures[i]]) <= 64 * 64)
            assert_true(size_equal(e->fits[i].scaled, SHAPES[e->pictures[i]]));
    setup_free(s);
    config_free(config);
    config = config_for("random", SD1, "dataset.path=shapes", "dataset.crop=random", (char *)NULL);
    assert_false(config->train.cache_latents);
    train(config, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caches_threads_and_batches_change_no_byte),
        cmocka_unit_test(a_resumed_run_ends_in_the_same_bytes),
        cmocka_unit_test(every_size_is_planned),
        cmocka_unit_test(class_pictures_come_in_the_subjects_sizes),
        cmocka_unit_test(class_pictures_are_drawn_in_the_subjects_sizes),
        cmocka_unit_test(square_pictures_train_as_without_buckets),
        cmocka_unit_test(settings_reach_the_pictures),
    };
    return cmocka_run_group_tests(tests, open_shapes, remove_work);
}
