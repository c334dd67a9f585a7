#include "guard.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "checker.h"
#include "prompt_filter.h"
#include "watermark.h"

#include <string.h>

struct Guard {
    GuardRequest request;
    SafetyChecker *checker; /* NULL: off */
    PromptFilter *filter;   /* NULL: none */
    const char *watermark;  /* NULL: none */
};

const char *guard_watermark(const GuardRequest *r)
{
    if (!r->watermark || !strcmp(r->watermark, "off"))
        return NULL;
    return strcmp(r->watermark, "on") ? r->watermark : WATERMARK_TEXT;
}

Status guard_new(const GuardRequest *r, Guard **out)
{
    Guard *g = mem_calloc(1, sizeof *g);
    *out = NULL;
    if (!g)
        return STATUS_FAILED;
    g->request = *r;
    g->watermark = guard_watermark(r);
    const Status s = r->prompt_filter ? prompt_filter_open(r->prompt_filter, &g->filter) : STATUS_OK;
    if (s == STATUS_OK)
        *out = g;
    else
        guard_free(g);
    return s;
}

static bool is_auto(const Guard *g)
{
    return !g->request.safety || !strcmp(g->request.safety, "auto");
}

Status guard_load(Guard *g, const Model *m, Ctx *c, bool described)
{
    const bool wanted = is_auto(g) ? safety_checker_is_there(m) : !strcmp(g->request.safety, "on");
    return wanted && !g->checker ? safety_checker_open(m, c, described, &g->checker) : STATUS_OK;
}

void guard_free(Guard *g)
{
    if (!g)
        return;
    safety_checker_free(g->checker);
    prompt_filter_free(g->filter);
    mem_free(g);
}

Status guard_prompt(const Guard *g, const char *prompt)
{
    return g->filter ? prompt_filter_check(g->filter, prompt) : STATUS_OK;
}

size_t guard_bytes(const Guard *g)
{
    return g->checker ? safety_checker_bytes(g->checker) : 0;
}

Status guard_plan(Guard *g, size_t *bytes)
{
    *bytes = 0;
    return g->checker ? safety_checker_plan(g->checker, bytes) : STATUS_OK;
}

Status guard_admit(const Guard *g, const char *prompt, const Size *marked)
{
    TRY(guard_prompt(g, prompt));
    return g->watermark && marked ? watermark_check(*marked, g->watermark) : STATUS_OK;
}

static Status check(Guard *g, uint64_t seed, Picture *picture, bool *flagged)
{
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

Status guard_picture(Guard *g, uint64_t seed, bool checked, bool marked, Picture *picture, bool *flagged)
{
    *flagged = false;
    if (g->checker && (checked || !is_auto(g)))
        TRY(check(g, seed, picture, flagged));
    return g->watermark && marked ? watermark_write(picture, g->watermark, strlen(g->watermark)) : STATUS_OK;
}
