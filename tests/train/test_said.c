/* What a run decides by itself, or takes from before, is said before its first step. */
#include "runs.h"

#include "data/dataset/dataset.h"
#include "tests/data/pictures.h"

static char said[65536];

static void take(void *arg, LogLevel level, const char *text)
{
    (void)arg;
    (void)level;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", text);
}

static void says(const char *text, bool wanted)
{
    if ((strstr(said, text) != NULL) != wanted)
        fail_msg("\"%s\" is%s in:\n%s", text, wanted ? " not" : "", said);
}

static void run(const char *name, const char *set)
{
    said[0] = 0;
    log_to(take, NULL);
    log_set_level(LOG_INFO);
    train(config_for(name, SD1, set, (char *)NULL), NULL);
    log_to(NULL, NULL);
}

/* From a folder, and from the dataset that was built of it. */
static void pictures_of_odd_sizes_are_named(void **state)
{
    (void)state;
    char *pictures = mem_printf("%s/pictures", work), *set = mem_printf("%s/odd.h5", work);
    char *path = mem_printf("dataset.path=%s", set);
    write_png(pictures, "wide.png", 300, 10, 1);
    write_text(pictures, "wide.txt", "a line");
    run("folder", "dataset.buckets=off");
    says("1 picture (wide.png (3.3 %)): less than half of the picture is used, the rest is cut away", true);
    says("1 picture (wide.png (3.2 times)): enlarged more than twice", true);
    assert_ok(dataset_build(&(DatasetBuild){.folder = pictures, .out = set}, NULL));
    run("file", path);
    says("1 picture (wide.png (13 %)): less than half", true); /* of the bucket of 64×16 */
    says("64×16: 1 picture, 86.7 % of it cut away", true);
    says("enlarged more than twice", false);
    mem_free(path);
    mem_free(set);
    mem_free(pictures);
}

static void a_model_of_another_size_and_a_long_warm_up_are_named(void **state)
{
    (void)state;
    run("size", "train.resolution=64");
    says("the model was made for pictures of 32×32; at 64×64 it has to learn the size too", true);
    run("short", "optimizer.warmup=60");
    says("made for pictures", false);
    says("the warm-up of 60 steps is left out of a run so short", true);
}

static void what_is_encoded_already_is_named(void **state)
{
    (void)state;
    char *cache = mem_printf("%s/pictures.cache", work); /* of the runs before */
    remove(cache);
    mem_free(cache);
    run("cached", "train.steps=2");
    says("used again", false);
    char *log = mem_printf("%s/cached", work);
    unfinish("cached");
    said[0] = 0;
    log_to(take, NULL);
    train(config_for("cached", SD1, "train.steps=2", (char *)NULL), log);
    log_to(NULL, NULL);
    says("pictures.h5: latents of 7 of 7 pictures used again, as encoded before", true);
    says("pictures.h5: text of 7 of 7 captions used again, as encoded before", true);
    mem_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_of_odd_sizes_are_named),
        cmocka_unit_test(a_model_of_another_size_and_a_long_warm_up_are_named),
        cmocka_unit_test(what_is_encoded_already_is_named),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
