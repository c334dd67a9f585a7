/* Fused backward pass and update, on a step made for it and on a whole UNet. Breaks if a weight moved while
 * something of the step still reads it (another layer's gradient, a block that is computed again), if
 * gradients that are there at the same time shared memory or took more than that, or if the steps were others
 * than PyTorch's with hooks that clip and step each tensor by itself. */
#include "tests/far/far.h"
#include "tests/infer/golden.h"

#include "infer/models/parts.h"
#include "kernels/base/random.h"
#include "kernels/op.h"
#include "train/step/fused.h"
#include "train/step/optimizer.h"

#include <signal.h>

static const Device *dev;

/* A step of four layers --------------------------------------------------------------------------------- */

enum { ROWS = 4, WIDTH = 40, FLOATS = ROWS * WIDTH, LAYERS = 4, TENSORS = 5 };
enum { A, B, C, D }; /* A has a bias too; nothing reads D */

typedef struct Net {
    Layer layers[LAYERS];
    Parameters p;
    Parameter items[TENSORS];
    Segment segments[TENSORS];
    Config config;
    Ctx *c;
    float x[FLOATS], target[FLOATS], loss;
    bool rises, breaks; /* on the way back, behind C: the flag; the gradient */
    volatile sig_atomic_t flag;
} Net;

static void trouble(Ctx *c, Node *n)
{
    Net *net = (Net *)n->arg;
    op_begin(c, "trouble backward", NULL);
    op_use(c, n->out->grad);
    net->flag = net->flag || (net->rises && c->live);
    if (net->breaks)
        RUN(c, c->dev->fill(n->out->grad, NAN));
    grad_pass(c, n->in[0], n->out->grad);
}

static Tensor *troubled(Ctx *c, Net *net, Tensor *x)
{
    op_begin(c, "trouble", NULL);
    op_use(c, x);
    Tensor *y = ctx_tensor(c, x->dtype, x->ndim, x->shape);
    RUN(c, c->dev->copy(x, y));
    Node *n = tape_record(c, "trouble", NULL, y, x->requires_grad, trouble);
    if (n)
        n->in[0] = x, n->arg = net;
    return y;
}

/* B x, times what A says of x; A's share has no gradient. */
static Tensor *first_block(Ctx *c, const void *arg, Tensor **in, int n)
{
    const Net *net = arg;
    (void)n;
    Tensor *factor = linear(c, &net->layers[A], in[0]);
    factor->requires_grad = false;
    return multiply(c, linear(c, &net->layers[B], in[0]), factor);
}

/* C A x */
static Tensor *second_block(Ctx *c, const void *arg, Tensor **in, int n)
{
    Net *net = (Net *)arg;
    (void)n;
    return linear(c, &net->layers[C], troubled(c, net, linear(c, &net->layers[A], in[0])));
}

/* On the way back A is added to in the second block and between the two, and is read once more when the first
 * is computed again. */
static void net_step(Ctx *c, void *arg)
{
    Net *net = arg;
    const int64_t shape[] = {ROWS, WIDTH};
    Tensor *x = ctx_input(c, DTYPE_F32, 2, shape, net->x),
           *target = ctx_input(c, DTYPE_F32, 2, shape, net->target);
    Tensor *h = checkpointed(c, first_block, net, &x, 1);
    Tensor *between = linear(c, &net->layers[A], h);
    Tensor *loss = mse_loss(c, checkpointed(c, second_block, net, &between, 1), target, NULL, NULL);
    ctx_read(c, loss, &net->loss);
    ctx_backward(c, loss, 1);
}

static void add_tensor(Net *net, Tensor **t, int ndim)
{
    Parameters *p = &net->p;
    float numbers[WIDTH * WIDTH];
    const int64_t n = ndim == 2 ? WIDTH * WIDTH : WIDTH;
    *t = flat_take(&p->flat, ndim, (int64_t[]){WIDTH, WIDTH});
    assert_non_null(*t);
    for (int64_t i = 0; i < n; i++)
        numbers[i] = (float)((i * 7919 + p->count * 131) % 2003 - 1001) / 4004;
    assert_ok(tensor_put(*t, numbers, DTYPE_F32));
    net->items[p->count] = (Parameter){mem_printf("tensor %d", p->count), *t};
    net->segments[p->count++] = (Segment){p->placed, n, 0};
    p->placed += flat_room(n);
}

static Net *net_new(bool fused, int kind, double clip)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    Net *net = mem_calloc(1, sizeof *net);
    Parameters *p = &net->p;
    const int64_t size = LAYERS * flat_room(WIDTH * WIDTH) + flat_room(WIDTH);
    net->config = (Config){.optimizer = {.lr = 1e-2, .kind = kind, .settings = {0.1, 0.9, 0.999, 1e-3}},
                           .train = {.max_grad_norm = (float)clip, .ema = 0.9f}};
    *p = (Parameters){
        .dev = dev, .optimizer = optimizer_at(kind), .items = net->items, .segments = net->segments};
    assert_ok((fused ? flat_new_apart : flat_new)(&p->flat, dev, NULL, size, false));
    for (int i = 0; i < LAYERS; i++) {
        net->layers[i].name = names[i];
        add_tensor(net, &net->layers[i].weight, 2);
        if (i == A)
            add_tensor(net, &net->layers[i].bias, 1);
    }
    assert_ok(share_new(comm_alone(), p->segments, p->count, size, &p->share));
    p->numbers = dev->memory_new(sizeof *p->numbers);
    assert_ok(dev->clear(p->numbers, sizeof *p->numbers));
    for (int i = 0; i < 2; i++)
        p->states[i] = p->optimizer->codes ? flat_beside(&p->flat, DTYPE_U8, 4 * size)
                                           : flat_beside(&p->flat, DTYPE_F32, size);
    p->averages = flat_beside(&p->flat, DTYPE_F32, size);
    const Update u = optimizer_update(&net->config, p, 1, 3, 1, NULL);
    assert_ok(dev->update_scratch(&u, &p->scratch_bytes));
    p->scratch = p->scratch_bytes ? dev->memory_new(p->scratch_bytes) : NULL;
    net->c = ctx_new(dev, &(CtxOptions){.dtype = DTYPE_F32, .threads = 1, .stop = &net->flag});
    ctx_set_checkpointing(net->c, CHECKPOINTING_WHOLE);
    ctx_set_capture(net->c, true);
    for (int i = 0; i < FLOATS; i++) {
        net->x[i] = (float)(i * 31 % 17 - 8) / 8;
        net->target[i] = (float)(i * 13 % 19 - 9) / 9;
    }
    return net;
}

static void net_free(Net *net)
{
    Parameters *p = &net->p;
    ctx_free(net->c);
    if (p->recording)
        dev->forget(p->recording);
    for (int i = 0; i < p->count; i++) {
        tensor_free(p->items[i].weight);
        mem_free(p->items[i].name);
    }
    for (int i = 0; i < 2; i++)
        flat_block_free(&p->flat, p->states[i]);
    flat_block_free(&p->flat, p->averages);
    flat_free(&p->flat);
    dev->memory_free(p->numbers, sizeof *p->numbers);
    dev->memory_free(p->scratch, p->scratch_bytes);
    share_free(&p->share);
    mem_free(net);
}

static Status fused_step(Net *net, Fused *f, const Plan *plan, int step, UpdateNumbers *numbers)
{
    const Update u = optimizer_update(&net->config, &net->p, step, 3, 1, NULL);
    assert_ok(parameters_zero_gradients(&net->p));
    fused_begin(f, &u);
    TRY(fused_end(f, ctx_run(net->c, plan, net_step, net)));
    return optimizer_collect(&net->p, numbers);
}

static void assert_same_block(const Tensor *a, const Tensor *b)
{
    void *x = mem_alloc(tensor_bytes(a)), *y = mem_alloc(tensor_bytes(b));
    assert_int_equal(tensor_bytes(a), tensor_bytes(b));
    assert_ok(tensor_get(a, x, a->dtype));
    assert_ok(tensor_get(b, y, b->dtype));
    assert_memory_equal(x, y, tensor_bytes(a));
    mem_free(x);
    mem_free(y);
}

static void assert_same_state(const Net *a, const Net *b)
{
    assert_same_block(a->p.flat.weights, b->p.flat.weights);
    assert_same_block(a->p.averages, b->p.averages);
    for (int i = 0; i < 2; i++)
        assert_same_block(a->p.states[i], b->p.states[i]);
}

/* Nothing is clipped: what moves them, and when, is no different to any of the numbers. */
static void weights_move_when_nothing_reads_them_any_more(void **state)
{
    (void)state;
    for (int kind = 0; optimizer_at(kind); kind++) {
        Net *after = net_new(false, kind, 0), *fused = net_new(true, kind, 0);
        Fused *f;
        Plan *plans[2];
        assert_ok(fused_new(fused->c, &fused->p, net_step, fused, &f));
        assert_ok(ctx_rehearse(after->c, net_step, after, &plans[0]));
        assert_ok(ctx_rehearse(fused->c, net_step, fused, &plans[1]));
        for (int step = 1; step <= 3; step++) {
            UpdateNumbers a, b;
            assert_ok(parameters_zero_gradients(&after->p));
            assert_ok(ctx_run(after->c, plans[0], net_step, after));
            assert_ok(optimizer_step(&after->config, &after->p, step, 3, 1, NULL, &a));
            assert_ok(fused_step(fused, f, plans[1], step, &b));
            assert_true(after->loss == fused->loss);
            assert_same_state(after, fused);
            assert_float_equal(a.norm, b.norm, 1e-9 * a.norm);
            assert_float_equal(a.moved.unet, b.moved.unet, 1e-9 * a.moved.unet);
            assert_null(b.broken);
            assert_int_equal(fused->p.updates, step);
            assert_true(!dev->record || step == 1 || ctx_replayed(fused->c));
        }
        plan_free(plans[0]);
        plan_free(plans[1]);
        fused_free(f);
        net_free(after);
        net_free(fused);
    }
}

/* A is there from its first gradient to the end, with B and after that with D, which nothing reads; C is
 * there before it. */
static void gradients_take_no_more_than_what_is_there_at_once(void **state)
{
    (void)state;
    Net *net = net_new(true, 0, 0);
    Fused *f;
    const size_t one = WIDTH * WIDTH * sizeof(float),
                 bias = (WIDTH * sizeof(float) + dev->alignment - 1) / dev->alignment * dev->alignment;
    assert_ok(fused_new(net->c, &net->p, net_step, net, &f));
    assert_int_equal(fused_bytes(f), 2 * one + bias);
    assert_int_equal(tensor_bytes(net->p.flat.gradients), fused_bytes(f));
    const char *at[LAYERS];
    for (int i = 0; i < LAYERS; i++)
        at[i] = net->layers[i].weight->grad->data;
    assert_true(labs(at[A] - at[B]) >= (long)one);
    assert_true(labs(at[A] - at[D]) >= (long)one);
    fused_free(f);
    net_free(net);
}

/* Before a weight has moved a step ends at once where it is asked to, and after that as a whole one. */
static void a_step_that_moves_weights_is_not_stopped(void **state)
{
    (void)state;
    Net *net = net_new(true, 0, 1);
    UpdateNumbers numbers;
    Fused *f;
    assert_ok(fused_new(net->c, &net->p, net_step, net, &f));
    net->flag = 1;
    assert_int_equal(fused_step(net, f, NULL, 1, &numbers), STATUS_INTERRUPTED);
    assert_false(net->p.torn);
    net->flag = 0;
    net->rises = true;
    assert_ok(fused_step(net, f, NULL, 1, &numbers));
    assert_true(net->flag);
    assert_true(net->p.torn);
    assert_int_equal(net->p.updates, 1);
    fused_free(f);
    net_free(net);
}

static void read_all(const Net *net, float out[LAYERS][WIDTH * WIDTH])
{
    for (int i = 0; i < LAYERS; i++)
        assert_ok(tensor_get(net->layers[i].weight, out[i], DTYPE_F32));
}

/* C has moved before a gradient is not finite, which is B's, and nothing moves after it. */
static void a_broken_gradient_ends_the_moving(void **state)
{
    (void)state;
    static float before[LAYERS][WIDTH * WIDTH], after[LAYERS][WIDTH * WIDTH];
    Net *net = net_new(true, 0, 1);
    UpdateNumbers numbers;
    Fused *f;
    assert_ok(fused_new(net->c, &net->p, net_step, net, &f));
    net->breaks = true;
    read_all(net, before);
    assert_ok(fused_step(net, f, NULL, 1, &numbers));
    read_all(net, after);
    assert_false(isfinite(numbers.norm));
    assert_string_equal(numbers.broken, "tensor 2");
    for (int i = 0; i < LAYERS; i++)
        assert_int_equal(memcmp(before[i], after[i], sizeof before[i]) != 0, i == C);
    assert_true(net->p.torn);
    assert_int_equal(net->p.updates, 0);
    fused_free(f);
    net_free(net);
}

/* PyTorch ------------------------------------------------------------------------------------------------ */

enum { LATENT = 4 * 16 * 16, PICTURES = 2 };

typedef struct Golden {
    Model *model;
    TensorFile *text, *steps; /* of the model, and of this test */
    float noisy[PICTURES * LATENT], noise[PICTURES * LATENT], t[PICTURES], loss;
} Golden;

static void unet_step(Ctx *c, void *arg)
{
    Golden *g = arg;
    const int64_t shape[] = {PICTURES, 4, 16, 16};
    Tensor *x = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, g->noisy));
    Tensor *target = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, g->noise));
    Tensor *t = ctx_input(c, DTYPE_F32, 1, (int64_t[]){PICTURES}, g->t);
    const Conditioning text = {.states = golden_input(c, golden(g->text, "clip.out"))};
    Tensor *loss = mse_loss(c, unet_forward(c, g->model->unet, x, t, &text), target, NULL, NULL);
    ctx_read(c, loss, &g->loss);
    ctx_backward(c, loss, 1);
}

static void draw(int seed, float *out, int64_t n)
{
    TorchRandom random;
    torch_seed(&random, (uint64_t)seed);
    torch_randn(&random, out, (size_t)n);
}

static void fill_step(Golden *g, int k)
{
    static float x0[PICTURES * LATENT];
    int32_t t[PICTURES];
    memcpy(t, (const char *)golden(g->steps, "t")->data + (size_t)k * sizeof t, sizeof t);
    draw(7, x0, PICTURES * LATENT);
    draw(1000 + k, g->noise, PICTURES * LATENT);
    for (int i = 0; i < PICTURES * LATENT; i++) {
        const float a = (float)g->model->schedule.alphas_cumprod[t[i / LATENT]];
        g->t[i / LATENT] = (float)t[i / LATENT];
        g->noisy[i] = sqrtf(a) * x0[i] + sqrtf(1 - a) * g->noise[i];
    }
}

static int item_of(const Parameters *p, const char *name)
{
    char *full = mem_printf("unet.%s", name);
    int i = 0;
    while (i < p->count && strcmp(p->items[i].name, full) != 0)
        i++;
    assert_true(i < p->count);
    mem_free(full);
    return i;
}

/* The norm of a weight's change and the sum of its product with N(0,1): an error e of the change is an error
 * of about |e| in either. */
static void check_change(const Golden *g, const Parameters *p, const float *before, const char *name,
                         int number)
{
    const int i = item_of(p, name);
    const int64_t n = p->segments[i].count;
    float *now = mem_alloc((size_t)n * sizeof *now), *random = mem_alloc((size_t)n * sizeof *random), want[2];
    memcpy(want, (const char *)golden(g->steps, "change")->data + (size_t)number * sizeof want, sizeof want);
    assert_ok(tensor_get(p->items[i].weight, now, DTYPE_F32));
    draw(number, random, n);
    double norm = 0, sum = 0;
    for (int64_t k = 0; k < n; k++) {
        const double d = (double)now[k] - (double)before[p->segments[i].first + k];
        norm += d * d;
        sum += d * (double)random[k];
    }
    const double tolerance = 1e-3 * (double)want[0];
    if (!(fabs(sqrt(norm) - (double)want[0]) <= tolerance && fabs(sum - (double)want[1]) <= 3 * tolerance))
        fail_msg("%s: its change has norm %.7g and sum %.7g, PyTorch's has %.7g and %.7g", name, sqrt(norm),
                 sum, (double)want[0], (double)want[1]);
    mem_free(now);
    mem_free(random);
}

static void four_steps_are_those_of_pytorch_with_hooks(void **state)
{
    (void)state;
    static Golden g;
    Config config = {.method = {.kind = METHOD_FULL}, .train = {.fused_backward = true}};
    config.optimizer.lr = 1e-3;
    config.optimizer.settings =
        (OptimizerSettings){.weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 0.01};
    g.text = golden_open("models/sd1.safetensors");
    g.steps = golden_open("fused.safetensors");
    config.train.max_grad_norm = (float)atof(tensorfile_metadata(g.steps, "clip"));
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &g.model));
    assert_ok(model_place(g.model, dev));
    Ctx *c = ctx_new(dev, &(CtxOptions){.dtype = DTYPE_F32, .threads = 2});
    Parameters *p;
    Fused *f;
    Plan *plan;
    assert_ok(parameters_new(&config, dev, comm_alone(), g.model, &p));
    assert_ok(fused_new(c, p, unet_step, &g, &f));
    assert_true(fused_bytes(f) < parameters_block_bytes(p) / 8);
    assert_ok(ctx_rehearse(c, unet_step, &g, &plan));
    float *before = mem_alloc(tensor_bytes(p->flat.weights)),
          *losses = golden_floats(golden(g.steps, "loss"));
    assert_ok(tensor_get(p->flat.weights, before, DTYPE_F32));
    for (int k = 0; k < 4; k++) {
        const Update u = optimizer_update(&config, p, k + 1, 4, 1, NULL);
        UpdateNumbers numbers;
        fill_step(&g, k);
        assert_ok(parameters_zero_gradients(p));
        fused_begin(f, &u);
        assert_ok(fused_end(f, ctx_run(c, plan, unet_step, &g)));
        assert_ok(optimizer_collect(p, &numbers));
        assert_float_equal(g.loss, losses[k], 1e-5);
    }
    char *names = mem_strdup(tensorfile_metadata(g.steps, "names")), *rest = names;
    int number = 0;
    for (char *name; (name = strsep(&rest, "\n")); number++)
        check_change(&g, p, before, name, number);
    assert_int_equal(number, p->count);
    mem_free(names);
    mem_free(before);
    mem_free(losses);
    plan_free(plan);
    fused_free(f);
    parameters_free(p);
    ctx_free(c);
    model_free(g.model);
    tensorfile_close(g.text);
    tensorfile_close(g.steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_move_when_nothing_reads_them_any_more),
        cmocka_unit_test(gradients_take_no_more_than_what_is_there_at_once),
        cmocka_unit_test(a_step_that_moves_weights_is_not_stopped),
        cmocka_unit_test(a_broken_gradient_ends_the_moving),
        cmocka_unit_test(four_steps_are_those_of_pytorch_with_hooks),
    };
    dev = test_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
