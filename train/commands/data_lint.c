/* `atelier data lint`: everything that is wrong with pictures and captions, what a run would lose of them,
 * and what is worth a look. */
#include "data/lint/lint.h"
#include "data/lint/sheet.h"
#include "infer/text/tokenizer.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "data.h"
#include "facts.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TOKENS_SEEN 75 /* of Stable Diffusion's text encoders, without the two at the ends */

typedef struct Findings {
    Progress progress;
    Tokenizer *tokenizer;
    json_t *lists[LINT_NOTE + 1]; /* for --json; NULL: findings are printed as they come */
    int counts[LINT_NOTE + 1];
} Findings;

static const char *const WORDS[] = {[LINT_ERROR] = "error", [LINT_LOSS] = "loss", [LINT_NOTE] = "note"};

static void take_finding(LintKind kind, const char *message, void *arg)
{
    Findings *f = arg;
    f->counts[kind]++;
    if (f->lists[kind]) {
        json_array_append_new(f->lists[kind], json_string(message));
        return;
    }
    if (f->progress.total)
        progress_clear(&f->progress);
    printf("%s: %s\n", WORDS[kind], message);
}

static Status count_tokens(const char *caption, int *count, void *arg)
{
    const Findings *f = arg;
    int32_t *ids;
    TRY(tokenizer_encode(f->tokenizer, caption, &ids, count));
    mem_free(ids);
    return STATUS_OK;
}

static void show(int done, int total, void *arg)
{
    Findings *f = arg;
    if (!f->progress.label)
        progress_begin(&f->progress, "lint", "picture", 0, total);
    progress_update(&f->progress, done, NULL);
}

static Status print_end(const char *path, int pictures, const Findings *f, bool json)
{
    const int *n = f->counts;
    if (json)
        return facts_print(json_pack("{s:o, s:i, s:O, s:O, s:O}", "path", json_name(path), "pictures",
                                     pictures, "errors", f->lists[LINT_ERROR], "losses", f->lists[LINT_LOSS],
                                     "notes", f->lists[LINT_NOTE]),
                           true);
    printf("%s: %d picture%s, %d error%s, %d loss%s, %d note%s\n", path, pictures, pictures == 1 ? "" : "s",
           n[LINT_ERROR], n[LINT_ERROR] == 1 ? "" : "s", n[LINT_LOSS], n[LINT_LOSS] == 1 ? "" : "es",
           n[LINT_NOTE], n[LINT_NOTE] == 1 ? "" : "s");
    return STATUS_OK;
}

/* Looks, and draws the sheet on the way. */
static Status look_and_draw(Lint *l, const char *sheet, int *pictures)
{
    int pages = 0;
    TRY(sheet ? status_in(sheet_open(sheet, l->framer, &l->sheet), "data lint: --sheet") : STATUS_OK);
    const Status s = dataset_lint(l, pictures);
    const Status closed = sheet_close(l->sheet, &pages);
    if (s == STATUS_OK && closed == STATUS_OK && pages > 1)
        log_info("%s: and %d more pages, numbered from 2 on", sheet, pages - 1);
    return s == STATUS_OK ? closed : s;
}

static Status look(Lint *l, Findings *f, const char *sheet, bool json)
{
    int pictures;
    TRY(tokenizer_builtin(&f->tokenizer));
    for (int k = 0; k <= LINT_NOTE && json; k++)
        f->lists[k] = json_array();
    const Status s = look_and_draw(l, sheet, &pictures);
    if (f->progress.label)
        progress_end(&f->progress);
    TRY(s);
    return print_end(l->path, pictures, f, json);
}

static Status check_sheet(const char *sheet)
{
    const size_t n = sheet ? strlen(sheet) : 0;
    if (sheet && (n < 5 || strcasecmp(sheet + n - 4, ".png") != 0))
        return status_refuse("data lint: --sheet %s: a sheet is a picture; name it .png", sheet);
    return STATUS_OK;
}

static Status lint(int argc, char **argv, bool *bad)
{
    OptionList paths = {0};
    const char *names = NULL, *sheet = NULL;
    int resolution = 0, batch = 0;
    bool done, json = false, square = false;
    const Option table[] = {
        {"folder-names", OPTION_TEXT, &names, .value = "HOW", .help = FOLDER_NAMES_HELP,
         .choices = FOLDER_NAMES_CHOICES, .shown = "auto"},
        {"resolution", OPTION_INT, &resolution, .value = "N",
         .help = "As train.resolution: pictures that would be enlarged more than twice are noted.", .min = 16,
         .max = 4096, .shown = "512"},
        {"square", OPTION_FLAG, &square,
         .help = "As dataset.buckets: off, a square is cut out of each picture."},
        {"batch", OPTION_INT, &batch, .value = "N",
         .help = "As train.batch × train.accumulate: buckets with fewer pictures are noted.", .min = 1,
         .max = 1 << 24},
        {"sheet", OPTION_TEXT, &sheet, .value = "FILE.png",
         .help = "Draws a contact sheet: each picture, in a frame what of it is trained on, its name, the "
                 "size of its "
                 "bucket and its caption."},
        {"json", OPTION_FLAG, &json, .help = "Prints the findings as JSON."},
    };
    const Command command = {
        .name = "data lint",
        .usage = "FOLDER|FILE.h5 [options]",
        .summary =
            "Lists everything that is wrong with a folder of pictures or with a dataset file, and what a run "
            "would "
            "lose of it. Errors are what `data build` fails on; losses are what a run does not see (more "
            "than a "
            "third of a picture cut away, captions that are too long, masks that are black); notes are worth "
            "a look (unused files, "
            "pictures that are equal or nearly so, captions that have no word in common with the others, "
            "what was "
            "decided about pictures and names of folders). The exit status is 1 if there are errors or "
            "losses.",
        .example = "atelier data lint photos/cat",
        .options = table,
        .option_count = sizeof table / sizeof *table,
        .positional = &paths,
        .min_positional = 1,
        .max_positional = 1,
        .positional_name = "FOLDER or FILE.h5",
    };
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    TRY(check_sheet(sheet));
    stop_catch();
    Findings f = {0};
    Lint l = {.path = paths.items[0],
              .folder_names = folder_names_of(names),
              .any_size = resolution == 0,
              .batch = batch,
              .report = take_finding,
              .tokens = count_tokens,
              .tokens_seen = TOKENS_SEEN,
              .progress = show,
              .arg = &f,
              .stop = stop_flag()};
    Framer *framer;
    TRY(data_framer(resolution, square, (SizeModel){0}, &framer));
    l.framer = framer;
    const Status s = look(&l, &f, sheet, json);
    framer_free(framer);
    tokenizer_free(f.tokenizer);
    for (int k = 0; k <= LINT_NOTE; k++)
        json_decref(f.lists[k]);
    *bad = f.counts[LINT_ERROR] || f.counts[LINT_LOSS];
    return s;
}

int command_data_lint(int argc, char **argv)
{
    bool bad = false;
    const Status s = lint(argc, argv, &bad);
    return s == STATUS_OK && bad ? STATUS_FAILED : command_end(s);
}
