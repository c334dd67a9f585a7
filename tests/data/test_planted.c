/* A thousand pictures with faults planted among them: lint finds and names each, and invents none. Breaks if
 * a fault were passed over, named wrongly, told twice, or found where there is none. */
#include "pictures.h"

#include "data/lint/lint.h"
#include "kernels/base/log.h"

#include <lcms2.h>

#define GOOD 1000
#define SIDE 64
#define SEEN 12 /* tokens, which are words here */

static char folder[64];

typedef struct Finding {
    LintKind kind;
    const char *part, *name; /* of its message; name NULL: none */
} Finding;

/* Planting ---------------------------------------------------------------------------------------------- */

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 16;
}

/* Fields of 9 x 8 greys that follow from the seed: no two pictures look the same. */
static Picture make_picture(Size size, uint32_t seed, int brighter)
{
    uint8_t fields[72];
    Picture p;
    seed = seed * 2654435761u + 1;
    for (int i = 0; i < 72; i++)
        fields[i] = (uint8_t)(20 + next(&seed) % 200);
    assert_ok(picture_new(size, &p));
    for (int y = 0; y < size.height; y++)
        for (int x = 0; x < size.width; x++)
            memset(p.rgb + 3 * (y * size.width + x),
                   fields[y * 8 / size.height * 9 + x * 9 / size.width] + brighter, 3);
    return p;
}

/* Thousands of files, of which none has to outlast the machine. */
static void write_bytes(const char *name, const void *bytes, size_t size)
{
    char *path = path_join(folder, name);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(bytes, 1, size, f) == size);
    assert_int_equal(fclose(f), 0);
    mem_free(path);
}

/* Frees p. */
static void write_picture(const char *name, Picture *p)
{
    uint8_t *bytes;
    size_t size;
    assert_ok(picture_encode_png(p, NULL, 0, &bytes, &size));
    write_bytes(name, bytes, size);
    mem_free(bytes);
    picture_free(p);
}

static void write_grid(const char *name, Size size, uint32_t seed, int brighter)
{
    Picture p = make_picture(size, seed, brighter);
    write_picture(name, &p);
}

static void plant(const char *name, Size size, uint32_t seed, const char *text)
{
    char file[64];
    snprintf(file, sizeof file, "%s.png", name);
    write_grid(file, size, seed, 0);
    snprintf(file, sizeof file, "%s.txt", name);
    if (text)
        write_bytes(file, text, strlen(text));
}

static void write_black(const char *name, Size size)
{
    Picture p;
    assert_ok(picture_new(size, &p));
    memset(p.rgb, 0, 3 * (size_t)size_area(size));
    write_picture(name, &p);
}

#define PLAIN "a photo of a sks thing"

static void plant_errors(void)
{
    const Size size = size_square(SIDE);
    size_t bytes;
    plant("e-cut", size, 5001, PLAIN);
    char *path = path_join(folder, "e-cut.png"), *whole;
    assert_ok(file_read(path, 1 << 20, &whole, &bytes));
    write_bytes("e-cut.png", whole, bytes / 2);
    mem_free(whole);
    mem_free(path);
    write_text(folder, "e-text.jpg", "not a picture");
    write_text(folder, "e-text.txt", PLAIN);
    uint8_t *moving = golden_bytes("webp-animated.webp", &bytes);
    write_bytes("e-moving.webp", moving, bytes);
    mem_free(moving);
    write_text(folder, "e-moving.txt", PLAIN);
    plant("e-tiny", size_square(4), 5002, PLAIN);
    plant("e-wordless", size, 5003, NULL);
    plant("e-latin", size, 5004, "a photo of a sks caf\xE9");
    plant("e-blank", size, 5005, " \n");
    plant("e-mask", size, 5006, PLAIN);
    write_black("e-mask.mask.png", (Size){SIDE, SIDE / 2});
}

static void plant_losses(void)
{
    const Size size = size_square(SIDE);
    plant("l-strip", (Size){12 * SIDE, SIDE}, 5101, PLAIN);
    plant("l-trimmed", (Size){SIDE, 7 * SIDE}, 5104, PLAIN);
    plant("l-long", size, 5102, "a photo of a sks thing that goes on and on for more words than are seen");
    plant("l-black", size, 5103, PLAIN);
    write_black("l-black.mask.png", size);
}

/* A JPEG with another white and other primaries than sRGB's, in an APP2 behind its first marker. */
static void plant_profile(void)
{
    static const cmsCIExyYTRIPLE primaries = {{0.68, 0.32, 1}, {0.265, 0.69, 1}, {0.15, 0.06, 1}};
    cmsCIExyY white;
    uint8_t head[18] = {0xFF, 0xE2, 0, 0, 'I', 'C', 'C', '_', 'P', 'R', 'O', 'F', 'I', 'L', 'E', 0, 1, 1};
    cmsToneCurve *const curve = cmsBuildGamma(NULL, 1.8), *const curves[] = {curve, curve, curve};
    cmsUInt32Number bytes;
    size_t size;
    cmsWhitePointFromTemp(&white, 5000);
    cmsHPROFILE profile = cmsCreateRGBProfile(&white, &primaries, curves);
    assert_true(cmsSaveProfileToMem(profile, NULL, &bytes));
    Picture p = make_picture(size_square(SIDE), 5206, 0);
    uint8_t *jpeg, *all;
    assert_ok(picture_encode(&p, PICTURE_JPEG, 0, NULL, 0, &jpeg, &size));
    all = malloc(size + sizeof head + bytes);
    head[2] = (uint8_t)((bytes + 16) >> 8);
    head[3] = (uint8_t)(bytes + 16);
    memcpy(all, jpeg, 2);
    memcpy(all + 2, head, sizeof head);
    assert_true(cmsSaveProfileToMem(profile, all + 2 + sizeof head, &bytes));
    memcpy(all + 2 + sizeof head + bytes, jpeg + 2, size - 2);
    write_bytes("n-profile.jpg", all, size + sizeof head + bytes);
    write_text(folder, "n-profile.txt", PLAIN);
    cmsCloseProfile(profile);
    cmsFreeToneCurve(curve);
    picture_free(&p);
    mem_free(jpeg);
    free(all);
}

static void plant_notes(void)
{
    const Size size = size_square(SIDE);
    plant("n-same", size, 17, PLAIN); /* the file of 0017.png */
    plant("n-alike", (Size){SIDE + 32, SIDE + 32}, 5201, PLAIN);
    plant("n-alike-too", size, 5201, PLAIN);
    plant("n-alone", size, 5202, "zebra");
    plant("n-small", size_square(SIDE / 3), 5203, PLAIN);
    plant("n-wide", (Size){2 * SIDE, SIDE}, 5204, PLAIN);
    plant_profile();
    write_text(folder, "n-nobody.txt", PLAIN);
    write_black("n-lost.mask.png", size);
    write_grid("Copy of 0001.png", size, 5205, 0);
    write_text(folder, "n-table.csv", "a,b");
}

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    for (int i = 0; i < GOOD; i++) {
        char name[16], text[64];
        snprintf(name, sizeof name, "%04d", i);
        snprintf(text, sizeof text, PLAIN ", number %d", i);
        plant(name, i % 3 ? size_square(SIDE) : (Size){SIDE, SIDE * 3 / 4}, (uint32_t)i, text);
    }
    plant_errors();
    plant_losses();
    plant_notes();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return dir_remove(folder) != STATUS_OK;
}

/* Finding ----------------------------------------------------------------------------------------------- */

static const Finding wanted[] = {
    {LINT_ERROR, "ends early", "e-cut.png"},
    {LINT_ERROR, "is not a JPEG, PNG or WebP picture", "e-text.jpg"},
    {LINT_ERROR, "animated WebP", "e-moving.webp"},
    {LINT_ERROR, "too small to train on", "e-tiny.png"},
    {LINT_ERROR, "has no caption", "e-wordless.png"},
    {LINT_ERROR, "is not UTF-8", "e-latin.txt"},
    {LINT_ERROR, "has no caption; e-blank.txt is empty", "e-blank.png"},
    {LINT_ERROR, "the mask of", "e-mask.png"},
    {LINT_LOSS, "less than half of the picture is used", "l-strip.png"},
    {LINT_LOSS, "more than a third of the picture is cut away", "l-trimmed.png"},
    {LINT_LOSS, "longer than the 12 tokens", "l-long.png"},
    {LINT_LOSS, "mask is black", "l-black.png"},
    {LINT_NOTE, "is the same file as", "n-same.png"},
    {LINT_NOTE, "pair of pictures looks nearly the same", "n-alike.png"},
    {LINT_NOTE, "has no word that another one has", "n-alone.png"},
    {LINT_NOTE, "enlarged more than twice", "n-small.png"},
    {LINT_NOTE, "its colour profile is not sRGB's", "n-profile.jpg"},
    {LINT_NOTE, "fewer pictures than a step", NULL},
    {LINT_NOTE, "not used: n-nobody.txt", NULL},
    {LINT_NOTE, "not used: n-lost.mask.png (a mask", NULL},
    {LINT_NOTE, "not used: Copy of 0001.png", NULL},
    {LINT_NOTE, "not used: n-table.csv", NULL},
};
#define WANTED (int)(sizeof wanted / sizeof *wanted)
static int times[WANTED];

static void take_finding(LintKind kind, const char *message, void *arg)
{
    (void)arg;
    for (int i = 0; i < WANTED; i++)
        if (wanted[i].kind == kind && strstr(message, wanted[i].part) &&
            (!wanted[i].name || strstr(message, wanted[i].name))) {
            times[i]++;
            return;
        }
    fail_msg("invented: %s", message);
}

static Status count_words(const char *caption, int *count, void *arg)
{
    (void)arg;
    *count = 1;
    for (const char *p = caption; *p; p++)
        *count += *p == ' ';
    return STATUS_OK;
}

static void each_is_found_once(void **state)
{
    (void)state;
    int pictures;
    Framer *framer;
    FrameRule rule = {.side = SIDE, .buckets = true, .enlarge = true};
    assert_ok(frame_settle(&rule, 16, SIDE));
    assert_ok(framer_new(&rule, &framer));
    assert_ok(dataset_lint(&(Lint){.path = folder,
                                   .framer = framer,
                                   .batch = 4,
                                   .report = take_finding,
                                   .tokens = count_words,
                                   .tokens_seen = SEEN},
                           &pictures));
    framer_free(framer);
    assert_int_equal(pictures, GOOD + 8 + 4 + 7);
    for (int i = 0; i < WANTED; i++)
        if (times[i] != 1)
            fail_msg("told %d times: %s %s", times[i], wanted[i].part, wanted[i].name ? wanted[i].name : "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_is_found_once)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
