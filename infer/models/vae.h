/* The KL autoencoder of Stable Diffusion (Kingma 2014; Rombach 2022), as diffusers' AutoencoderKL names it.
 */
#ifndef ATL_VAE_H
#define ATL_VAE_H

#include "infer/weights/weights.h"
#include "kernels/ops.h"

#define VAE_MAX_LEVELS 6

typedef struct VaeConfig {
    int in_channels, out_channels, latent_channels;
    int levels, channels[VAE_MAX_LEVELS], layers_per_block, norm_groups, sample_size;
    float scaling_factor, shift_factor;
    bool use_quant_conv, use_post_quant_conv;
    bool mid_attention; /* mid_block_add_attention */
    bool
        force_upcast; /* it overflows in f16; diffusers heeds that of SDXL's alone, where it is the default */
} VaeConfig;

typedef struct Vae Vae;
Status vae_config_parse(const char *json, const char *origin, VaeConfig *out);
Status vae_new(const VaeConfig *config, Weights *w, Vae **out);
void vae_free(Vae *v);
const VaeConfig *vae_config(const Vae *v);
LayerSet *vae_layers(Vae *v);
bool vae_layer_encodes(const Layer *l); /* one of the encoder's layers, not the decoder's */
int vae_factor(const Vae *v);           /* pixels per latent: 2^(levels-1) */

/* x (B,H,W,3) in [-1,1] -> moments (B,H/f,W/f,2·latent): mean and log-variance, unscaled. */
Tensor *vae_encode(Ctx *c, const Vae *v, Tensor *x);
/* z (B,h,w,latent), already divided by the scaling factor -> (B,h·f,w·f,3), about [-1,1]. */
Tensor *vae_decode(Ctx *c, const Vae *v, Tensor *z);
/* Each of them in two halves, for pictures too large for memory: the inner one is at the latents' size, and
 * has the attention over all positions; the outer one is local, but for the norms' statistics. Between them
 * (B,h,w,D), D vae_inner_channels. */
Tensor *vae_encode_outer(Ctx *c, const Vae *v, Tensor *x);
Tensor *vae_encode_inner(Ctx *c, const Vae *v, Tensor *x);
Tensor *vae_decode_inner(Ctx *c, const Vae *v, Tensor *z);
Tensor *vae_decode_outer(Ctx *c, const Vae *v, Tensor *x);
int vae_inner_channels(const Vae *v, bool encoder);
/* How many group norms an outer half has, one after another, of norm_groups groups. */
int vae_outer_norms(const Vae *v, bool encoder);
/* How far, in latents, from a place of its result an outer half looks. */
int vae_outer_reach(const Vae *v, bool encoder);

#endif
