#include "licence.h"

#include "infer/files/tensor_file.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX ((size_t)1 << 20)
#define METADATA_KEY "modelspec.license"

static const char *const LICENSE_FILES[] = {"LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE"};
#define LICENSE_FILE_COUNT (sizeof LICENSE_FILES / sizeof *LICENSE_FILES)

/* Words as model cards have them; the more special text first. */
static const struct {
    const char *text, *name;
} KNOWN[] = {
    {"CreativeML Open RAIL++-M", "openrail++"},
    {"CreativeML Open RAIL-M", "creativeml-openrail-m"},
    {"CreativeML OpenRAIL-M", "creativeml-openrail-m"},
    {"BigScience Open RAIL-M", "bigscience-openrail-m"},
    {"Apache License", "apache-2.0"},
    {"MIT License", "mit"},
};

static bool restricts(const char *name)
{
    return strcasestr(name, "rail") != NULL;
}

const char *licence_of_text(const char *text)
{
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (strcasestr(text, KNOWN[i].text))
            return KNOWN[i].name;
    return NULL;
}

/* Model cards ------------------------------------------------------------------------------------------ */

/* One word or a quoted one, control characters left out. */
static void take_value(const char *from, size_t size, char name[128])
{
    size_t n = 0;
    while (size && strchr(" \t\r", from[size - 1]))
        size--;
    while (size && strchr(" \t", *from))
        from++, size--;
    if (size > 1 && (*from == '"' || *from == '\'') && from[size - 1] == *from)
        from++, size -= 2;
    for (size_t i = 0; i < size && n < 127; i++)
        if (!iscntrl((unsigned char)from[i]))
            name[n++] = from[i];
    name[n] = 0;
    if (text_invalid_utf8(name, n) >= 0)
        name[0] = 0;
}

/* "license: NAME" between two lines "---" at the card's beginning; of "other" the name beside it. */
void licence_of_card(const char *card, size_t size, char name[128])
{
    char other[128] = "";
    const char *end = card + size;
    name[0] = 0;
    for (int number = 0; card < end; number++) {
        const char *stop = memchr(card, '\n', (size_t)(end - card));
        stop = stop ? stop : end;
        const size_t length = (size_t)(stop - card);
        const bool rule = length >= 3 && !memcmp(card, "---", 3);
        if (number == 0 ? !rule : rule)
            break;
        if (length > 8 && !memcmp(card, "license:", 8))
            take_value(card + 8, length - 8, name);
        else if (length > 13 && !memcmp(card, "license_name:", 13))
            take_value(card + 13, length - 13, other);
        card = stop + 1;
    }
    if (other[0] && (!name[0] || !strcmp(name, "other")))
        memcpy(name, other, sizeof other);
}

/* Looking ---------------------------------------------------------------------------------------------- */

/* NULL: not there, or not readable as a text. Caller: mem_free. */
static char *text_in(const char *folder, const char *name, size_t *size)
{
    char *path = path_join(folder, name), *text = NULL;
    if (path && file_exists(path) && file_read(path, TEXT_MAX, &text, size) != STATUS_OK)
        text = NULL;
    mem_free(path);
    return text;
}

static void look_at_card(const char *folder, Licence *l)
{
    size_t size;
    char *card = text_in(folder, "README.md", &size);
    if (card)
        licence_of_card(card, size, l->name);
    if (l->name[0])
        snprintf(l->source, sizeof l->source, "README.md");
    mem_free(card);
}

static void look_at_text(const char *folder, Licence *l)
{
    for (size_t i = 0; i < LICENSE_FILE_COUNT && !l->name[0]; i++) {
        size_t size;
        char *text = text_in(folder, LICENSE_FILES[i], &size);
        const char *known = text ? licence_of_text(text) : NULL;
        if (known) {
            snprintf(l->name, sizeof l->name, "%s", known);
            snprintf(l->source, sizeof l->source, "%s", LICENSE_FILES[i]);
        }
        mem_free(text);
    }
}

static void look_at_metadata(const char *path, Licence *l)
{
    TensorFile *f;
    if (!file_exists(path) || tensorfile_open(path, &f) != STATUS_OK)
        return;
    const char *value = tensorfile_metadata(f, METADATA_KEY);
    if (value)
        take_value(value, strlen(value), l->name);
    if (l->name[0])
        snprintf(l->source, sizeof l->source, METADATA_KEY " in %s", path_base(path));
    tensorfile_close(f);
}

Licence licence_of(const Model *m)
{
    Licence l = {0};
    if (m->folder) {
        look_at_card(m->folder, &l);
        if (!l.name[0])
            look_at_text(m->folder, &l);
    }
    char *file = l.name[0]   ? NULL
                 : m->folder ? path_join(m->folder, "unet/diffusion_pytorch_model.safetensors")
                             : mem_strdup(m->name);
    if (file)
        look_at_metadata(file, &l);
    mem_free(file);
    l.restricts = restricts(l.name);
    return l;
}

/* Carrying --------------------------------------------------------------------------------------------- */

static Status write_card(const Licence *l, const char *folder)
{
    char *path = path_join(folder, "README.md"),
         *card = mem_printf(
             "---\nlicense: %s\nlibrary_name: diffusers\n---\n\nMade from a model under the licence `%s`, "
             "which holds for this one too%s.\n",
             l->name, l->name, l->restricts ? ": its use restrictions go with everything made from it" : "");
    const Status s = path && card ? file_write_atomic(path, card, strlen(card)) : STATUS_FAILED;
    mem_free(card);
    mem_free(path);
    return s;
}

static Status copy_text(const char *from, const char *to, const char *name)
{
    size_t size;
    char *text = text_in(from, name, &size), *path = text ? path_join(to, name) : NULL;
    const Status s = !text ? STATUS_OK : path ? file_write_atomic(path, text, size) : STATUS_FAILED;
    mem_free(path);
    mem_free(text);
    return s;
}

Status licence_carry(const Model *m, const char *folder)
{
    const Licence l = licence_of(m);
    if (l.name[0])
        TRY(write_card(&l, folder));
    for (size_t i = 0; m->folder && i < LICENSE_FILE_COUNT; i++)
        TRY(copy_text(m->folder, folder, LICENSE_FILES[i]));
    return STATUS_OK;
}
