/* Pictures into files of each format and back, with the texts that say how they were made. If this fails,
 * pictures lose colours, or nobody can tell how they were made. */
#include "pictures.h"

#include "data/pictures/encode.h"

#define PROMPT "caf\xC3\xA9 \xE7\x8C\xAB \xF0\x9F\x98\x80, 20 steps"

static const PictureText TEXT[] = {{PICTURE_COMMENT, PROMPT}, {"atelier", "{\"seed\":\"1\"}"}};

/* Smooth, so that a lossy format can be told from a broken one. */
static Picture smooth(Size size)
{
    Picture p;
    assert_ok(picture_new(size, &p));
    for (int y = 0; y < size.height; y++)
        for (int x = 0; x < size.width; x++) {
            uint8_t *rgb = p.rgb + 3 * (y * size.width + x);
            rgb[0] = (uint8_t)(255 * x / size.width);
            rgb[1] = (uint8_t)(255 * y / size.height);
            rgb[2] = (uint8_t)(128 + 100 * (x + y) / (size.width + size.height));
        }
    return p;
}

static int largest_difference(const Picture *a, const Picture *b)
{
    int largest = 0;
    assert_true(size_equal(a->size, b->size));
    for (int64_t i = 0; i < 3 * size_area(a->size); i++) {
        const int d = abs(a->rgb[i] - b->rgb[i]);
        largest = d > largest ? d : largest;
    }
    return largest;
}

static void reads(const uint8_t *bytes, size_t size, const char *key, const char *wanted)
{
    char *value;
    assert_ok(picture_text(bytes, size, key, &value));
    if (wanted) {
        assert_non_null(value);
        assert_string_equal(value, wanted);
    } else {
        assert_null(value);
    }
    mem_free(value);
}

static void comes_back(PictureFormat format, int quality, int allowed)
{
    Picture p = smooth((Size){45, 31}), q;
    uint8_t *bytes, *again;
    size_t size, size_again;
    assert_ok(picture_encode(&p, format, quality, TEXT, 2, &bytes, &size));
    assert_ok(picture_encode(&p, format, quality, TEXT, 2, &again, &size_again));
    assert_int_equal(size, size_again);
    assert_memory_equal(bytes, again, size);
    assert_int_equal(picture_format(bytes, size), format);
    assert_ok(picture_decode(bytes, size, &q));
    const int largest = largest_difference(&p, &q);
    if (largest > allowed)
        fail_msg("quality %d changes a colour by %d", quality, largest);
    reads(bytes, size, PICTURE_COMMENT, PROMPT);
    reads(bytes, size, "atelier", TEXT[1].value);
    reads(bytes, size, "other", NULL);
    picture_free(&p);
    picture_free(&q);
    mem_free(bytes);
    mem_free(again);
}

static void each_format_comes_back_with_its_texts(void **state)
{
    (void)state;
    comes_back(PICTURE_PNG, 0, 0);
    comes_back(PICTURE_WEBP, 100, 0);
    comes_back(PICTURE_JPEG, 95, 12);
    comes_back(PICTURE_JPEG, 50, 40);
    comes_back(PICTURE_WEBP, 95, 24);
}

/* What other programs write: EXIF in either order of bytes, with a user's comment and no note. */
static void a_comment_of_another_program_is_read(void **state)
{
    (void)state;
    static const uint8_t LITTLE[] = {'I',  'I',  '*', 0,   8,   0,   0,   0,   1,   0, 0x69, 0x87, 4,    0,
                                     1,    0,    0,   0,   26,  0,   0,   0,   0,   0, 0,    0,    1,    0,
                                     0x86, 0x92, 7,   0,   12,  0,   0,   0,   44,  0, 0,    0,    0,    0,
                                     0,    0,    'U', 'N', 'I', 'C', 'O', 'D', 'E', 0, 'h',  0,    0xE9, 0};
    char *value;
    assert_ok(exif_text(LITTLE, sizeof LITTLE, PICTURE_COMMENT, &value));
    assert_non_null(value);
    assert_string_equal(value, "h\xC3\xA9");
    mem_free(value);
    for (size_t size = 0; size < sizeof LITTLE; size++) { /* cut anywhere: nothing, and nothing breaks */
        uint8_t *cut = mem_alloc(size + 1);
        memcpy(cut, LITTLE, size);
        assert_ok(exif_text(cut, size, PICTURE_COMMENT, &value));
        assert_null(value);
        mem_free(cut);
    }
}

static void more_than_a_jpeg_has_room_for_is_refused(void **state)
{
    (void)state;
    Picture p = smooth((Size){8, 8});
    uint8_t *bytes;
    size_t size;
    char *long_text = mem_alloc(70001);
    memset(long_text, 'a', 70000);
    long_text[70000] = 0;
    const PictureText text = {"atelier", long_text};
    assert_int_equal(picture_encode(&p, PICTURE_JPEG, 0, &text, 1, &bytes, &size), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "write a .png"));
    assert_null(bytes);
    assert_ok(picture_encode(&p, PICTURE_WEBP, 0, &text, 1, &bytes, &size));
    reads(bytes, size, "atelier", long_text);
    mem_free(bytes);
    mem_free(long_text);
    picture_free(&p);
}

/* Lets one allocation fail. */
static int count_down(size_t bytes, void *arg)
{
    (void)bytes;
    return --*(int *)arg == 0;
}

/* Of a picture whose file is larger than any buffer that it begins with. */
static void a_jpeg_that_there_is_no_memory_for_is_given_up(void **state)
{
    (void)state;
    Picture p;
    uint32_t x = 1;
    int failures = 0;
    assert_ok(picture_new((Size){512, 512}, &p));
    for (int i = 0; i < 3 * 512 * 512; i++)
        p.rgb[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
    const size_t before = mem_in_use();
    for (Status s = STATUS_FAILED; s != STATUS_OK; failures++) {
        uint8_t *bytes;
        size_t size;
        int left = failures + 1;
        mem_set_hook(count_down, &left);
        s = picture_encode(&p, PICTURE_JPEG, 95, NULL, 0, &bytes, &size);
        mem_set_hook(NULL, NULL);
        assert_true(s == STATUS_OK || (s == STATUS_FAILED && status_is_memory() && !bytes));
        mem_free(bytes);
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(failures > 6); /* a file of half a megabyte has grown some times */
    picture_free(&p);
}

static void a_name_says_the_format(void **state)
{
    (void)state;
    assert_int_equal(picture_format_named("a/b.PNG"), PICTURE_PNG);
    assert_int_equal(picture_format_named("b.jpeg"), PICTURE_JPEG);
    assert_int_equal(picture_format_named("b.jpg"), PICTURE_JPEG);
    assert_int_equal(picture_format_named("b.webp"), PICTURE_WEBP);
    assert_int_equal(picture_format_named("b.gif"), PICTURE_UNKNOWN);
    assert_int_equal(picture_format_named(".png"), PICTURE_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_format_comes_back_with_its_texts),
        cmocka_unit_test(a_comment_of_another_program_is_read),
        cmocka_unit_test(more_than_a_jpeg_has_room_for_is_refused),
        cmocka_unit_test(a_jpeg_that_there_is_no_memory_for_is_given_up),
        cmocka_unit_test(a_name_says_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
