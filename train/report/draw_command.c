#include "draw_command.h"

#include "infer/schedules/grid.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "train/pictures/preview.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One more option and its value, quoted for a shell, at the end of line, which it frees. NULL: out of memory.
 */
static char *add_option(char *line, const char *option, const char *value)
{
    char *quoted = line ? text_for_shell(value) : NULL;
    char *longer = quoted ? mem_printf("%s --%s %s", line, option, quoted) : NULL;
    mem_free(quoted);
    mem_free(line);
    return longer;
}

static char *add_flag(char *line, const char *option)
{
    char *longer = line ? mem_printf("%s --%s", line, option) : NULL;
    mem_free(line);
    return longer;
}

static char *add_number(char *line, const char *option, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static char *add_number(char *line, const char *option, const char *format, ...)
{
    char text[32];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return add_option(line, option, text);
}

char *draw_command(const Config *config, const char *model, const char *lora)
{
    const bool drawn = config->preview.prompt_count > 0;
    const SampleRequest usual = sample_request_default(), r = drawn ? preview_request(config, 0) : usual;
    char *line = add_option(mem_strdup("atelier sample"), "model", model);
    if (lora)
        line = add_option(line, "lora", lora);
    line = add_option(line, "prompt", drawn ? r.prompt : "…");
    if (drawn && r.negative && *r.negative)
        line = add_option(line, "negative", r.negative);
    if (r.prompt_2 && *r.prompt_2)
        line = add_option(line, "prompt-2", r.prompt_2);
    if (r.negative_2 && *r.negative_2)
        line = add_option(line, "negative-prompt-2", r.negative_2);
    line = add_option(line, "dtype", dtype_name(config->model.dtype));
    if (config->model.tf32)
        line = add_flag(line, "tf32");
    if (r.size.width)
        line = add_number(add_number(line, "width", "%d", r.size.width), "height", "%d", r.size.height);
    if (r.steps != usual.steps)
        line = add_number(line, "steps", "%d", r.steps);
    if (strcmp(r.sampler, usual.sampler) != 0)
        line = add_option(line, "sampler", r.sampler);
    if (r.schedule && strcmp(r.schedule, SCHEDULE_AUTO) != 0)
        line = add_option(line, "schedule", r.schedule);
    if (r.guidance != usual.guidance)
        line = add_number(line, "cfg", "%g", (double)r.guidance);
    if (drawn)
        line = add_number(line, "seed", "%llu", (unsigned long long)r.seed);
    if (config->method.clip_skip)
        line = add_number(line, "clip-skip", "%d", config->method.clip_skip);
    return line;
}
