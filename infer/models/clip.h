/* CLIP's text encoder (Radford et al. 2021), as transformers' CLIPTextModel names it. */
#ifndef ATL_CLIP_H
#define ATL_CLIP_H

#include "infer/weights/weights.h"
#include "kernels/ops.h"

typedef struct ClipConfig {
    int vocab_size, hidden, intermediate, layers, heads, positions;
    bool quick_gelu; /* hidden_act: quick_gelu (ViT-L) or gelu (ViT-H) */
    float eps;
    int bos, eos, pad;
    int projection; /* width of text_projection, which makes one vector of a text; 0: there is none */
} ClipConfig;

typedef struct Clip Clip;
Status clip_config_parse(const char *json, const char *origin, ClipConfig *out);
/* The same of a CLIPTextModelWithProjection. */
Status clip_projected_config_parse(const char *json, const char *origin, ClipConfig *out);
Status clip_new(const ClipConfig *config, Weights *w, Clip **out); /* keys with or without "text_model." */
void clip_free(Clip *m);
const ClipConfig *clip_config(const Clip *m);
LayerSet *clip_layers(Clip *m); /* names always with "text_model." */

/* ids i32 (B,T) -> (B,T,hidden): the last hidden state after the final norm; clip_skip n > 0: the states n
 * layers before the last, then the final norm (diffusers' clip_skip). */
Tensor *clip_forward(Ctx *c, const Clip *m, int clip_skip, Tensor *ids);
/* The same with others in place of some tokens' vectors: keep (B,T,hidden) is 1 where a token's own stays and
 * 0 elsewhere, where `other` has the vector (0 elsewhere). Both NULL: all stay. */
Tensor *clip_forward_with(Ctx *c, const Clip *m, int clip_skip, Tensor *ids, Tensor *keep, Tensor *other);

/* A text as SDXL's encoders get it. */
typedef struct ClipText {
    Tensor *ids;          /* i32 (B,T) */
    Tensor *keep, *other; /* as above, or NULL */
    Tensor *rows;         /* i32 (B): clip_row() of each; NULL: no pooled vector is asked for */
} ClipText;
/* The states (B,T,hidden) clip_skip layers before the last but one, without the final norm. With rows *pooled
 * (B,projection) is made of the last layer's states: final norm, that row, text_projection. */
Tensor *clip_penultimate(Ctx *c, const Clip *m, int clip_skip, const ClipText *text, Tensor **pooled);
/* Notes that the last layer and the final norm count for nothing, as where only those states are taken
 * (LayerSet.idle). */
void clip_mark_idle(Clip *m);
/* At which of n tokens the whole text is read: the first EOS. */
int clip_row(const ClipConfig *k, const int32_t *ids, int n);

/* One layer of self-attention and MLP, as the text encoder and the one for pictures (infer/safety) have
 * them: "PREFIX.I.self_attn.q_proj", … . Of the configuration only the encoder's own numbers are read. */
typedef struct ClipLayer {
    Layer layer_norm1, q_proj, k_proj, v_proj, out_proj, layer_norm2, fc1, fc2;
} ClipLayer;
void clip_layer_make(const ClipConfig *k, Weights *w, LayerSet *set, ClipLayer *b, const char *prefix, int i);
Tensor *clip_layer(Ctx *c, const ClipConfig *k, const ClipLayer *b, bool causal, Tensor *x); /* (B,T,D) */

#endif
