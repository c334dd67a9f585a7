/* Buckets against sd-scripts' rules, said again by scripts/reference/buckets.py: 10,000 sizes under each of
 * eight rules, by a hash over all answers and some of them in full. Breaks if a picture would be trained at
 * another size or with another part cut off than there, or SDXL were told other numbers of its size. */
#include "pictures.h"

#include "data/pictures/buckets.h"
#include "kernels/base/sha256.h"

#define SIZES 10000
#define SHOWN 125 /* every so many stand in the file */

/* The generator of buckets.py. */
static Size next_picture(uint64_t *state, int i)
{
    uint32_t both[2];
    for (int k = 0; k < 2; k++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        both[k] = (uint32_t)(*state >> 33);
    }
    Size s = {8 + (int)(both[0] % 7993), 8 + (int)(both[1] % 7993)};
    if (i % 16 == 1)
        s.height = s.width;
    else if (i % 16 == 2)
        s = (Size){64 + (int)(both[0] % 32 * 64), 64 + (int)(both[1] % 32 * 64)};
    else if (i % 16 == 3)
        s = (Size){8 + (int)(both[0] % 1017), 8 + (int)(both[1] % 1017)};
    return s;
}

/* What a fit has to be in itself, whoever computes it. */
static void check_fit(const BucketRule *r, Size picture, const BucketFit *f)
{
    assert_true(f->bucket.width > 0 && f->bucket.width % r->step == 0);
    assert_true(f->bucket.height > 0 && f->bucket.height % r->step == 0);
    assert_true(f->scaled.width >= f->bucket.width && f->scaled.height >= f->bucket.height);
    assert_true(f->x >= 0 && f->x + f->bucket.width <= f->scaled.width);
    assert_true(f->y >= 0 && f->y + f->bucket.height <= f->scaled.height);
    assert_true(r->enlarge || size_area(f->bucket) <= size_area(picture));
}

static void answer(const Buckets *b, const BucketRule *r, Size picture, char *line, size_t size)
{
    BucketFit f;
    if (buckets_fit(b, picture, &f) == STATUS_OK) {
        check_fit(r, picture, &f);
    } else {
        assert_false(r->enlarge);
        f = (BucketFit){0};
    }
    snprintf(line, size, "%d %d  %d %d  %d %d  %d %d\n", picture.width, picture.height, f.bucket.width,
             f.bucket.height, f.scaled.width, f.scaled.height, f.x, f.y);
}

/* The rule's lines that follow in the file, then the hash over all. */
static void check_rule(FILE *golden, const BucketRule *r, int count, const char *hash)
{
    char line[128], expected[128], hex[SHA256_HEX_SIZE];
    uint8_t digest[SHA256_SIZE];
    uint64_t state = 1;
    Buckets *b;
    Sha256 s;
    sha256_init(&s);
    assert_ok(buckets_new(r, &b));
    assert_int_equal(buckets_count(b), count);
    for (int i = 0; i < SIZES; i++) {
        answer(b, r, next_picture(&state, i), line, sizeof line);
        sha256_update(&s, line, strlen(line));
        if (i % SHOWN)
            continue;
        assert_non_null(fgets(expected, sizeof expected, golden));
        assert_string_equal(line, expected);
    }
    sha256_final(&s, digest);
    sha256_hex(digest, hex);
    assert_string_equal(hex, hash);
    buckets_free(b);
}

static void the_same_buckets_as_sd_scripts(void **state)
{
    (void)state;
    char line[256], hash[SHA256_HEX_SIZE];
    BucketRule r;
    int enlarge, count, rules = 0;
    FILE *golden = fopen(TEST_GOLDEN "/buckets.txt", "r");
    assert_non_null(golden);
    while (fgets(line, sizeof line, golden)) {
        assert_int_equal(sscanf(line, "rule %d %d %d %d %d %d %d %64s", &r.resolution.width,
                                &r.resolution.height, &r.min_side, &r.max_side, &r.step, &enlarge, &count,
                                hash),
                         8);
        r.enlarge = enlarge;
        check_rule(golden, &r, count, hash);
        rules++;
    }
    assert_int_equal(rules, 8);
    fclose(golden);
}

/* scripts/reference/size_numbers.py: pictures enlarged and not in turn. */
static void sdxl_is_told_the_numbers_of_sd_scripts(void **state)
{
    (void)state;
    const BucketRule rules[] = {{{1024, 1024}, 512, 2048, 64, true}, {{1024, 1024}, 512, 2048, 64, false}};
    Buckets *b[2];
    char line[128];
    uint64_t generator = 1;
    int pictures = 0;
    FILE *golden = fopen(TEST_GOLDEN "/size_numbers.txt", "r");
    assert_non_null(golden);
    for (int i = 0; i < 2; i++)
        assert_ok(buckets_new(&rules[i], &b[i]));
    for (int i = 0; i < SIZES && fgets(line, sizeof line, golden); i++, pictures++) {
        BucketFit f;
        Size p = next_picture(&generator, i);
        while (buckets_fit(b[i % 2], p, &f) != STATUS_OK) /* sd-scripts does not take it either */
            p = next_picture(&generator, ++i);
        const BucketCorner corner = bucket_corner(p, f.bucket, false);
        char ours[128];
        snprintf(ours, sizeof ours, "%d %d  %d %d %d %d %d %d  %d\n", p.width, p.height, p.height, p.width,
                 corner.top, corner.left, f.bucket.height, f.bucket.width,
                 bucket_corner(p, f.bucket, true).left);
        assert_string_equal(ours, line);
    }
    assert_int_equal(pictures, 1000);
    for (int i = 0; i < 2; i++)
        buckets_free(b[i]);
    fclose(golden);
}

/* By hand: 512² in steps of 64 has 2:1 at 704 x 320; a photograph of 3:2 loses 12 lines. */
static void a_photograph_keeps_its_head(void **state)
{
    (void)state;
    const BucketRule r = {{512, 512}, 256, 1024, 64, true};
    Buckets *b;
    BucketFit f;
    assert_ok(buckets_new(&r, &b));
    assert_ok(buckets_fit(b, (Size){4000, 6000}, &f));
    assert_int_equal(f.bucket.width, 384);
    assert_int_equal(f.bucket.height, 640);
    assert_int_equal(f.scaled.width, 427);
    assert_int_equal(f.scaled.height, 640);
    assert_int_equal(f.x, 21);
    assert_int_equal(f.y, 0);
    assert_ok(buckets_fit(b, (Size){100, 100}, &f)); /* enlarged */
    assert_int_equal(f.scaled.width, 512);
    buckets_free(b);
}

static void small_pictures_stay_small_where_asked(void **state)
{
    (void)state;
    const BucketRule r = {{512, 512}, 256, 1024, 64, false};
    Buckets *b;
    BucketFit f;
    assert_ok(buckets_new(&r, &b));
    assert_ok(buckets_fit(b, (Size){200, 150}, &f));
    assert_true(size_equal(f.bucket, (Size){192, 128}));
    assert_true(size_equal(f.scaled, (Size){200, 150}));
    assert_int_equal(f.x, 4);
    assert_int_equal(f.y, 11);
    assert_int_equal(buckets_fit(b, (Size){63, 500}, &f), STATUS_FAILED);
    assert_message("a picture of 63 x 500 has a side of less than 64 pixels");
    assert_int_equal(buckets_fit(b, (Size){65000, 20}, &f), STATUS_FAILED);
    buckets_free(b);
}

static void rules_that_do_not_go_together_are_refused(void **state)
{
    (void)state;
    static const BucketRule wrong[] = {{{512, 512}, 250, 1024, 64, true}, {{512, 512}, 256, 1000, 64, true},
                                       {{512, 512}, 576, 1024, 64, true}, {{512, 2048}, 256, 1024, 64, true},
                                       {{512, 512}, 0, 1024, 64, true},   {{512, 512}, 256, 1024, 0, true}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Buckets *b;
        assert_int_equal(buckets_new(&wrong[i], &b), STATUS_REFUSED);
        assert_null(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_buckets_as_sd_scripts),
        cmocka_unit_test(sdxl_is_told_the_numbers_of_sd_scripts),
        cmocka_unit_test(a_photograph_keeps_its_head),
        cmocka_unit_test(small_pictures_stay_small_where_asked),
        cmocka_unit_test(rules_that_do_not_go_together_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
