/* The functions of each family on the GPU, as cuda.c puts them into the Device: the same families as
 * kernels/cpu, in the same order. */
#ifndef ATL_CUDA_FAMILIES_H
#define ATL_CUDA_FAMILIES_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/device.h"

void cuda_queue_table(Device *d); /* memory, copies, recordings */
void cuda_finite_table(Device *d);
void cuda_linear_table(Device *d);
void cuda_kronecker_table(Device *d);
void cuda_conv_table(Device *d);
void cuda_norm_table(Device *d);
void cuda_layer_norm_table(Device *d);
void cuda_pointwise_table(Device *d);
void cuda_attention_table(Device *d);
void cuda_shape_table(Device *d);
void cuda_embedding_table(Device *d);
void cuda_loss_table(Device *d);
void cuda_optimizer_table(Device *d);

/* The table itself, for a family that another's function serves. */
const Device *cuda_device(void);

/* A library has taken so much of its memory, which belongs to the plan's own_bytes from now on. */
void cuda_own(size_t bytes);

/* What the card is, for choosing tiles: asked once, when the device is chosen. */
typedef struct CudaCard {
    int number;          /* among the GPUs, as CUDA counts them */
    int major, minor;    /* compute capability */
    int processors;      /* streaming multiprocessors */
    size_t shared_block; /* bytes of shared memory that a block may have, opted in */
} CudaCard;
const CudaCard *cuda_card(void);

#ifdef __cplusplus
}
#endif
#endif
