/* JPEG through libjpeg-turbo. Its way of failing is a callback that must not return, so the library's calls
 * stand in functions that begin with setjmp, and everything that has to be cleaned up lies in a Job outside
 * them.
 *
 * The library's own memory source answers the end of the data with a made-up end-of-image and a warning, and
 * fills the rest with grey: half a photograph would be trained on. So the source here fails at the end of the
 * data, and of the decoder's warnings only those are let pass that do not touch the pixels. */
#include "decode.h"

#include "kernels/base/mem.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* A progressive file of a few kilobytes can ask for thousands of passes over a large picture. Encoders make
 * about ten. */
#define MAX_SCANS 500

typedef struct Job {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    const uint8_t *bytes;
    size_t size;
    Picture picture;
    uint8_t *row; /* CMYK */
} Job;

static Job *job_of(j_common_ptr jpeg)
{
    return jpeg->client_data;
}

static size_t position(const Job *j)
{
    return j->source.next_input_byte ? (size_t)(j->source.next_input_byte - j->bytes) : 0;
}

static void fail(j_common_ptr jpeg)
{
    Job *j = job_of(jpeg);
    char text[JMSG_LENGTH_MAX];
    const int code = jpeg->err->msg_code;
    if (code == JERR_BAD_PRECISION || code == JERR_SOF_UNSUPPORTED) {
        status_fail("is a JPEG of a kind that is not read (%s); save it as an ordinary one, of 8 bits",
                    code == JERR_BAD_PRECISION ? "not of 8 bits a color" : "lossless or hierarchical");
        longjmp(j->out, 1);
    }
    jpeg->err->format_message(jpeg, text);
    status_fail("JPEG data is broken at byte %zu: %s", position(j), text);
    longjmp(j->out, 1);
}

/* level < 0: a warning, the decoder made something up. */
static void message(j_common_ptr jpeg, int level)
{
    if (level >= 0)
        return;
    switch (jpeg->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA: /* bytes between segments, left by cameras */
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_ICC:
        return;
    default:
        fail(jpeg);
    }
}

static void ends_early(j_decompress_ptr jpeg)
{
    Job *j = job_of((j_common_ptr)jpeg);
    status_fail("JPEG data ends early at byte %zu (file truncated?)", j->size);
    longjmp(j->out, 1);
}

static boolean source_fill(j_decompress_ptr jpeg)
{
    ends_early(jpeg);
    return FALSE;
}

static void source_skip(j_decompress_ptr jpeg, long count)
{
    if (count <= 0)
        return;
    if ((size_t)count > jpeg->src->bytes_in_buffer)
        ends_early(jpeg);
    jpeg->src->next_input_byte += count;
    jpeg->src->bytes_in_buffer -= (size_t)count;
}

static void nothing(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

static void watch_scans(j_common_ptr jpeg)
{
    Job *j = job_of(jpeg);
    if (jpeg->is_decompressor && j->jpeg.input_scan_number > MAX_SCANS) {
        status_fail("JPEG data has more than %d scans", MAX_SCANS);
        longjmp(j->out, 1);
    }
}

/* Sets up the decoder and reads up to the first scan. */
static void begin(Job *j)
{
    j->jpeg.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = fail;
    j->errors.emit_message = message;
    j->jpeg.client_data = j;
    jpeg_create_decompress(&j->jpeg);
    j->source = (struct jpeg_source_mgr){.next_input_byte = j->bytes,
                                         .bytes_in_buffer = j->size,
                                         .init_source = nothing,
                                         .fill_input_buffer = source_fill,
                                         .skip_input_data = source_skip,
                                         .resync_to_restart = jpeg_resync_to_restart,
                                         .term_source = nothing};
    j->jpeg.src = &j->source;
    j->progress.progress_monitor = watch_scans;
    j->jpeg.progress = &j->progress;
    jpeg_save_markers(&j->jpeg, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&j->jpeg, TRUE);
}

static bool begins(jpeg_saved_marker_ptr m, const char *head, size_t size)
{
    return m->marker == JPEG_APP0 + 1 && m->data_length >= size && memcmp(m->data, head, size) == 0;
}

/* The first EXIF counts, and where it says nothing the first XMP. */
static void read_orientation(const Job *j, PictureHeader *out)
{
    static const char EXIF[] = "Exif\0", XMP[] = "http://ns.adobe.com/xap/1.0/"; /* each with a zero behind */
    int exif = 0, xmp = 0;
    for (jpeg_saved_marker_ptr m = j->jpeg.marker_list; m; m = m->next) {
        if (!exif && begins(m, EXIF, sizeof EXIF))
            exif = exif_orientation(m->data, m->data_length);
        if (!xmp && begins(m, XMP, sizeof XMP))
            xmp = xmp_orientation(m->data + sizeof XMP, m->data_length - sizeof XMP);
    }
    header_set_orientation(out, exif, xmp);
}

static bool is_cmyk(const struct jpeg_decompress_struct *jpeg)
{
    return jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
}

static Status run_info(Job *j, PictureHeader *out)
{
    if (setjmp(j->out))
        return STATUS_FAILED;
    begin(j);
    *out = (PictureHeader){.size = {(int)j->jpeg.image_width, (int)j->jpeg.image_height}};
    read_orientation(j, out);
    if (is_cmyk(&j->jpeg) && !j->jpeg.saw_Adobe_marker)
        out->odd |= PICTURE_IS_BARE_CMYK;
    return picture_size_check(j->jpeg.image_width, j->jpeg.image_height);
}

Status decode_jpeg_header(const uint8_t *bytes, size_t size, PictureHeader *out)
{
    Job j = {.bytes = bytes, .size = size};
    const Status s = run_info(&j, out);
    jpeg_destroy_decompress(&j.jpeg);
    return s;
}

/* The largest of 8, 4, 2, 1 that leaves twice the wanted size. */
static unsigned reduction(unsigned width, unsigned height, Size covered)
{
    if (covered.width <= 0 || covered.height <= 0)
        return 1;
    unsigned r = 8;
    while (r > 1 && (width / r < 2 * (unsigned)covered.width || height / r < 2 * (unsigned)covered.height))
        r /= 2;
    return r;
}

/* Adobe's CMYK is stored as what is left of the white (255: no ink). The few files without Adobe's mark are
 * read in the same way, as Pillow and the browsers do. */
static void cmyk_row(const uint8_t *cmyk, uint8_t *rgb, int width)
{
    for (int x = 0; x < width; x++)
        for (int i = 0; i < 3; i++)
            rgb[3 * x + i] = (uint8_t)((cmyk[4 * x + i] * cmyk[4 * x + 3] + 127) / 255);
}

/* Of several scans libjpeg keeps all coefficients until the last has come. */
static size_t coefficient_bytes(const struct jpeg_decompress_struct *jpeg)
{
    size_t blocks = 0;
    for (int i = 0; i < jpeg->num_components; i++)
        blocks += (size_t)jpeg->comp_info[i].width_in_blocks * jpeg->comp_info[i].height_in_blocks;
    return blocks * sizeof(JBLOCK);
}

static Status run_decode(Job *j, Size covered)
{
    if (setjmp(j->out))
        return STATUS_FAILED;
    begin(j);
    struct jpeg_decompress_struct *jpeg = &j->jpeg;
    TRY(picture_size_check(jpeg->image_width, jpeg->image_height));
    if (jpeg_has_multiple_scans(jpeg))
        TRY(picture_whole_check((Size){(int)jpeg->image_width, (int)jpeg->image_height},
                                coefficient_bytes(jpeg), "a progressive JPEG"));
    const bool cmyk = is_cmyk(jpeg);
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->scale_num = 1;
    jpeg->scale_denom = reduction(jpeg->image_width, jpeg->image_height, covered);
    jpeg_start_decompress(jpeg);
    TRY(picture_new((Size){(int)jpeg->output_width, (int)jpeg->output_height}, &j->picture));
    const size_t w = jpeg->output_width;
    if (cmyk && !(j->row = mem_alloc(4 * w)))
        return STATUS_FAILED;
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *rgb = j->picture.rgb + 3 * w * jpeg->output_scanline;
        JSAMPROW row = cmyk ? j->row : rgb;
        if (jpeg_read_scanlines(jpeg, &row, 1) == 1 && cmyk)
            cmyk_row(row, rgb, (int)w);
    }
    jpeg_finish_decompress(jpeg);
    return STATUS_OK;
}

Status decode_jpeg(const uint8_t *bytes, size_t count, Size covered, Picture *out)
{
    Job j = {.bytes = bytes, .size = count};
    const Status s = run_decode(&j, covered);
    jpeg_destroy_decompress(&j.jpeg);
    mem_free(j.row);
    if (s != STATUS_OK)
        picture_free(&j.picture);
    *out = j.picture;
    return s;
}
