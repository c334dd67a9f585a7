/* Options of AUTOMATIC1111, ComfyUI, sd-scripts, stable-diffusion.cpp and the original scripts. Taking them
 * in silence would promise what does not happen, so each is refused with what to write instead; what has the
 * same name and meaning here is no part of this. */
#include "elsewhere.h"

static const OptionElsewhere OPTIONS[] = {
    {"attention|xformers|force-enable-xformers|xformers-flash-attention|disable-xformers|opt-sdp-attention|"
     "opt-sdp-no-mem-attention|opt-split-attention|opt-split-attention-v1|opt-split-attention-invokeai|"
     "opt-sub-quad-attention|disable-opt-split-attention|use-split-cross-attention|use-quad-cross-attention|"
     "use-pytorch-cross-attention|use-sage-attention|use-flash-attention|mem-eff-attn|sdpa|attention-slicing|"
     "diffusion-fa|flash-attention",
     "attention is computed in one way here, whose memory grows with the picture and not with its square; "
     "there is nothing to choose, leave it out"},
    {"medvram|medvram-sdxl|normalvram",
     "here it is --offload idle; or say --max-memory 4G, and what fits is chosen"},
    {"lowvram|novram|lowram|always-low-vram", "here it is --offload all, with --quantise int8 for less "
                                              "still; or say --max-memory 2G, and what fits is "
                                              "chosen"},
    {"highvram|gpu-only", "here it is --offload off"},
    {"cpu|use-cpu", "here it is --device cpu"},
    {"device-id|cuda-device", "here it is --device cuda:N"},
    {"no-half|full-precision|force-fp32|fp32-unet", "here it is --dtype f32, which is the default"},
    {"no-half-vae|fp32-vae|fp16-vae|bf16-vae|upcast-sampling",
     "it is not needed: a VAE whose numbers do not fit into f16 is computed in f32 by itself"},
    {"force-fp16|fp16-unet|bf16-unet|half|fp16|bf16|precision|type|torch-dtype",
     "here it is --dtype f16 or --dtype bf16"},
    {"allow-tf32", "here it is --tf32, with --dtype f32, which is the default"},
    {"fp8-unet|fp8-e4m3fn-unet|fp8-e5m2-unet|fp8-e4m3fn-text-enc", "here it is --quantise int8"},
    {"cpu-vae|vae-on-cpu|clip-on-cpu|fp16-text-enc|fp32-text-enc",
     "text encoder and VAE leave the device's memory where --offload idle says so; they have no device of "
     "their own"},
    {"vae-tiling|tiled-vae|vae-slicing|vae-tile-size", "here it is --vae-tile N"},
    {"opt-channelslast|channels-last|cuda-malloc|skip-torch-cuda-test|disable-nan-check|"
     "always-batch-cond-uncond|fast|compile|torch-compile|cudnn-benchmark",
     "it is a switch of PyTorch's, which is not used here; leave it out"},
    {"ckpt|checkpoint|sd-model|diffusion-model|pretrained-model|pretrained-model-name-or-path|model-path",
     "here it is --model FILE"},
    {"vae-path", "here it is --vae FILE"},
    {"lora-model-dir", "here it is --lora-dir DIR"},
    {"network-weights|lora-weights", "here it is --lora FILE:STRENGTH"},
    {"embeddings-dir|textual-inversion-dir|embd-dir", "here it is --embedding-dir DIR"},
    {"textual-inversion-embeddings|ti", "here it is --embedding FILE"},
    {"negative-prompt|neg-prompt|n-prompt", "here it is --negative TEXT"},
    {"scale|cfg-scale|guidance-scale|guidance", "here it is --cfg S"},
    {"ddim-steps|num-inference-steps|sample-steps", "here it is --steps N"},
    {"ddim-eta", "here it is --eta E"},
    {"plms|klms|ddim|dpm|dpm-solver|sampling-method|sampler-name|scheduler-type",
     "here it is --sampler NAME; PLMS is pndm"},
    {"scheduler", "the way from noise to picture is --sampler NAME, the noise levels are --schedule NAME"},
    {"W|w", "here it is --width W"},
    {"H|h", "here it is --height H"},
    {"n-iter|n-samples|num-images|images-per-prompt|batch-count|batch-size", "here it is --batch N"},
    {"from-file", "here it is --prompts FILE"},
    {"outdir|output|output-dir|output-directory", "here it is --out FOLDER"},
    {"init-img|image|init-image|image-path", "here it is --init FILE"},
    {"mask-image|mask-img", "here it is --mask FILE"},
    {"denoising-strength|denoise|img2img-strength", "here it is --strength S"},
    {"clip-layer|clip-stop-at-last-layers",
     "here it is --clip-skip N, counted as in A1111 with --compat a1111"},
    {"preview-method|taesd", "here it is --live auto"},
    {"disable-safe-unpickle|allow-code", "nothing in a model's file is ever executed here"},
    {"no-safety-checker|disable-safety-checker", "here it is --safety off"},
};

const OptionElsewhere *options_elsewhere(int *count)
{
    *count = (int)(sizeof OPTIONS / sizeof *OPTIONS);
    return OPTIONS;
}
