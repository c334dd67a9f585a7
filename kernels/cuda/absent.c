/* In place of kernels/cuda where the program is built without the CUDA toolkit. */
#include "cuda.h"

Status device_cuda_why(void)
{
    return status_refuse("this atelier was built without CUDA. Build it with the CUDA toolkit: scripts/setup "
                         "--cuda (docs/gpu.md)");
}

const Device *device_cuda(const char *name)
{
    (void)name;
    (void)device_cuda_why();
    return NULL;
}

int device_cuda_count(void)
{
    return 0;
}

bool device_cuda_info(int i, CudaCardInfo *info)
{
    (void)i, (void)info;
    return false;
}

void device_cuda_versions(int *toolkit, int *driver)
{
    *toolkit = *driver = 0;
}

const char *device_cuda_nccl(const char **why)
{
    return *why = NULL;
}
