/* Keys of other programs' configurations and options of their scripts. Each is refused with what to write
 * instead; what has the same name and meaning here is found by its name, and is here for the command line
 * alone. */
#include "other_names.h"

#include <string.h>

/* KEY(names, key here, what else is to be said), NOTHING(names, why there is none). */
#define OTHER_NAMES(KEY, NOTHING)                                                                            \
    KEY("pretrained-model-name-or-path|pretrained-model|model-name-or-path|base-model-name|checkpoint|ckpt|" \
        "model",                                                                                             \
        "model.base", "")                                                                                    \
    KEY("mixed-precision|full-bf16|full-fp16|weight-dtype|train-dtype|precision", "model.dtype",             \
        " (f32, bf16 or f16)")                                                                               \
    KEY("allow-tf32|tf32", "model.tf32", " (with model.dtype: f32)")                                         \
    KEY("fp8-base|quantize|load-in-8bit", "model.quantise", " (int8)")                                       \
    KEY("v-parameterization|prediction-type|v2", "model.prediction", "")                                     \
    KEY("instance-data-dir|train-data-dir|image-dir|data-dir|dataset-name|dataset-config|concepts|in-json",  \
        "dataset.path", "")                                                                                  \
    KEY("num-repeats|dataset-repeats", "dataset.repeats", "")                                                \
    KEY("instance-prompt|caption|class-tokens|trigger-word", "dataset.caption.missing",                      \
        " (the caption of pictures without one)")                                                            \
    KEY("shuffle-caption|shuffle-tags", "dataset.caption.shuffle", "")                                       \
    KEY("caption-dropout-rate|proportion-empty-prompts", "dataset.caption.dropout", "")                      \
    KEY("caption-tag-dropout-rate|caption-tag-dropout", "dataset.caption.tag_dropout", "")                   \
    KEY("caption-prefix", "dataset.caption.prefix", "")                                                      \
    KEY("caption-suffix", "dataset.caption.suffix", "")                                                      \
    KEY("caption-separator", "dataset.caption.separator", "")                                                \
    KEY("enable-wildcard", "dataset.caption.wildcards", "")                                                  \
    KEY("flip-aug|random-flip", "dataset.augment.flip", "")                                                  \
    KEY("center-crop|random-crop|image-interpolation-mode", "dataset.crop", "")                              \
    KEY("enable-bucket|bucket-no-upscale|aspect-ratio-bucketing", "dataset.buckets", "")                     \
    KEY("min-bucket-reso", "dataset.bucket_min", "")                                                         \
    KEY("max-bucket-reso", "dataset.bucket_max", "")                                                         \
    KEY("bucket-reso-steps", "dataset.bucket_step", "")                                                      \
    KEY("masked-loss|alpha-mask", "dataset.mask", "")                                                        \
    NOTHING(                                                                                                 \
        "caption-extension|caption-column|image-column|max-token-length|weighted-captions",                  \
        "captions are read from NAME.txt beside NAME.jpg, or from metadata.jsonl (docs/dataset-file.md)")    \
    KEY("network-dim|lora-rank|network-rank|rank", "method.rank", "")                                        \
    KEY("network-alpha|lora-alpha|alpha", "method.alpha", "")                                                \
    KEY("network-module|training-method|peft-type|kind", "method.kind", " (lora or full)")                   \
    KEY("network-args|target-modules|lora-layers|conv-dim|conv-alpha", "method.targets", "")                 \
    KEY("train-text-encoder|network-train-unet-only|network-train-text-encoder-only", "method.text_encoder", \
        "")                                                                                                  \
    KEY("max-train-steps|num-train-steps|total-steps|steps", "train.steps", "")                              \
    KEY("max-train-epochs|num-train-epochs|num-epochs|epochs", "train.epochs", "")                           \
    KEY("train-batch-size|batch-size|batch", "train.batch", "")                                              \
    KEY("gradient-accumulation-steps|accumulate", "train.accumulate", "")                                    \
    KEY("gradient-checkpointing", "train.checkpointing", " (auto, on or off)")                               \
    KEY("cache-latents-to-disk|vae-batch-size", "train.cache_latents", " (kept beside the dataset)")         \
    KEY("cache-text-encoder-outputs|cache-text-encoder-outputs-to-disk", "train.cache_text", "")             \
    KEY("max-data-loader-n-workers|dataloader-num-workers|num-workers", "train.loader_threads", "")          \
    KEY("fused-backward-pass|fused-back-pass|fused-optimizer-groups", "train.fused_backward", "")            \
    KEY("use-ema|ema-decay", "train.ema", " (its decay, such as 0.999)")                                     \
    KEY("seed", "train.seed", "")                                                                            \
    KEY("resolution|image-size", "train.resolution", "")                                                     \
    KEY("learning-rate|unet-lr|lr", "optimizer.lr", "")                                                      \
    KEY("text-encoder-learning-rate|text-encoder-lr|text-encoder-lr1", "optimizer.text_encoder_lr", "")      \
    KEY("text-encoder-lr2", "optimizer.text_encoder_2_lr", "")                                               \
    KEY("optimizer-type|use-8bit-adam|type", "optimizer.kind", " (adamw or adamw8bit)")                      \
    KEY("lr-scheduler|lr-scheduler-type|scheduler", "optimizer.schedule", "")                                \
    KEY("lr-warmup-steps|warmup-steps", "optimizer.warmup", ", in steps")                                    \
    KEY("adam-beta1", "optimizer.beta1", "")                                                                 \
    KEY("adam-beta2", "optimizer.beta2", "")                                                                 \
    KEY("adam-epsilon", "optimizer.eps", "")                                                                 \
    KEY("adam-weight-decay|optimizer-args", "optimizer.weight_decay", "")                                    \
    KEY("min-snr-gamma", "loss.snr_gamma", "")                                                               \
    KEY("debiased-estimation-loss", "loss.debiased", "")                                                     \
    KEY("reg-data-dir|class-data-dir|reg-dir", "prior.path", "")                                             \
    KEY("class-prompt", "prior.prompt", "")                                                                  \
    KEY("num-class-images", "prior.pictures", "")                                                            \
    KEY("prior-loss-weight|with-prior-preservation", "prior.weight", "")                                     \
    KEY("validation-prompt|validation-prompts|sample-prompts", "preview.prompts", "")                        \
    KEY("sample-every-n-steps|sample-every-n-epochs|validation-steps|validation-epochs", "preview.every",    \
        ", in steps")                                                                                        \
    KEY("sample-sampler", "preview.sampler", "")                                                             \
    KEY("output-dir|out|output", "output.dir", "")                                                           \
    KEY("save-every-n-steps|save-every-n-epochs|checkpointing-steps|save-steps", "output.save_every",        \
        ", in steps")                                                                                        \
    KEY("checkpoints-total-limit|save-last-n-steps|save-last-n-epochs", "output.keep", "")                   \
    KEY("save-precision", "output.dtype", "")                                                                \
    KEY("save-model-as", "output.formats", " (kohya, peft)")                                                 \
    NOTHING("resume-from-checkpoint|save-state",                                                             \
            "a run is gone on with by `atelier train CONFIG.yaml --resume auto`")                            \
    NOTHING("xformers|sdpa|mem-eff-attn|enable-xformers-memory-efficient-attention|attention",               \
            "attention is computed in one way here, whose memory grows with the picture and not with its "   \
            "square; leave it out")                                                                          \
    KEY("log-with|report-to", "output.events", ": true (the default) is TensorBoard's files")                \
    NOTHING("output-name|logging-dir|log-prefix|tracker-project-name",                                       \
            "the result is lora.safetensors or model/ in output.dir, and the log is there: log.jsonl, and "  \
            "events.out.tfevents.atelier for TensorBoard")                                                   \
    NOTHING("torch-compile|dynamo-backend|persistent-data-loader-workers|highvram|lowram",                   \
            "it is a switch of PyTorch's, which is not used here; leave it out")

#define KEY_ANSWER(names, key, more) {names, "here it is " key more},
#define OPTION_ANSWER(names, key, more)                                                                      \
    {names, "here it is a key of the configuration, --set " key "=VALUE" more},
#define WHY(names, why) {names, why},

static const OptionElsewhere KEYS[] = {OTHER_NAMES(KEY_ANSWER, WHY)};
static const OptionElsewhere OPTIONS[] = {OTHER_NAMES(OPTION_ANSWER, WHY)};

const char *other_name_answer(const char *name)
{
    return options_answer(KEYS, sizeof KEYS / sizeof *KEYS, name, strlen(name));
}

const OptionElsewhere *other_names_options(int *count)
{
    *count = sizeof OPTIONS / sizeof *OPTIONS;
    return OPTIONS;
}
