/* Which generator draws a picture's noise. */
#include "noise.h"

#include "kernels/base/text.h"

#include <stdio.h>
#include <string.h>

/* Multiprocessors, and threads on each, by NVIDIA's tables of compute capabilities. */
static const struct {
    const char *name; /* "rtx4090" */
    uint32_t sms, threads;
} GPUS[] = {
    {"gtx1060", 10, 2048},   {"gtx1070", 15, 2048},   {"gtx1080", 20, 2048}, {"gtx1080ti", 28, 2048},
    {"gtx1660", 22, 1024},   {"rtx2060", 30, 1024},   {"rtx2070", 36, 1024}, {"rtx2080", 46, 1024},
    {"rtx2080ti", 68, 1024}, {"rtx3050", 20, 1536},   {"rtx3060", 28, 1536}, {"rtx3060ti", 38, 1536},
    {"rtx3070", 46, 1536},   {"rtx3070ti", 48, 1536}, {"rtx3080", 68, 1536}, {"rtx3080ti", 80, 1536},
    {"rtx3090", 82, 1536},   {"rtx3090ti", 84, 1536}, {"rtx4060", 24, 1536}, {"rtx4060ti", 34, 1536},
    {"rtx4070", 46, 1536},   {"rtx4070ti", 60, 1536}, {"rtx4080", 76, 1536}, {"rtx4090", 128, 1536},
    {"t4", 40, 1024},        {"p100", 56, 2048},      {"v100", 80, 2048},    {"a10", 72, 1536},
    {"a100", 108, 2048},     {"l4", 58, 1536},        {"l40", 142, 1536},    {"h100", 132, 2048},
};
#define GPU_COUNT ((int)(sizeof GPUS / sizeof *GPUS))

static Status unknown_gpu(const char *word)
{
    const char *names[GPU_COUNT];
    for (int i = 0; i < GPU_COUNT; i++)
        names[i] = GPUS[i].name;
    const char *nearest = text_nearest(word, names, GPU_COUNT);
    return status_refuse(
        "--rng: no GPU `%s` is known%s%s; give its multiprocessors and the most threads on one, "
        "as in cuda:128x1536",
        word, nearest ? ", did you mean " : "", nearest ? nearest : "");
}

static Status parse_gpu(const char *word, NoiseKind *out)
{
    char end;
    unsigned sms, threads;
    for (int i = 0; i < GPU_COUNT; i++)
        if (strcmp(GPUS[i].name, word) == 0) {
            *out = (NoiseKind){true, GPUS[i].sms, GPUS[i].threads};
            return STATUS_OK;
        }
    if (sscanf(word, "%5ux%5u%c", &sms, &threads, &end) != 2)
        return unknown_gpu(word);
    if (sms < 1 || threads < 256)
        return status_refuse("--rng: a GPU has a multiprocessor and 256 threads on it at least, not %s",
                             word);
    *out = (NoiseKind){true, sms, threads};
    return STATUS_OK;
}

Status noise_kind_parse(const char *word, NoiseKind *out)
{
    *out = NOISE_CPU;
    if (strcmp(word, "cpu") == 0)
        return STATUS_OK;
    *out = (NoiseKind){.cuda = true};
    if (strcmp(word, "cuda") == 0)
        return STATUS_OK;
    if (strncmp(word, "cuda:", 5) == 0)
        return parse_gpu(word + 5, out);
    return status_refuse("--rng: `%s` is none of cpu, cuda, cuda:GPU", word);
}

void noise_seed(Noise *g, NoiseKind kind, uint64_t seed)
{
    g->kind = kind;
    torch_seed(&g->cpu, seed);
    cuda_seed(&g->cuda, seed, kind.sms, kind.threads);
}

void noise_draw(Noise *g, float *out, size_t n)
{
    if (g->kind.cuda)
        cuda_randn(&g->cuda, out, n);
    else
        torch_randn(&g->cpu, out, n);
}

static void draw(void *arg, float *out, size_t n)
{
    noise_draw(arg, out, n);
}

static void draw_torch(void *arg, float *out, size_t n)
{
    torch_randn(arg, out, n);
}

NoiseSource noise_source(Noise *g)
{
    return (NoiseSource){draw, g};
}

NoiseSource noise_from_torch(TorchRandom *g)
{
    return (NoiseSource){draw_torch, g};
}
