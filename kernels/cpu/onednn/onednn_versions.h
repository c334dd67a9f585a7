/* What oneDNN 2 and 3 do differently, behind one set of functions; for onednn.c alone.
 *
 * oneDNN 2 describes an operation in a struct and a memory layout in another; oneDNN 3 has neither, only
 * objects. */
#ifndef ATL_CPU_ONEDNN_VERSIONS_H
#define ATL_CPU_ONEDNN_VERSIONS_H

#include "onednn.h"

#include <dnnl.h>
#include <string.h>

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t Layout; /* owned */
typedef const_dnnl_memory_desc_t LayoutRef;

static LayoutRef ref(const Layout *l)
{
    return *l;
}
static dnnl_status_t layout_strides(Layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type,
                                    const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(l, n, dims, type, strides);
}
static dnnl_status_t layout_tag(Layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type,
                                dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(l, n, dims, type, tag);
}
static dnnl_status_t layout_copy(Layout *l, LayoutRef from)
{
    return dnnl_memory_desc_clone(l, from);
}
static void layout_free(Layout *l)
{
    if (*l)
        dnnl_memory_desc_destroy(*l);
    *l = NULL;
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops, float beta)
{
    return dnnl_post_ops_append_sum(ops, beta, 0, dnnl_data_type_undef);
}
static dnnl_status_t append_factor(dnnl_post_ops_t ops, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, alpha, 0);
}
static dnnl_status_t matmul_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, LayoutRef a, LayoutRef b,
                                 LayoutRef bias, LayoutRef y, const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, a, b, bias, y, attr);
}
static dnnl_status_t conv_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OneConvKind kind, LayoutRef x,
                               LayoutRef w, LayoutRef bias, LayoutRef y, const dnnl_dims_t strides,
                               const dnnl_dims_t before, const dnnl_dims_t after,
                               const_dnnl_primitive_desc_t forward, const_dnnl_primitive_attr_t attr)
{
    if (kind == ONE_FORWARD)
        return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_training,
                                                              dnnl_convolution_direct, x, w, bias, y, strides,
                                                              NULL, before, after, attr);
    if (kind == ONE_BACKWARD_DATA)
        return dnnl_convolution_backward_data_primitive_desc_create(
            pd, engine, dnnl_convolution_direct, x, w, y, strides, NULL, before, after, forward, attr);
    return dnnl_convolution_backward_weights_primitive_desc_create(
        pd, engine, dnnl_convolution_direct, x, w, bias, y, strides, NULL, before, after, forward, attr);
}

#else

typedef dnnl_memory_desc_t Layout;
typedef const dnnl_memory_desc_t *LayoutRef;

static LayoutRef ref(const Layout *l)
{
    return l->ndims ? l : NULL;
}
static dnnl_status_t layout_strides(Layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type,
                                    const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(l, n, dims, type, strides);
}
static dnnl_status_t layout_tag(Layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t type,
                                dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(l, n, dims, type, tag);
}
static dnnl_status_t layout_copy(Layout *l, LayoutRef from)
{
    *l = *from;
    return dnnl_success;
}
static void layout_free(Layout *l)
{
    memset(l, 0, sizeof *l);
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops, float beta)
{
    return dnnl_post_ops_append_sum(ops, beta);
}
static dnnl_status_t append_factor(dnnl_post_ops_t ops, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_linear, alpha, 0);
}
static dnnl_status_t matmul_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, LayoutRef a, LayoutRef b,
                                 LayoutRef bias, LayoutRef y, const_dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    const dnnl_status_t s = dnnl_matmul_desc_init(&d, a, b, bias, y);
    return s ? s : dnnl_primitive_desc_create(pd, &d, attr, engine, NULL);
}
static dnnl_status_t conv_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OneConvKind kind, LayoutRef x,
                               LayoutRef w, LayoutRef bias, LayoutRef y, const dnnl_dims_t strides,
                               const dnnl_dims_t before, const dnnl_dims_t after,
                               const_dnnl_primitive_desc_t forward, const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t d;
    dnnl_status_t s;
    if (kind == ONE_FORWARD)
        s = dnnl_convolution_forward_desc_init(&d, dnnl_forward_training, dnnl_convolution_direct, x, w, bias,
                                               y, strides, before, after);
    else if (kind == ONE_BACKWARD_DATA)
        s = dnnl_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, x, w, y, strides, before,
                                                     after);
    else
        s = dnnl_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, x, w, bias, y, strides,
                                                        before, after);
    return s ? s : dnnl_primitive_desc_create(pd, &d, attr, engine, forward);
}

#endif

#endif
