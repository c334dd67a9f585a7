/* Whatever takes long says how far it is: from loading to the last preview. Breaks if a screen would stand
 * still. */
#include "runs.h"

#include "kernels/base/progress.h"

#define KINDS 16

/* What has been told of, each by its label: how often, and how far it came. */
static struct {
    const char *label;
    int64_t updates, done, total;
} told[KINDS];

static void listen(void *arg, Progress *p, ProgressEvent event)
{
    (void)arg;
    int i = 0;
    while (i < KINDS - 1 && told[i].label && strcmp(told[i].label, p->label) != 0)
        i++;
    told[i].label = p->label;
    told[i].updates += event == PROGRESS_UPDATE;
    told[i].done = p->done > told[i].done ? p->done : told[i].done;
    told[i].total = p->total;
}

static void assert_told(const char *label, int64_t updates, int64_t done, int64_t total)
{
    int i = 0;
    while (i < KINDS && (!told[i].label || strcmp(told[i].label, label) != 0))
        i++;
    if (i == KINDS)
        fail_msg("nothing is told of \"%s\"", label);
    if (told[i].updates < updates || told[i].done != done || told[i].total != total)
        fail_msg("%s: %lld updates up to %lld of %lld", label, (long long)told[i].updates,
                 (long long)told[i].done, (long long)told[i].total);
}

static void every_part_of_a_run_says_how_far_it_is(void **state)
{
    (void)state;
    progress_to(listen, NULL);
    train(config_for("shown", SD1, "train.steps=4", "validation.share=0.5", "validation.every=2",
                     "preview.every=2", "preview.prompts=[a, b]", "preview.steps=3", "preview.sampler=ddim",
                     (char *)NULL),
          NULL);
    progress_to(NULL, NULL);
    assert_told("trying", 2, 1, 2);
    assert_told("validation", 3 * 2, 3, 3);
    assert_told("preview", 3 * 2 * 3, 2 * 3, 2 * 3);
    assert_told("train", 4, 4, 4);
    int i = 0;
    while (told[i].label && strcmp(told[i].label, "loading") != 0)
        i++;
    assert_true(told[i].label && told[i].updates > 200); /* tensors of the three parts */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_part_of_a_run_says_how_far_it_is)};
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
