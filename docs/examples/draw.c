/* Draws a picture: draw MODEL PROMPT FILE.png [LORA]
 *
 *     cc draw.c -o draw $(pkg-config --cflags --libs atelier)
 *     ./draw builtin:tiny "a red heart" heart.png */
#include <atelier.h>
#include <stdio.h>

static void hear(void *arg, int level, const char *text)
{
    (void)arg;
    if (level < 2)
        fprintf(stderr, "%s: %s\n", level ? "warning" : "error", text);
}

static int follow(void *arg, const char *label, const char *unit, int64_t done, int64_t total,
                  const char *note)
{
    (void)arg;
    fprintf(stderr, "%s: %s %lld of %lld %s\n", label, unit, (long long)done, (long long)total, note);
    return 0; /* anything else would stop it */
}

int main(int argc, char **argv)
{
    AtlModelOptions options = {.size = sizeof options, .listener = {hear, follow, NULL}};
    AtlSample sample = {.size = sizeof sample, .seed = 42};
    AtlModel *model = NULL;
    AtlPicture picture = {0};
    if (argc < 4)
        return fprintf(stderr, "usage: draw MODEL PROMPT FILE.png [LORA]\n"), 2;
    sample.prompt = argv[2];
    int status = atl_model_open(argv[1], &options, &model);
    if (!status && argc > 4)
        status = atl_model_add_lora(model, argv[4], 1);
    if (!status)
        status = atl_sample(model, &sample, &picture);
    if (!status)
        status = atl_picture_write(&picture, argv[3]);
    if (status)
        fprintf(stderr, "draw: %s\n", atl_message());
    atl_picture_free(&picture);
    atl_model_close(model);
    return status;
}
