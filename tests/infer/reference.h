/* What the tests of models ask of a module beyond its output (golden.h): gradients of every weight, and how
 * exact 16 bits are, against the reference's. */
#ifndef ATL_TEST_REFERENCE_H
#define ATL_TEST_REFERENCE_H

#include "golden.h"

#include "infer/models/model.h"
#include "kernels/base/random.h"

/* The latents that the reference trains on, of its seeds 7 and 8: B of n numbers each, noisy as at their
 * times. */
static inline void reference_latents(const Model *m, const float *times, int64_t B, int64_t n, float *noise,
                                     float *noisy)
{
    TorchRandom g;
    torch_seed(&g, 7);
    torch_randn(&g, noisy, (size_t)(B * n));
    torch_seed(&g, 8);
    torch_randn(&g, noise, (size_t)(B * n));
    for (int64_t i = 0; i < B * n; i++) {
        const float a = (float)m->schedule.alphas_cumprod[(int)times[i / n]];
        noisy[i] = sqrtf(a) * noisy[i] + sqrtf(1 - a) * noise[i];
    }
}

/* The reference gives of each gradient g its norm, and the sum of g * r with r ~ N(0,1): an error e of g
 * changes that sum by about |e|. whole: norm of all gradients together, for those that are 0 but for rounding
 * (the bias of a key: the softmax does not see it). */
static inline void check_gradient(const Tensor *g, const char *name, const TensorEntry *reference, int number,
                                  double whole)
{
    const size_t n = (size_t)tensor_count(g);
    float *want = golden_floats(reference), *r = mem_alloc(n * sizeof *r), *got = mem_alloc(n * sizeof *got);
    TorchRandom random;
    double norm = 0, sum = 0;
    assert_ok(tensor_get(g, got, DTYPE_F32));
    torch_seed(&random, (uint64_t)number);
    torch_randn(&random, r, n);
    for (size_t i = 0; i < n; i++) {
        norm += (double)got[i] * got[i];
        sum += (double)got[i] * r[i];
    }
    norm = sqrt(norm);
    const double tolerance = MODULE_TOLERANCE * (double)want[0] + 1e-7 * whole;
    if (!(fabs(norm - (double)want[0]) <= tolerance && fabs(sum - (double)want[1]) <= 3 * tolerance))
        fail_msg("gradient of %s: norm %.7g and sum %.7g, the reference has %.7g and %.7g", name, norm, sum,
                 (double)want[0], (double)want[1]);
    mem_free(want);
    mem_free(got);
    mem_free(r);
}

/* Every weight's; gradient_of finds one by the reference's name. Returns how many there were. */
static inline int check_gradients(const TensorFile *golden_file, const Model *m,
                                  const Tensor *(*gradient_of)(const Model *m, const char *name))
{
    double whole = 0;
    for (int i = 0; i < tensorfile_count(golden_file); i++) {
        const TensorEntry *e = tensorfile_entry(golden_file, i);
        if (strncmp(e->name, "full.", 5) != 0 || tensor_entry_count(e) != 2)
            continue;
        float *want = golden_floats(e);
        whole += (double)want[0] * want[0];
        mem_free(want);
    }
    char *names = mem_strdup(tensorfile_metadata(golden_file, "full.names")), *rest = names;
    int number = 0;
    for (char *name; (name = strsep(&rest, "\n")); number++)
        check_gradient(gradient_of(m, name), name, golden(golden_file, "full.%s", name), number, sqrt(whole));
    mem_free(names);
    return number;
}

/* A layer's gradient, its name the rest of full_name before ".weight" or ".bias". */
static inline const Tensor *layer_gradient(const LayerSet *layers, const char *full_name)
{
    char name[256];
    snprintf(name, sizeof name, "%s", full_name);
    char *dot = strrchr(name, '.');
    assert_non_null(dot);
    *dot = 0;
    const Layer *l = layerset_find(layers, name);
    if (!l)
        fail_msg("no layer %s", name);
    return !strcmp(dot + 1, "weight") ? l->weight->grad : l->bias->grad;
}

/* bf16 weights and activations may be off by what PyTorch's own bf16 is off (limit), times 1.5. */
static inline void assert_as_exact(const char *what, const float *got, const TensorEntry *e,
                                   const TensorEntry *limit)
{
    float *want = golden_floats(e), *most = golden_floats(limit);
    const double error = l2_error(got, want, tensor_entry_count(e));
    if (!(error <= 1.5 * (double)*most))
        fail_msg("%s in bf16: error %.3g, PyTorch's is %.3g", what, error, (double)*most);
    mem_free(most);
    mem_free(want);
}

#endif
