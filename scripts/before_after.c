/* before_after OUT.png BEFORE.png... -- AFTER.png...
 *
 * Puts the pictures of a model before and after fine-tuning into one grid, before above and after below, and
 * says in numbers what the eye sees of a neon style: how bright the pictures are and how much of them is
 * dark. scripts/quickstart runs it; it is not installed. */
#include "../data/picture.h"
#include "../kernels/file.h"
#include "../kernels/log.h"
#include "../kernels/mem.h"

#include <stdio.h>
#include <string.h>

#define MAX_BYTES ((size_t)64 << 20)
#define DARK 64 /* of 255: luma below which a pixel counts as dark */

typedef struct Style {
    double brightness, dark; /* mean luma from 0 to 1; share of dark pixels */
} Style;

static Status read_picture(const char *path, Picture *out)
{
    char *bytes;
    size_t size;
    TRY(file_read(path, MAX_BYTES, &bytes, &size));
    const Status s = picture_decode((const uint8_t *)bytes, size, out);
    mem_free(bytes);
    return status_in(s, "%s", path);
}

/* Over all pictures together. Luma: ITU-R BT.601. */
static Style style_of(const Picture *pictures, int count)
{
    double sum = 0, dark = 0, pixels = 0;
    for (int i = 0; i < count; i++) {
        const size_t n = (size_t)pictures[i].width * (size_t)pictures[i].height;
        for (size_t k = 0; k < n; k++) {
            const uint8_t *p = pictures[i].rgb + 3 * k;
            const double luma = 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
            sum += luma / 255;
            dark += luma < DARK;
        }
        pixels += (double)n;
    }
    return (Style){sum / pixels, dark / pixels};
}

static Status compare(const char *out, char **paths, int columns, Picture *pictures)
{
    for (int i = 0; i < 2 * columns; i++) {
        TRY(read_picture(paths[i < columns ? i : i + 1], &pictures[i]));
        if (pictures[i].width != pictures[0].width || pictures[i].height != pictures[0].height)
            return status_refuse("%s: its size differs from the others'", paths[i < columns ? i : i + 1]);
    }
    Picture grid = {0};
    TRY(picture_grid(pictures, 2 * columns, columns, &grid));
    const Status s = picture_write_png(out, &grid, NULL, 0);
    picture_free(&grid);
    TRY(s);
    const Style before = style_of(pictures, columns), after = style_of(pictures + columns, columns);
    printf("brightness  %.2f before, %.2f after\n", before.brightness, after.brightness);
    printf("dark pixels %3.0f %% before, %3.0f %% after\n", 100 * before.dark, 100 * after.dark);
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    const int columns = argc / 2 - 1; /* program, OUT, columns, "--", columns */
    if (argc < 5 || argc % 2 == 0 || strcmp(argv[2 + columns], "--") != 0) {
        fprintf(stderr,
                "usage: before_after OUT.png BEFORE.png... -- AFTER.png... (as many after as before)\n");
        return STATUS_REFUSED;
    }
    Picture *pictures = mem_calloc((size_t)(2 * columns), sizeof *pictures);
    const Status s = pictures ? compare(argv[1], argv + 2, columns, pictures) : STATUS_FAILED;
    for (int i = 0; pictures && i < 2 * columns; i++)
        picture_free(&pictures[i]);
    mem_free(pictures);
    if (s != STATUS_OK)
        log_error("%s", status_message());
    return (int)s;
}
