/* What scripts/dreambooth_demo asks of pictures; it is not installed.
 *
 * dreambooth_pictures subject NAMES.h5 "cat face" FOLDER
 *     five pictures of one subject: the named picture with its fur in blue and white stripes, mirrored,
 * moved, scaled and on other backgrounds, each with the caption "sks cat face" dreambooth_pictures near
 * FOLDER PICTURE... how far each picture is from the nearest one in FOLDER, in the mean: root of the mean
 * squared difference of pixels from 0 to 1, the least over shifts of −6…6 pixels by 2 each way (white comes
 * in) dreambooth_pictures apart PICTURE... -- PICTURE... how far the pictures of two lists are apart, pair by
 * pair, in the mean: the same without shifts dreambooth_pictures grid FILE.png COLUMNS PICTURE... */
#include "data/dataset/dataset.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((size_t)64 << 20)
enum { MAX_PICTURES = 512, REACH = 6, STRIDE = 2 };

static Status read_picture(const char *path, Picture *out)
{
    char *bytes;
    size_t size;
    *out = (Picture){0};
    TRY(file_read(path, MAX_BYTES, &bytes, &size));
    const Status s = status_in(picture_decode((const uint8_t *)bytes, size, out), "%s", path);
    mem_free(bytes);
    return s;
}

static Status read_pictures(char **paths, int count, Picture *out)
{
    if (count < 1 || count > MAX_PICTURES)
        return status_refuse("from 1 to %d pictures, not %d", MAX_PICTURES, count);
    for (int i = 0; i < count; i++) {
        TRY(read_picture(paths[i], &out[i]));
        if (!size_equal(out[i].size, out[0].size))
            return status_refuse("%s: has another size than %s", paths[i], paths[0]);
    }
    return STATUS_OK;
}

/* Distances -------------------------------------------------------------------------------------------- */

/* a shifted by (dx,dy) over white, against b. */
static double difference(const Picture *a, const Picture *b, int dx, int dy)
{
    double sum = 0;
    for (int y = 0; y < b->size.height; y++)
        for (int x = 0; x < b->size.width; x++) {
            const int from_x = x - dx, from_y = y - dy;
            const bool inside =
                from_x >= 0 && from_x < a->size.width && from_y >= 0 && from_y < a->size.height;
            for (int k = 0; k < 3; k++) {
                const int p = inside ? a->rgb[3 * (from_y * a->size.width + from_x) + k] : 255,
                          q = b->rgb[3 * (y * b->size.width + x) + k];
                sum += (p - q) * (p - q);
            }
        }
    return sqrt(sum / (3.0 * b->size.width * b->size.height)) / 255;
}

static double nearest(const Picture *p, const Picture *known, int count)
{
    double least = INFINITY;
    for (int i = 0; i < count; i++)
        for (int dy = -REACH; dy <= REACH; dy += STRIDE)
            for (int dx = -REACH; dx <= REACH; dx += STRIDE)
                least = fmin(least, difference(p, &known[i], dx, dy));
    return least;
}

static bool is_png(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && strcmp(dot, ".png") == 0;
}

static Status near(int argc, char **argv, Picture *known, Picture *p)
{
    char **names = NULL, *paths[MAX_PICTURES];
    int listed = 0, count = 0;
    double sum = 0;
    if (argc < 2)
        return status_refuse("near FOLDER PICTURE...");
    TRY(dir_list(argv[0], &names, &listed));
    for (int i = 0; i < listed && count < MAX_PICTURES; i++)
        if (is_png(names[i]))
            paths[count++] = path_join(argv[0], names[i]);
    dir_list_free(names, listed);
    Status s = read_pictures(paths, count, known);
    if (s == STATUS_OK)
        s = read_pictures(argv + 1, argc - 1, p);
    for (int i = 0; i < count; i++)
        mem_free(paths[i]);
    TRY(s);
    for (int i = 0; i < argc - 1; i++)
        sum += nearest(&p[i], known, count);
    printf("%.4f\n", sum / (argc - 1));
    return STATUS_OK;
}

static Status apart(int argc, char **argv, Picture *a, Picture *b)
{
    int half = 0;
    double sum = 0;
    while (half < argc && strcmp(argv[half], "--") != 0)
        half++;
    if (argc != 2 * half + 1)
        return status_refuse("apart PICTURE... -- PICTURE..., as many of each");
    TRY(read_pictures(argv, half, a));
    TRY(read_pictures(argv + half + 1, half, b));
    for (int i = 0; i < half; i++)
        sum += difference(&a[i], &b[i], 0, 0);
    printf("%.4f\n", sum / half);
    return STATUS_OK;
}

static Status grid(int argc, char **argv, Picture *pictures)
{
    Picture whole = {0};
    const int columns = argc > 1 ? atoi(argv[1]) : 0;
    if (argc < 3 || columns < 1)
        return status_refuse("grid FILE.png COLUMNS PICTURE...");
    TRY(read_pictures(argv + 2, argc - 2, pictures));
    TRY(picture_grid(pictures, argc - 2, columns, &whole));
    const Status s = picture_write_png(argv[0], &whole, NULL, 0);
    picture_free(&whole);
    return s;
}

/* The subject ------------------------------------------------------------------------------------------ */

static Status find_picture(const char *names, const char *caption, Picture *out)
{
    Dataset *d;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int i = 0;
    TRY(dataset_open(names, &d));
    while (i < dataset_count(d) && strcmp(dataset_caption(d, i), caption) != 0)
        i++;
    Status s = i < dataset_count(d) ? dataset_bytes(d, i, &bytes, &size)
                                    : status_refuse("%s: has no picture named \"%s\"", names, caption);
    if (s == STATUS_OK)
        s = picture_decode(bytes, size, out);
    mem_free(bytes);
    dataset_close(d);
    return s;
}

/* Marks what is white and hangs together with the border, from (x,y) on. */
static void flood(const Picture *p, bool *outside, int x, int y)
{
    if (x < 0 || y < 0 || x >= p->size.width || y >= p->size.height || outside[y * p->size.width + x])
        return;
    const uint8_t *c = p->rgb + 3 * (y * p->size.width + x);
    if (c[0] < 250 || c[1] < 250 || c[2] < 250)
        return;
    outside[y * p->size.width + x] = true;
    flood(p, outside, x + 1, y);
    flood(p, outside, x - 1, y);
    flood(p, outside, x, y + 1);
    flood(p, outside, x, y - 1);
}

/* Yellow and orange become stripes of blue and white, as bright as they were; outside becomes background. */
static void paint(Picture *p, const bool *outside, const uint8_t background[3])
{
    static const double stripes[2][3] = {{30, 90, 230}, {240, 245, 255}};
    for (int y = 0; y < p->size.height; y++)
        for (int x = 0; x < p->size.width; x++) {
            uint8_t *c = p->rgb + 3 * (y * p->size.width + x);
            const bool fur = c[0] > 140 && c[0] >= c[1] && c[1] > c[2] && c[0] - c[2] > 50;
            const double shade = 0.4 + 0.6 * c[0] / 255;
            for (int k = 0; k < 3; k++) {
                if (outside[y * p->size.width + x])
                    c[k] = background[k];
                else if (fur)
                    c[k] = (uint8_t)(stripes[(x + y) / 7 % 2][k] * shade);
            }
        }
}

static const struct Pose {
    bool flipped;
    int dx, dy;
    double scale;
    uint8_t background[3];
} POSES[] = {{false, 0, 0, 1, {255, 255, 255}},
             {true, 3, 1, 1.05, {255, 255, 255}},
             {false, -3, 2, 0.9, {255, 244, 200}},
             {true, 0, -3, 0.85, {215, 240, 215}},
             {false, 2, 3, 1.1, {230, 230, 235}}};

static Status write_pose(const Picture *painted, const struct Pose *pose, int number, const char *caption,
                         const char *folder)
{
    Picture out = {0};
    const int side = painted->size.width, scaled = (int)lround(side * pose->scale);
    const int corner = (scaled - side) / 2;
    char *path = mem_printf("%s/%d.png", folder, number), *beside = mem_printf("%s/%d.txt", folder, number);
    char *text = mem_printf("sks %s\n", caption);
    Status s = path && beside && text ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = picture_resize_window(
            painted,
            &(PictureWindow){size_square(scaled), corner - pose->dx, corner - pose->dy, size_square(side)},
            &out);
    if (s == STATUS_OK && pose->flipped)
        picture_flip(&out);
    if (s == STATUS_OK)
        s = file_write_atomic(beside, text, strlen(text));
    if (s == STATUS_OK)
        s = picture_write_png(path, &out, NULL, 0);
    picture_free(&out);
    mem_free(path);
    mem_free(beside);
    mem_free(text);
    return s;
}

static Status subject(int argc, char **argv)
{
    Picture p = {0};
    Status s = STATUS_OK;
    if (argc != 3)
        return status_refuse("subject NAMES.h5 NAME FOLDER");
    TRY(dir_make(argv[2]));
    for (int i = 0; i < (int)(sizeof POSES / sizeof *POSES) && s == STATUS_OK; i++) {
        s = find_picture(argv[0], argv[1], &p);
        bool *outside = s == STATUS_OK ? mem_calloc((size_t)size_area(p.size), sizeof *outside) : NULL;
        if (s == STATUS_OK && !outside)
            s = STATUS_FAILED;
        if (s == STATUS_OK) {
            for (int k = 0; k < p.size.width; k++) {
                flood(&p, outside, k, 0);
                flood(&p, outside, k, p.size.height - 1);
                flood(&p, outside, 0, k);
                flood(&p, outside, p.size.width - 1, k);
            }
            paint(&p, outside, POSES[i].background);
            s = write_pose(&p, &POSES[i], i + 1, argv[1], argv[2]);
        }
        mem_free(outside);
        picture_free(&p);
    }
    return s;
}

static Status run(int argc, char **argv)
{
    static Picture a[MAX_PICTURES], b[MAX_PICTURES]; /* freed with the process */
    const char *what = argc > 1 ? argv[1] : "";
    argc -= 2;
    argv += 2;
    if (strcmp(what, "subject") == 0)
        return subject(argc, argv);
    if (strcmp(what, "near") == 0)
        return near(argc, argv, a, b);
    if (strcmp(what, "apart") == 0)
        return apart(argc, argv, a, b);
    if (strcmp(what, "grid") == 0)
        return grid(argc, argv, a);
    return status_refuse("usage: dreambooth_pictures subject|near|apart|grid ... (see its source)");
}

int main(int argc, char **argv)
{
    log_to(log_terminal, NULL);
    const Status s = run(argc, argv);
    if (s != STATUS_OK)
        log_error("%s", status_message());
    return (int)s;
}
