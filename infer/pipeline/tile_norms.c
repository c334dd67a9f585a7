/* Moments of parts add up without loss (Chan et al. 1979): joined to n places, m more whose mean lies d away
 * move the mean by d m/(n+m) and add d² n m/(n+m) to the squared deviations. The norm's eps, which is in
 * every 1/deviation, is in their mean, too. */
#include "tile_norms.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <stddef.h>

Status tile_norms_new(int norms, int groups, TileNorms *out)
{
    const size_t rows = (size_t)norms * (size_t)groups;
    *out = (TileNorms){.norms = norms, .groups = groups};
    out->given = mem_calloc(6 * rows + 1, sizeof *out->given);
    out->mean = mem_calloc(2 * rows + 1, sizeof *out->mean);
    if (!out->given || !out->mean) {
        tile_norms_free(out);
        return STATUS_FAILED;
    }
    out->measured = out->given + 2 * rows;
    out->correction = out->measured + 2 * rows;
    out->square = out->mean + rows;
    for (size_t i = 0; i < rows; i++)
        out->correction[(2 * (i / (size_t)groups) + 1) * (size_t)groups + i % (size_t)groups] = 1;
    return STATUS_OK;
}

void tile_norms_free(TileNorms *n)
{
    mem_free(n->given);
    mem_free(n->mean);
    *n = (TileNorms){0};
}

void tile_norms_sampled(TileNorms *n)
{
    for (int i = 0; i < n->norms; i++)
        for (int g = 0; g < n->groups; g++) {
            const int mean = 2 * i * n->groups + g, rstd = mean + n->groups;
            n->given[mean] = n->measured[mean] + n->correction[mean];
            n->given[rstd] = n->measured[rstd] * n->correction[rstd];
        }
}

void tile_norms_add(TileNorms *n, double places)
{
    const double all = n->count + places, share = places / all;
    for (int i = 0; i < n->norms; i++)
        for (int g = 0; g < n->groups; g++) {
            const float *of = n->measured + 2 * i * n->groups + g;
            double *mean = &n->mean[i * n->groups + g], *square = &n->square[i * n->groups + g];
            const double rstd = (double)of[n->groups], away = (double)of[0] - *mean;
            *mean += share * away;
            *square += share * (1 / (rstd * rstd) - *square + (n->count / all) * away * away);
        }
    n->count = all;
}

void tile_norms_compare(TileNorms *n)
{
    for (int i = 0; i < n->norms; i++)
        for (int g = 0; g < n->groups; g++) {
            const int mean = 2 * i * n->groups + g, rstd = mean + n->groups, k = i * n->groups + g;
            n->correction[mean] += (float)(n->mean[k] - (double)n->given[mean]);
            n->correction[rstd] *= (float)(1 / sqrt(n->square[k]) / (double)n->given[rstd]);
            n->mean[k] = n->square[k] = 0;
        }
    n->count = 0;
}
