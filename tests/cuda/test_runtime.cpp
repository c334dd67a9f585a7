/* The stand-in for the CUDA runtime: streams run late and in any order that events allow, captures and
 * launches keep to the rules, failures come when they are asked for. And cuBLASLt's products. */
#include "planted.h"

#include <cublasLt.h>

__global__ static void put_kernel(int *y, int value)
{
    y[threadIdx.x] = value;
}
__global__ static void double_kernel(int *y)
{
    y[threadIdx.x] *= 2;
}

/* What LAUNCH does, on a stream. */
template <typename... P>
static cudaError_t start(cudaStream_t s, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                         typename SameType<P>::type... arguments)
{
    void *list[] = {(void *)&arguments..., NULL};
    stand_in_kernel("a kernel of the tests", kernel);
    return cudaLaunchKernel((const void *)kernel, grid, block, list, shared, s);
}
#define PUT(s, y, value) assert_int_equal(start(s, put_kernel, dim3(1), dim3(1), 0, y, value), cudaSuccess)
#define DOUBLE(s, y) assert_int_equal(start(s, double_kernel, dim3(1), dim3(1), 0, y), cudaSuccess)
#define OK(call) assert_int_equal(call, cudaSuccess)

static cudaStream_t stream_new()
{
    cudaStream_t s;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}
static cudaEvent_t event_new()
{
    cudaEvent_t e;
    OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    return e;
}
static int value_of(const int *y)
{
    int x;
    to_host(&x, y, 1);
    return x;
}

/* Streams ----------------------------------------------------------------------------------------------- */

/* Nothing has happened before somebody waits; pageable memory has been read at the call, pinned memory has
 * not. */
static void test_late(void **)
{
    cudaStream_t s = stream_new();
    int from = 1, *pinned, *y = on_device<int>(NULL, 2);
    OK(cudaMallocHost((void **)&pinned, 2 * sizeof(int)));
    pinned[0] = pinned[1] = 5;
    OK(cudaMemcpyAsync(y, &from, sizeof from, cudaMemcpyHostToDevice, s));
    OK(cudaMemcpyAsync(y + 1, &pinned[0], sizeof(int), cudaMemcpyHostToDevice, s));
    OK(cudaMemcpyAsync(&pinned[1], y, sizeof(int), cudaMemcpyDeviceToHost, s));
    from = 2;
    pinned[0] = 7;
    assert_int_equal(pinned[1], 5);
    OK(cudaStreamSynchronize(s));
    assert_int_equal(pinned[1], 1);
    assert_int_equal(value_of(y + 1), 7);
    OK(cudaFreeHost(pinned));
    OK(cudaStreamDestroy(s));
}

/* How often, of many times, one stream reads what another writes first, with an event between them or
 * without. */
static int in_order(bool event)
{
    int right = 0;
    for (int i = 0; i < 100; i++) {
        cudaStream_t a = stream_new(), b = stream_new();
        cudaEvent_t e = event_new();
        int *y = on_device<int>(NULL, 1);
        PUT(a, y, 1);
        OK(cudaEventRecord(e, a));
        if (event)
            OK(cudaStreamWaitEvent(b, e, 0));
        DOUBLE(b, y);
        OK(cudaStreamSynchronize(b));
        OK(cudaDeviceSynchronize());
        right += value_of(y) == 2;
        OK(cudaEventDestroy(e));
        OK(cudaStreamDestroy(a));
        OK(cudaStreamDestroy(b));
        OK(cudaFree(y));
    }
    return right;
}
static void test_order(void **)
{
    assert_int_equal(in_order(true), 100);
    const int lucky = in_order(false);
    assert_true(lucky > 5 && lucky < 95);
}

static void test_events(void **)
{
    cudaStream_t s = stream_new();
    cudaEvent_t e = event_new();
    int *y = on_device<int>(NULL, 1), *pinned;
    OK(cudaMallocHost((void **)&pinned, sizeof(int)));
    *pinned = 0;
    OK(cudaEventQuery(e)); /* of nothing */
    PUT(s, y, 3);
    OK(cudaMemcpyAsync(pinned, y, sizeof(int), cudaMemcpyDeviceToHost, s));
    OK(cudaEventRecord(e, s));
    DOUBLE(s, y);
    assert_int_equal(cudaEventQuery(e), cudaErrorNotReady);
    OK(cudaEventSynchronize(e));
    assert_int_equal(*pinned, 3);
    OK(cudaEventQuery(e));
    assert_int_equal(cudaStreamQuery(s), cudaSuccess);
    assert_int_equal(value_of(y), 6);
    OK(cudaFreeHost(pinned));
    OK(cudaEventDestroy(e));
}

/* Capture ----------------------------------------------------------------------------------------------- */

static cudaGraphExec_t captured(cudaStream_t s, cudaGraph_t *graph)
{
    cudaGraphExec_t exec;
    OK(cudaStreamEndCapture(s, graph));
    OK(cudaGraphInstantiate(&exec, *graph, 0));
    return exec;
}

static void test_graph(void **)
{
    cudaStream_t s = stream_new();
    cudaGraph_t graph;
    cudaGraphExecUpdateResultInfo info;
    int *y = on_device<int>(NULL, 1);
    PUT(s, y, 1);
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    PUT(s, y, 5);
    DOUBLE(s, y);
    cudaGraphExec_t exec = captured(s, &graph);
    OK(cudaStreamSynchronize(s));
    assert_int_equal(value_of(y), 1); /* it was not run */
    OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    assert_int_equal(value_of(y), 10);
    OK(cudaGraphDestroy(graph));

    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    PUT(s, y, 7);
    DOUBLE(s, y);
    OK(cudaStreamEndCapture(s, &graph));
    OK(cudaGraphLaunch(exec, s)); /* as it is by now */
    OK(cudaGraphExecUpdate(exec, graph, &info));
    OK(cudaStreamSynchronize(s));
    assert_int_equal(value_of(y), 10);
    OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    assert_int_equal(value_of(y), 14);
    OK(cudaGraphDestroy(graph));

    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    PUT(s, y, 7);
    OK(cudaStreamEndCapture(s, &graph));
    assert_int_equal(cudaGraphExecUpdate(exec, graph, &info), cudaErrorGraphExecUpdateFailure);
    assert_int_equal(info.result, cudaGraphExecUpdateErrorTopologyChanged);
    assert_int_equal(cudaGetLastError(), cudaErrorGraphExecUpdateFailure);
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphExecDestroy(exec));
    OK(cudaStreamDestroy(s));
}

/* Two streams in one capture: ordered where events say so, and only there. */
static void test_forked(void **)
{
    cudaStream_t s = stream_new(), t = stream_new();
    cudaEvent_t out = event_new(), back = event_new();
    cudaGraph_t graph;
    int *y = on_device<int>(NULL, 2), swapped = 0;
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    PUT(s, y, 1);
    PUT(s, y + 1, 1);
    OK(cudaEventRecord(out, s));
    OK(cudaStreamWaitEvent(t, out, 0));
    DOUBLE(t, y); /* these two follow each other */
    OK(cudaEventRecord(back, t));
    PUT(t, y + 1, 3); /* this and the next are in no order */
    OK(cudaStreamWaitEvent(s, back, 0));
    DOUBLE(s, y);
    PUT(s, y + 1, 4);
    OK(cudaEventRecord(back, t));
    OK(cudaStreamWaitEvent(s, back, 0));
    cudaGraphExec_t exec = captured(s, &graph);
    for (int i = 0; i < 100; i++) {
        OK(cudaGraphLaunch(exec, s));
        OK(cudaStreamSynchronize(s));
        assert_int_equal(value_of(y), 4);
        swapped += value_of(y + 1) == 3;
    }
    assert_true(swapped > 5 && swapped < 95);
    assert_int_equal(cudaEventQuery(back), cudaErrorCapturedEvent);
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphExecDestroy(exec));

    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    OK(cudaEventRecord(out, s));
    OK(cudaStreamWaitEvent(t, out, 0));
    DOUBLE(t, y);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureUnjoined);
    assert_null(graph);
    cudaEvent_t outside = event_new();
    OK(cudaEventRecord(outside, t));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaStreamWaitEvent(s, outside, 0), cudaErrorStreamCaptureIsolation);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    const cudaEvent_t events[] = {out, back, outside};
    for (int i = 0; i < 3; i++)
        OK(cudaEventDestroy(events[i]));
}

/* Calls that break a capture: they fail, and so does all that follows, and there is no graph. */
static void test_forbidden(void **)
{
    cudaStream_t s = stream_new(), other = stream_new();
    cudaEvent_t e = event_new();
    cudaGraph_t graph;
    int *y = on_device<int>(NULL, 1);
    void *p;
    OK(cudaEventRecord(e, other));
    for (int i = 0; i < 7; i++) {
        cudaError_t got = cudaSuccess;
        OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
        PUT(s, y, 1);
        switch (i) {
        case 0:
            got = cudaStreamSynchronize(s);
            break;
        case 1:
            got = cudaDeviceSynchronize();
            break;
        case 2:
            got = cudaMalloc(&p, 4);
            break;
        case 3:
            got = cudaStreamQuery(s);
            break;
        case 4:
            got = cudaEventQuery(e);
            break;
        case 5:
            got = cudaMemcpy(y, &i, 4, cudaMemcpyHostToDevice);
            break;
        case 6:
            got = cudaFree(y);
            break;
        }
        assert_int_equal(got, cudaErrorStreamCaptureUnsupported);
        assert_int_equal(start(s, put_kernel, dim3(1), dim3(1), 0, y, 1), cudaErrorStreamCaptureInvalidated);
        assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
        assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
        OK(cudaGetLastError());
    }
    OK(cudaEventDestroy(e));
    /* a blocking stream, and the legacy one that waits for it */
    OK(cudaStreamCreate(&s));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
    OK(cudaMalloc(&p, 4));
    assert_int_equal(start(NULL, put_kernel, dim3(1), dim3(1), 0, y, 1), cudaErrorStreamCaptureImplicit);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
}

/* Launches and memory ----------------------------------------------------------------------------------- */

static void test_launches(void **)
{
    int *y = on_device<int>(NULL, 1024);
    const void *f = (const void *)put_kernel;
    assert_int_equal(start(NULL, put_kernel, dim3(1), dim3(1025), 0, y, 1), cudaErrorInvalidConfiguration);
    assert_int_equal(start(NULL, put_kernel, dim3(1), dim3(1, 1, 65), 0, y, 1),
                     cudaErrorInvalidConfiguration);
    assert_int_equal(start(NULL, put_kernel, dim3(0), dim3(32), 0, y, 1), cudaErrorInvalidConfiguration);
    assert_int_equal(start(NULL, put_kernel, dim3(1, 65536), dim3(32), 0, y, 1),
                     cudaErrorInvalidConfiguration);
    assert_int_equal(start(NULL, put_kernel, dim3(1), dim3(32), 48 * 1024 + 16, y, 1), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    OK(cudaGetLastError());
    OK(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, 99 * 1024));
    OK(start(NULL, put_kernel, dim3(1), dim3(32), 48 * 1024 + 16, y, 1));
    assert_int_equal(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, 99 * 1024 + 1),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaLaunchKernel((const void *)test_launches, dim3(1), dim3(1), NULL, 0, NULL),
                     cudaErrorInvalidDeviceFunction);
    OK(cudaDeviceSynchronize());
}

static void test_memory(void **)
{
    size_t before, total, left;
    void *p;
    char x[100];
    OK(cudaMemGetInfo(&before, &total));
    assert_int_equal(cudaMalloc(&p, total + 1), cudaErrorMemoryAllocation);
    OK(cudaMalloc(&p, 100));
    OK(cudaMemGetInfo(&left, &total));
    assert_int_equal(before - left, 256);
    assert_int_equal((uintptr_t)p % 256, 0);
    assert_int_equal(cudaMemcpy(p, x, 101, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(p, x, 100, cudaMemcpyDeviceToHost), cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaFree((char *)p + 1), cudaErrorInvalidValue);
    OK(cudaFree(p));
    assert_int_equal(cudaFree(p), cudaErrorInvalidValue);
    OK(cudaFree(NULL));
    OK(cudaMemGetInfo(&left, &total));
    assert_int_equal(before, left);
}

/* Failures that are asked for --------------------------------------------------------------------------- */

static void test_failures(void **)
{
    void *p = NULL;
    int *y = on_device<int>(NULL, 1), device;
    setenv("ATELIER_STAND_IN_FAIL", "cudaMalloc:2,cudaStreamSynchronize:1:702", 1);
    OK(cudaMalloc(&p, 4));
    assert_int_equal(cudaMalloc(&p, 4), cudaErrorMemoryAllocation);
    OK(cudaMalloc(&p, 4)); /* memory has run out, the device has not gone */
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    OK(cudaGetLastError());
    PUT(NULL, y, 1);
    assert_int_equal(cudaStreamSynchronize(NULL), cudaErrorLaunchTimeout);
    assert_int_equal(cudaGetDevice(&device), cudaErrorLaunchTimeout); /* that stays */
    assert_int_equal(cudaFree(p), cudaErrorLaunchTimeout);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchTimeout);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchTimeout);
    OK(cudaDeviceReset());
    OK(cudaGetDevice(&device));
    unsetenv("ATELIER_STAND_IN_FAIL");
    assert_int_equal(cudaFree(y), cudaErrorInvalidValue); /* the reset has taken it */
    (void)cudaGetLastError();
}

/* cuBLASLt ---------------------------------------------------------------------------------------------- */

typedef struct Lt {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
} Lt;

/* D (m,n) = A (m,k) B (k,n), column by column, B transposed, the depth first in neither. */
static Lt lt_new(cudaDataType type, cudaDataType d_type, uint64_t m, uint64_t n, uint64_t k, size_t workspace)
{
    Lt l;
    const cublasOperation_t turned = CUBLAS_OP_T;
    const uint32_t alignment = 4;
    int count = 0;
    OK(cublasLtCreate(&l.handle));
    OK(cublasLtMatmulDescCreate(&l.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    OK(cublasLtMatmulDescSetAttribute(l.operation, CUBLASLT_MATMUL_DESC_TRANSB, &turned, sizeof turned));
    OK(cublasLtMatrixLayoutCreate(&l.a, type, m, k, (int64_t)m + 2));
    OK(cublasLtMatrixLayoutCreate(&l.b, type, n, k, (int64_t)n));
    OK(cublasLtMatrixLayoutCreate(&l.d, d_type, m, n, (int64_t)m));
    OK(cublasLtMatmulPreferenceCreate(&l.preference));
    OK(cublasLtMatmulPreferenceSetAttribute(l.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                            &workspace, sizeof workspace));
    OK(cublasLtMatmulPreferenceSetAttribute(l.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                            &alignment, sizeof alignment));
    OK(cublasLtMatmulAlgoGetHeuristic(l.handle, l.operation, l.a, l.b, l.d, l.d, l.preference, 1, &l.found,
                                      &count));
    assert_int_equal(count, 1);
    return l;
}

static void lt_free(Lt *l)
{
    OK(cublasLtMatmulPreferenceDestroy(l->preference));
    OK(cublasLtMatrixLayoutDestroy(l->a));
    OK(cublasLtMatrixLayoutDestroy(l->b));
    OK(cublasLtMatrixLayoutDestroy(l->d));
    OK(cublasLtMatmulDescDestroy(l->operation));
    OK(cublasLtDestroy(l->handle));
}

static void test_product(void **)
{
    enum { M = 5, N = 7, K = 70 };
    f16 a[(M + 2) * K], b[N * K];
    float c[M * N], d[M * N];
    for (int i = 0; i < (M + 2) * K; i++)
        a[i] = from_float<f16>((float)(i % 11 - 5));
    for (int i = 0; i < N * K; i++)
        b[i] = from_float<f16>((float)(i % 7 - 3));
    for (int i = 0; i < M * N; i++)
        c[i] = (float)i;
    Lt l = lt_new(CUDA_R_16F, CUDA_R_32F, M, N, K, 1 << 20);
    const f16 *da = on_device(a, (M + 2) * K), *db = on_device(b, N * K);
    float *dd = on_device<float>(NULL, M * N), *dc = on_device(c, M * N);
    char *room = on_device<char>(NULL, 1 << 20);
    const float alpha = 2, beta = 3;
    assert_true(l.found.workspaceSize > 0);
    OK(cublasLtMatmul(l.handle, l.operation, &alpha, da, l.a, db, l.b, &beta, dc, l.d, dd, l.d, &l.found.algo,
                      room, 1 << 20, NULL));
    to_host(d, dd, M * N);
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            float s = 0;
            for (int k = 0; k < K; k++)
                s += to_float(a[k * (M + 2) + m]) * to_float(b[k * N + n]);
            assert_true(d[n * M + m] == alpha * s + beta * c[n * M + m]);
        }
        /* what it was not chosen for */
#define AGAIN(a_at, room_bytes, d_at)                                                                        \
    cublasLtMatmul(l.handle, l.operation, &alpha, a_at, l.a, db, l.b, &beta, dc, l.d, d_at, l.d,             \
                   &l.found.algo, room, room_bytes, NULL)
    assert_int_equal(AGAIN(da, l.found.workspaceSize - 1, dd), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(AGAIN(da + 1, 1 << 20, dd), CUBLAS_STATUS_NOT_SUPPORTED); /* 2 bytes, 4 were promised */
    assert_int_equal(AGAIN(da, 1 << 20, dd + 1), CUBLAS_STATUS_NOT_SUPPORTED); /* 4 bytes, 16 were */
    int count;
    const int64_t ld = M - 1;
    OK(cublasLtMatrixLayoutSetAttribute(l.d, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld));
    assert_int_equal(AGAIN(da, 1 << 20, dd), CUBLAS_STATUS_INVALID_VALUE);
    const cudaDataType f32 = CUDA_R_32F;
    const int64_t right = M;
    OK(cublasLtMatrixLayoutSetAttribute(l.d, CUBLASLT_MATRIX_LAYOUT_LD, &right, sizeof right));
    OK(cublasLtMatrixLayoutSetAttribute(l.b, CUBLASLT_MATRIX_LAYOUT_TYPE, &f32, sizeof f32));
    assert_int_equal(cublasLtMatmulAlgoGetHeuristic(l.handle, l.operation, l.a, l.b, l.d, l.d, l.preference,
                                                    1, &l.found, &count),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(count, 0);
    lt_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late),     cmocka_unit_test(test_order),  cmocka_unit_test(test_events),
        cmocka_unit_test(test_graph),    cmocka_unit_test(test_forked), cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_launches), cmocka_unit_test(test_memory), cmocka_unit_test(test_product),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
