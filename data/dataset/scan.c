/* Walking a folder of pictures (scan.h). The order is that of the whole names' bytes, so it is the same on
 * every file system and in every locale. A picture is what is called one (.jpg, .png, .webp …) or looks like
 * one by its first bytes; everything else that nobody uses is listed, because a caption file with a misspelt
 * name is found in no other way. */
#include "scan.h"

#include "data/pictures/picture.h"
#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "captions.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define MAX_DEPTH 40
#define NAMES_SHOWN 5

/* Lists ------------------------------------------------------------------------------------------------ */

Status scan_list_add(ScanList *l, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!mem_grow(&l->items, l->count, &l->capacity, sizeof *l->items))
        return STATUS_FAILED;
    l->items[l->count] = mem_strdup(text);
    return l->items[l->count] ? (l->count++, STATUS_OK) : STATUS_FAILED;
}

void scan_list_free(ScanList *l)
{
    dir_list_free(l->items, l->count);
    *l = (ScanList){0};
}

static void append_name(char *text, size_t size, int shown, const char *name)
{
    const size_t n = strlen(text);
    if (shown < NAMES_SHOWN)
        snprintf(text + n, size - n, "%s%s", shown ? ", " : "", name);
}

static void append_more(char *text, size_t size, int count)
{
    const size_t n = strlen(text);
    if (count > NAMES_SHOWN)
        snprintf(text + n, size - n, " and %d more", count - NAMES_SHOWN);
}

const char *scan_names_without_caption(const Scan *s, char *text, size_t size)
{
    int shown = 0;
    text[0] = 0;
    for (int i = 0; i < s->count; i++)
        if (!s->pictures[i].caption)
            append_name(text, size, shown++, s->pictures[i].shown);
    append_more(text, size, shown);
    return text;
}

const char *scan_list_names(const ScanList *l, char *text, size_t size)
{
    text[0] = 0;
    for (int i = 0; i < l->count; i++)
        append_name(text, size, i, l->items[i]);
    append_more(text, size, l->count);
    return text;
}

/* One folder ------------------------------------------------------------------------------------------- */

typedef struct Walk {
    Scan *scan;
    struct stat except;
    bool has_except;
    struct stat outer[MAX_DEPTH + 1]; /* the folders that the walk stands in */
    MetadataFile metadata;            /* of all folders, file_name below the scanned folder */
    ScanList origins;                 /* of each entry: "metadata.jsonl line 3" */
    FolderNames names;
} Walk;

typedef struct Folder {
    const char *below; /* its name below the scanned folder, "" for itself */
    char *path;
    char **names;
    bool *used;
    int count;
    const char *caption; /* of kohya's folder name, its own or an outer one's; NULL */
    int repeats;
} Folder;

static bool ends_in(const char *name, const char *const *endings)
{
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name)
        return false;
    for (; *endings; endings++)
        if (strcasecmp(dot + 1, *endings) == 0)
            return true;
    return false;
}

static bool is_system_file(const char *name)
{
    static const char *const names[] = {"Thumbs.db", "ehthumbs.db", "desktop.ini",
                                        "__MACOSX",  "@eaDir",      NULL};
    for (const char *const *n = names; *n; n++)
        if (strcasecmp(name, *n) == 0)
            return true;
    return name[0] == '.' || name_is_aside(name); /* somebody is writing it, or was */
}

static bool looks_like_a_picture(const char *path)
{
    uint8_t head[12];
    FILE *in = fopen(path, "rbe");
    if (!in)
        return false;
    const size_t n = fread(head, 1, sizeof head, in);
    fclose(in);
    return picture_format(head, n) != PICTURE_UNKNOWN;
}

static bool is_picture(const char *name, const char *path)
{
    static const char *const pictures[] = {"jpg", "jpeg", "jpe", "jfif", "png", "webp", NULL};
    static const char *const others[] = {"txt", "caption", "jsonl", "json", "h5", NULL};
    return ends_in(name, pictures) || (!ends_in(name, others) && looks_like_a_picture(path));
}

static int find_name(const Folder *f, const char *name)
{
    for (int low = 0, high = f->count - 1; low <= high;) {
        const int middle = (low + high) / 2, order = strcmp(f->names[middle], name);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

static char *below(const Folder *f, const char *name)
{
    return f->below[0] ? mem_printf("%s/%s", f->below, name) : mem_strdup(name);
}

static Status add_problem(Scan *s)
{
    return scan_list_add(&s->problems, "%s", status_message());
}

/* NAME.txt, else NAME.caption, with endings in capitals as some systems write them too; an empty file is no
 * caption. A file that cannot be read is a problem. */
static Status read_sidecar(Scan *s, Folder *f, const char *name, ScanPicture *p)
{
    static const char *const endings[] = {".txt", ".TXT", ".caption", ".CAPTION"};
    const char *dot = strrchr(name, '.');
    const int stem = dot ? (int)(dot - name) : (int)strlen(name);
    for (int i = 0; i < 4 && !p->caption; i++) {
        char *sidecar = mem_printf("%.*s%s", stem, name, endings[i]);
        const int at = sidecar ? find_name(f, sidecar) : -1;
        char *path = at >= 0 ? path_join(f->path, sidecar) : NULL;
        mem_free(sidecar);
        if (!sidecar || (at >= 0 && !path))
            return STATUS_FAILED;
        if (at < 0)
            continue;
        f->used[at] = true;
        const Status read = caption_read(path, &p->caption);
        mem_free(path);
        if (read != STATUS_OK) {
            TRY(add_problem(s));
            p->caption = mem_strdup(""); /* reported once: not also as a picture without caption */
            if (!p->caption)
                return STATUS_FAILED;
        }
    }
    return STATUS_OK;
}

static Status add_picture(Scan *s, Folder *f, const char *name)
{
    if (!mem_grow(&s->pictures, s->count, &s->capacity, sizeof *s->pictures))
        return STATUS_FAILED;
    ScanPicture *p = &s->pictures[s->count++];
    *p = (ScanPicture){.name = below(f, name), .repeats = f->repeats};
    p->shown = p->name ? name_escape(p->name) : NULL;
    if (f->caption && !(p->folder_caption = mem_strdup(f->caption)))
        return STATUS_FAILED;
    return p->shown ? read_sidecar(s, f, name, p) : STATUS_FAILED;
}

/* Adds a folder's metadata.jsonl to the walk's, the file names made relative to the scanned folder. */
static Status take_metadata(Walk *w, Folder *f, int at)
{
    char *path = path_join(f->path, f->names[at]), *name = below(f, f->names[at]);
    char *shown = name ? name_escape(name) : NULL;
    MetadataFile m = {0};
    Status s = path && shown ? STATUS_OK : STATUS_FAILED;
    f->used[at] = true;
    if (s == STATUS_OK && metadata_read(path, &m) != STATUS_OK)
        s = add_problem(w->scan);
    for (int i = 0; i < m.count && s == STATUS_OK; i++) {
        char *full = below(f, m.entries[i].file_name);
        mem_free(m.entries[i].file_name);
        m.entries[i].file_name = full;
        s = full ? scan_list_add(&w->origins, "%s line %d", shown, m.entries[i].line) : STATUS_FAILED;
    }
    const int total = w->metadata.count + m.count;
    if (s == STATUS_OK && m.count) {
        MetadataEntry *larger = mem_realloc(w->metadata.entries, (size_t)total * sizeof *larger);
        s = larger ? STATUS_OK : STATUS_FAILED;
        if (larger) {
            memcpy(larger + w->metadata.count, m.entries, (size_t)m.count * sizeof *larger);
            w->metadata = (MetadataFile){larger, total, total};
            m.count = 0; /* the texts have moved */
        }
    }
    metadata_free(&m);
    mem_free(path);
    mem_free(name);
    mem_free(shown);
    return s;
}

static Status walk(Walk *w, const char *below_name, const char *caption, int repeats, int depth);

static bool is_outer(const Walk *w, int depth, const struct stat *st)
{
    for (int i = 0; i <= depth; i++)
        if (w->outer[i].st_dev == st->st_dev && w->outer[i].st_ino == st->st_ino)
            return true;
    return false;
}

/* Folders, metadata.jsonl and pictures are taken; the rest waits for being used by a picture. */
static Status take_entry(Walk *w, Folder *f, int at, int depth)
{
    const char *name = f->names[at];
    if (is_system_file(name)) {
        f->used[at] = true;
        return STATUS_OK;
    }
    char *path = path_join(f->path, name), *sub = below(f, name);
    struct stat st;
    Status s = path && sub ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && stat(path, &st) == 0) {
        const bool excepted = w->has_except && st.st_dev == w->except.st_dev && st.st_ino == w->except.st_ino;
        if (excepted) {
            f->used[at] = true;
        } else if (is_outer(w, depth, &st)) {
            /* a link in a circle: unused */
        } else if (S_ISDIR(st.st_mode)) {
            f->used[at] = true;
            s = walk(w, sub, f->caption, f->repeats, depth + 1);
        } else if (!S_ISREG(st.st_mode)) {
            /* sockets, pipes: unused */
        } else if (strcmp(name, "metadata.jsonl") == 0) {
            s = take_metadata(w, f, at);
        } else if (is_picture(name, path)) {
            f->used[at] = true;
            s = add_picture(w->scan, f, name);
        }
    }
    mem_free(path);
    mem_free(sub);
    return s;
}

static Status list_unused(Scan *s, const Folder *f)
{
    static const char *const other_pictures[] = {"gif",  "bmp",  "tif", "tiff", "heic",
                                                 "heif", "avif", "jxl", NULL};
    for (int i = 0; i < f->count; i++) {
        if (f->used[i])
            continue;
        char *name = below(f, f->names[i]), *shown = name ? name_escape(name) : NULL;
        const char *why = ends_in(f->names[i], other_pictures) ? " (JPEG, PNG and WebP are read)" : "";
        const Status added = shown ? scan_list_add(&s->unused, "%s%s", shown, why) : STATUS_FAILED;
        mem_free(name);
        mem_free(shown);
        TRY(added);
    }
    return STATUS_OK;
}

static Status walk(Walk *w, const char *below_name, const char *caption, int repeats, int depth)
{
    if (depth > MAX_DEPTH)
        return status_fail("%s: more than %d folders deep", below_name, MAX_DEPTH);
    Folder f = {.below = below_name, .caption = caption, .repeats = repeats};
    f.path = below_name[0] ? path_join(w->scan->folder, below_name) : mem_strdup(w->scan->folder);
    if (!f.path)
        return STATUS_FAILED;
    if (below_name[0] && w->names != FOLDER_NAMES_PLAIN)
        folder_name_read(path_base(f.path), &f.repeats, &f.caption);
    Status s =
        stat(f.path, &w->outer[depth]) == 0 ? STATUS_OK : status_fail("%s: cannot be read: %m", f.path);
    if (s == STATUS_OK)
        s = dir_list(f.path, &f.names, &f.count);
    if (s == STATUS_OK && !(f.used = mem_calloc((size_t)f.count + 1, sizeof *f.used)))
        s = STATUS_FAILED;
    for (int i = 0; i < f.count && s == STATUS_OK; i++)
        s = take_entry(w, &f, i, depth);
    if (s == STATUS_OK)
        s = list_unused(w->scan, &f);
    mem_free(f.used);
    dir_list_free(f.names, f.count);
    mem_free(f.path);
    return s;
}

/* The whole -------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ScanPicture *)a)->name, ((const ScanPicture *)b)->name);
}

static Status note_metadata(Walk *w, int i, const char *format)
{
    char *shown = name_escape(w->metadata.entries[i].file_name), text[1024];
    if (!shown)
        return STATUS_FAILED;
    snprintf(text, sizeof text, format, shown);
    mem_free(shown);
    return scan_list_add(&w->scan->unused, "%s (%s)", w->origins.items[i], text);
}

static Status apply_metadata(Walk *w)
{
    Scan *s = w->scan;
    for (int i = 0; i < w->metadata.count; i++) {
        MetadataEntry *e = &w->metadata.entries[i];
        const ScanPicture key = {.name = e->file_name};
        ScanPicture *p = s->count ? bsearch(&key, s->pictures, (size_t)s->count, sizeof key, by_name) : NULL;
        if (!p) {
            TRY(note_metadata(w, i, "names %s, which is not there"));
        } else if (p->caption) {
            TRY(note_metadata(w, i, "%s has a caption already"));
        } else {
            p->caption = e->text;
            e->text = NULL;
        }
    }
    return STATUS_OK;
}

/* Where no file gave a caption: kohya's folder name, then the caption for all. */
static Status apply_defaults(Scan *s, const char *caption)
{
    for (int i = 0; i < s->count; i++) {
        ScanPicture *p = &s->pictures[i];
        const char *text = p->folder_caption ? p->folder_caption : caption;
        const bool had = p->caption;
        if (!p->caption && text && caption_clean(text, strlen(text), &p->caption) != STATUS_OK)
            return status_in(STATUS_FAILED, p->folder_caption ? "%s: folder's name" : "%s: caption for all",
                             p->shown);
        if (!p->caption && caption && !*caption && !(p->caption = mem_strdup(""))) /* nothing, and meant so */
            return STATUS_FAILED;
        if (!had && !p->folder_caption && p->caption)
            TRY(scan_list_add(&s->for_all, "%s", p->shown));
        s->without_caption += !p->caption;
    }
    return STATUS_OK;
}

static void see_picture(const void *set, int i, const char **name, const char **caption, int *repeats)
{
    const ScanPicture *p = &((const Scan *)set)->pictures[i];
    *name = p->shown;
    *caption = p->caption;
    *repeats = p->repeats;
}

Status scan_folders(const Scan *s, FoldersTaken *out)
{
    return folders_taken(see_picture, s, s->count, out);
}

/* Numbers that are hardly meant as repeats. */
static Status ask_about_folders(Scan *s, const char *folder)
{
    FoldersTaken taken;
    char text[1024];
    TRY(scan_folders(s, &taken));
    Status status = STATUS_OK;
    for (int i = 0; i < taken.count && status == STATUS_OK; i++) {
        const FolderTaken *f = &taken.items[i];
        const char *doubt = folder_doubt(f);
        if (doubt)
            status = scan_list_add(
                &s->problems,
                "%s/%s, as kohya's scripts name folders (10_sks cat); %s. If it is only a name, rename it or "
                "give --folder-names plain; if it is meant, --folder-names kohya (in a run's configuration: "
                "dataset.folder_names)",
                folder, folder_describe(f, text, sizeof text), doubt);
    }
    folders_taken_free(&taken);
    return status;
}

static Status scan_all(Walk *w, const char *folder, const char *caption)
{
    Scan *s = w->scan;
    int repeats;
    const char *own;
    TRY(walk(w, "", NULL, 1, 0));
    if (s->count)
        qsort(s->pictures, (size_t)s->count, sizeof *s->pictures, by_name);
    TRY(apply_metadata(w));
    TRY(apply_defaults(s, caption));
    s->named_itself =
        w->names != FOLDER_NAMES_PLAIN && folder_name_read(path_base(s->folder), &repeats, &own);
    return w->names == FOLDER_NAMES_AUTO ? ask_about_folders(s, folder) : STATUS_OK;
}

Status scan_folder(const char *folder, const char *caption, FolderNames names, const char *except, Scan *out)
{
    *out = (Scan){0};
    if (!file_is_dir(folder))
        return file_exists(folder) ? status_refuse("%s: is not a folder", folder)
                                   : file_missing(folder, "folder");
    char *real = realpath(folder, NULL);
    if (!real)
        return status_refuse("%s: cannot be opened: %m", folder);
    out->folder = mem_strdup(real);
    free(real);
    if (!out->folder)
        return STATUS_FAILED;
    Walk w = {.scan = out, .names = names};
    w.has_except = except && stat(except, &w.except) == 0;
    const Status s = scan_all(&w, folder, caption);
    metadata_free(&w.metadata);
    scan_list_free(&w.origins);
    if (s != STATUS_OK)
        scan_free(out);
    return s;
}

void scan_free(Scan *s)
{
    for (int i = 0; i < s->count; i++) {
        mem_free(s->pictures[i].name);
        mem_free(s->pictures[i].shown);
        mem_free(s->pictures[i].caption);
        mem_free(s->pictures[i].folder_caption);
    }
    mem_free(s->pictures);
    mem_free(s->folder);
    scan_list_free(&s->unused);
    scan_list_free(&s->problems);
    scan_list_free(&s->for_all);
    *s = (Scan){0};
}
