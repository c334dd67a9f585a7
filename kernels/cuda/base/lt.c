/* cuBLASLt (lt.h).
 *
 * The library's matrices lie column by column. Rows of y are columns of y^T, so what is computed is
 * y^T = op(b)^T op(a)^T: its first operand is our b, and our bias is along its rows, as its epilogue wants.
 *
 * For each product the library is asked once which of its algorithms to take, and the answer is kept: asking
 * costs tens of microseconds, and the same algorithm gives the same bytes. Algorithms that add up parts in an
 * order of their own (split-K in place) are masked out. The workspace is ours, for the library's own would be
 * allocated while a graph is captured. */
#include "lt.h"

#include "families.h"

#include "kernels/base/mem.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <string.h>

#define TEXT_OF_(x) #x
#define TEXT_OF(x) TEXT_OF_(x)

/* The library's functions that are used. */
#define FUNCTIONS(X)                                                                                         \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtGetVersion)                                                                                    \
    X(cublasLtMatmul)                                                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                        \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                  \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)
#define POINTER(name) __typeof__(&name) name;
static struct {
    FUNCTIONS(POINTER)
    cublasLtHandle_t handle;
    void *workspace;
    size_t workspace_bytes;
} lt;

static Status failed(cublasStatus_t s, const char *doing, const LtProduct *p)
{
    if (s == CUBLAS_STATUS_SUCCESS)
        return STATUS_OK;
    return status_fail("cuBLASLt, %s of (%lld,%lld) with (%lld,%lld) in %s: error %d", doing, (long long)p->m,
                       (long long)p->k, (long long)p->k, (long long)p->n, dtype_name(p->type), (int)s);
}

static bool find_functions(void *library)
{
    bool all = true;
#define FIND(name) all &= (*(void **)&lt.name = dlsym(library, #name)) != NULL;
    FUNCTIONS(FIND)
    return all;
}

/* What the process has already, then the toolkit's release, then any. */
static Status find_library(void)
{
    static const char *const names[] = {NULL, "libcublasLt.so." TEXT_OF(CUBLAS_VER_MAJOR), "libcublasLt.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
        if (library && find_functions(library))
            return STATUS_OK;
    }
    return status_fail(
        "cuBLASLt (%s) cannot be opened: %s. It comes with the CUDA toolkit; where it lies elsewhere, "
        "LD_LIBRARY_PATH names the folder",
        names[1], dlerror());
}

Status lt_open(void)
{
    if (lt.handle)
        return STATUS_OK;
    TRY(find_library());
    lt.workspace_bytes = lt_workspace_bytes(cuda_card()->major);
    if (!(lt.workspace = cuda_memory_new(lt.workspace_bytes)))
        return STATUS_FAILED;
    cuda_owned(lt.workspace_bytes);
    if (lt.cublasLtCreate(&lt.handle) != CUBLAS_STATUS_SUCCESS)
        return status_fail("cuBLASLt cannot be started on this GPU");
    return STATUS_OK;
}

size_t lt_version(void)
{
    return lt.handle ? lt.cublasLtGetVersion() : 0;
}

/* Products that were asked for -------------------------------------------------------------------------- */

/* Alignments in bytes that the algorithm was chosen for. */
typedef struct Alignment {
    uint32_t a, b, c, d;
} Alignment;

typedef struct Known {
    LtProduct p;
    Alignment alignment;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d; /* c is laid out like d */
    cublasLtMatmulAlgo_t algorithm;
} Known;

static Known **known;
static int known_count, known_capacity;

static cudaDataType_t type_of(DType t)
{
    return t == DTYPE_BF16 ? CUDA_R_16BF : t == DTYPE_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static uint32_t alignment_of(const void *p)
{
    const size_t bits = (size_t)p | 256;
    return (uint32_t)(bits & -bits);
}

static bool same_product(const LtProduct *a, const LtProduct *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda && a->ldb == b->ldb &&
           a->ldd == b->ldd && a->trans_a == b->trans_a && a->trans_b == b->trans_b &&
           a->has_bias == b->has_bias && a->tf32 == b->tf32 && a->type == b->type && a->d_type == b->d_type;
}

static cublasStatus_t describe(Known *k)
{
    const LtProduct *p = &k->p;
    const cublasOperation_t first = p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                            second = p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const uint64_t a_rows = p->trans_a ? p->m : p->k, a_columns = p->trans_a ? p->k : p->m;
    const uint64_t b_rows = p->trans_b ? p->k : p->n, b_columns = p->trans_b ? p->n : p->k;
    const cublasComputeType_t compute =
        p->tf32 && p->type == DTYPE_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasStatus_t s = lt.cublasLtMatmulDescCreate(&k->operation, compute, CUDA_R_32F);
#define SET(attribute, value)                                                                                \
    if (s == CUBLAS_STATUS_SUCCESS)                                                                          \
        s = lt.cublasLtMatmulDescSetAttribute(k->operation, attribute, &(value), sizeof(value));
    SET(CUBLASLT_MATMUL_DESC_TRANSA, first)
    SET(CUBLASLT_MATMUL_DESC_TRANSB, second)
    if (p->has_bias)
        SET(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue)
#undef SET
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt.cublasLtMatrixLayoutCreate(&k->b, type_of(p->type), b_rows, b_columns, p->ldb);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt.cublasLtMatrixLayoutCreate(&k->a, type_of(p->type), a_rows, a_columns, p->lda);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt.cublasLtMatrixLayoutCreate(&k->d, type_of(p->d_type), p->n, p->m, p->ldd);
    return s;
}

static cublasStatus_t choose(Known *k)
{
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* and none */
    cublasLtMatmulPreference_t wanted;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasStatus_t s = lt.cublasLtMatmulPreferenceCreate(&wanted);
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
#define SET(attribute, value)                                                                                \
    if (s == CUBLAS_STATUS_SUCCESS)                                                                          \
        s = lt.cublasLtMatmulPreferenceSetAttribute(wanted, attribute, &(value), sizeof(value));
    SET(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, lt.workspace_bytes)
    SET(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions)
    /* the library's first operand is our second */
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, k->alignment.b)
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, k->alignment.a)
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, k->alignment.c)
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, k->alignment.d)
#undef SET
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt.cublasLtMatmulAlgoGetHeuristic(lt.handle, k->operation, k->b, k->a, k->d, k->d, wanted, 1,
                                              &found, &count);
    if (s == CUBLAS_STATUS_SUCCESS && count == 0)
        s = CUBLAS_STATUS_NOT_SUPPORTED;
    if (s == CUBLAS_STATUS_SUCCESS)
        k->algorithm = found.algo;
    lt.cublasLtMatmulPreferenceDestroy(wanted);
    return s;
}

static void known_free(Known *k)
{
    if (k->operation)
        lt.cublasLtMatmulDescDestroy(k->operation);
    const cublasLtMatrixLayout_t layouts[] = {k->a, k->b, k->d};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            lt.cublasLtMatrixLayoutDestroy(layouts[i]);
    mem_free(k);
}

/* Before the library is asked too: some releases know no algorithm for a bias that is nowhere. */
static cublasStatus_t set_bias(const Known *k, const void *bias)
{
    return k->p.has_bias ? lt.cublasLtMatmulDescSetAttribute(k->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                             &bias, sizeof bias)
                         : CUBLAS_STATUS_SUCCESS;
}

static Status find_known(const LtProduct *p, Alignment alignment, const void *bias, const Known **found)
{
    for (int i = 0; i < known_count; i++)
        if (same_product(&known[i]->p, p) &&
            memcmp(&known[i]->alignment, &alignment, sizeof alignment) == 0) {
            *found = known[i];
            return STATUS_OK;
        }
    if (!mem_grow(&known, known_count, &known_capacity, sizeof *known))
        return STATUS_FAILED;
    Known *k = mem_calloc(1, sizeof *k);
    if (!k)
        return STATUS_FAILED;
    k->p = *p;
    k->alignment = alignment;
    cublasStatus_t s = describe(k);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = set_bias(k, bias);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = choose(k);
    if (s != CUBLAS_STATUS_SUCCESS) {
        known_free(k);
        return failed(s, "choosing an algorithm for a product", p);
    }
    known[known_count++] = k;
    *found = k;
    return STATUS_OK;
}

/* Running them ------------------------------------------------------------------------------------------ */

typedef struct LtCall {
    const Known *known;
    LtOperands o;
} LtCall;

static Status issue_product(const void *what, cudaStream_t stream)
{
    const LtCall *c = what;
    const Known *k = c->known;
    const LtOperands *o = &c->o;
    TRY(failed(set_bias(k, o->bias), "a product's bias", &k->p));
    return failed(lt.cublasLtMatmul(lt.handle, k->operation, &o->alpha, o->b, k->b, o->a, k->a, &o->beta,
                                    o->c ? o->c : o->d, k->d, o->d, k->d, &k->algorithm, lt.workspace,
                                    lt.workspace_bytes, stream),
                  "a product", &k->p);
}

Status lt_product(const LtProduct *p, const LtOperands *o)
{
    TRY(lt_open());
    LtCall c;
    memset(&c, 0, sizeof c); /* padding is compared */
    c.o.alpha = o->alpha;
    c.o.beta = o->beta;
    c.o.a = o->a;
    c.o.b = o->b;
    c.o.bias = o->bias;
    c.o.c = o->c ? o->c : o->d;
    c.o.d = o->d;
    const Alignment alignment = {alignment_of(o->a), alignment_of(o->b), alignment_of(c.o.c),
                                 alignment_of(o->d)};
    TRY(find_known(p, alignment, c.o.bias, &c.known));
    return cuda_call(issue_product, &c, sizeof c);
}
