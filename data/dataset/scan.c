/* Walking a folder of pictures (scan.h). The order is that of the whole names' bytes, so it is the same on
 * every file system and in every locale. A picture is what is called one (.jpg, .png, .webp …) or looks like
 * one by its first bytes; everything else that nobody uses is listed, because a caption file with a misspelt
 * name is found in no other way. */
#include "scan.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "captions.h"
#include "file_names.h"
#include "sidecars.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define MAX_DEPTH 40
#define NAMES_SHOWN 5
#define METADATA "metadata.jsonl"

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

Status scan_add_problem(Scan *s)
{
    return scan_list_add(&s->problems, "%s", status_message());
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

/* A folder, and all below
 * --------------------------------------------------------------------------------------------- */

typedef struct Walk {
    Scan *scan;
    struct stat except;
    bool has_except;
    struct stat outer[MAX_DEPTH + 1]; /* the folders that the walk stands in */
    MetadataFile metadata;            /* of all folders, file_name below the scanned folder */
    ScanList plain;                   /* unused files of which nothing can be said */
    ScanList origins;                 /* of each entry: "metadata.jsonl line 3" */
    FolderNames names;
} Walk;

static Status add_picture(Scan *s, Folder *f, const char *name)
{
    if (!mem_grow(&s->pictures, s->count, &s->capacity, sizeof *s->pictures))
        return STATUS_FAILED;
    ScanPicture *p = &s->pictures[s->count++];
    *p = (ScanPicture){.name = folder_below(f, name), .repeats = f->repeats};
    p->shown = p->name ? text_escape(p->name) : NULL;
    if (f->caption && !(p->folder_caption = mem_strdup(f->caption)))
        return STATUS_FAILED;
    return p->shown ? sidecars_read(s, f, name, p) : STATUS_FAILED;
}

/* The file that a metadata.jsonl names, below the scanned folder; one that lies elsewhere keeps its whole
 * path. */
static char *named_below(const Scan *s, const Folder *f, const char *name)
{
    if (name[0] != '/')
        return folder_below(f, name);
    char *real = realpath(name, NULL);
    const size_t n = strlen(s->folder);
    const bool inside = real && strncmp(real, s->folder, n) == 0 && real[n] == '/';
    char *copy = mem_strdup(inside ? real + n + 1 : name);
    free(real);
    return copy;
}

/* Adds a folder's metadata.jsonl to the walk's, the file names made relative to the scanned folder. */
static Status take_metadata(Walk *w, Folder *f, int at)
{
    char *path = path_join(f->path, f->names[at]), *name = folder_below(f, f->names[at]);
    char *shown = name ? text_escape(name) : NULL;
    MetadataFile m = {0};
    Status s = path && shown ? STATUS_OK : STATUS_FAILED;
    f->used[at] = true;
    if (s == STATUS_OK && metadata_read(path, &m) != STATUS_OK)
        s = scan_add_problem(w->scan);
    for (int i = 0; i < m.count && s == STATUS_OK; i++) {
        char *full = named_below(w->scan, f, m.entries[i].file_name);
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
    if (file_is_systems(name)) {
        f->used[at] = true;
        return STATUS_OK;
    }
    char *path = path_join(f->path, name), *sub = folder_below(f, name);
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
        } else if (strcmp(name, METADATA) == 0) {
            s = take_metadata(w, f, at);
        } else if (file_is_copy(name, folder_has, f)) {
            /* unused */
        } else if (sidecar_is_mask(name)) {
            /* its picture takes it */
        } else if (file_is_picture(name, path)) {
            f->used[at] = f->pictures[at] = true;
            s = add_picture(w->scan, f, name);
        }
    }
    mem_free(path);
    mem_free(sub);
    return s;
}

/* kohya's number and caption; what looks like one and is none is noted. */
static Status read_folder_name(Scan *s, Folder *f)
{
    const char *name = path_base(f->path), *doubt = NULL;
    if (folder_name_read(name, &f->repeats, &f->caption))
        return STATUS_OK;
    doubt = folder_name_doubt(name);
    char *shown = doubt ? text_escape(f->below) : NULL;
    const Status added = shown ? scan_list_add(&s->numbered, "%s (%s)", shown, doubt) : STATUS_OK;
    mem_free(shown);
    return doubt && !shown ? STATUS_FAILED : added;
}

/* The picture of the folder that the first n bytes of a file's name are the name of, with an ending or
 * (in any_case) in other letters; NULL: none. */
static const char *picture_called(const Folder *f, const char *name, size_t n, bool any_case)
{
    for (int i = 0; i < f->count; i++) {
        const char *other = f->names[i], *dot = strrchr(other, '.');
        const size_t stem = dot ? (size_t)(dot - other) : strlen(other);
        if (!f->pictures[i] || (any_case ? stem : strlen(other)) != n)
            continue;
        if (any_case ? strncasecmp(other, name, n) == 0 : strncmp(other, name, n) == 0)
            return other;
    }
    return NULL;
}

/* Why a caption file belongs to no picture: it is called a.jpg.txt, or A.txt beside a.jpg. */
static void explain_caption(const Folder *f, const char *name, char *why, size_t size)
{
    const size_t stem = (size_t)(strrchr(name, '.') - name);
    const char *whole = picture_called(f, name, stem, false);
    const char *other = whole ? whole : picture_called(f, name, stem, true);
    if (other)
        snprintf(why, size, " (a caption of %s? it is looked for as %.*s.txt)", other,
                 (int)(strrchr(other, '.') ? strrchr(other, '.') - other : (ptrdiff_t)strlen(other)), other);
}

/* A link to what is not there, or that leads to itself. */
static bool leads_nowhere(const Folder *f, const char *name)
{
    struct stat link, target;
    char *path = path_join(f->path, name);
    const bool nowhere = path && lstat(path, &link) == 0 && S_ISLNK(link.st_mode) && stat(path, &target) != 0;
    mem_free(path);
    return nowhere;
}

/* What somebody may have meant a file for that is of no use as it is called; "" where there is nothing to
 * say. */
static void explain_unused(const Folder *f, const char *name, char *why, size_t size)
{
    static const char *const other_pictures[] = {"gif",  "bmp",  "tif", "tiff", "heic",
                                                 "heif", "avif", "jxl", NULL};
    static const char *const captions[] = {"txt", "caption", NULL}, *const tables[] = {"csv", "tsv", "xlsx",
                                                                                       NULL};
    const char *aside = file_is_copy(name, folder_has, f) ? " (a copy of another)" : file_why_aside(name);
    why[0] = 0;
    if (leads_nowhere(f, name))
        snprintf(why, size, " (a link that leads nowhere)");
    else if (aside)
        snprintf(why, size, "%s", aside);
    else if (sidecar_is_mask(name))
        snprintf(why, size, " (a mask, and its picture is not there)");
    else if (file_ends_in(name, other_pictures))
        snprintf(why, size, " (JPEG, PNG and WebP are read)");
    else if (file_ends_in(name, captions))
        explain_caption(f, name, why, size);
    else if (strcmp(name, METADATA) != 0 && text_distance(name, METADATA) <= 2)
        snprintf(why, size, " (did you mean " METADATA "?)");
    else if (file_ends_in(name, tables))
        snprintf(why, size, " (captions are read from .txt files and from " METADATA ")");
}

/* Those that something can be said of come first: of many files messages name the first. */
static Status list_unused(Walk *w, const Folder *f)
{
    char why[512];
    for (int i = 0; i < f->count; i++) {
        if (f->used[i])
            continue;
        char *shown;
        TRY(folder_shown(f, f->names[i], &shown));
        explain_unused(f, f->names[i], why, sizeof why);
        const Status added = scan_list_add(*why ? &w->scan->unused : &w->plain, "%s%s", shown, why);
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
    Status s =
        stat(f.path, &w->outer[depth]) == 0 ? STATUS_OK : status_fail("%s: cannot be read: %m", f.path);
    if (s == STATUS_OK && below_name[0] && w->names != FOLDER_NAMES_PLAIN)
        s = read_folder_name(w->scan, &f);
    if (s == STATUS_OK)
        s = dir_list(f.path, &f.names, &f.count);
    f.used = mem_calloc((size_t)f.count + 1, sizeof *f.used);
    f.pictures = mem_calloc((size_t)f.count + 1, sizeof *f.pictures);
    if (s == STATUS_OK && (!f.used || !f.pictures))
        s = STATUS_FAILED;
    for (int i = 0; i < f.count && s == STATUS_OK; i++)
        s = take_entry(w, &f, i, depth);
    if (s == STATUS_OK)
        s = list_unused(w, &f);
    mem_free(f.used);
    mem_free(f.pictures);
    dir_list_free(f.names, f.count);
    mem_free(f.path);
    return s;
}

/* The whole -------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ScanPicture *)a)->name, ((const ScanPicture *)b)->name);
}

static Status note_metadata(Walk *w, int i, const char *format, const char *other)
{
    char *shown = text_escape(w->metadata.entries[i].file_name), text[1024];
    if (!shown)
        return STATUS_FAILED;
    snprintf(text, sizeof text, format, shown, other);
    mem_free(shown);
    return scan_list_add(&w->scan->unused, "%s (%s)", w->origins.items[i], text);
}

/* A picture of the same last name, for want of the one that is named; NULL: there is none, or there are
 * several. */
static const ScanPicture *namesake(const Scan *s, const char *name)
{
    const ScanPicture *found = NULL;
    for (int i = 0; i < s->count; i++) {
        if (strcmp(path_base(s->pictures[i].name), path_base(name)) != 0)
            continue;
        if (found)
            return NULL;
        found = &s->pictures[i];
    }
    return found;
}

static Status note_missing(Walk *w, int i)
{
    const char *name = w->metadata.entries[i].file_name;
    const ScanPicture *p = namesake(w->scan, name);
    const bool elsewhere = name[0] == '/' && file_exists(name);
    if (p)
        return note_metadata(w, i,
                             elsewhere ? "names %s, which lies outside of the folder; did you mean %s?"
                                       : "names %s, which is not there; did you mean %s?",
                             p->shown);
    return note_metadata(
        w, i, elsewhere ? "names %s, which lies outside of the folder%s" : "names %s, which is not there%s",
        "");
}

static Status apply_metadata(Walk *w)
{
    Scan *s = w->scan;
    for (int i = 0; i < w->metadata.count; i++) {
        MetadataEntry *e = &w->metadata.entries[i];
        const ScanPicture key = {.name = e->file_name};
        ScanPicture *p = s->count ? bsearch(&key, s->pictures, (size_t)s->count, sizeof key, by_name) : NULL;
        if (!p) {
            TRY(note_missing(w, i));
        } else if (p->caption) {
            TRY(note_metadata(w, i, "%s has a caption already%s", ""));
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
        if (p->blank && (!had || p->folder_caption))
            TRY(scan_list_add(&s->blank, "%s", p->blank));
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
    for (int i = 0; i < w->plain.count; i++)
        TRY(scan_list_add(&s->unused, "%s", w->plain.items[i]));
    TRY(apply_defaults(s, caption));
    s->named_itself =
        w->names != FOLDER_NAMES_PLAIN && folder_name_read(path_base(s->folder), &repeats, &own);
    return w->names == FOLDER_NAMES_AUTO ? ask_about_folders(s, folder) : STATUS_OK;
}

Status scan_folder(const char *folder, const char *caption, FolderNames names, const char *except, Scan *out)
{
    *out = (Scan){0};
    if (!file_is_dir(folder))
        return file_exists(folder)
                   ? status_refuse("%s: is not a folder; name the one that the pictures lie in", folder)
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
    scan_list_free(&w.plain);
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
        mem_free(s->pictures[i].blank);
        mem_free(s->pictures[i].mask);
    }
    mem_free(s->pictures);
    mem_free(s->folder);
    scan_list_free(&s->unused);
    scan_list_free(&s->problems);
    scan_list_free(&s->for_all);
    scan_list_free(&s->blank);
    scan_list_free(&s->numbered);
    *s = (Scan){0};
}
