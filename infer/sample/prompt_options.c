#include "prompt_options.h"

#include "kernels/base/log.h"
#include "kernels/base/text.h"

#include <string.h>

PromptOptions prompt_options_default(void)
{
    return (PromptOptions){.compat = COMPAT_DEFAULT, .syntax = PROMPT_SYNTAX_AUTO};
}

/* One number means two things: layers left out, as diffusers counts, or one more, as A1111 and ComfyUI do. */
static Status apply_clip_skip(const PromptOptions *o, SampleRequest *r)
{
    const Compat *compat = compat_of(r->compat);
    if (!o->clip_skip_given)
        return STATUS_OK;
    if (o->clip_skip < compat->clip_skip_none)
        return status_refuse("sample: --clip-skip %d: %s counts from %d, which leaves no layer out",
                             o->clip_skip, compat->label, compat->clip_skip_none);
    r->clip_skip = o->clip_skip - compat->clip_skip_none;
    log_info("clip skip %d, as %s counts: %d layer%s of the text encoder left out (%d in diffusers, %d in "
             "AUTOMATIC1111, -%d in ComfyUI)",
             o->clip_skip, compat->label, r->clip_skip, text_plural(r->clip_skip), r->clip_skip,
             r->clip_skip + 1, r->clip_skip + 1);
    return STATUS_OK;
}

Status prompt_options_apply(const PromptOptions *o, SampleRequest *r)
{
    r->compat = compat_find(o->compat);
    const PromptSyntax syntax =
        strcmp(o->syntax, PROMPT_SYNTAX_AUTO) ? prompt_syntax_of(o->syntax) : compat_of(r->compat)->prompts;
    r->reading = (PromptReading){.syntax = syntax, .chunks = o->long_prompts || syntax != PROMPT_PLAIN};
    return apply_clip_skip(o, r);
}
