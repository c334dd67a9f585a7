/* Writing JPEG through libjpeg-turbo. Its way of failing is a callback that must not return, so what has to
 * be cleaned up lies in a Job outside of the function that begins with setjmp. */
#include "encode.h"

#include "kernels/base/mem.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#define EXIF_MARKER (JPEG_APP0 + 1)
#define MARKER_BYTES 65533 /* that a marker holds */
#define FULL_COLOUR 90     /* from this quality on colours are not halved */
#define FIRST_BYTES ((size_t)64 << 10)

typedef struct Job {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf out;
    struct jpeg_destination_mgr to;
    uint8_t *bytes;
    size_t capacity;
} Job;

static void fail(j_common_ptr jpeg)
{
    char text[JMSG_LENGTH_MAX];
    Job *j = jpeg->client_data;
    jpeg->err->format_message(jpeg, text);
    status_fail("JPEG cannot be encoded: %s", text);
    longjmp(j->out, 1);
}

/* Where the bytes go. The library's own jpeg_mem_dest would leave a pointer to freed memory behind where its
 * buffer cannot grow. */
static void begin_bytes(j_compress_ptr jpeg)
{
    (void)jpeg; /* the buffer is there */
}

static boolean more_room(j_compress_ptr jpeg)
{
    Job *j = jpeg->client_data;
    uint8_t *larger = mem_realloc(j->bytes, 2 * j->capacity);
    if (!larger)
        longjmp(j->out, 1);
    j->bytes = larger;
    j->to.next_output_byte = larger + j->capacity;
    j->to.free_in_buffer = j->capacity;
    j->capacity *= 2;
    return TRUE;
}

static void end_bytes(j_compress_ptr jpeg)
{
    (void)jpeg; /* free_in_buffer says how many there are */
}

static Status run(Job *j, const Picture *p, int quality, const uint8_t *exif, size_t exif_size)
{
    if (setjmp(j->out))
        return STATUS_FAILED;
    jpeg_create_compress(&j->jpeg);
    j->jpeg.dest = &j->to;
    j->jpeg.image_width = (JDIMENSION)p->size.width;
    j->jpeg.image_height = (JDIMENSION)p->size.height;
    j->jpeg.input_components = 3;
    j->jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&j->jpeg);
    jpeg_set_quality(&j->jpeg, quality, TRUE);
    j->jpeg.optimize_coding = TRUE;
    if (quality >= FULL_COLOUR)
        j->jpeg.comp_info[0].h_samp_factor = j->jpeg.comp_info[0].v_samp_factor = 1;
    j->jpeg.write_JFIF_header = FALSE; /* EXIF's marker has to be the first */
    jpeg_start_compress(&j->jpeg, TRUE);
    jpeg_write_marker(&j->jpeg, EXIF_MARKER, exif, (unsigned)exif_size);
    while (j->jpeg.next_scanline < j->jpeg.image_height) {
        JSAMPROW row = p->rgb + 3 * (size_t)p->size.width * j->jpeg.next_scanline;
        jpeg_write_scanlines(&j->jpeg, &row, 1);
    }
    jpeg_finish_compress(&j->jpeg);
    return STATUS_OK;
}

Status encode_jpeg(const Picture *p, int quality, const PictureText *text, int count, uint8_t **bytes,
                   size_t *size)
{
    Job *j = mem_calloc(1, sizeof *j);
    uint8_t *exif = NULL;
    size_t exif_size;
    *bytes = NULL;
    Status s = j ? exif_texts(text, count, MARKER_BYTES, &exif, &exif_size) : STATUS_FAILED;
    if (s == STATUS_OK && !(j->bytes = mem_alloc(j->capacity = FIRST_BYTES)))
        s = STATUS_FAILED;
    if (s == STATUS_OK) {
        j->to = (struct jpeg_destination_mgr){.next_output_byte = j->bytes,
                                              .free_in_buffer = j->capacity,
                                              .init_destination = begin_bytes,
                                              .empty_output_buffer = more_room,
                                              .term_destination = end_bytes};
        j->jpeg.err = jpeg_std_error(&j->errors);
        j->errors.error_exit = fail;
        j->jpeg.client_data = j;
        s = run(j, p, quality, exif, exif_size);
        jpeg_destroy_compress(&j->jpeg);
    }
    if (s == STATUS_OK) {
        *size = j->capacity - j->to.free_in_buffer;
        *bytes = j->bytes;
    } else if (j) {
        mem_free(j->bytes);
    }
    mem_free(j);
    mem_free(exif);
    return s;
}

/* Markers are 0xFF, a letter, and for most a size of two bytes that counts itself. */
const uint8_t *jpeg_exif(const uint8_t *bytes, size_t size, size_t *count)
{
    for (size_t at = 2; at + 4 <= size && bytes[at] == 0xFF;) {
        const size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (bytes[at + 1] == 0xDA || length < 2 || length > size - at - 2)
            return NULL;
        if (bytes[at + 1] == EXIF_MARKER && length >= 8 && !memcmp(bytes + at + 4, "Exif\0\0", 6)) {
            *count = length - 2;
            return bytes + at + 4;
        }
        at += 2 + length;
    }
    return NULL;
}
