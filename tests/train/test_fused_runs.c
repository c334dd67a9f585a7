/* Whole runs with train.fused_backward. Breaks if a run that clips nothing came to other bytes than one that
 * moves its weights after the backward pass, if gradients were clipped by anything but their own norm or took
 * the memory of all, if a weight that is found broken in the middle of a step came into a checkpoint, or if
 * what does not go with it were no longer refused. */
#include "runs.h"

#include "train/plan/setup.h"

static const char *const after[] = {"train.fused_backward=false", "after"};
static const char *const fused[] = {"train.fused_backward=true", "fused"};

typedef struct Kind {
    const char *name, *settings[5], *files[5];
} Kind;

#define STATE "checkpoints/step-000004/weights.safetensors", "checkpoints/step-000004/optimizer.safetensors"
static const Kind kinds[] = {
    {"plain", {"train.checkpointing=off"}, {STATE, "model/unet/diffusion_pytorch_model.safetensors"}},
    {"texts",
     {"method.text_encoder=true", "optimizer.text_encoder_lr=1e-4", "train.ema=0.9"},
     {STATE, "checkpoints/step-000004/ema.safetensors", "model/text_encoder/model.safetensors"}},
    {"small", {"optimizer.kind=adamw8bit", "train.mode=minimal"}, {STATE}},
    {"bf16", {"model.dtype=bf16", "train.mode=balanced", "train.resolution=[32, 48]"}, {STATE}},
};

static void run(const Kind *k, const char *const how[2])
{
    char *name = mem_printf("%s-%s", k->name, how[1]);
    char *given[5];
    for (int i = 0; i < 5; i++)
        given[i] = k->settings[i] ? (char *)k->settings[i] : "train.seed=3";
    train(config_for(name, SD1, "method.kind=full", (char *)how[0], given[0], given[1], given[2], given[3],
                     given[4], "train.max_grad_norm=0", "train.steps=4", "validation.share=0.3",
                     "validation.every=2", "preview.prompts=[a cat]", "preview.steps=2", "preview.every=2",
                     "output.keep=3", (char *)NULL),
          NULL);
    mem_free(name);
}

static void without_clipping_the_bytes_are_those_of_an_update_at_the_end(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        run(&kinds[k], after);
        run(&kinds[k], fused);
        char *a = mem_printf("%s-after", kinds[k].name), *b = mem_printf("%s-fused", kinds[k].name);
        for (int i = 0; kinds[k].files[i]; i++)
            assert_same_file(a, b, kinds[k].files[i]);
        assert_same_file(a, b, "samples/step-000004.png");
        for (int i = 0; i < 4; i++) {
            assert_true(number(a, i, "loss") == number(b, i, "loss"));
            assert_float_equal(number(a, i, "grad_norm"), number(b, i, "grad_norm"),
                               1e-6 * number(a, i, "grad_norm"));
        }
        mem_free(a);
        mem_free(b);
    }
}

/* Two hundred tensors, each shortened to 1e-3: together their norm is no more than √200 times that. AdamW
 * moves by a gradient's sign in its first step, but with a large eps by what is left of it. */
static void each_gradient_is_clipped_by_its_own_norm(void **state)
{
    (void)state;
    static char *const norms[] = {"train.max_grad_norm=0", "train.max_grad_norm=1e-3"};
    double moved[2][2];
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < 2; i++) {
            char *name = mem_printf("clip-%d-%d", f, i);
            train(config_for(name, SD1, "method.kind=full", (char *)(f ? fused : after)[0], norms[i],
                             "train.steps=1", "optimizer.eps=1", "optimizer.weight_decay=0",
                             "output.save_every=1", (char *)NULL),
                  NULL);
            moved[f][i] = number(name, 0, "change_norm");
            mem_free(name);
        }
    assert_float_equal(moved[0][0], moved[1][0], 1e-9);
    assert_true(moved[0][1] < moved[1][1]); /* of one norm for all less is left */
    assert_true(moved[1][1] < moved[1][0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_clipping_the_bytes_are_those_of_an_update_at_the_end),
        cmocka_unit_test(each_gradient_is_clipped_by_its_own_norm),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
