/* `atelier picture watermark`: the invisible text in pictures, found again. */
#include "infer/safety/watermark.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "commands.h"
#include "dispatch.h"
#include "facts.h"

#include <stdio.h>
#include <string.h>

#define PICTURE_FILE_MAX ((size_t)1 << 30)

typedef struct Found {
    char text[2 * WATERMARK_LONGEST + 1]; /* "": none */
    WatermarkMatch match;
    int bits;
} Found;

static bool try_text(const WatermarkBits *bits, const char *bytes, size_t count, const char *shown,
                     Found *out)
{
    const WatermarkMatch m = watermark_match(bits, bytes, count);
    if (!m.found)
        return false;
    *out = (Found){.match = m, .bits = (int)(8 * count)};
    snprintf(out->text, sizeof out->text, "%s", shown);
    return true;
}

/* The text that is asked for, or else those that are known, or else any. */
static void look_for(const WatermarkBits *bits, const char *wanted, Found *out)
{
    char guess[WATERMARK_LONGEST + 1];
    *out = (Found){0};
    if (wanted) {
        try_text(bits, wanted, strlen(wanted), wanted, out);
        return;
    }
    if (try_text(bits, WATERMARK_TEXT, strlen(WATERMARK_TEXT), WATERMARK_TEXT, out) ||
        try_text(bits, WATERMARK_XL, strlen(WATERMARK_XL), "SDXL's 48 bits", out))
        return;
    if (watermark_guess(bits, guess))
        try_text(bits, guess, strlen(guess), guess, out);
}

static Status read_picture(const char *path, Picture *picture)
{
    char *bytes = NULL;
    size_t size;
    TRY(file_check_source(path, "picture"));
    TRY(file_read(path, PICTURE_FILE_MAX, &bytes, &size));
    const Status s = status_in(picture_decode((const uint8_t *)bytes, size, picture), "%s", path);
    mem_free(bytes);
    return s;
}

static json_t *facts_of(const char *path, const Found *f)
{
    json_t *o = json_pack("{s:o, s:b}", "file", json_name(path), "found", f->text[0] != 0);
    if (f->text[0]) {
        json_object_set_new(o, "text", json_string(f->text));
        json_object_set_new(o, "bits", json_integer(f->bits));
        json_object_set_new(o, "bits_right", json_integer(f->match.right));
        json_object_set_new(o, "places_right", json_real(f->match.share));
    }
    return o;
}

static Status look_at(const char *path, const char *wanted, json_t *list)
{
    Picture picture;
    WatermarkBits bits;
    Found found;
    TRY(read_picture(path, &picture));
    const Status s = status_in(watermark_read(&picture, &bits), "%s", path);
    picture_free(&picture);
    TRY(s);
    look_for(&bits, wanted, &found);
    watermark_bits_free(&bits);
    json_array_append_new(list, facts_of(path, &found));
    return STATUS_OK;
}

static void print_lines(const json_t *list)
{
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o)
    {
        const char *text = json_string_value(json_object_get(o, "text"));
        printf("%s: ", json_string_value(json_object_get(o, "file")));
        if (text)
            printf("%s (%d of %d bits, %.0f %% of the places)\n", text,
                   (int)json_integer_value(json_object_get(o, "bits_right")),
                   (int)json_integer_value(json_object_get(o, "bits")),
                   100 * json_real_value(json_object_get(o, "places_right")));
        else
            printf("no watermark\n");
    }
}

static Status watermark(int argc, char **argv)
{
    bool as_json = false, done;
    const char *wanted = NULL;
    OptionList names = {0};
    const Option options[] = {
        {.name = "text",
         .kind = OPTION_TEXT,
         .out = &wanted,
         .value = "TEXT",
         .help = "Looks for this text alone.",
         .shown = "StableDiffusionV1, what diffusers writes for SDXL, any other printable text"},
        {.name = "json", .kind = OPTION_FLAG, .out = &as_json, .help = "Prints JSON."},
    };
    const Command command = {
        .name = "picture watermark",
        .usage = "FILE... [--text TEXT] [--json]",
        .summary =
            "Finds the invisible watermark (invisible-watermark's dwtDct) in PNG, JPEG and WebP pictures: a "
            "line for each, with how many of the text's bits are right.",
        .example = "atelier sample --model builtin:tiny --prompt \"a red heart\" --steps 2 \\\n"
                   "    --width 256 --height 256 --watermark on --out marked.png\n"
                   "atelier picture watermark marked.png",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .positional = &names,
        .min_positional = 1,
        .max_positional = OPTION_LIST_MAX,
        .positional_name = "a picture",
    };
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    if (wanted && (!*wanted || strlen(wanted) > WATERMARK_LONGEST))
        return status_refuse("picture watermark: --text: 1 to %d bytes", WATERMARK_LONGEST);
    json_t *list = json_array();
    Status s = list ? STATUS_OK : status_memory("out of memory");
    for (int i = 0; i < names.count && s == STATUS_OK; i++)
        s = look_at(names.items[i], wanted, list);
    if (s == STATUS_OK && as_json)
        s = facts_print(json_pack("{s:O}", "pictures", list), true);
    else if (s == STATUS_OK)
        print_lines(list);
    json_decref(list);
    return s;
}

static int command_watermark(int argc, char **argv)
{
    return command_end(watermark(argc, argv));
}

int command_picture(int argc, char **argv)
{
    static const Subcommand COMMANDS[] = {
        {"watermark", "FILE...", "find the invisible watermark", command_watermark, false},
    };
    static const Family FAMILY = {
        .name = "picture",
        .summary = "Pictures that were made.",
        .commands = COMMANDS,
        .count = sizeof COMMANDS / sizeof *COMMANDS,
    };
    return dispatch(&FAMILY, argc, argv);
}
