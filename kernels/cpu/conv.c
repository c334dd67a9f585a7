/* Convolutions through oneDNN: forward, gradient of the input, gradient of the weight. Those of 3×3 that are
 * large enough go another way, winograd.c; smaller ones and strides in bf16 where the processor multiplies
 * that, conv_bf16.c.
 *
 * Arithmetic is bf16 where activations are and the processor computes it, else f32; operands of another type
 * are converted into scratch memory. Weights come in the files' order (K,C,kh,kw) and are put into oneDNN's:
 * once, kept in the layer, where they are frozen; at each call where they are trained (conv_weight.h). With
 * AVX-512 oneDNN is as fast on NHWC as on its own blocked layout; with AVX2 it is not (2.6: 81–159 GFLOP/s
 * against 132–182 on the same shapes), so there x and y pass through (B,C/8,H,W,8) in scratch memory,
 * converting their type on the way.
 *
 * The gradient of the input of a convolution of stride 1 is itself one, of grad y with the turned weight:
 * oneDNN's forward is faster than its gradient (a third on SD1.5's shapes). Over a doubled map (upsample) the
 * four phases of y are computed one after the other, each a quarter of y in scratch memory: 16 products a
 * pixel instead of 36, and the doubled map never exists. Weights that are stored in fewer
 * bits than they are multiplied in go another way, conv_columns.c. */
#include "kernels/floats.h"
#include "conv_bf16.h"
#include "conv_columns.h"
#include "conv_weight.h"
#include "families.h"
#include "int8.h"
#include "winograd.h"

/* The three products of a layer have the same x, w and y; what differs is which are read and which written.
 */
typedef struct ConvPlan {
    OneConv d;
    OnePrimitive *p;
    OneConvKind kind;
    int phase;
    bool turned;         /* the gradient of the input as a convolution of grad y */
    bool convert_weight; /* the weight is changed or widened before it is packed */
    bool move_x, move_y; /* x or y is not used where it is: another type, layout, or a phase of it */
    int64_t calls;       /* the product goes picture by picture, or at once: 1 */
    size_t x_bytes, y_bytes, bias_bytes; /* their places in scratch memory */
    size_t plain_bytes, packed_bytes;    /* weight as changed, and in oneDNN's order */
    size_t total;
} ConvPlan;

static int phases_of(const Conv *a)
{
    return a->s.upsample ? PHASES : 1;
}

/* Blocks of 8 channels pay where the product is large against moving x and y: oneDNN 2's AVX2 code only. */
static bool wants_blocks(const Conv *a)
{
    const int64_t C = a->x->shape[3], K = a->y->shape[3];
    return VL == 8 && C % 8 == 0 && K % 8 == 0 && C >= 32 && K >= 32 && !a->s.upsample;
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

/* The convolution as oneDNN is asked for it, or one phase of it. */
static OneConv conv_of(const Conv *a, OneConvKind kind, int phase, DType type)
{
    const Tensor *x = a->x, *y = a->y, *w = a->w;
    OneConv d = {.kind = kind,
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
                 .type = type,
                 .y_type = type,
                 .bias = (a->bias || a->per_picture) && kind != ONE_BACKWARD_DATA,
                 .blocked = wants_blocks(a)};
    if (phase == WHOLE)
        return d;
    d.kh = d.kw = 2;
    d.oh = d.h, d.ow = d.w;
    d.pad_top = phase / 2 == 0, d.pad_bottom = !d.pad_top;
    d.pad_left = phase % 2 == 0, d.pad_right = !d.pad_left;
    return d;
}

/* Phases of grad x are added up in f32. */
static DType x_type(const ConvPlan *plan)
{
    return plan->phase != WHOLE && plan->turned ? DTYPE_F32 : plan->d.type;
}

static size_t picture_bytes(const Tensor *t, DType type, int64_t parts)
{
    return aligned_bytes((size_t)(tensor_count(t) / parts) * dtype_size(type));
}

static void plan_bytes(const Conv *a, ConvPlan *plan)
{
    const Tensor *x = a->x, *y = a->y, *w = a->w;
    const DType type = plan->d.type;
    const int64_t windows = w->shape[0] * w->shape[1];
    plan->move_x = x->dtype != x_type(plan) || plan->d.blocked;
    plan->move_y = y->dtype != type || plan->d.blocked || plan->phase != WHOLE;
    plan->x_bytes = plan->move_x ? picture_bytes(x, x_type(plan), 1) : 0;
    plan->y_bytes = plan->move_y ? picture_bytes(y, type, phases_of(a)) : 0;
    plan->packed_bytes = aligned_bytes(onednn_weight_bytes(plan->p));
    /* oneDNN's packing is fast from f32, and from bf16 to bf16 */
    plan->convert_weight = plan->kind != ONE_BACKWARD_WEIGHT && w->dtype != DTYPE_F32 && w->dtype != type;
    if (plan->turned || plan->phase != WHOLE) /* a gradient of the weight: f32 */
        plan->plain_bytes = aligned_bytes((size_t)(windows * window_of(w, plan->phase)) *
                                          dtype_size(plan->kind == ONE_BACKWARD_WEIGHT ? DTYPE_F32 : type));
    else if (plan->convert_weight)
        plan->plain_bytes = aligned_bytes((size_t)tensor_count(w) * 4);
    if (plan->d.bias && (plan->kind == ONE_BACKWARD_WEIGHT || a->per_picture || a->bias->dtype != DTYPE_F32))
        plan->bias_bytes = aligned_bytes((size_t)y->shape[3] * 4);
    plan->total = plan->x_bytes + plan->y_bytes + plan->bias_bytes + plan->plain_bytes + plan->packed_bytes +
                  onednn_scratch_bytes(plan->p);
}

static DType arithmetic_of(const Conv *a, OneConvKind kind)
{
    const DType read = kind == ONE_BACKWARD_DATA ? a->y->dtype : a->x->dtype;
    return computes_bf16() && read == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
}

/* Whether it goes by conv_columns.c: in oneDNN's order a weight that is stored in fewer bits than it is
 * multiplied in would be larger than it is. Not where few channels come of many. */
static bool goes_by_columns(const Conv *a, OneConvKind kind)
{
    return a->w->scales || (kind != ONE_BACKWARD_WEIGHT && a->w->dtype != DTYPE_F32 && a->w->shape[0] >= 32 &&
                            arithmetic_of(a, kind) == DTYPE_F32);
}

static Status plan_conv(const Conv *a, OneConvKind kind, int part, ConvPlan *plan)
{
    const DType type = arithmetic_of(a, kind);
    *plan = (ConvPlan){.kind = kind, .phase = a->s.upsample ? part : WHOLE, .calls = 1};
    plan->d = conv_of(a, kind, plan->phase, type);
    plan->turned = kind == ONE_BACKWARD_DATA && can_turn(a);
    if (plan->turned) {
        plan->d = turned_conv(plan->d);
        plan->d.y_type = x_type(plan);
        plan->d.sum = plan->phase > 0;
    }
    if (a->per_picture && kind == ONE_FORWARD) { /* each picture has a bias of its own */
        plan->calls = plan->d.b;
        plan->d.b = 1;
    }
    TRY(onednn_conv(&plan->d, &plan->p));
    plan_bytes(a, plan);
    return STATUS_OK;
}

/* Moving pictures -------------------------------------------------------------------------------------- */

/* (B,H,W,C) of any type <-> (B,C/8,H,W,8) in f32: a row of pixels at a time. On the way back `residual`, of
 * the type and order of nhwc, is added where there is one. */
typedef struct Move {
    void *nhwc;
    const void *residual;
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
                    if (!m->back)
                        vec_store(eight + part, vec_get(m->nhwc, m->type, at + part));
                    else if (m->residual)
                        vec_put(m->nhwc, m->type, at + part,
                                vec_load(eight + part) + vec_get(m->residual, m->type, at + part));
                    else
                        vec_put(m->nhwc, m->type, at + part, vec_load(eight + part));
                }
            }
    }
}

static void move_blocks(const Tensor *t, float *blocked, bool back, const Tensor *residual)
{
    const Move m = {.nhwc = t->data,
                    .residual = residual ? residual->data : NULL,
                    .blocked = blocked,
                    .type = t->dtype,
                    .pixels = t->shape[1] * t->shape[2],
                    .C = t->shape[3],
                    .back = back};
    for_pieces(t->shape[0] * ((m.pixels + MOVE_PIXELS - 1) / MOVE_PIXELS), MOVE_PIXELS * m.C, move_piece, &m);
}

/* One phase of t (B,2H,2W,C), every other pixel of every other row, <-> (B,H,W,C) side by side; an item is a
 * row of H. */
typedef struct PhaseMove {
    const Tensor *t;
    char *part;
    DType type; /* of part */
    int phase;
    bool back;
} PhaseMove;

static void phase_piece(const void *args, int64_t first, int64_t last)
{
    const PhaseMove *s = args;
    const int64_t W = s->t->shape[2] / 2, C = s->t->shape[3];
    for (int64_t h = first; h < last; h++) {
        const int64_t at = ((2 * h + s->phase / 2) * 2 * W + s->phase % 2) * C;
        char *map = at_element(s->t->data, s->t->dtype, at), *part = at_element(s->part, s->type, h * W * C);
        const size_t pixel = (size_t)C * dtype_size(s->type);
        ConvertRows c = {.to = part,
                         .from = map,
                         .to_type = s->type,
                         .from_type = s->t->dtype,
                         .columns = C,
                         .to_ld = C,
                         .from_ld = 2 * C};
        if (s->back) {
            c.to = map, c.to_type = s->t->dtype, c.to_ld = 2 * C;
            c.from = part, c.from_type = s->type, c.from_ld = C;
        }
        for (int64_t w = 0; w < W; w++) {
            if (s->type != s->t->dtype)
                convert_row(&c, w, c.to_type, c.from_type);
            else
                memcpy((char *)c.to + (size_t)w * pixel * (s->back ? 2 : 1),
                       (const char *)c.from + (size_t)w * pixel * (s->back ? 1 : 2), pixel);
        }
    }
}

static void move_phase(const ConvPlan *plan, const Tensor *t, void *part, bool back)
{
    const PhaseMove s = {.t = t, .part = part, .type = plan->d.type, .phase = plan->phase, .back = back};
    for_pieces(t->shape[0] * t->shape[1] / 2, t->shape[2] / 2 * t->shape[3], phase_piece, &s);
}

/* x and y into what oneDNN computes with, and back. */
static void x_in(const ConvPlan *plan, const Tensor *x, void *to)
{
    if (plan->d.blocked)
        move_blocks(x, to, false, NULL);
    else
        convert_all(to, plan->d.type, x->data, x->dtype, tensor_count(x));
}
static void x_out(const ConvPlan *plan, const Tensor *x, void *from)
{
    if (plan->d.blocked)
        move_blocks(x, from, true, NULL);
    else
        convert_all(x->data, x->dtype, from, x_type(plan), tensor_count(x));
}
static void y_in(const ConvPlan *plan, const Tensor *y, void *to)
{
    if (plan->phase != WHOLE)
        move_phase(plan, y, to, false);
    else
        x_in(plan, y, to);
}
static void y_out(const ConvPlan *plan, const Conv *a, void *from)
{
    if (plan->d.blocked)
        move_blocks(a->y, from, true, a->residual);
    else if (plan->phase != WHOLE)
        move_phase(plan, a->y, from, true);
    else
        convert_all(a->y->data, a->y->dtype, from, plan->d.type, tensor_count(a->y));
}

static void residual_piece(const void *args, int64_t first, int64_t last)
{
    const Conv *a = args;
    const DType type = a->y->dtype;
    for (int64_t i = first; i < last; i += VL) {
        const int n = vec_part(i, last);
        vec_put_n(a->y->data, type, i,
                  vec_get_n(a->y->data, type, i, n) + vec_get_n(a->residual->data, type, i, n), n);
    }
}

/* Weights ---------------------------------------------------------------------------------------------- */

static Status pack_weight(const ConvPlan *plan, const Tensor *w, void *plain, void *packed)
{
    if (plan->turned || plan->phase != WHOLE) {
        change_weight(&(Change){
            .w = w, .phase = plan->phase, .turned = plan->turned, .type = plan->d.type, .to = plain});
        return onednn_pack(plan->p, plain, plan->d.type, packed);
    }
    if (!plan->convert_weight)
        return onednn_pack(plan->p, w->data, w->dtype, packed);
    convert_all(plain, DTYPE_F32, w->data, w->dtype, tensor_count(w));
    return onednn_pack(plan->p, plain, DTYPE_F32, packed);
}

/* Of a layer that may keep its weight packed at all: whether it keeps it for this product. */
static bool keeps_form(const Layer *l, OneConvKind kind)
{
    return l && (kind == ONE_FORWARD || (kind == ONE_BACKWARD_DATA && !l->pack_forward_only));
}

/* *weight = a's weight in oneDNN's order: the layer's own where it does not change (made now if it isn't
 * there), else in scratch memory. A weight that is held still has the place of one form only. */
static Status packed_weight(const Conv *a, const ConvPlan *plan, void *plain, void *scratch, void **weight)
{
    Layer *l = a->layer;
    Form *form = NULL;
    *weight = scratch;
    if (!keeps_form(l, plan->kind) || (l->still && (plan->kind != ONE_FORWARD || plan->phase != WHOLE)))
        return pack_weight(plan, a->w, plain, scratch);
    TRY(note_form(l, plan->kind == ONE_BACKWARD_DATA, plan->phase, plan->p, &form));
    if (form->format != onednn_weight_format(plan->p))
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

/* The three products ----------------------------------------------------------------------------------- */

/* The pieces of scratch memory, in the order that plan_bytes counts them. */
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
    *bytes = 0;
    FLOATS_ONLY(a->x, a->w->scales ? NULL : a->w, a->bias, a->y, a->per_picture, a->residual);
    if (kind == ONE_FORWARD && ISA(int8_takes_conv)(a)) {
        *bytes = ISA(int8_conv_scratch)(a);
        return STATUS_OK;
    }
    if (ISA(winograd_takes)(a)) { /* which keeps no form of the weight */
        *bytes = kind == ONE_BACKWARD_WEIGHT ? ISA(winograd_weight_scratch)(a)
                                             : ISA(winograd_scratch)(a, kind == ONE_BACKWARD_DATA);
        return STATUS_OK;
    }
    if (kind != ONE_BACKWARD_WEIGHT && ISA(bf16_takes_conv)(a, kind == ONE_BACKWARD_DATA)) {
        *bytes = ISA(bf16_conv_scratch)(a, kind == ONE_BACKWARD_DATA);
        return STATUS_OK;
    }
    if (goes_by_columns(a, kind))
        return (kind == ONE_FORWARD ? ISA(columns_scratch) : ISA(columns_backward_scratch))(a, bytes);
    for (int part = 0; part < phases_of(a); part++) {
        ConvPlan plan;
        Form *form;
        TRY(plan_conv(a, kind, part, &plan));
        if (keeps_form(a->layer, kind) && !a->layer->still)
            TRY(note_form(a->layer, kind == ONE_BACKWARD_DATA, plan.phase, plan.p, &form));
        if (plan.total > *bytes)
            *bytes = plan.total;
    }
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

/* Picture b's bias, f32: the layer's, and what this picture adds to it. */
static const void *bias_of(const Conv *a, const ConvPlan *plan, int64_t b, void *scratch)
{
    const int64_t K = a->y->shape[3];
    float *sum = scratch;
    if (!a->per_picture) {
        if (!plan->bias_bytes)
            return a->bias ? a->bias->data : NULL;
        convert_all(sum, DTYPE_F32, a->bias->data, a->bias->dtype, K);
        return sum;
    }
    for (int64_t k = 0; k < K; k++)
        sum[k] = get_float(a->per_picture->data, a->per_picture->dtype, b * K + k) +
                 (a->bias ? get_float(a->bias->data, a->bias->dtype, k) : 0);
    return sum;
}

static Status run_forward(const Conv *a, const ConvPlan *plan, const Places *at)
{
    const DType type = plan->d.type;
    char *x = plan->move_x ? at->x : a->x->data, *y = plan->move_y ? at->y : a->y->data;
    void *weight;
    TRY(packed_weight(a, plan, at->plain, at->packed, &weight));
    if (plan->move_x && plan->phase <= 0)
        x_in(plan, a->x, at->x);
    for (int64_t b = 0; b < plan->calls; b++) {
        const void *bias = bias_of(a, plan, b, at->bias);
        TRY(onednn_run(plan->p, at_element(x, type, b * plan->d.h * plan->d.w * plan->d.c), weight,
                       (void *)bias, at_element(y, type, b * plan->d.oh * plan->d.ow * plan->d.k), at->own));
    }
    if (plan->move_y)
        y_out(plan, a, y);
    return STATUS_OK;
}

static Status cpu_conv2d(const Conv *a, void *scratch)
{
    bool added = false;
    FLOATS_ONLY(a->x, a->w->scales ? NULL : a->w, a->bias, a->y, a->per_picture, a->residual);
    if (ISA(int8_takes_conv)(a)) {
        ISA(int8_conv)(a, scratch);
        return STATUS_OK;
    }
    if (ISA(winograd_takes)(a)) {
        ISA(winograd_run)(a, false, scratch);
        return STATUS_OK;
    }
    if (ISA(bf16_takes_conv)(a, false)) {
        ISA(bf16_conv)(a, false, scratch);
        return STATUS_OK;
    }
    if (goes_by_columns(a, ONE_FORWARD))
        return ISA(columns_run)(a, scratch);
    for (int part = 0; part < phases_of(a); part++) {
        ConvPlan plan;
        TRY(plan_conv(a, ONE_FORWARD, part, &plan));
        const Places at = places_of(&plan, scratch);
        TRY(run_forward(a, &plan, &at));
        added = plan.d.blocked;
    }
    if (a->residual && !added)
        for_pieces(tensor_count(a->y), 1, residual_piece, a);
    return STATUS_OK;
}

static Status cpu_conv2d_backward_data(const Conv *a, void *scratch)
{
    FLOATS_ONLY(a->x, a->w->scales ? NULL : a->w, a->y);
    if (ISA(winograd_takes)(a)) {
        ISA(winograd_run)(a, true, scratch);
        return STATUS_OK;
    }
    if (ISA(bf16_takes_conv)(a, true)) {
        ISA(bf16_conv)(a, true, scratch);
        return STATUS_OK;
    }
    if (goes_by_columns(a, ONE_BACKWARD_DATA))
        return ISA(columns_backward_run)(a, scratch);
    for (int part = 0; part < phases_of(a); part++) {
        ConvPlan plan;
        TRY(plan_conv(a, ONE_BACKWARD_DATA, part, &plan));
        const Places at = places_of(&plan, scratch);
        void *x = plan.move_x ? at.x : a->x->data, *y = plan.move_y ? at.y : a->y->data, *weight;
        TRY(packed_weight(a, &plan, at.plain, at.packed, &weight));
        if (plan.move_y)
            y_in(&plan, a->y, at.y);
        if (plan.turned)
            TRY(onednn_run(plan.p, y, weight, NULL, x, at.own));
        else
            TRY(onednn_run(plan.p, x, weight, NULL, y, at.own));
        if (plan.move_x && part == phases_of(a) - 1)
            x_out(&plan, a->x, x);
    }
    return STATUS_OK;
}

/* a->w += the gradient that lies in at->packed. */
static Status add_weight_gradient(const Conv *a, const ConvPlan *plan, const Places *at)
{
    if (plan->phase == WHOLE)
        return onednn_unpack_add(plan->p, at->packed, a->w->data);
    const int64_t windows = a->w->shape[0] * a->w->shape[1];
    float *grad = (float *)(void *)at->plain;
    memset(grad, 0, (size_t)windows * 4 * sizeof *grad);
    TRY(onednn_unpack_add(plan->p, at->packed, grad));
    spread_gradient(&(Spread){.grad = a->w->data, .phase_grad = grad, .phase = plan->phase}, windows);
    return STATUS_OK;
}

static Status cpu_conv2d_backward_weight(const Conv *a, void *scratch)
{
    FLOATS_ONLY(a->x, a->w, a->bias, a->y);
    if (ISA(winograd_takes)(a)) {
        ISA(winograd_weight_run)(a, scratch);
        return STATUS_OK;
    }
    for (int part = 0; part < phases_of(a); part++) {
        ConvPlan plan;
        TRY(plan_conv(a, ONE_BACKWARD_WEIGHT, part, &plan));
        const Places at = places_of(&plan, scratch);
        void *x = plan.move_x ? at.x : a->x->data, *y = plan.move_y ? at.y : a->y->data;
        if (plan.move_x && part == 0)
            x_in(&plan, a->x, at.x);
        if (plan.move_y)
            y_in(&plan, a->y, at.y);
        TRY(onednn_run(plan.p, x, at.packed, at.bias, y, at.own));
        TRY(add_weight_gradient(a, &plan, &at));
        for (int64_t i = 0; a->bias && i < tensor_count(a->bias); i++)
            ((float *)a->bias->data)[i] += ((const float *)(const void *)at.bias)[i];
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
