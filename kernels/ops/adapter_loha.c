/* LoHa: the Hadamard product of two low-rank matrices (FedPara, Hyeon-Woo et al. 2022), as LyCORIS has it.
 *
 *     ΔW = scale (w1_a w1_b) ⊙ (w2_a w2_b)          a (out,r)  b (r,in·kh·kw)
 *
 * Backward, with G = grad ΔW: the gradient of w1_a w1_b is scale G ⊙ (w2_a w2_b), and the other way round. */
#include "adapter.h"

#include "kernels/op.h"

static Status check_half(const Adapter *a, int first, const Tensor *w)
{
    char l[80], r[80];
    const Tensor *left = a->tensors[first], *right = a->tensors[first + 1];
    if (!left || !right)
        return status_fail("there is no %s part", adapter_loha.roles[left ? first + 1 : first]);
    const Matrix m = weight_matrix(left), n = weight_matrix(right), layer = weight_matrix(w);
    if (m.rows != layer.rows || m.columns < 1 || n.rows != m.columns || n.columns != layer.columns)
        return status_fail(
            "%s %s and %s %s do not fit the model's weight of (%lld,%lld); was this made for another model?",
            adapter_loha.roles[first], tensor_describe(left, l, sizeof l), adapter_loha.roles[first + 1],
            tensor_describe(right, r, sizeof r), (long long)layer.rows, (long long)layer.columns);
    return STATUS_OK;
}

static Status check(const Adapter *a, const Tensor *w)
{
    TRY(check_half(a, LOHA_W1_A, w));
    return check_half(a, LOHA_W2_A, w);
}

static int64_t rank(const Adapter *a)
{
    return a->tensors[LOHA_W1_B] ? a->tensors[LOHA_W1_B]->shape[0] : 0;
}

static Tensor *half(Ctx *c, const Adapter *a, int first, float factor)
{
    return delta_product(c, factor, a->tensors[first], a->tensors[first + 1]);
}

static Tensor *delta(Ctx *c, const Adapter *a, const Tensor *w)
{
    const Tensor *first = half(c, a, LOHA_W1_A, a->scale), *second = half(c, a, LOHA_W2_A, 1);
    Tensor *y = ctx_tensor(c, DTYPE_F32, w->ndim, w->shape);
    op_use(c, first), op_use(c, second);
    RUN(c, c->dev->multiply(first, second, y));
    return y;
}

static void delta_backward(Ctx *c, const Adapter *a, const Tensor *grad_delta)
{
    const Matrix g = weight_matrix(grad_delta);
    Tensor *part = delta_matrix(c, g.rows, g.columns);
    for (int first = LOHA_W1_A; first <= LOHA_W2_A; first += 2) {
        const Tensor *left = a->tensors[first], *right = a->tensors[first + 1];
        if (!left->requires_grad && !right->requires_grad)
            continue;
        const Tensor *other = half(c, a, first == LOHA_W1_A ? LOHA_W2_A : LOHA_W1_A, a->scale);
        op_use(c, grad_delta), op_use(c, other), op_use(c, part);
        RUN(c, c->dev->multiply(grad_delta, other, part));
        delta_product_backward(c, left, right, part);
    }
}

const AdapterKind adapter_loha = {
    .name = "loha",
    .title = "LoHa",
    .roles = {[LOHA_W1_A] = "w1_a", [LOHA_W1_B] = "w1_b", [LOHA_W2_A] = "w2_a", [LOHA_W2_B] = "w2_b"},
    .check = check,
    .rank = rank,
    .delta = delta,
    .delta_backward = delta_backward,
};
