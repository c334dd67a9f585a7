/* Convolutions through oneDNN: forward, gradient of the input, gradient of the weight.
 *
 * Arithmetic is bf16 where activations are and the processor computes it, else f32; operands of another type
 * are converted into scratch memory. Weights come in the files' order (K,C,kh,kw) and are put into oneDNN's:
 * once, kept in the layer, where they are frozen; at each call where they are trained. With AVX-512 oneDNN is
 * as fast on NHWC as on its own blocked layout; with AVX2 it is not (2.6: 81–159 GFLOP/s against 132–182 on
 * the same shapes), so there x and y pass through (B,C/8,H,W,8) in scratch memory, converting their type on
 * the way.
 *
 * The gradient of the input of a convolution of stride 1 is itself one, of grad y with the weight turned by
 * 180° and its channels swapped: oneDNN's forward is faster than its gradient (a third on SD1.5's shapes). */
#include "convert.h"
#include "families.h"
#include "floats.h"
#include "onednn.h"

#include "kernels/base/mem.h"

#include <string.h>

/* The three products of a layer have the same x, w and y; what differs is which are read and which written.
 */
typedef struct ConvPlan {
    OneConv d;
    OnePrimitive *p;
    bool turned;                         /* the gradient of the input as a convolution of grad y */
    bool convert_weight;                 /* the weight is widened to f32 before it is packed */
    bool move_x, move_y;                 /* x or y is not used where it is: another type or layout */
    size_t x_bytes, y_bytes, bias_bytes; /* their places in scratch memory */
    size_t plain_bytes, packed_bytes;    /* weight as converted, and in oneDNN's order */
    size_t total;
} ConvPlan;

static size_t picture_bytes(const Tensor *t, DType type)
{
    return aligned_bytes((size_t)tensor_count(t) * dtype_size(type));
}

/* Blocks of 8 channels pay where the product is large against moving x and y: oneDNN 2's AVX2 code only. */
static bool wants_blocks(const Conv *a)
{
    const int64_t C = a->x->shape[3], K = a->y->shape[3];
    return VL == 8 && C % 8 == 0 && K % 8 == 0 && C >= 32 && K >= 32;
}

/* A gradient of the input by a convolution of grad y: with stride 1, and no padding wider than the window. */
static bool can_turn(const Conv *a)
{
    const int64_t kh = a->w->shape[2], kw = a->w->shape[3];
    return a->s.stride == 1 && a->s.pad_top < kh && a->s.pad_bottom < kh && a->s.pad_left < kw &&
           a->s.pad_right < kw;
}

/* d, of the forward, as the convolution that takes grad y to grad x. */
static OneConv turned_conv(OneConv d)
{
    OneConv t = d;
    t.kind = ONE_FORWARD;
    t.h = d.oh, t.w = d.ow, t.c = d.k;
    t.oh = d.h, t.ow = d.w, t.k = d.c;
    t.pad_top = d.kh - 1 - d.pad_top, t.pad_bottom = d.kh - 1 - d.pad_bottom;
    t.pad_left = d.kw - 1 - d.pad_left, t.pad_right = d.kw - 1 - d.pad_right;
    return t;
}

static Status plan_conv(const Conv *a, OneConvKind kind, ConvPlan *plan)
{
    FLOATS_ONLY(a->x, a->w, a->bias, a->y);
    const Tensor *x = a->x, *y = a->y, *w = a->w;
    const DType read = kind == ONE_BACKWARD_DATA ? y->dtype : x->dtype;
    *plan = (ConvPlan){.d = {.kind = kind,
                             .b = x->shape[0],
                             .h = x->shape[1],
                             .w = x->shape[2],
                             .c = x->shape[3],
                             .k = y->shape[3],
                             .kh = w->shape[2],
                             .kw = w->shape[3],
                             .oh = y->shape[1],
                             .ow = y->shape[2],
                             .stride = a->s.stride,
                             .pad_top = a->s.pad_top,
                             .pad_left = a->s.pad_left,
                             .pad_bottom = a->s.pad_bottom,
                             .pad_right = a->s.pad_right,
                             .type = computes_bf16() && read == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32,
                             .bias = a->bias != NULL && kind != ONE_BACKWARD_DATA,
                             .blocked = wants_blocks(a)}};
    const DType type = plan->d.type;
    plan->turned = kind == ONE_BACKWARD_DATA && can_turn(a);
    if (plan->turned)
        plan->d = turned_conv(plan->d);
    TRY(onednn_conv(&plan->d, &plan->p));
    plan->move_x = x->dtype != type || plan->d.blocked;
    plan->move_y = y->dtype != type || plan->d.blocked;
    plan->x_bytes = plan->move_x ? picture_bytes(x, type) : 0;
    plan->y_bytes = plan->move_y ? picture_bytes(y, type) : 0;
    plan->packed_bytes = aligned_bytes(onednn_weight_bytes(plan->p));
    /* oneDNN's packing is fast from f32, and from bf16 to bf16 */
    plan->convert_weight = kind != ONE_BACKWARD_WEIGHT && w->dtype != DTYPE_F32 && w->dtype != type;
    plan->plain_bytes = plan->turned           ? aligned_bytes((size_t)tensor_count(w) * dtype_size(type))
                        : plan->convert_weight ? aligned_bytes((size_t)tensor_count(w) * 4)
                                               : 0;
    if (plan->d.bias && (kind == ONE_BACKWARD_WEIGHT || a->bias->dtype != DTYPE_F32))
        plan->bias_bytes = aligned_bytes((size_t)tensor_count(a->bias) * 4);
    plan->total = plan->x_bytes + plan->y_bytes + plan->bias_bytes + plan->plain_bytes + plan->packed_bytes +
                  onednn_scratch_bytes(plan->p);
    return STATUS_OK;
}

/* Moving pictures -------------------------------------------------------------------------------------- */

/* (B,H,W,C) of any type <-> (B,C/8,H,W,8) in f32: a row of pixels at a time. */
typedef struct Move {
    void *nhwc;
    float *blocked;
    DType type;
    int64_t pixels, C; /* of one picture */
    bool back;
} Move;

enum { MOVE_PIXELS = 64 };

static void move_piece(const void *args, int64_t first, int64_t last)
{
    const Move *m = args;
    const int64_t runs = (m->pixels + MOVE_PIXELS - 1) / MOVE_PIXELS;
    for (int64_t i = first; i < last; i++) {
        const int64_t b = i / runs, from = i % runs * MOVE_PIXELS;
        const int64_t to = from + MOVE_PIXELS < m->pixels ? from + MOVE_PIXELS : m->pixels;
        for (int64_t block = 0; block < m->C / 8; block++)
            for (int64_t pixel = from; pixel < to; pixel++) {
                const int64_t at = (b * m->pixels + pixel) * m->C + block * 8;
                float *eight = m->blocked + (b * m->C * m->pixels + (block * m->pixels + pixel) * 8);
                for (int part = 0; part < 8; part += VL) { /* VL is 8 or 4 wherever this is used */
                    if (m->back)
                        vec_put(m->nhwc, m->type, at + part, vec_load(eight + part));
                    else
                        vec_store(eight + part, vec_get(m->nhwc, m->type, at + part));
                }
            }
    }
}

static void move_blocks(const Tensor *t, float *blocked, bool back)
{
    const Move m = {.nhwc = t->data,
                    .blocked = blocked,
                    .type = t->dtype,
                    .pixels = t->shape[1] * t->shape[2],
                    .C = t->shape[3],
                    .back = back};
    for_pieces(t->shape[0] * ((m.pixels + MOVE_PIXELS - 1) / MOVE_PIXELS), MOVE_PIXELS * m.C, move_piece, &m);
}

/* Into what oneDNN computes with, and back. */
static void picture_in(const ConvPlan *plan, const Tensor *t, void *to)
{
    if (plan->d.blocked)
        move_blocks(t, to, false);
    else
        convert_all(to, plan->d.type, t->data, t->dtype, tensor_count(t));
}
static void picture_out(const ConvPlan *plan, const Tensor *t, void *from)
{
    if (plan->d.blocked)
        move_blocks(t, from, true);
    else
        convert_all(t->data, t->dtype, from, plan->d.type, tensor_count(t));
}

/* Weights ---------------------------------------------------------------------------------------------- */

/* w (K,C,n) -> (C,K,n), each window of n turned by 180°, by blocks of C that follow each other in w. */
typedef struct Turn {
    const Tensor *w;
    void *to;
    DType type;
} Turn;

enum { TURN_BLOCK = 32 };

VEC void turn_block(const Turn *t, DType from, DType type, int64_t first, int64_t last)
{
    const int64_t K = t->w->shape[0], C = t->w->shape[1], n = t->w->shape[2] * t->w->shape[3];
    for (int64_t k = 0; k < K; k++)
        for (int64_t c = first; c < last; c++)
            for (int64_t i = 0; i < n; i++)
                put_float(t->to, type, (c * K + k) * n + i,
                          get_float(t->w->data, from, (k * C + c) * n + n - 1 - i));
}

static void turn_piece(const void *args, int64_t first, int64_t last)
{
    const Turn *t = args;
    const int64_t C = t->w->shape[1];
    for (int64_t i = first; i < last; i++) {
        const int64_t c = i * TURN_BLOCK, end = c + TURN_BLOCK < C ? c + TURN_BLOCK : C;
        if (t->type == t->w->dtype)
            WITH_DTYPE(t->type, turn_block(t, T, T, c, end));
        else
            turn_block(t, t->w->dtype, t->type, c, end);
    }
}

static void turn_weight(const Tensor *w, DType type, void *to)
{
    for_pieces((w->shape[1] + TURN_BLOCK - 1) / TURN_BLOCK, TURN_BLOCK * tensor_count(w) / w->shape[1],
               turn_piece, &(Turn){.w = w, .to = to, .type = type});
}

static Status pack_weight(const ConvPlan *plan, const Tensor *w, void *plain, void *packed)
{
    if (plan->turned) {
        turn_weight(w, plan->d.type, plain);
        return onednn_pack(plan->p, plain, plan->d.type, packed);
    }
    if (!plan->convert_weight)
        return onednn_pack(plan->p, w->data, w->dtype, packed);
    convert_all(plain, DTYPE_F32, w->data, w->dtype, tensor_count(w));
    return onednn_pack(plan->p, plain, DTYPE_F32, packed);
}

/* Layer.packed: the weight in oneDNN's order, for the forward and for the gradient of the input. A form is
 * noted when a step that uses it is rehearsed, so that its bytes are known, and made at its first use. A
 * layer used at sizes that want different orders keeps the first. */
typedef struct Form {
    int format;
    size_t bytes; /* 0: not noted */
    void *data;   /* NULL: not made */
} Form;

typedef struct Packed {
    Form forward, backward;
} Packed;

static Status note_form(const Conv *a, OneConvKind kind, const ConvPlan *plan, Form **form)
{
    Layer *l = a->layer;
    if (!l->packed)
        l->packed = mem_calloc(1, sizeof(Packed));
    Packed *packed = l->packed;
    if (!packed)
        return STATUS_FAILED;
    *form = kind == ONE_FORWARD ? &packed->forward : &packed->backward;
    if (!(*form)->bytes)
        **form = (Form){.format = onednn_weight_format(plan->p), .bytes = onednn_weight_bytes(plan->p)};
    return STATUS_OK;
}

/* Memory for a form: a trained weight's lies in its gradient, where that is large enough (the order may round
 * channels up), and there is no other then. NULL: none. */
static void *form_place(const Layer *l, size_t bytes)
{
    if (!l->still)
        return mem_alloc(bytes);
    return tensor_bytes(l->weight->grad) >= bytes ? l->weight->grad->data : NULL;
}

/* *weight = a's weight in oneDNN's order: the layer's own where it does not change (made now if it isn't
 * there), else in scratch memory. */
static Status packed_weight(const Conv *a, OneConvKind kind, const ConvPlan *plan, void *plain, void *scratch,
                            void **weight)
{
    Layer *l = a->layer;
    Form *form = NULL;
    *weight = scratch;
    if (l)
        TRY(note_form(a, kind, plan, &form));
    if (!l || form->format != onednn_weight_format(plan->p) || (l->still && kind != ONE_FORWARD))
        return pack_weight(plan, a->w, plain, scratch);
    if (!form->data) {
        void *place = form_place(l, form->bytes);
        if (!place)
            return l->still ? pack_weight(plan, a->w, plain, scratch) : STATUS_FAILED;
        const Status s = pack_weight(plan, a->w, plain, place);
        if (s != STATUS_OK) {
            if (!l->still)
                mem_free(place);
            return s;
        }
        form->data = place;
    }
    *weight = form->data;
    return STATUS_OK;
}

static size_t cpu_packed_bytes(const Layer *l)
{
    const Packed *p = l->packed;
    return p && !l->still ? p->forward.bytes + p->backward.bytes : 0;
}

static void cpu_unpack(Layer *l)
{
    Packed *p = l->packed;
    if (p && !l->still) {
        mem_free(p->forward.data);
        mem_free(p->backward.data);
    }
    mem_free(p);
    l->packed = NULL;
}

/* The three products ----------------------------------------------------------------------------------- */

/* The pieces of scratch memory, in the order that plan_conv counts them. */
typedef struct Places {
    char *x, *y, *bias, *plain, *packed, *own;
} Places;

static Places places_of(const ConvPlan *plan, char *scratch)
{
    Places at;
    at.x = scratch;
    at.y = at.x + plan->x_bytes;
    at.bias = at.y + plan->y_bytes;
    at.plain = at.bias + plan->bias_bytes;
    at.packed = at.plain + plan->plain_bytes;
    at.own = at.packed + plan->packed_bytes;
    return at;
}

static Status scratch_of(const Conv *a, OneConvKind kind, size_t *bytes)
{
    ConvPlan plan;
    Form *form;
    TRY(plan_conv(a, kind, &plan));
    if (a->layer && kind != ONE_BACKWARD_WEIGHT)
        TRY(note_form(a, kind, &plan, &form));
    *bytes = plan.total;
    return STATUS_OK;
}
static Status cpu_conv2d_scratch(const Conv *a, size_t *bytes)
{
    return scratch_of(a, ONE_FORWARD, bytes);
}
static Status cpu_conv2d_backward_data_scratch(const Conv *a, size_t *bytes)
{
    return scratch_of(a, ONE_BACKWARD_DATA, bytes);
}
static Status cpu_conv2d_backward_weight_scratch(const Conv *a, size_t *bytes)
{
    return scratch_of(a, ONE_BACKWARD_WEIGHT, bytes);
}

static Status cpu_conv2d(const Conv *a, void *scratch)
{
    ConvPlan plan;
    TRY(plan_conv(a, ONE_FORWARD, &plan));
    const Places at = places_of(&plan, scratch);
    void *x = a->x->data, *y = plan.move_y ? at.y : a->y->data, *bias = a->bias ? a->bias->data : NULL,
         *weight;
    TRY(packed_weight(a, ONE_FORWARD, &plan, at.plain, at.packed, &weight));
    if (plan.move_x) {
        picture_in(&plan, a->x, at.x);
        x = at.x;
    }
    if (plan.bias_bytes) {
        convert_all(at.bias, DTYPE_F32, a->bias->data, a->bias->dtype, tensor_count(a->bias));
        bias = at.bias;
    }
    TRY(onednn_run(plan.p, x, weight, bias, y, at.own));
    if (plan.move_y)
        picture_out(&plan, a->y, y);
    return STATUS_OK;
}

static Status cpu_conv2d_backward_data(const Conv *a, void *scratch)
{
    ConvPlan plan;
    TRY(plan_conv(a, ONE_BACKWARD_DATA, &plan));
    const Places at = places_of(&plan, scratch);
    void *x = plan.move_x ? at.x : a->x->data, *y = a->y->data, *weight;
    TRY(packed_weight(a, ONE_BACKWARD_DATA, &plan, at.plain, at.packed, &weight));
    if (plan.move_y) {
        picture_in(&plan, a->y, at.y);
        y = at.y;
    }
    if (plan.turned)
        TRY(onednn_run(plan.p, y, weight, NULL, x, at.own));
    else
        TRY(onednn_run(plan.p, x, weight, NULL, y, at.own));
    if (plan.move_x)
        picture_out(&plan, a->x, x);
    return STATUS_OK;
}

static Status cpu_conv2d_backward_weight(const Conv *a, void *scratch)
{
    ConvPlan plan;
    TRY(plan_conv(a, ONE_BACKWARD_WEIGHT, &plan));
    const Places at = places_of(&plan, scratch);
    void *x = a->x->data, *y = a->y->data;
    if (plan.move_x) {
        picture_in(&plan, a->x, at.x);
        x = at.x;
    }
    if (plan.move_y) {
        picture_in(&plan, a->y, at.y);
        y = at.y;
    }
    TRY(onednn_run(plan.p, x, at.packed, at.bias, y, at.own));
    TRY(onednn_unpack_add(plan.p, at.packed, a->w->data));
    if (a->bias) {
        float *sum = a->bias->data;
        const float *add = (const float *)(const void *)at.bias;
        for (int64_t i = 0; i < tensor_count(a->bias); i++)
            sum[i] += add[i];
    }
    return STATUS_OK;
}

void ISA(conv_table)(Device *d)
{
    d->conv2d_scratch = cpu_conv2d_scratch;
    d->conv2d = cpu_conv2d;
    d->conv2d_backward_data_scratch = cpu_conv2d_backward_data_scratch;
    d->conv2d_backward_data = cpu_conv2d_backward_data;
    d->conv2d_backward_weight_scratch = cpu_conv2d_backward_weight_scratch;
    d->conv2d_backward_weight = cpu_conv2d_backward_weight;
    d->packed_bytes = cpu_packed_bytes;
    d->unpack = cpu_unpack;
}
