/* Decoding after every step would take longer than the steps. A latent is nearly a colour: a matrix of 4 x 3
 * and an offset give it, and are found for the model at hand by decoding one small map of patches of random
 * latents, in least squares over the patches' middles. (Others ship such a matrix for Stable Diffusion's own
 * VAE.) */
#include "live.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/random.h"
#include "terminal_picture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHANNELS 4
#define TERMS (CHANNELS + 1) /* and the offset */
#define PATCH 4              /* latents a side */
#define PATCHES 4            /* a side of the map */
#define SPREAD 0.9f          /* of a picture's latents */
#define MOST_ROWS 24         /* of a terminal */

struct Live {
    TerminalWay way;
    char *file; /* or NULL */
    int shown;  /* rows that the picture takes above the cursor; 0: nothing is there */
    bool known;
    float matrix[TERMS][3]; /* latents, and 1, to colours from 0 to 1 */
};

/* Which way ------------------------------------------------------------------------------------------------
 */

Status live_new(const char *word, Live **out)
{
    static const char *const WAYS[] = {[TERMINAL_KITTY] = "kitty",
                                       [TERMINAL_ITERM] = "iterm",
                                       [TERMINAL_SIXEL] = "sixel",
                                       [TERMINAL_BLOCKS] = "blocks"};
    *out = NULL;
    if (!word || !strcmp(word, "off"))
        return STATUS_OK;
    TerminalWay way = TERMINAL_NONE;
    for (int i = TERMINAL_KITTY; i <= TERMINAL_BLOCKS; i++)
        way = strcmp(word, WAYS[i]) ? way : (TerminalWay)i;
    const bool file = picture_format_named(word) == PICTURE_PNG;
    if (!strcmp(word, "auto"))
        way = terminal_way(STDERR_FILENO);
    else if (way == TERMINAL_NONE && !file)
        return status_refuse("sample: --live %s: expected one of " LIVE_VALUES, word);
    if (way == TERMINAL_NONE && !file)
        return STATUS_OK;
    if (file)
        TRY(status_in(file_try(word), "sample: --live"));
    Live *l = *out = mem_calloc(1, sizeof *l);
    if (!l)
        return STATUS_FAILED;
    l->way = way;
    l->file = file ? mem_strdup(word) : NULL;
    return !file || l->file ? STATUS_OK : STATUS_FAILED;
}

void live_free(Live *l)
{
    if (l)
        mem_free(l->file);
    mem_free(l);
}

/* Colours of latents ---------------------------------------------------------------------------------------
 */

/* Solves a x = b for three right sides, by elimination with pivots; a is symmetric and, with more patches
 * than terms, regular. */
static void solve(double a[TERMS][TERMS], double b[TERMS][3], float x[TERMS][3])
{
    for (int i = 0; i < TERMS; i++) {
        int best = i;
        for (int k = i; k < TERMS; k++)
            best = fabs(a[k][i]) > fabs(a[best][i]) ? k : best;
        for (int k = 0; k < TERMS; k++) {
            const double swap = a[i][k];
            a[i][k] = a[best][k];
            a[best][k] = swap;
        }
        for (int k = 0; k < 3; k++) {
            const double swap = b[i][k];
            b[i][k] = b[best][k];
            b[best][k] = swap;
        }
        for (int row = 0; row < TERMS; row++) {
            const double factor = row == i || a[i][i] == 0 ? 0 : a[row][i] / a[i][i];
            for (int k = 0; k < TERMS; k++)
                a[row][k] -= factor * a[i][k];
            for (int k = 0; k < 3; k++)
                b[row][k] -= factor * b[i][k];
        }
    }
    for (int i = 0; i < TERMS; i++)
        for (int k = 0; k < 3; k++)
            x[i][k] = a[i][i] != 0 ? (float)(b[i][k] / a[i][i]) : 0;
}

/* Mean colour, from 0 to 1, of the middle of a patch. */
static void middle_colour(const Picture *p, int patch, double rgb[3])
{
    const int side = p->size.width / PATCHES, quarter = side / 4;
    const int left = patch % PATCHES * side + quarter, top = patch / PATCHES * side + quarter;
    double sum[3] = {0};
    for (int y = top; y < top + 2 * quarter; y++)
        for (int x = left; x < left + 2 * quarter; x++)
            for (int k = 0; k < 3; k++)
                sum[k] += p->rgb[3 * ((size_t)y * (size_t)p->size.width + (size_t)x) + (size_t)k];
    for (int k = 0; k < 3; k++)
        rgb[k] = sum[k] / (255.0 * 4 * quarter * quarter);
}

static void fit(Live *l, const float colours[][CHANNELS], const Picture *decoded)
{
    double a[TERMS][TERMS] = {{0}}, b[TERMS][3] = {{0}};
    for (int patch = 0; patch < PATCHES * PATCHES; patch++) {
        double rgb[3], terms[TERMS];
        middle_colour(decoded, patch, rgb);
        for (int i = 0; i < TERMS; i++)
            terms[i] = i < CHANNELS ? (double)colours[patch][i] : 1;
        for (int i = 0; i < TERMS; i++) {
            for (int k = 0; k < TERMS; k++)
                a[i][k] += terms[i] * terms[k];
            for (int k = 0; k < 3; k++)
                b[i][k] += terms[i] * rgb[k];
        }
    }
    solve(a, b, l->matrix);
}

Status live_use(Live *l, Pipeline *p)
{
    enum { SIDE = PATCH * PATCHES };
    TorchRandom random;
    float colours[PATCHES * PATCHES][CHANNELS], latents[CHANNELS * SIDE * SIDE];
    Picture decoded;
    torch_seed(&random, 0);
    torch_randn(&random, colours[0], sizeof colours / sizeof **colours);
    for (int c = 0; c < CHANNELS; c++)
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                latents[(c * SIDE + y) * SIDE + x] = SPREAD * colours[y / PATCH * PATCHES + x / PATCH][c];
    for (int i = 0; i < PATCHES * PATCHES; i++)
        for (int c = 0; c < CHANNELS; c++)
            colours[i][c] *= SPREAD;
    TRY(pipeline_decode(p, latents, size_square(SIDE), &decoded));
    fit(l, colours, &decoded);
    l->known = true;
    picture_free(&decoded);
    return STATUS_OK;
}

static Status picture_of(const Live *l, const SampleView *view, Picture *out)
{
    const size_t n = (size_t)size_area(view->size);
    TRY(picture_new(view->size, out));
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++) {
            float colour = l->matrix[CHANNELS][k];
            for (int c = 0; c < CHANNELS; c++)
                colour += l->matrix[c][k] * view->latents[(size_t)c * n + i];
            out->rgb[3 * i + (size_t)k] = (uint8_t)(255 * (colour > 1 ? 1 : colour > 0 ? colour : 0) + 0.5f);
        }
    return STATUS_OK;
}

/* Showing --------------------------------------------------------------------------------------------------
 */

static Status show_in_terminal(Live *l, const Picture *p)
{
    struct winsize window = {.ws_col = 80, .ws_row = 24};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0 || window.ws_row == 0)
        window = (struct winsize){.ws_col = 80, .ws_row = 24};
    const int most = window.ws_row - 2 < MOST_ROWS ? window.ws_row - 2 : MOST_ROWS;
    const int rows = l->shown ? l->shown : terminal_rows(p->size, window.ws_col - 1, most > 1 ? most : 1);
    fprintf(stderr, "\r\033[K");
    if (l->shown)
        fprintf(stderr, "\033[%dA", l->shown);
    l->shown = rows;
    return terminal_draw(stderr, l->way, p, rows);
}

static Status show(Live *l, const Picture *p)
{
    if (l->file)
        return picture_write_png(l->file, p, NULL, 0);
    return show_in_terminal(l, p);
}

Status live_show(Live *l, const SampleView *view)
{
    Picture p, larger;
    if (!l->known || view->channels != CHANNELS)
        return STATUS_OK;
    TRY(picture_of(l, view, &p));
    Status s = STATUS_OK;
    if (l->file) { /* as large as the picture will be */
        s = picture_resize(&p, size_multiplied(view->size, view->factor), &larger);
        picture_free(&p);
        p = larger;
    }
    if (s == STATUS_OK)
        s = show(l, &p);
    picture_free(&p);
    return s;
}

Status live_finish(Live *l, const Picture *picture)
{
    const Status s = show(l, picture);
    l->shown = 0; /* it stays, and the next begins below */
    return s;
}
