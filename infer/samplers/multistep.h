/* DPM-Solver++'s multistep solvers (Lu et al. 2022), of the flow and of its SDE: the curve that x0 runs along
 * is told by this step's x0 and those of the steps before,
 *
 *     x' = keep x + a D0 + b D1 + c D2 + noise ε
 *     D0 = x0,   D1 ≈ its first and D2 ≈ its second difference over λ = log(signal/noise)
 *
 * What the weights are is the one thing in which the solvers differ. */
#ifndef ATL_MULTISTEP_H
#define ATL_MULTISTEP_H

#include "family.h"

typedef struct MultistepWeights {
    float keep, a, b, c, noise;
} MultistepWeights;

/* h = λ' - λ; b and c are asked for from order 2 and 3 on. */
typedef MultistepWeights (*MultistepRule)(const SamplerStep *s, float h, int order);

size_t multistep_state_bytes(size_t n);
void multistep_step(const SamplerStep *s, void *state, MultistepRule rule);

extern const SettingsDefaults MULTISTEP_ABSENT;
extern const SamplerSetting MULTISTEP_SETTINGS[];

#endif
