/* cuBLASLt: descriptors, the choice of an algorithm, and what the real one would refuse. The product itself
 * is in lt_multiply.c. */
#include "lt.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_ASSUMED 256 /* where the preference does not say */

struct cublasLtContext {
    int unused;
};
typedef struct LtPreference {
    uint64_t workspace;
    uint32_t reductions, alignment[4]; /* of A, B, C, D */
} LtPreference;

/* An algorithm: what it was chosen for. */
typedef struct Choice {
    uint64_t problem; /* a hash of shapes, types, transposes, epilogue */
    uint64_t workspace;
    uint32_t alignment[4];
} Choice;
_Static_assert(sizeof(Choice) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm holds its choice");

/* What a test asks for, or what a lost context leaves. */
#define ENTER_LT()                                                                                           \
    do {                                                                                                     \
        const int wanted_ = runtime_wanted(__func__);                                                        \
        if (wanted_)                                                                                         \
            return (cublasStatus_t)wanted_;                                                                  \
        if (runtime_lost())                                                                                  \
            return CUBLAS_STATUS_EXECUTION_FAILED;                                                           \
    } while (0)

size_t lt_size(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16F || type == CUDA_R_16BF ? 2 : 0;
}

/* Descriptors ------------------------------------------------------------------------------------------- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    ENTER_LT();
    *handle = calloc(1, sizeof **handle);
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

size_t cublasLtGetCudartVersion(void)
{
    return CUDART_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return cublasLtGetStatusName(status);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *made, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    ENTER_LT();
    *made = calloc(1, sizeof **made);
    if (!*made)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **made = (LtOperation){
        .compute = compute, .scale = scale, .epilogue = CUBLASLT_EPILOGUE_DEFAULT, .bias_type = -1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    free(operation);
    return CUBLAS_STATUS_SUCCESS;
}

/* An attribute is as many bytes as it is, or the call fails. */
static cublasStatus_t take(void *field, size_t size, const void *value, size_t bytes)
{
    if (!value || bytes != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}
#define TAKE(field) take(&(field), sizeof(field), value, bytes)

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return TAKE(o->compute);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return TAKE(o->scale);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return TAKE(o->pointers);
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return TAKE(o->a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return TAKE(o->b);
    case CUBLASLT_MATMUL_DESC_TRANSC:
        return TAKE(o->c);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return TAKE(o->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return TAKE(o->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
        return TAKE(o->bias_stride);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return TAKE(o->bias_type);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    ENTER_LT();
    *made = calloc(1, sizeof **made);
    if (!*made)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **made = (LtLayout){.type = type, .rows = rows, .columns = columns, .ld = ld, .batch = 1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t bytes)
{
    int order = 0;
    cublasStatus_t s;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return TAKE(l->type);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        s = TAKE(order);
        l->rows_first = order == CUBLASLT_ORDER_ROW;
        return order == CUBLASLT_ORDER_ROW || order == CUBLASLT_ORDER_COL ? s : CUBLAS_STATUS_NOT_SUPPORTED;
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return TAKE(l->rows);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return TAKE(l->columns);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return TAKE(l->ld);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return TAKE(l->batch);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return TAKE(l->batch_stride);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *made)
{
    ENTER_LT();
    *made = calloc(1, sizeof **made);
    if (!*made)
        return CUBLAS_STATUS_ALLOC_FAILED;
    (*made)->reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
    for (int i = 0; i < 4; i++)
        (*made)->alignment[i] = ALIGNMENT_ASSUMED;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    int mode;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
        return TAKE(mode);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return TAKE(p->workspace);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return TAKE(p->reductions);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return TAKE(p->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* What is refused --------------------------------------------------------------------------------------- */

static bool layout_fits(const LtLayout *l)
{
    return l->rows > 0 && l->columns > 0 && l->ld >= (int64_t)(l->rows_first ? l->columns : l->rows) &&
           l->batch > 0;
}

/* What the types may be: one for A and B; D as they, or f32; C as D; the bias as D. bf16 from sm_80 on. */
static cublasStatus_t check_types(const LtCall *c)
{
    const cudaDataType a = c->layout_a.type, d = c->layout_d.type;
    const LtOperation *o = &c->operation;
    if (o->scale != CUDA_R_32F || !lt_size(a) || c->layout_b.type != a || c->layout_c.type != d ||
        (d != a && d != CUDA_R_32F) || (o->bias_type >= 0 && (cudaDataType)o->bias_type != d))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (o->compute != CUBLAS_COMPUTE_32F && o->compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
        !(o->compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a == CUDA_R_32F && stand_in_arch() >= 80))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return a == CUDA_R_16BF && stand_in_arch() < 80 ? CUBLAS_STATUS_ARCH_MISMATCH : CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check(const LtCall *c)
{
    const LtOperation *o = &c->operation;
    const LtLayout *a = &c->layout_a, *b = &c->layout_b, *d = &c->layout_d, *lc = &c->layout_c;
    const bool ta = o->a != CUBLAS_OP_N, tb = o->b != CUBLAS_OP_N;
    if (!layout_fits(a) || !layout_fits(b) || !layout_fits(lc) || !layout_fits(d))
        return CUBLAS_STATUS_INVALID_VALUE;
    if ((ta ? a->columns : a->rows) != d->rows || (tb ? b->rows : b->columns) != d->columns ||
        (ta ? a->rows : a->columns) != (tb ? b->columns : b->rows) || lc->rows != d->rows ||
        lc->columns != d->columns)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (a->batch != d->batch || b->batch != d->batch || lc->batch != d->batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (o->c != CUBLAS_OP_N || lc->rows_first != d->rows_first || o->pointers != CUBLASLT_POINTER_MODE_HOST)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (o->epilogue != CUBLASLT_EPILOGUE_DEFAULT && (o->epilogue != CUBLASLT_EPILOGUE_BIAS || d->rows_first))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return check_types(c);
}

/* The choice -------------------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t h, uint64_t x)
{
    return (h ^ x) * 0x100000001b3u ^ h >> 29;
}

static uint64_t hash_layout(uint64_t h, const LtLayout *l)
{
    h = hash(hash(hash(hash(h, l->type), l->rows_first), l->rows), l->columns);
    return hash(hash(hash(h, (uint64_t)l->ld), (uint64_t)l->batch), (uint64_t)l->batch_stride);
}

static uint64_t problem_of(const LtCall *c)
{
    const LtOperation *o = &c->operation;
    uint64_t h = hash(hash(hash(hash(hash(0xcbf29ce484222325u, o->compute), o->a), o->b), o->epilogue),
                      (uint64_t)o->bias_type);
    h = hash_layout(hash_layout(h, &c->layout_a), &c->layout_b);
    return hash_layout(hash_layout(h, &c->layout_c), &c->layout_d);
}

/* The depth is split among processors, and parts of D put into the workspace, where D is small and the depth
 * is not. */
static uint64_t workspace_of(const LtCall *c, const LtPreference *p)
{
    const uint64_t d = c->layout_d.rows * c->layout_d.columns,
                   k = c->operation.a == CUBLAS_OP_N ? c->layout_a.columns : c->layout_a.rows,
                   bytes = d * 4 * 4;
    return d < 128 * 128 && k >= 64 && bytes <= p->workspace ? bytes : 0;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *count)
{
    ENTER_LT();
    *count = 0;
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!operation || !a || !b || !c || !d || !preference || wanted < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    const LtCall call = {
        .operation = *operation, .layout_a = *a, .layout_b = *b, .layout_c = *c, .layout_d = *d};
    const cublasStatus_t s = check(&call);
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
    if (call.operation.epilogue == CUBLASLT_EPILOGUE_BIAS && !call.operation.bias)
        return CUBLAS_STATUS_NOT_SUPPORTED; /* as some releases have it */
    Choice choice = {problem_of(&call), workspace_of(&call, preference), {0}};
    const cudaDataType types[] = {a->type, b->type, c->type, d->type};
    for (int i = 0; i < 4; i++) {
        /* no algorithm for less than an element; none asks for more than 16 bytes */
        if (preference->alignment[i] < lt_size(types[i]))
            return CUBLAS_STATUS_NOT_SUPPORTED;
        choice.alignment[i] = preference->alignment[i] < 16 ? preference->alignment[i] : 16;
    }
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, &choice, sizeof choice);
    results->workspaceSize = choice.workspace;
    results->wavesCount = 1;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* Products ---------------------------------------------------------------------------------------------- */

static cublasStatus_t check_pointers(const LtCall *c, const Choice *choice)
{
    const void *pointers[] = {c->a, c->b, c->c, c->d};
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)pointers[i] % choice->alignment[i])
            return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!c->a || !c->b || !c->d || (c->beta != 0 && !c->c))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (c->c == c->d && memcmp(&c->layout_c, &c->layout_d, sizeof c->layout_c) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (c->operation.epilogue == CUBLASLT_EPILOGUE_BIAS &&
        (!c->operation.bias || (uintptr_t)c->operation.bias % lt_size(c->layout_d.type)))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

static void run(Op *o)
{
    lt_multiply(o->own);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    ENTER_LT();
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!operation || !a_layout || !b_layout || !c_layout || !d_layout || !alpha || !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    LtCall call = {.operation = *operation,
                   .layout_a = *a_layout,
                   .layout_b = *b_layout,
                   .layout_c = *c_layout,
                   .layout_d = *d_layout,
                   .a = a,
                   .b = b,
                   .c = c,
                   .d = d,
                   .alpha = *(const float *)alpha,
                   .beta = *(const float *)beta,
                   .workspace = workspace};
    cublasStatus_t s = check(&call);
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
    Choice choice = {problem_of(&call), 0, {16, 16, 16, 16}};
    if (algo)
        memcpy(&choice, algo, sizeof choice);
    if (choice.problem != problem_of(&call) || workspace_bytes < choice.workspace ||
        (choice.workspace && (!workspace || (uintptr_t)workspace % 256)))
        return CUBLAS_STATUS_INVALID_VALUE;
    call.workspace_bytes = choice.workspace;
    s = check_pointers(&call, &choice);
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
    Op *o = op_new(OP_OTHER);
    o->run = run;
    o->own = malloc(sizeof call);
    if (!o->own)
        abort();
    memcpy(o->own, &call, sizeof call);
    return queue_add(stream, o) == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
