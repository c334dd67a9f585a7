/* Which device computes: what --device and train.device say. */
#ifndef ATL_DEVICES_H
#define ATL_DEVICES_H

#include "kernels/device.h"

#define DEVICE_AUTO "auto"
#define DEVICE_FORMS "auto, cpu, cuda, cuda:N, cuda:GPU-UUID"
#define DEVICE_VALUES "auto|cpu|cuda|cuda:N|cuda:GPU-UUID"
#define DEVICE_HELP                                                                                          \
    "Where to compute. auto: the first GPU that can be used, else the processor; cpu; cuda, or cuda:N or "   \
    "cuda:GPU-… for the one of that number or UUID, as nvidia-smi has them. `atelier doctor` lists them."

/* Whether the word has one of the forms; nothing is asked of any GPU. */
bool device_word_is_good(const char *word);
/* The device that the word asks for. Refused: a wrong word, or a GPU that is not there or cannot be used,
 * with why. auto never fails; where there are GPUs and none can be used it says why, once;
 * ATELIER_DEVICE=WORD gives it another meaning. A process computes on one GPU: the same word gives the same
 * device again.
 *
 * stored: the type that weights and activations are to have. GPUs before Ampere have no bf16: it becomes f16,
 * and that is said. */
Status device_choose(const char *word, DType *stored, const Device **dev);
/* tf32: what was asked for. Refused where what is stored is not f32; false on a device without TF32, which is
 * said once. */
Status device_choose_tf32(const Device *dev, DType stored, bool *tf32);
/* For one of several processes of a machine: from now on cuda and auto mean the turn-th (from 0) of the GPUs
 * that can be used, and behind the last the first again. */
void device_set_turn(int turn);

#endif
