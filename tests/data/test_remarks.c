/* What is decided about pictures and names that could be decided otherwise is said, with a count and a name,
 * by lint and by the dataset that is built; breaks if anything of it is decided in silence again. */
#include "pictures.h"

#include "data/dataset/dataset.h"
#include "data/lint/lint.h"
#include "kernels/base/log.h"

#include <zlib.h>

static char top[64], *folder, *out; /* top/photos, top/out.h5 */
static char said[16384];            /* findings, or messages, one a line */

static void add_line(const char *text)
{
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", text);
}

static void take_message(void *arg, LogLevel level, const char *text)
{
    (void)arg;
    (void)level;
    add_line(text);
}

static void take_finding(LintKind kind, const char *message, void *arg)
{
    (void)kind;
    (void)arg;
    add_line(message);
}

static int set_up(void **state)
{
    (void)state;
    temporary_folder(top);
    folder = path_join(top, "photos");
    out = path_join(top, "out.h5");
    said[0] = 0;
    log_to(take_message, NULL);
    log_set_level(LOG_INFO);
    return dir_make(folder) != STATUS_OK;
}

static int tear_down(void **state)
{
    (void)state;
    log_to(NULL, NULL);
    mem_free(folder);
    mem_free(out);
    return dir_remove(top) != STATUS_OK;
}

#define says(text)                                                                                           \
    do {                                                                                                     \
        if (!strstr(said, text))                                                                             \
            fail_msg("\"%s\" is not in:\n%s", text, said);                                                   \
    } while (0)
#define says_not(text)                                                                                       \
    do {                                                                                                     \
        if (strstr(said, text))                                                                              \
            fail_msg("\"%s\" is in:\n%s", text, said);                                                       \
    } while (0)

/* A run without buckets at that size; 0: at a size that is a guess. */
static Framer *square(int side)
{
    Framer *f;
    assert_ok(framer_new(&(FrameRule){.side = side}, &f));
    return f;
}

static void lint(const char *path, int side)
{
    int pictures;
    said[0] = 0;
    Framer *framer = square(side ? side : 64);
    assert_ok(dataset_lint(
        &(Lint){.path = path, .report = take_finding, .framer = framer, .any_size = side == 0}, &pictures));
    framer_free(framer);
}

static Dataset *built(const char *caption)
{
    Dataset *d;
    said[0] = 0;
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = caption}, NULL));
    assert_ok(dataset_open(out, &d));
    return d;
}

/* The remark as lint says it of the folder and of the dataset, and as the dataset says it itself. */
static void check_remark(RemarkKind kind, int side, const char *text)
{
    char remark[2048];
    Remarks remarks;
    lint(folder, side);
    says(text);
    Dataset *d = built("x");
    Framer *framer = square(side ? side : 64);
    assert_ok(dataset_remarks(d, framer, &remarks));
    framer_free(framer);
    assert_non_null(remark_text(&remarks, kind, remark, sizeof remark));
    assert_string_equal(remark, text);
    remarks_free(&remarks);
    dataset_close(d);
    lint(out, side);
    says(text);
}

/* PNGs with one chunk more ------------------------------------------------------------------------------- */

static void put_be32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* A PNG of 16 x 12 pixels with this chunk before its pixels, or at its end. */
static void write_chunk(const char *name, const char *kind, const void *data, size_t n, bool late,
                        bool broken)
{
    enum { HEADER = 33, END = 12 };
    char *png, *path = path_join(folder, name);
    size_t size;
    write_png(folder, name, 16, 12, 3);
    assert_ok(file_read(path, 1 << 20, &png, &size));
    const size_t at = late ? size - END : HEADER;
    uint8_t *with = mem_alloc(size + n + 12), *chunk = with + at;
    memcpy(with, png, at);
    put_be32(chunk, (uint32_t)n);
    memcpy(chunk + 4, kind, 4);
    memcpy(chunk + 8, data, n);
    put_be32(chunk + 8 + n, (uint32_t)crc32(0, chunk + 4, (uInt)n + 4) ^ broken);
    memcpy(chunk + 12 + n, png + at, size - at);
    write_file(folder, name, with, size + n + 12);
    mem_free(with);
    mem_free(png);
    mem_free(path);
}

static void an_animated_png_is_named(void **state)
{
    (void)state;
    write_chunk("a.png", "acTL", "\0\0\0\2\0\0\0\0", 8, false, false);
    write_png(folder, "b.png", 16, 12, 1);
    check_remark(REMARK_ANIMATED, 12, "1 picture (a.png): animated PNG, of which the first picture is taken");
}

static void a_wrong_check_sum_is_named(void **state)
{
    (void)state;
    write_chunk("a.png", "tEXt", "Title\0x", 7, false, true);
    write_chunk("b.png", "tEXt", "Title\0x", 7, true, true);
    write_chunk("c.png", "tEXt", "Title\0x", 7, false, false);
    check_remark(
        REMARK_BAD_CHUNK, 12,
        "2 pictures (a.png, b.png): a part that holds no pixels has a wrong check sum and is passed over");
}

/* Orientation ------------------------------------------------------------------------------------------- */

#define XMP "<x:xmpmeta><rdf:Description tiff:Orientation=\"6\"/></x:xmpmeta>"
#define XMP_ELEMENT "<x:xmpmeta><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"
/* A TIFF of one entry, orientation 6, as ImageMagick writes it. */
#define HEX                                                                                                  \
    "\nexif\n      32\n457869660000"                                                                         \
    "4d4d002a00000008000101120003"                                                                           \
    "\n00000001000600000000\n0000\n"

static void check_turned(const char *name)
{
    char text[256], *path = path_join(folder, name), *bytes;
    size_t size;
    Picture p;
    snprintf(text, sizeof text,
             "1 picture (%s): turned as a text in the file (or its XMP) says, as it has no EXIF that does",
             name);
    check_remark(REMARK_TURNED, 12, text);
    assert_ok(file_read(path, 1 << 20, &bytes, &size));
    assert_ok(picture_decode((uint8_t *)bytes, size, &p));
    Dataset *d = built("x");
    assert_true(size_equal(p.size, dataset_size(d, 0)));
    dataset_close(d);
    picture_free(&p);
    mem_free(bytes);
    assert_int_equal(unlink(path), 0);
    mem_free(path);
}

/* A text as zTXt and packed iTXt have it: before, then packed. */
static void write_packed(const char *name, const char *kind, const char *before, size_t n, const char *text)
{
    uint8_t chunk[1024];
    uLongf packed = sizeof chunk - n;
    memcpy(chunk, before, n);
    assert_int_equal(compress(chunk + n, &packed, (const Bytef *)text, strlen(text)), Z_OK);
    write_chunk(name, kind, chunk, n + packed, false, false);
}

static void an_orientation_in_a_text_is_taken(void **state)
{
    (void)state;
    static const char PLAIN[] = "Raw profile type exif\0" HEX, OLD[] = "Raw profile type APP1\0" HEX,
                      INTERNATIONAL[] = "XML:com.adobe.xmp\0\0\0\0\0" XMP,
                      ELEMENT[] = "XML:com.adobe.xmp\0\0\0en\0x\0" XMP_ELEMENT;
    write_chunk("a.png", "tEXt", PLAIN, sizeof PLAIN - 1, false, false);
    check_turned("a.png");
    write_chunk("b.png", "tEXt", OLD, sizeof OLD - 1, true, false);
    check_turned("b.png");
    write_packed("c.png", "zTXt", "Raw profile type exif\0\0", 23, HEX);
    check_turned("c.png");
    write_chunk("d.png", "iTXt", INTERNATIONAL, sizeof INTERNATIONAL - 1, false, false);
    check_turned("d.png");
    write_chunk("e.png", "iTXt", ELEMENT, sizeof ELEMENT - 1, true, false);
    check_turned("e.png");
    write_packed("f.png", "iTXt", "XML:com.adobe.xmp\0\1\0\0\0", 22, XMP);
    check_turned("f.png");
}

/* The same picture with one more of JPEG's segments behind its first two bytes. */
static void write_segment(const char *name, const char *golden, const void *data, size_t n)
{
    size_t size;
    uint8_t *jpeg = golden_bytes(golden, &size), *with = mem_alloc(size + n + 4);
    memcpy(with, jpeg, 2);
    memcpy(with + 2, (uint8_t[]){0xff, 0xe1, (uint8_t)((n + 2) >> 8), (uint8_t)(n + 2)}, 4);
    memcpy(with + 6, data, n);
    memcpy(with + 6 + n, jpeg + 2, size - 2);
    write_file(folder, name, with, size + n + 4);
    mem_free(with);
    mem_free(jpeg);
}

static void an_orientation_in_xmp_is_taken_unless_exif_has_one(void **state)
{
    (void)state;
    static const char SEGMENT[] = "http://ns.adobe.com/xap/1.0/\0" XMP;
    write_segment("a.jpg", "jpeg-444.jpg", SEGMENT, sizeof SEGMENT - 1);
    check_turned("a.jpg");
    size_t size;
    uint8_t *webp = golden_bytes("webp-lossy.webp", &size), *with = mem_calloc(1, size + 8 + sizeof XMP);
    const uint32_t n = sizeof XMP - 1;
    memcpy(with, webp, size);
    memcpy(with + size, "XMP ", 4);
    memcpy(with + size + 4, (uint8_t[]){(uint8_t)n, 0, 0, 0}, 4);
    memcpy(with + size + 8, XMP, n);
    write_file(folder, "b.webp", with, size + 8 + n + (n & 1));
    check_turned("b.webp");
    write_segment("c.jpg", "jpeg-exif1.jpg", SEGMENT, sizeof SEGMENT - 1);
    lint(folder, 12);
    says_not("turned");
    mem_free(with);
    mem_free(webp);
}

/* CMYK -------------------------------------------------------------------------------------------------- */

static void cmyk_without_a_mark_is_named_and_read_as_adobes(void **state)
{
    (void)state;
    size_t size;
    uint8_t *jpeg = golden_bytes("jpeg-cmyk.jpg", &size), *mark = memmem(jpeg, size,
                                                                         "\xff\xee\0\x0e"
                                                                         "Adobe",
                                                                         9);
    assert_non_null(mark);
    Picture expected, p;
    assert_ok(picture_decode(jpeg, size, &expected));
    write_file(folder, "a.jpg", jpeg, size); /* with its mark */
    memmove(mark, mark + 16, size - 16 - (size_t)(mark - jpeg));
    write_file(folder, "b.jpg", jpeg, size - 16);
    check_remark(REMARK_BARE_CMYK, 12,
                 "1 picture (b.jpg): CMYK without Adobe's mark, read as browsers read it: 255 is no ink");
    assert_ok(picture_decode(jpeg, size - 16, &p));
    assert_memory_equal(p.rgb, expected.rgb, 3 * (size_t)size_area(p.size));
    picture_free(&p);
    picture_free(&expected);
    mem_free(jpeg);
}

/* Sizes ------------------------------------------------------------------------------------------------- */

static void what_is_cut_away_or_enlarged_is_named(void **state)
{
    (void)state;
    write_png(folder, "a.png", 2000, 8, 1);
    write_png(folder, "b.png", 64, 33, 2);
    write_png(folder, "c.png", 31, 64, 3);
    check_remark(
        REMARK_CUT, 0,
        "2 pictures (a.png (0.4 %), c.png (48 %)): less than half of the picture is used, the rest is cut "
        "away");
    check_remark(REMARK_ENLARGED, 64,
                 "2 pictures (a.png (8.0 times), c.png (2.1 times)): enlarged more than twice");
    lint(folder, 0);
    says_not("enlarged");
}

static void of_many_the_first_are_named(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.png", i);
        write_png(folder, name, 100, 20, i);
    }
    lint(folder, 0);
    says(
        "8 pictures (0.png (20 %), 1.png (20 %), 2.png (20 %), 3.png (20 %), 4.png (20 %) and 3 more): less");
}

/* Names ------------------------------------------------------------------------------------------------- */

static void copies_are_no_pictures(void **state)
{
    (void)state;
    static const char *const copies[] = {"02.jpg~",        "02.png.bak",        "02.png.part",
                                         "Copy of 02.png", "02 - Copy (2).png", "02 - Copy.png",
                                         "02 copy.png"};
    write_png(folder, "02.png", 16, 16, 2);
    write_png(folder, "Copy of 03.png", 16, 16, 3); /* nothing that it is a copy of */
    for (int i = 0; i < 7; i++)
        write_png(folder, copies[i], 16, 16, 2);
    Dataset *d = built("x");
    assert_int_equal(dataset_count(d), 2);
    says("not used: 02 - Copy (2).png (a copy of another), 02 - Copy.png (a copy of another), 02 copy.png (a "
         "copy");
    dataset_close(d);
    lint(folder, 0);
    says("not used: 02.jpg~ (a backup copy)");
    says("not used: 02.png.bak (a backup copy)");
    says("not used: 02.png.part (an unfinished file)");
    says("not used: Copy of 02.png (a copy of another)");
    says_not("not used: Copy of 03.png");
}

static void numbers_that_are_no_repeats_are_named(void **state)
{
    (void)state;
    static const char *const names[] = {"10_", "100001_x", "0_x"};
    for (int i = 0; i < 3; i++) {
        char *path = path_join(folder, names[i]);
        assert_ok(dir_make(path));
        write_png(path, "a.png", 16, 16, i);
        mem_free(path);
    }
    Dataset *d = built("x");
    says("folders whose number is not taken as repeats: 0_x (0 repeats would be none), 100001_x (so many "
         "repeats are "
         "more than there can be), 10_ (no caption stands behind the number)");
    dataset_close(d);
    lint(folder, 0);
    says("not taken as repeats: 10_ (no caption stands behind the number)");
    said[0] = 0;
    assert_ok(dataset_build(
        &(DatasetBuild){.folder = folder, .out = out, .caption = "x", .folder_names = FOLDER_NAMES_PLAIN},
        NULL));
    says_not("repeats");
}

static void an_empty_caption_file_is_named(void **state)
{
    (void)state;
    write_png(folder, "a.png", 16, 16, 1);
    write_png(folder, "b.png", 16, 16, 2);
    write_text(folder, "b.txt", " \n");
    Dataset *d = built("for all");
    says("2 of 2 pictures have no caption of their own and get \"for all\": a.png, b.png");
    says("1 caption file is empty, and the picture got that caption or the folder's: b.txt");
    dataset_close(d);
    lint(folder, 0);
    says("a.png: has no caption\n");
    says("b.png: has no caption; b.txt is empty\n");
}

static void a_caption_that_finds_no_picture_is_explained(void **state)
{
    (void)state;
    write_png(folder, "a.png", 16, 16, 1);
    write_text(folder, "a.png.txt", "x");
    write_text(folder, "A.txt", "x");
    write_text(folder, "captions.csv", "x");
    write_text(folder, "metadata.json1", "x");
    char *inside = path_join(folder, "b.png"), *elsewhere = path_join(top, "c.png");
    write_png(folder, "b.png", 16, 16, 2);
    write_png(top, "c.png", 16, 16, 2);
    char *lines =
        mem_printf("{\"file_name\":\"train/a.png\",\"text\":\"x\"}\n{\"file_name\":\"%s\",\"text\":\"by its "
                   "whole path\"}\n{\"file_name\":\"%s\",\"text\":\"x\"}\n",
                   inside, elsewhere);
    write_text(folder, "metadata.jsonl", lines);
    assert_int_not_equal(dataset_build(&(DatasetBuild){.folder = folder, .out = out}, NULL), STATUS_OK);
    assert_message("1 of 2 pictures has no caption: a.png;");
    assert_message(
        "A.txt (a caption of a.png? it is looked for as a.txt), a.png.txt (a caption of a.png? it is looked "
        "for as a.txt), captions.csv (captions are read from .txt files and from metadata.jsonl), "
        "metadata.json1 (did you mean metadata.jsonl?), metadata.jsonl line 1 (names train/a.png, which is "
        "not there; did you mean a.png?) and 1 more");
    lint(folder, 0);
    says("line 3 (names ");
    says("c.png, which lies outside of the folder)");
    Dataset *d = built("x");
    assert_string_equal(dataset_caption(d, 1), "by its whole path");
    dataset_close(d);
    mem_free(lines);
    mem_free(inside);
    mem_free(elsewhere);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(an_animated_png_is_named),
        TEST(a_wrong_check_sum_is_named),
        TEST(an_orientation_in_a_text_is_taken),
        TEST(an_orientation_in_xmp_is_taken_unless_exif_has_one),
        TEST(cmyk_without_a_mark_is_named_and_read_as_adobes),
        TEST(what_is_cut_away_or_enlarged_is_named),
        TEST(of_many_the_first_are_named),
        TEST(copies_are_no_pictures),
        TEST(numbers_that_are_no_repeats_are_named),
        TEST(an_empty_caption_file_is_named),
        TEST(a_caption_that_finds_no_picture_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
