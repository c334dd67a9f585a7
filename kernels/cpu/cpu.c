/* The processor as a device: which copy of the arithmetic runs here. */
#include "kernels/base/log.h"
#include "kernels/cpu/onednn/onednn.h"
#include "isa.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef enum Isa { ISA_BASELINE, ISA_AVX2, ISA_AVX512 } Isa;
static const char *const isa_names[] = {"baseline", "avx2", "avx512"};

static Device device;
static const char *isa_label;
static bool has_bf16;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static Isa best_isa(void)
{
#ifdef ATL_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx2 && avx512 ? ISA_AVX512 : avx2 ? ISA_AVX2 : ISA_BASELINE;
#else
    return ISA_BASELINE;
#endif
}

/* ATELIER_ISA=baseline|avx2|avx512: use no more than that, to test every path on one machine. */
static Isa capped_isa(Isa best)
{
    const char *cap = getenv("ATELIER_ISA");
    if (!cap || !*cap)
        return best;
    for (int i = 0; i <= ISA_AVX512; i++)
        if (strcmp(cap, isa_names[i]) == 0)
            return (Isa)i < best ? (Isa)i : best;
    log_warn("ATELIER_ISA=%s is not baseline, avx2 or avx512: ignored", cap);
    return best;
}

static void choose(void)
{
    const Isa best = best_isa(), isa = capped_isa(best);
    if (isa < best)
        onednn_cap_isa(isa >= ISA_AVX2);
#ifdef ATL_X86
    if (isa == ISA_AVX512) {
        has_bf16 = __builtin_cpu_supports("avx512bf16") && onednn_has_bf16();
        cpu_table_avx512(&device);
    } else if (isa == ISA_AVX2)
        cpu_table_avx2(&device);
    else
#endif
        cpu_table_baseline(&device);
    isa_label = has_bf16 ? "avx512+bf16" : isa_names[isa];
    device.name = "cpu";
    device.chip = isa_label;
    device.warm_up = onednn_warm_up;
}

const Device *device_cpu(void)
{
    pthread_once(&once, choose);
    return &device;
}

const char *device_cpu_isa(void)
{
    pthread_once(&once, choose);
    return isa_label;
}

bool cpu_has_bf16(void)
{
    pthread_once(&once, choose);
    return has_bf16;
}

bool cpu_has_int8(int vector_bits)
{
#ifdef ATL_X86
    __builtin_cpu_init();
    return vector_bits == 512 ? __builtin_cpu_supports("avx512vnni") : __builtin_cpu_supports("avxvnni");
#else
    (void)vector_bits;
    return false;
#endif
}
