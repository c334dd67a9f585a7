/* NCCL, NVIDIA's library that moves blocks between GPUs: what is used of its interface, which has been the
 * same from release 2.14 on, and the library once it is loaded. Nothing of NCCL is needed to build. NVIDIA's
 * NCCL documentation, "API". */
#ifndef ATL_CUDA_NCCL_H
#define ATL_CUDA_NCCL_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* NCCL's own -------------------------------------------------------------------------------------------- */

typedef struct ncclComm *ncclComm_t;
typedef struct ncclUniqueId {
    char internal[128];
} ncclUniqueId;
typedef enum ncclResult_t {
    ncclSuccess = 0,
    ncclUnhandledCudaError = 1,
    ncclSystemError = 2,
    ncclInternalError = 3,
    ncclInvalidArgument = 4,
    ncclInvalidUsage = 5,
    ncclRemoteError = 6,
    ncclInProgress = 7
} ncclResult_t;
typedef enum ncclDataType_t { ncclInt8 = 0, ncclFloat32 = 7 } ncclDataType_t;
typedef enum ncclRedOp_t { ncclSum = 0 } ncclRedOp_t;
/* As of 2.14, by which newer releases fill in the rest. */
typedef struct ncclConfig_t {
    size_t size;
    unsigned magic, version;
    int blocking;
} ncclConfig_t;
#define NCCL_CONFIG_MAGIC 0xcafebeefU
#define NCCL_CONFIG_VERSION 21400

#define NCCL_FUNCTIONS(X)                                                                                    \
    X(ncclResult_t, ncclGetVersion, (int *version))                                                          \
    X(const char *, ncclGetErrorString, (ncclResult_t result))                                               \
    X(const char *, ncclGetLastError, (ncclComm_t comm))                                                     \
    X(ncclResult_t, ncclGetUniqueId, (ncclUniqueId * id))                                                    \
    X(ncclResult_t, ncclCommInitRankConfig,                                                                  \
      (ncclComm_t * comm, int size, ncclUniqueId id, int rank, ncclConfig_t *config))                        \
    X(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t * state))                          \
    X(ncclResult_t, ncclCommFinalize, (ncclComm_t comm))                                                     \
    X(ncclResult_t, ncclCommDestroy, (ncclComm_t comm))                                                      \
    X(ncclResult_t, ncclCommAbort, (ncclComm_t comm))                                                        \
    X(ncclResult_t, ncclGroupStart, (void))                                                                  \
    X(ncclResult_t, ncclGroupEnd, (void))                                                                    \
    X(ncclResult_t, ncclSend,                                                                                \
      (const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)) \
    X(ncclResult_t, ncclRecv,                                                                                \
      (void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream))         \
    X(ncclResult_t, ncclBroadcast,                                                                           \
      (const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,             \
       cudaStream_t stream))                                                                                 \
    X(ncclResult_t, ncclReduce,                                                                              \
      (const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,              \
       ncclComm_t comm, cudaStream_t stream))                                                                \
    X(ncclResult_t, ncclAllGather,                                                                           \
      (const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)) \
    X(ncclResult_t, ncclReduceScatter,                                                                       \
      (const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,       \
       cudaStream_t stream))

/* Atelier's --------------------------------------------------------------------------------------------- */

#define NCCL_VERSION_TEXT 32 /* bytes */
typedef struct Nccl {
#define NCCL_POINTER(type, name, parameters) type(*name) parameters;
    NCCL_FUNCTIONS(NCCL_POINTER)
    int version;                  /* 22803 is 2.28.3 */
    char text[NCCL_VERSION_TEXT]; /* the same, as it is written */
    const char *from;             /* the file that it is in */
} Nccl;

/* The library, loaded by the first call; NULL: it is not here or too old, and *why says so (without a point).
 */
const Nccl *nccl_load(const char **why);

/* How blocks travel between processes that have a GPU each (kernels/comm/transport.h). */
extern const struct CommTransport transport_nccl;

#ifdef __cplusplus
}
#endif
#endif
