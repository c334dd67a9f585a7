/* picture_style PICTURE...
 *
 * Says in numbers what the eye sees of a style of bright lines on black: how bright a picture is and how much
 * of it is dark, one line a picture. scripts/quickstart holds the preview grids before and after fine-tuning
 * against each other with it (the white seams of a grid, 2 pixels between pictures, count like the rest). It
 * is not installed. */
#include "data/pictures/picture.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <stdio.h>

#define MAX_BYTES ((size_t)64 << 20)
#define DARK 64 /* of 255: luma below which a pixel counts as dark */

static void print_style(const char *path, const Picture *p)
{
    const size_t pixels = (size_t)size_area(p->size);
    double sum = 0, dark = 0;
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *rgb = p->rgb + 3 * i;
        const double luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]; /* ITU-R BT.601 */
        sum += luma;
        dark += luma < DARK;
    }
    printf("brightness %.2f, dark pixels %2.0f %%: %s\n", sum / 255 / (double)pixels,
           100 * dark / (double)pixels, path);
}

static Status look_at(const char *path)
{
    char *bytes;
    size_t size;
    TRY(file_read(path, MAX_BYTES, &bytes, &size));
    Picture p = {0};
    const Status s = picture_decode((const uint8_t *)bytes, size, &p);
    mem_free(bytes);
    if (s == STATUS_OK)
        print_style(path, &p);
    picture_free(&p);
    return status_in(s, "%s", path);
}

int main(int argc, char **argv)
{
    log_to(log_terminal, NULL);
    if (argc < 2) {
        fprintf(stderr, "usage: picture_style PICTURE...\n");
        return STATUS_REFUSED;
    }
    for (int i = 1; i < argc; i++) {
        const Status s = look_at(argv[i]);
        if (s != STATUS_OK) {
            log_error("%s", status_message());
            return (int)s;
        }
    }
    return STATUS_OK;
}
