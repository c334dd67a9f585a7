/* Names are compared without case, blanks and signs ("DPM++ 2M SDE" is dpmpp2msde), and without what stands
 * around the sampler's own: a schedule, "k_", "_gpu", "Scheduler". */
#include "sampler_names.h"

#include "infer/samplers/sampler.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 64 };

/* Folded; those of no sampler's own name or label. */
static const struct {
    const char *theirs, *ours;
} NAMES[] = {
    {"eulerancestral", "euler_a"},
    {"eulerdiscrete", "euler"},
    {"eulerancestraldiscrete", "euler_a"},
    {"heundiscrete", "heun"},
    {"plms", "pndm"},
    {"dpm2ancestral", "dpm2_a"},
    {"dpm2discrete", "dpm2"},
    {"kdpm2discrete", "dpm2"},
    {"kdpm2ancestraldiscrete", "dpm2_a"},
    {"dpmsolver", "dpmpp_2m"},
    {"dpmsolvermultistep", "dpmpp_2m"},
    {"dpmsolversde", "dpmpp_sde"},
    {"sdedpmsolver", "dpmpp_2m_sde"},
    {"unipcbh2", "unipc"},
    {"unipcmultistep", "unipc"},
};

static void fold(const char *word, char out[MOST])
{
    size_t n = 0;
    for (const char *c = word; *c && n + 1 < MOST; c++)
        if (isalnum((unsigned char)*c) || *c == '+')
            out[n++] = *c == '+' ? 'p' : (char)tolower((unsigned char)*c);
    out[n] = 0;
}

static bool take_ending(char *word, const char *ending)
{
    const size_t n = strlen(word), end = strlen(ending);
    if (n <= end || strcmp(word + n - end, ending) != 0)
        return false;
    word[n - end] = 0;
    return true;
}

static const char *find(const char *folded)
{
    int count;
    const SamplerKind *kinds = sampler_kinds(&count);
    for (int i = 0; i < count; i++) {
        char name[MOST], label[MOST];
        fold(kinds[i].name, name);
        fold(kinds[i].label, label);
        if (!strcmp(folded, name) || !strcmp(folded, label))
            return kinds[i].name;
    }
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcmp(folded, NAMES[i].theirs))
            return NAMES[i].ours;
    return NULL;
}

const char *sampler_named_elsewhere(const char *word, const char **schedule)
{
    static const char *const schedules[] = {"karras", "exponential"};
    char folded[MOST];
    fold(word, folded);
    *schedule = NULL;
    take_ending(folded, "gpu");
    take_ending(folded, "scheduler");
    for (size_t i = 0; i < sizeof schedules / sizeof *schedules && !*schedule; i++)
        if (take_ending(folded, schedules[i]))
            *schedule = schedules[i];
    const char *found = find(folded);
    return found || folded[0] != 'k' ? found : find(folded + 1);
}
