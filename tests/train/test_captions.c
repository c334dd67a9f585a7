/* Captions from their files to what a sample sees. Breaks if something were drawn that seed, step and place
 * do not tell, if a part were lost or moved that is kept, or if sd-scripts' settings meant something else
 * here (its process_caption: tests/golden/captions.json, written by scripts/reference/captions.py). */
#include "tests/data/pictures.h"

#include "data/dataset/dataset.h"
#include "kernels/base/log.h"
#include "train/step/captions.h"

#include <jansson.h>
#include <math.h>

#define TIMES 400
#define MANY 4000
#define SIGMAS 5 /* that a count may be away from its share */

static char folder[64];

/* How often each of the words comes, which have to be all that come. */
static void count_captions(const ConfigDataset *d, const char *caption, const char *const *wanted, int count,
                           int *counts)
{
    memset(counts, 0, (size_t)count * sizeof *counts);
    for (uint32_t i = 0; i < TIMES; i++) {
        char *room = malloc(caption_room(caption)), *again = malloc(caption_room(caption));
        const SampleKey key = {.seed = 3, .step = 1 + i / 4, .sample = i % 4};
        const char *got = caption_for(d, caption, key, room);
        assert_string_equal(got, caption_for(d, caption, key, again));
        int k = 0;
        while (k < count && strcmp(wanted[k], got) != 0)
            k++;
        if (k == count)
            fail_msg("\"%s\" became \"%s\"", caption, got);
        counts[k]++;
        free(room);
        free(again);
    }
}

static void each_comes(const ConfigDataset *d, const char *caption, const char *const *wanted, int count)
{
    int counts[16];
    count_captions(d, caption, wanted, count, counts);
    for (int i = 0; i < count; i++)
        if (counts[i] < TIMES / count / 2)
            fail_msg("\"%s\" came %d times of %d", wanted[i], counts[i], TIMES);
}
#define EACH_COMES(d, caption, ...)                                                                          \
    each_comes(d, caption, (const char *const[]){__VA_ARGS__},                                               \
               (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

/* As the reference has them: dataset.caption.* of a configuration. */
static ConfigDataset settings_of(const json_t *j, CaptionStyle *style)
{
    const char *lines = json_string_value(json_object_get(j, "lines")),
               *separator = json_string_value(json_object_get(j, "separator")),
               *mark = json_string_value(json_object_get(j, "keep_separator"));
    *style = (CaptionStyle){json_string_value(json_object_get(j, "prefix")),
                            json_string_value(json_object_get(j, "suffix")),
                            !lines                       ? CAPTION_LINES_JOIN
                            : strcmp(lines, "pick") == 0 ? CAPTION_LINES_PICK
                                                         : CAPTION_LINES_FIRST};
    return (ConfigDataset){
        .caption = {.dropout = (float)json_number_value(json_object_get(j, "dropout")),
                    .tag_dropout = (float)json_number_value(json_object_get(j, "tag_dropout")),
                    .shuffle = json_is_true(json_object_get(j, "shuffle")),
                    .wildcards = json_is_true(json_object_get(j, "wildcards")),
                    .keep_tokens = (int)json_integer_value(json_object_get(j, "keep_tokens")),
                    .separator = (char *)(uintptr_t)separator,
                    .keep_separator = (char *)(uintptr_t)mark}};
}

static void check_shares(const char *caption, const json_t *wanted, json_t *counts)
{
    const char *text;
    json_t *share;
    json_object_foreach((json_t *)(uintptr_t)wanted, text, share)
    {
        const double p = json_number_value(share), got = json_number_value(json_object_get(counts, text));
        if (fabs(got - p * MANY) > SIGMAS * sqrt(p * (1 - p) * MANY) + 0.5)
            fail_msg("\"%s\" became \"%s\" %.0f times of %d, not %.0f", caption, text, got, MANY, p * MANY);
    }
}

static void check_case(const json_t *c)
{
    CaptionStyle style;
    char *styled;
    const char *caption = json_string_value(json_object_get(c, "caption"));
    const json_t *wanted = json_object_get(c, "outcomes");
    const ConfigDataset d = settings_of(json_object_get(c, "settings"), &style);
    assert_ok(caption_style(caption, &style, &styled));
    char *room = malloc(caption_room(styled));
    json_t *counts = json_object();
    for (uint32_t i = 0; i < MANY; i++) {
        const char *got =
            caption_for(&d, styled, (SampleKey){.seed = 5, .step = 1 + i / 4, .sample = i % 4}, room);
        if (!json_object_get(wanted, got))
            fail_msg("\"%s\" became \"%s\"", caption, got);
        json_object_set_new(counts, got, json_real(1 + json_number_value(json_object_get(counts, got))));
    }
    check_shares(caption, wanted, counts);
    json_decref(counts);
    mem_free(styled);
    free(room);
}

/* All that may come of a caption there comes of it here, as often, and nothing else. */
static void captions_become_what_sd_scripts_makes_of_them(void **state)
{
    (void)state;
    json_t *cases = json_load_file(TEST_GOLDEN "/captions.json", 0, NULL);
    assert_true(json_array_size(cases) > 20);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i));
    json_decref(cases);
}

static void wildcards_are_sd_scripts(void **state)
{
    (void)state;
    const ConfigDataset on = {.caption = {.wildcards = true}}, off = {.caption = {.wildcards = false}};
    EACH_COMES(&on, "a {red|green|blue} cat", "a red cat", "a green cat", "a blue cat");
    EACH_COMES(&on, "{a|b}{c|d}", "ac", "ad", "bc", "bd");
    EACH_COMES(&on, "a {|very }red cat", "a red cat", "a very red cat");
    EACH_COMES(&on, "{{a|b}} {x}", "{a|b} x");
    EACH_COMES(&on, "{} {open a|b", "{} {open a|b");
    EACH_COMES(&on, "{a{b|c}", "a{b", "c");
    EACH_COMES(&off, "a {red|green} cat", "a {red|green} cat");
}

static void one_of_several_is_taken(void **state)
{
    (void)state;
    const ConfigDataset d = {.caption = {.wildcards = true}};
    EACH_COMES(&d, "one\n\ntwo\n\n{three|four}\nlines", "one", "two", "three\nlines", "four\nlines");
}

static void kept_parts_stay_where_they_are(void **state)
{
    (void)state;
    const ConfigDataset d = {.caption = {.shuffle = true, .keep_separator = "|||", .keep_tokens = 3}};
    EACH_COMES(&d, "sks dog, best ||| a,b ||| end", "sks dog, best, a, b, end", "sks dog, best, b, a, end");
    EACH_COMES(&d, "sks dog|||a, b", "sks dog, a, b", "sks dog, b, a");
    EACH_COMES(&d, "w,x,y,a,b", "w, x, y, a, b", "w, x, y, b, a");
    const ConfigDataset other = {.caption = {.shuffle = true, .separator = ";"}};
    EACH_COMES(&other, "a, b; c", "a, b, c", "c, a, b");
    const ConfigDataset alone = {.caption = {.keep_separator = "|||"}};
    EACH_COMES(&alone, "a ||| b", "a, b");
}

static void parts_are_dropped_as_often_as_asked(void **state)
{
    (void)state;
    const ConfigDataset d = {.caption = {.tag_dropout = 0.25f, .keep_tokens = 1}};
    static const char *const wanted[] = {"k, a, b", "k, a", "k, b", "k"};
    int counts[4];
    count_captions(&d, "k,a,b", wanted, 4, counts);
    const int a = counts[0] + counts[1], b = counts[0] + counts[2];
    assert_in_range(a, TIMES * 0.68, TIMES * 0.82);
    assert_in_range(b, TIMES * 0.68, TIMES * 0.82);
    assert_in_range(counts[3], TIMES * 0.03, TIMES * 0.1);
}

static void held_out_captions_lose_nothing(void **state)
{
    (void)state;
    const ConfigDataset d = {
        .caption = {.dropout = 1, .tag_dropout = 1, .shuffle = true, .wildcards = true, .separator = ","}};
    char room[64];
    for (uint32_t i = 0; i < 20; i++) {
        const char *got = caption_for_validation(&d, "{a|a}, b, c", (SampleKey){.sample = i}, room);
        assert_string_equal(got, "a, b, c");
    }
}

static void styles(void **state)
{
    (void)state;
    static const struct {
        CaptionStyle style;
        const char *text, *wanted;
    } cases[] = {
        {{.prefix = "sks,", .suffix = "photo"}, "a\nb", "sks, a\nb photo"},
        {{.prefix = "sks"}, "a\n\nb", "sks a\n\nsks b"},
        {{.suffix = "x"}, "", "x"},
        {{.lines = CAPTION_LINES_PICK, .prefix = "p"}, "a\nb\n\nc", "p a\n\np b\n\np c"},
        {{.lines = CAPTION_LINES_FIRST, .suffix = "s"}, "a\nb\n\nc", "a s"},
        {{.lines = CAPTION_LINES_PICK}, "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got;
        assert_ok(caption_style(cases[i].text, &cases[i].style, &got));
        assert_string_equal(got, cases[i].wanted);
        mem_free(got);
    }
}

/* A folder and its dataset file have the same captions, and a style is the same on both. */
static void files_make_captions(void **state)
{
    (void)state;
    Dataset *sets[2];
    DatasetSummary summary;
    const DatasetBuild view = {.folder = folder, .caption = "none"};
    char *path = path_join(folder, "set.h5");
    write_text(folder, "a.txt", "first\nwith two lines");
    write_text(folder, "a.1.txt", "second");
    write_text(folder, "a.10.txt", "fourth");
    write_text(folder, "a.2.txt", "third\n");
    write_text(folder, "b.1.txt", "b's own");
    write_text(folder, "b.1.1.txt", "of b.1.png");
    write_png(folder, "a.png", 16, 16, 1);
    write_png(folder, "b.png", 16, 16, 2);
    write_png(folder, "b.1.png", 16, 16, 3);
    assert_ok(dataset_view(&view, &summary, &sets[0]));
    assert_int_equal(summary.unused_files, 0);
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = path, .caption = "none"}, &summary));
    assert_ok(dataset_open(path, &sets[1]));
    for (int k = 0; k < 2; k++) {
        assert_string_equal(dataset_caption(sets[k], 0),
                            "first\nwith two lines\n\nsecond\n\nthird\n\nfourth");
        assert_string_equal(dataset_name(sets[k], 1), "b.1.png");
        assert_string_equal(dataset_caption(sets[k], 1), "b's own\n\nof b.1.png");
        assert_string_equal(dataset_caption(sets[k], 2), "none");
        assert_true(dataset_has_several_captions(sets[k]));
        assert_ok(
            dataset_style_captions(sets[k], &(CaptionStyle){.prefix = "the", .lines = CAPTION_LINES_FIRST}));
        assert_string_equal(dataset_caption(sets[k], 0), "the first");
        assert_string_equal(dataset_caption(sets[k], 1), "the b's own");
        assert_string_equal(dataset_caption(sets[k], 2), "the none");
        assert_false(dataset_has_several_captions(sets[k]));
        dataset_close(sets[k]);
    }
    mem_free(path);
}

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return dir_remove(folder) != STATUS_OK;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captions_become_what_sd_scripts_makes_of_them),
        cmocka_unit_test(wildcards_are_sd_scripts),
        cmocka_unit_test(one_of_several_is_taken),
        cmocka_unit_test(kept_parts_stay_where_they_are),
        cmocka_unit_test(parts_are_dropped_as_often_as_asked),
        cmocka_unit_test(held_out_captions_lose_nothing),
        cmocka_unit_test(styles),
        cmocka_unit_test(files_make_captions),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
