/* PNG through libpng: all depths, palettes, transparency, interlaced. What the file has becomes 8-bit RGB by
 * libpng's transformations, RGBA where there is transparency, which is then put over white here. Gamma is
 * not applied, as in every trainer. libpng fails by a callback that must not return: see
 * jpeg.c. */
#include "decode.h"
#include "encode.h"

#include "kernels/base/mem.h"

#include <setjmp.h>
#include <string.h>

#include <png.h>

#define MAX_CHUNK (16u << 20) /* text, profiles */
#define LIBRARY_MEMORY                                                                                       \
    (4u << 20) /* libpng's own: some rows of at most PICTURE_MAX_SIDE pixels of 8 bytes                      \
                */

typedef struct Job {
    png_structp png;
    png_infop info;
    jmp_buf out;
    const uint8_t *bytes;
    size_t size, at;
    bool alpha; /* the alpha channel is wanted, as grey, and not the colours */
    Picture picture;
    uint8_t *row, **rows;
} Job;

static void fail(png_structp png, png_const_charp text)
{
    Job *j = png_get_error_ptr(png);
    status_fail("PNG data is broken at byte %zu: %s", j->at, text);
    longjmp(j->out, 1);
}

static void warn(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void read_bytes(png_structp png, png_bytep to, size_t count)
{
    Job *j = png_get_io_ptr(png);
    if (count > j->size - j->at) {
        status_fail("PNG data ends early at byte %zu (file truncated?)", j->size);
        longjmp(j->out, 1);
    }
    memcpy(to, j->bytes + j->at, count);
    j->at += count;
}

/* libpng believes the length that a chunk gives itself, up to 2 GB. Rows and its own state are small, and no
 * chunk is larger than the file; a text or profile that is when unpacked is done without. */
static png_voidp allocate(png_structp png, png_alloc_size_t size)
{
    const Job *j = png_get_mem_ptr(png);
    return size <= j->size + LIBRARY_MEMORY ? mem_alloc(size) : NULL;
}

static void release(png_structp png, png_voidp p)
{
    (void)png;
    mem_free(p);
}

/* Reads what stands before the pixels. */
static void read_info(Job *j)
{
    png_set_read_fn(j->png, j, read_bytes);
    png_set_user_limits(j->png, PICTURE_MAX_SIDE, PICTURE_MAX_SIDE);
    png_set_chunk_malloc_max(j->png, MAX_CHUNK);
    png_read_info(j->png, j->info);
}

/* Opens the file and asks for 8-bit RGB or RGBA. Returns the number of channels. */
static int begin(Job *j)
{
    read_info(j);
    png_set_expand(j->png);
    png_set_scale_16(j->png);
    png_set_gray_to_rgb(j->png);
    png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    return png_get_channels(j->png, j->info);
}

/* Where pixels go: into a picture, or to a reducer, or nowhere. */
typedef struct Sink {
    RowReducer *reducer;
    Picture *picture; /* NULL: the reducer */
    const ColourTurn *turn;
} Sink;

/* (width,channels) into (width,3). from may be rgb where there are 3 channels. */
static void convert_row(const Job *j, int channels, const uint8_t *from, uint8_t *rgb, int width)
{
    if (j->alpha)
        picture_row_alpha(channels == 4 ? from : NULL, rgb, width);
    else if (channels == 4)
        picture_row_over_white(from, rgb, width);
}

/* One row after another, (width,channels); none is kept but in the sink. */
static void read_rows(Job *j, int channels, Size size, const Sink *to)
{
    const size_t stride = 3 * (size_t)size.width;
    for (int y = 0; y < size.height; y++) {
        uint8_t *rgb = to->picture ? to->picture->rgb + stride * (size_t)y : j->row + 4 * (size_t)size.width;
        uint8_t *row = channels == 4 ? j->row : rgb;
        png_read_row(j->png, row, NULL);
        convert_row(j, channels, row, rgb, size.width);
        colour_turn_row(to->turn, rgb, size.width);
        if (to->reducer)
            row_reducer_add(to->reducer, rgb);
    }
}

/* All passes over all rows, which lie in the picture's memory with their transparency and then move together.
 */
static Status read_interlaced(Job *j, int channels, Size size)
{
    const size_t width = (size_t)size.width, height = (size_t)size.height;
    const size_t stride = (size_t)channels * width;
    TRY(picture_whole_check(size, stride * height, "interlaced"));
    j->picture = (Picture){size, mem_alloc(stride * height)};
    if (!j->picture.rgb || !(j->rows = mem_alloc(height * sizeof *j->rows)))
        return STATUS_FAILED;
    for (size_t y = 0; y < height; y++)
        j->rows[y] = j->picture.rgb + stride * y;
    png_read_image(j->png, j->rows);
    for (size_t y = 0; y < height && (channels == 4 || j->alpha); y++) {
        memcpy(j->row, j->rows[y], stride);
        convert_row(j, channels, j->row, j->picture.rgb + 3 * width * y, (int)width);
    }
    return STATUS_OK;
}

/* whole: into j->picture; else to reducer, and *taken tells whether that can be. */
static Status run_decode(Job *j, bool whole, RowReducer *reducer, const ColourTurn *turn, bool *taken)
{
    if (setjmp(j->out))
        return STATUS_FAILED;
    const int channels = begin(j);
    const uint32_t width = png_get_image_width(j->png, j->info),
                   height = png_get_image_height(j->png, j->info);
    const bool interlaced = png_get_interlace_type(j->png, j->info) != PNG_INTERLACE_NONE;
    TRY(picture_size_check(width, height));
    const Size size = {(int)width, (int)height};
    if (!whole && interlaced)
        return STATUS_OK;
    *taken = true;
    if ((channels != 3 && channels != 4) || png_get_rowbytes(j->png, j->info) != (size_t)channels * width)
        return status_fail("PNG data is of a kind that libpng cannot turn into RGB");
    if (!(j->row = mem_alloc(7 * (size_t)width))) /* one row of RGBA and one of RGB */
        return STATUS_FAILED;
    if (whole && !interlaced)
        TRY(picture_new(size, &j->picture));
    if (interlaced)
        TRY(read_interlaced(j, channels, size));
    else
        read_rows(j, channels, size, &(Sink){reducer, whole ? &j->picture : NULL, turn});
    png_read_end(j->png, NULL);
    return STATUS_OK;
}

static Status open_png(Job *j)
{
    j->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, j, fail, warn, j, allocate, release);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    return j->info ? STATUS_OK : status_memory("out of memory for decoding PNG");
}

static Status decode(Job *j, bool whole, RowReducer *reducer, const ColourTurn *turn, bool *taken)
{
    Status s = open_png(j);
    if (s == STATUS_OK)
        s = run_decode(j, whole, reducer, turn, taken);
    png_destroy_read_struct(&j->png, &j->info, NULL);
    mem_free(j->row);
    mem_free(j->rows);
    if (s != STATUS_OK)
        picture_free(&j->picture);
    return s;
}

Status decode_png(const uint8_t *bytes, size_t size, bool alpha, Picture *out)
{
    bool taken;
    Job j = {.bytes = bytes, .size = size, .alpha = alpha};
    const Status s = decode(&j, true, NULL, NULL, &taken);
    *out = j.picture;
    return s;
}

Status decode_png_rows(const uint8_t *bytes, size_t size, RowReducer *r, const ColourTurn *turn, bool *taken)
{
    *taken = false;
    return decode(&(Job){.bytes = bytes, .size = size}, false, r, turn, taken);
}

/* Text ------------------------------------------------------------------------------------------------- */

/* Latin-1, which tEXt and zTXt are in, as UTF-8. NULL: out of memory. */
static char *from_latin1(const char *text)
{
    char *all = mem_alloc(2 * strlen(text) + 1), *out = all;
    for (const uint8_t *p = (const uint8_t *)text; all && *p; p++) {
        if (*p < 0x80) {
            *out++ = (char)*p;
        } else {
            *out++ = (char)(0xC0 | *p >> 6);
            *out++ = (char)(0x80 | (*p & 0x3F));
        }
    }
    if (all)
        *out = 0;
    return all;
}

static Status find_text(Job *j, const char *key, char **value)
{
    png_textp texts;
    int count = 0;
    if (setjmp(j->out))
        return STATUS_FAILED;
    read_info(j);
    png_get_text(j->png, j->info, &texts, &count);
    for (int i = 0; i < count; i++) {
        if (strcmp(texts[i].key, key) != 0)
            continue;
        *value = texts[i].compression >= PNG_ITXT_COMPRESSION_NONE ? mem_strdup(texts[i].text)
                                                                   : from_latin1(texts[i].text);
        return *value ? STATUS_OK : STATUS_FAILED;
    }
    return STATUS_OK;
}

Status png_find_text(const uint8_t *bytes, size_t size, const char *key, char **value)
{
    Job j = {.bytes = bytes, .size = size};
    *value = NULL;
    Status s = open_png(&j);
    if (s == STATUS_OK)
        s = find_text(&j, key, value);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    return s;
}
