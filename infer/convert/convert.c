#include "convert.h"

#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool makes_file(const char *to)
{
    static const char ending[] = ".safetensors";
    const size_t n = strlen(to), end = sizeof ending - 1;
    return n > end && !strcmp(to + n - end, ending);
}

/* What is given as a file's name but would become a folder is most likely meant otherwise. */
static Status check_target(const char *to)
{
    static const char *const others[] = {".ckpt", ".pt", ".pth", ".bin", ".gguf"};
    const size_t n = strlen(to);
    if (n == 0)
        return status_refuse("an empty name is no place for a model");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const size_t end = strlen(others[i]);
        if (n > end && !strcmp(to + n - end, others[i]))
            return status_refuse("%s: single files are written as .safetensors", to);
    }
    return file_exists(to) ? status_refuse("%s: is there already; choose another name, or remove it", to)
                           : STATUS_OK;
}

/* The folder is made beside its place and gets its name when it is whole. */
static Status write_folder(const Model *m, const ConvertRequest *r, ConvertResult *out)
{
    char *part = path_aside(r->to, "part");
    int hold = -1;
    Status s = part ? dir_make_parent(r->to) : STATUS_FAILED;
    if (s == STATUS_OK) {
        aside_clean(r->to);
        s = aside_folder(part, r->to, &hold);
    }
    if (s == STATUS_OK)
        s = folder_write(m, part, r, out);
    if (s == STATUS_OK && rename(part, r->to) != 0)
        s = file_failed(r->to, "cannot get its final name");
    if (part && s != STATUS_OK && file_is_dir(part))
        dir_remove(part);
    if (hold >= 0)
        close(hold);
    mem_free(part);
    return s;
}

Status model_convert(const ConvertRequest *r, ConvertResult *out)
{
    *out = (ConvertResult){.single = makes_file(r->to)};
    Model *m = NULL;
    TRY(check_target(r->to));
    TRY(path_check_words(r->to, NULL));
    TRY(model_open(&(ModelRequest){.name = r->from,
                                   .vae = r->vae,
                                   .ema = r->ema,
                                   .parts = MODEL_ALL,
                                   .dtype = DTYPE_F32,
                                   .described = true},
                   &m));
    const Status s = out->single ? single_write(m, r->to, r, out) : write_folder(m, r, out);
    model_free(m);
    return s;
}
