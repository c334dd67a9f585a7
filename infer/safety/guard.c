#include "guard.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "checker.h"

#include <string.h>

struct Guard {
    SafetyChecker *checker; /* NULL: off */
};

Status guard_open(const GuardRequest *r, const Model *m, Ctx *c, Guard **out)
{
    Guard *g = mem_calloc(1, sizeof *g);
    *out = NULL;
    if (!g)
        return STATUS_FAILED;
    const char *safety = r->safety ? r->safety : "auto";
    Status s = STATUS_OK;
    if (!strcmp(safety, "on") || (!strcmp(safety, "auto") && safety_checker_is_there(m)))
        s = safety_checker_open(m, c, &g->checker);
    if (s == STATUS_OK)
        *out = g;
    else
        guard_free(g);
    return s;
}

void guard_free(Guard *g)
{
    if (!g)
        return;
    safety_checker_free(g->checker);
    mem_free(g);
}

bool guard_checks(const Guard *g)
{
    return g && g->checker;
}

Status guard_picture(Guard *g, uint64_t seed, Picture *picture, bool *flagged)
{
    *flagged = false;
    if (!g->checker)
        return STATUS_OK;
    SafetyScores scores;
    TRY(safety_checker_look(g->checker, picture, &scores));
    *flagged = scores.flagged;
    if (!scores.flagged)
        return STATUS_OK;
    memset(picture->rgb, 0, 3 * (size_t)size_area(picture->size));
    log_warn("seed %llu: the safety checker flags this picture (concept %d, %.3f above its threshold): it is "
             "made black; try another prompt or seed",
             (unsigned long long)seed, scores.worst, (double)scores.concept[scores.worst]);
    return STATUS_OK;
}
