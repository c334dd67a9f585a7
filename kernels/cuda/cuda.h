/* GPUs as devices: which there are, why there is none, and the one that this process computes on. */
#ifndef ATL_CUDA_H
#define ATL_CUDA_H

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/device.h"

/* The GPU that `name` asks for: "cuda" (the first that can be used), "cuda:N" (nvidia-smi's order),
 * "cuda:GPU-…" (its UUID, or the beginning of it). A process computes on one: the first call decides, and
 * another GPU is refused from then on. NULL: there is none, and the status message says why and what to do.
 */
const Device *device_cuda(const char *name);

/* GPUs have bf16 from compute capability 8.0 on. */
#define CUDA_BF16_MAJOR 8
#define CUDA_TF32_MAJOR 8 /* and TF32 */

/* What a card is called, has and can. */
typedef struct CudaCardInfo {
    char name[256], uuid[48], pci[16];
    int major, minor, processors; /* compute capability; streaming multiprocessors */
    size_t memory, free;          /* bytes; free: 0 where it was not asked */
    bool usable;
    char why[256]; /* not usable: why */
} CudaCardInfo;
int device_cuda_count(void); /* that there are, usable or not; 0 without a driver */
/* In nvidia-smi's order. False: there are not so many. */
bool device_cuda_info(int i, CudaCardInfo *info);
/* STATUS_OK, or why nothing can be computed on a GPU here and what to do: built without CUDA, no driver, the
 * driver too old for the toolkit, no GPU. */
Status device_cuda_why(void);
/* 13000 is 13.0. toolkit 0: built without; driver 0: none. */
void device_cuda_versions(int *toolkit, int *driver);
/* NCCL, which moves blocks between GPUs: its release and the file that it is in. NULL: it cannot be used, and
 * *why says so (NULL: built without CUDA). */
const char *device_cuda_nccl(const char **why);

#ifdef __cplusplus
}
#endif
#endif
