#include "cards.h"

#include "kernels/base/clock.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/ctx.h"
#include "kernels/devices/devices.h"
#include "kernels/ops.h"
#include "capacity.h"

#include <string.h>

/* Cards that have so much memory, not the fastest ones that do. Multiprocessors and boost clock are those of
 * NVIDIA's specification pages. */
typedef struct Card {
    int gigabytes;
    const char *name;
    int multiprocessors, megahertz;
} Card;
static const Card CARDS[] = {{8, "RTX 4060", 24, 2460},
                             {12, "RTX 3060", 28, 1777},
                             {16, "RTX 4060 Ti", 34, 2535},
                             {24, "RTX 3090", 82, 1695}};
/* FLOP a clock of a GeForce's multiprocessor of either generation: 16-bit products with f32 sums, dense, four
 * tensor cores of 128 FMA at the half rate that such sums have there. With it the RTX 3090 has the 71 TFLOPS
 * of NVIDIA's "Ampere GA102 GPU Architecture" (v2, 2021, appendix A), and the RTX 4090 (128 at 2520 MHz) the
 * 165 of "Ada GPU Architecture" (2022, appendix A). */
#define FLOP_A_CLOCK 512.0

#define SHARE_GPU 0.5      /* of the peak, that a whole step is taken to reach */
#define SHARE_CPU 0.75     /* of a large product's rate, measured here */
#define DRIVER_BYTES 0.5e9 /* that a GPU's driver and a screen have for themselves */
#define SYSTEM_BYTES 1e9   /* and on the processor everything else */
#define GIGA (double)(1024 * 1024 * 1024)

/* How fast the processor is --------------------------------------------------------------------------------
 */

enum { ROWS = 1024, IN = 1280, OUT = 1280, PRODUCTS = 8 };

static void products(Ctx *c, void *layer)
{
    Tensor *x = ctx_zeros(c, c->dtype, 2, (const int64_t[]){ROWS, IN});
    for (int i = 0; i < PRODUCTS; i++)
        x = linear(c, layer, x);
}

/* FLOP a second of large products in bf16 storage; the first round makes the library's code. */
static Status measure(const Device *dev, double *rate)
{
    Status s = STATUS_FAILED;
    Ctx *c = ctx_new(dev, &(CtxOptions){.dtype = DTYPE_BF16});
    Layer l = {.name = "product", .weight = tensor_new(DTYPE_BF16, 2, (const int64_t[]){OUT, IN})};
    double seconds = 0;
    if (c && l.weight) {
        memset(l.weight->data, 0, tensor_bytes(l.weight));
        s = ctx_run(c, NULL, products, &l);
        const double began = seconds_now();
        if (s == STATUS_OK)
            s = ctx_run(c, NULL, products, &l);
        seconds = seconds_now() - began;
    }
    *rate = 2.0 * ROWS * IN * OUT * PRODUCTS / seconds;
    tensor_free(l.weight);
    ctx_free(c);
    return s;
}

/* The facts ------------------------------------------------------------------------------------------------
 */

/* What takes bytes of the device's memory, and of this machine's. */
static json_t *way_facts(const Capacity *c, CapacityWork work, double bytes, double rate)
{
    json_t *o = json_object();
    const size_t host = machine_total_bytes();
    const CapacityWay *w = capacity_within(c, work, (size_t)bytes, host ? host : SIZE_MAX);
    if (!w) {
        w = capacity_least(c, work);
        json_object_set_new(o, "fits", json_false());
        json_object_set_new(o, "least", json_string(w->settings));
    } else {
        json_object_set_new(o, "with", json_string(w->settings));
        json_object_set_new(o, "seconds", json_real(capacity_seconds(w, rate)));
    }
    json_object_set_new(o, "takes_bytes", json_integer((json_int_t)w->bytes));
    if (w->host)
        json_object_set_new(o, "of_the_machine_bytes", json_integer((json_int_t)w->host));
    return o;
}

static json_t *size_facts(const Capacity *c, const Card *card, const Device *dev, double rate)
{
    static const char *const WORKS[] = {"a picture", "a step of a LoRA", "a step of the whole UNet"};
    json_t *o = json_object();
    const double all = card->gigabytes * GIGA;
    const double peak = FLOP_A_CLOCK * card->multiprocessors * card->megahertz * 1e6;
    json_object_set_new(o, "memory", json_sprintf("%d GB", card->gigabytes));
    if (!dev->host_memory)
        json_object_set_new(o, "such_as", json_string(card->name));
    for (int work = 0; work < CAPACITY_WORKS; work++)
        json_object_set_new(o, WORKS[work],
                            way_facts(c, (CapacityWork)work,
                                      all - (dev->host_memory ? SYSTEM_BYTES : DRIVER_BYTES),
                                      dev->host_memory ? rate : SHARE_GPU * peak));
    return o;
}

Status cards_facts(const char *model, const char *device, json_t *facts)
{
    const Device *dev;
    DType stored = DTYPE_BF16;
    double rate = 0;
    Capacity *c = mem_calloc(1, sizeof *c);
    Status s = c ? status_in(device_choose(device, &stored, &dev), "model info: --device") : STATUS_FAILED;
    if (s == STATUS_OK)
        s = capacity_of(model, dev, c);
    if (s == STATUS_OK && dev->host_memory)
        s = measure(dev, &rate);
    if (s == STATUS_OK) {
        json_t *list = json_array();
        for (size_t i = 0; i < sizeof CARDS / sizeof *CARDS; i++)
            json_array_append_new(list, size_facts(c, &CARDS[i], dev, SHARE_CPU * rate));
        json_object_set_new(facts, dev->host_memory ? "fits_without_a_GPU" : "fits_a_GPU", list);
    }
    mem_free(c);
    return s;
}
