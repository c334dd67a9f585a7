/* Loss scaling in f16. Breaks if small gradients were lost again on their way back, if the scale were found
 * in what comes out, or if an overflow ended a run, moved a weight, or were forgotten by a checkpoint. */
#include "runs.h"

#include "infer/files/tensor_file.h"
#include "train/plan/setup.h"
#include "train/run/resume.h"
#include "train/step/loss_scale.h"

static void the_numbers_are_those_of_pytorchs_scaler(void **state)
{
    (void)state;
    LossScale s = loss_scale_begin(DTYPE_F16, (LossScale){0});
    assert_true(s.on && s.factor == 65536 && s.good == 0);
    for (int i = 0; i < 1999; i++)
        loss_scale_grow(&s);
    assert_true(s.factor == 65536);
    loss_scale_grow(&s);
    assert_true(s.factor == 131072 && s.good == 0);
    loss_scale_grow(&s);
    assert_true(loss_scale_shrink(&s) && s.factor == 65536 && s.good == 0);
    for (int i = 0; i < 16; i++)
        assert_true(loss_scale_shrink(&s));
    assert_true(s.factor == 1);
    assert_false(loss_scale_shrink(&s)); /* nothing left that could have been to blame */
    s = loss_scale_begin(DTYPE_F16, (LossScale){.factor = 512, .good = 7, .on = true});
    assert_true(s.factor == 512 && s.good == 7);
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        s = loss_scale_begin((DType)type, (LossScale){.factor = 512, .good = 7, .on = true});
        for (int i = 0; i < 3000; i++)
            loss_scale_grow(&s);
        assert_true(!s.on && s.factor == 1 && !loss_scale_shrink(&s));
    }
}

/* Σ (a − b)² and Σ a² over the gradients of step 1, and how many of b's alone are 0. */
static void compare_gradients(const char *a, const char *b, double sums[2], int *zeros)
{
    TensorFile *files[2];
    const char *const names[] = {a, b};
    for (int i = 0; i < 2; i++) {
        char *path = mem_printf("%s/%s-trace/step-000001.safetensors", work, names[i]);
        assert_int_equal(tensorfile_open(path, &files[i]), STATUS_OK);
        mem_free(path);
    }
    sums[0] = sums[1] = *zeros = 0;
    for (int i = 0; i < tensorfile_count(files[0]); i++) {
        const TensorEntry *x = tensorfile_entry(files[0], i);
        if (strncmp(x->name, "grad.", 5) != 0)
            continue;
        const TensorEntry *y = tensorfile_find(files[1], x->name);
        assert_true(y && y->bytes == x->bytes);
        const float *p = x->data, *q = y->data;
        for (size_t k = 0; k < x->bytes / sizeof *p; k++) {
            sums[0] += ((double)p[k] - (double)q[k]) * ((double)p[k] - (double)q[k]);
            sums[1] += (double)p[k] * (double)p[k];
            *zeros += q[k] == 0 && p[k] != 0;
        }
    }
    tensorfile_close(files[0]);
    tensorfile_close(files[1]);
}

static void traced(const char *name, char *dtype)
{
    char *folder = mem_printf("%s/%s-trace", work, name);
    Config *config = config_for(name, SD1, dtype, "train.steps=1", "train.resolution=128", "train.batch=1",
                                "train.accumulate=2", "train.max_grad_norm=0.001", (char *)NULL);
    assert_int_equal(trainer_run(config, &(TrainOptions){.trace = folder, .trace_steps = 1}), STATUS_OK);
    config_free(config);
    mem_free(folder);
}

/* The larger the picture, the smaller each number's share of the loss: without scaling f16 was 10 % off at
 * 512×512 in the built-in model; here it is 0.19 %, with 32 numbers lost. */
static void small_gradients_are_kept(void **state)
{
    (void)state;
    traced("f32", "model.dtype=f32");
    traced("f16", "model.dtype=f16");
    double sums[2];
    int zeros;
    compare_gradients("f32", "f16", sums, &zeros);
    print_message("f16 gradients are %.3f %% off, %d are 0\n", 100 * sqrt(sums[0] / sums[1]), zeros);
    assert_true(sqrt(sums[0] / sums[1]) < 1e-3);
    assert_int_equal(zeros, 0);
    assert_float_equal(number("f16", 0, "grad_norm"), number("f32", 0, "grad_norm"),
                       1e-3 * number("f32", 0, "grad_norm"));
    assert_true(number("f16", 0, "loss_scale") == 65536);
    assert_true(isnan(number("f32", 0, "loss_scale")));
}

static void run_to(const char *name, char *steps)
{
    train(config_for(name, SD1, "model.dtype=f16", "optimizer.schedule=constant", "output.save_every=1",
                     "output.keep=9", "train.ema=0.9", steps, (char *)NULL),
          "auto");
}

/* Sets the scale in the checkpoint of a run's step, as if it had come to that. */
static void set_scale(const char *name, int step, double was, double factor, int good)
{
    leave_out_sums(name, step);
    char *path = mem_printf("%s/%s/checkpoints/step-%06d/state.json", work, name, step);
    json_t *j = json_load_file(path, 0, NULL);
    assert_true(json_number_value(json_object_get(j, "loss_scale")) == was);
    json_object_set_new(j, "loss_scale", json_real(factor));
    json_object_set_new(j, "loss_scale_good", json_integer(good));
    assert_int_equal(json_dump_file(j, path, 0), 0);
    json_decref(j);
    mem_free(path);
    unfinish(name);
}

static void assert_same_state(const char *a, int step, const char *b, int other)
{
    static const char *const files[] = {"weights", "optimizer", "ema"};
    for (int i = 0; i < 3; i++) {
        char *x = mem_printf("%s/%s/checkpoints/step-%06d/%s.safetensors", work, a, step, files[i]),
             *y = mem_printf("%s/%s/checkpoints/step-%06d/%s.safetensors", work, b, other, files[i]), *p, *q;
        size_t m, n;
        assert_int_equal(file_read(x, 1 << 24, &p, &m), STATUS_OK);
        assert_int_equal(file_read(y, 1 << 24, &q, &n), STATUS_OK);
        if (m != n || memcmp(p, q, n) != 0)
            fail_msg("%s and %s differ", x, y);
        mem_free(p);
        mem_free(q);
        mem_free(x);
        mem_free(y);
    }
}

/* 2^60 overflows; it is halved until it does not, and nothing of those steps is in the weights, the moments,
 * their corrections or the averages. */
static void an_overflow_skips_the_update_and_the_run_goes_on(void **state)
{
    (void)state;
    static const char *const names[] = {"whole", "pieces"};
    for (int i = 0; i < 2; i++) {
        run_to(names[i], "train.steps=2");
        set_scale(names[i], 2, 65536, 0x1p60, 5);
    }
    run_to("whole", "train.steps=7");
    assert_same_state("whole", 2, "whole", 3);
    assert_same_state("whole", 2, "whole", 4);
    for (int line = 2; line < 7; line++) {
        assert_float_equal(number("whole", line, "loss_scale") / ldexp(1, 61 - line), 1, 1e-8);
        assert_true(number("whole", line, "skipped") == line - 1);
        assert_true(isnan(number("whole", line, "grad_norm")));
        assert_true(number("whole", line, "change_norm") == number("whole", 1, "change_norm"));
    }
    run_to("pieces", "train.steps=4");
    unfinish("pieces");
    run_to("pieces", "train.steps=7");
    assert_same_state("whole", 7, "pieces", 7);
    /* where it fits again, the third update is the third */
    set_scale("whole", 7, 0x1p55, 1024, 0);
    set_scale("pieces", 7, 0x1p55, 1024, 0);
    run_to("whole", "train.steps=8");
    run_to("pieces", "train.steps=8");
    assert_same_state("whole", 8, "pieces", 8);
    assert_true(number("whole", 7, "updates") == 3);
    assert_true(number("whole", 7, "update_norm") > 0);
}

static void two_thousand_good_updates_double_it(void **state)
{
    (void)state;
    run_to("grow", "train.steps=1");
    set_scale("grow", 1, 65536, 1024, LOSS_SCALE_PATIENCE - 2);
    run_to("grow", "train.steps=4");
    assert_true(number("grow", 1, "loss_scale") == 1024);
    assert_true(number("grow", 2, "loss_scale") == 2048);
    assert_true(number("grow", 3, "loss_scale") == 2048);
}

/* tests/cuda's card as one of Turing, which has no bf16 (or the machine's own GPU): a run that asks for bf16
 * there is one of f16, and is gone on with as that. */
static void a_run_in_bf16_is_one_in_f16_where_there_is_no_bf16(void **state)
{
    (void)state;
    bool finished, begun;
    const Device *dev;
    run_to("turing", "train.steps=1");
    unfinish("turing");
    Config *config =
        config_for("turing", SD1, "model.dtype=bf16", "train.device=cuda", "optimizer.schedule=constant",
                   "train.ema=0.9", "train.steps=1", (char *)NULL);
    if (setup_device(config, &dev) != STATUS_OK)
        skip();
    assert_int_equal(config->model.dtype, dev->lacks_bf16 ? DTYPE_F16 : DTYPE_BF16);
    config->model.dtype = DTYPE_BF16;
    const Status s = resume_check(config, "auto", CHECKPOINT_ANY, false, &finished, &begun);
    if (dev->lacks_bf16 && s != STATUS_OK)
        fail_msg("%s", status_message());
    if (dev->lacks_bf16)
        assert_int_equal(config->model.dtype, DTYPE_F16);
    else
        assert_non_null(strstr(status_message(), "model.dtype is bf16 and was f16"));
    config_free(config);
}

int main(void)
{
    setenv("ATELIER_STAND_IN_ARCH", "75", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_numbers_are_those_of_pytorchs_scaler),
        cmocka_unit_test(small_gradients_are_kept),
        cmocka_unit_test(an_overflow_skips_the_update_and_the_run_goes_on),
        cmocka_unit_test(two_thousand_good_updates_double_it),
        cmocka_unit_test(a_run_in_bf16_is_one_in_f16_where_there_is_no_bf16),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
