/* Opening and reading a dataset file (docs/dataset-file.md). Everything but the pictures is read into memory
 * and checked once, when the file is opened, so that nothing after it has to doubt an offset; the pictures
 * are read when asked for. */
#include "dataset.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "kernels/base/text.h"
#include "h5.h"
#include "layout.h"
#include "masks.h"
#include "view.h"

#include <inttypes.h>
#include <string.h>

#define LIMIT ((size_t)1 << 30) /* bytes of one array in memory */
#define HASHES_AT_ONCE 1024

struct Dataset {
    char *path, *source, *left_out_names;
    int left_out;
    hid_t file, data, hashes; /* hashes: (count,32) */
    int count, repeats;       /* of all, where they are not listed */
    uint64_t data_size;
    uint32_t *width, *height, *repeats_of; /* repeats_of may be NULL */
    uint8_t *orientation, *odd;            /* odd may be NULL */
    uint64_t *offset, *length;
    uint8_t *sha256;          /* (count,32), of a view */
    MaskColumns masks;        /* of a view sha256 alone */
    char **mask_paths;        /* where a view's masks lie, "": none; or NULL */
    char **names, **paths;    /* one block each; paths: where a view's pictures lie, or NULL */
    uint32_t *caption_offset; /* (count+1), as stored but in 32 bits, which LIMIT fits */
    char *missing;            /* what stands for an empty caption, or NULL */
    char *captions;           /* each followed by a 0: caption i begins at caption_offset[i] + i */
};

/* Reading ---------------------------------------------------------------------------------------------- */

static Status read_version(Dataset *d)
{
    int version = 0;
    bool found;
    TRY(h5_read_attribute_int(d->file, d->path, "format_version", &version, &found));
    if (!h5_exists(d->file, "/images") || !h5_exists(d->file, "/captions"))
        return status_fail(
            "%s: is an HDF5 file, but no dataset of Atelier's (/images and /captions are missing)", d->path);
    if (!found || version < 1)
        return status_fail("%s: the attribute format_version is missing", d->path);
    if (version > DATASET_FORMAT_VERSION)
        return status_fail("%s: was written by a newer Atelier (format %d, this one reads %d)", d->path,
                           version, DATASET_FORMAT_VERSION);
    d->repeats = 1;
    TRY(h5_read_attribute_int(d->file, d->path, "repeats", &d->repeats, &found));
    if (d->repeats < 1 || d->repeats > MAX_REPEATS)
        return status_fail("%s: the attribute repeats is %d", d->path, d->repeats);
    TRY(h5_read_attribute_int(d->file, d->path, "left_out", &d->left_out, &found));
    TRY(h5_read_attribute_text(d->file, d->path, "left_out_names", &d->left_out_names));
    if (d->left_out < 0 ||
        (d->left_out_names && text_invalid_utf8(d->left_out_names, strlen(d->left_out_names)) >= 0))
        return status_fail("%s: the attributes left_out and left_out_names are damaged", d->path);
    return h5_read_attribute_text(d->file, d->path, "source", &d->source);
}

/* One number a picture; the first one read gives the count. */
static Status read_column(Dataset *d, const char *name, hid_t mem, void *out)
{
    hsize_t dims[1] = {(hsize_t)d->count};
    TRY(h5_read_array(d->file, d->path, name, mem, 1, dims, LIMIT, out));
    if (dims[0] == 0 || dims[0] > INT32_MAX / 2)
        return status_fail("%s: holds %s pictures", d->path, dims[0] ? "too many" : "no");
    d->count = (int)dims[0];
    return STATUS_OK;
}

static Status read_images(Dataset *d)
{
    TRY(read_column(d, "/images/offset", H5T_NATIVE_UINT64, (void *)&d->offset));
    TRY(read_column(d, "/images/length", H5T_NATIVE_UINT64, (void *)&d->length));
    TRY(read_column(d, "/images/width", H5T_NATIVE_UINT32, (void *)&d->width));
    TRY(read_column(d, "/images/height", H5T_NATIVE_UINT32, (void *)&d->height));
    TRY(read_column(d, "/images/orientation", H5T_NATIVE_UINT8, (void *)&d->orientation));
    if (h5_exists(d->file, "/images/repeats"))
        TRY(read_column(d, "/images/repeats", H5T_NATIVE_UINT32, (void *)&d->repeats_of));
    if (h5_exists(d->file, "/images/odd"))
        TRY(read_column(d, "/images/odd", H5T_NATIVE_UINT8, (void *)&d->odd));
    TRY(h5_open_rows(d->file, d->path, "/images/sha256", (hsize_t)d->count, SHA256_SIZE, &d->hashes));
    return h5_read_strings(d->file, d->path, "/images/name", (size_t)d->count, &d->names);
}

static Status check_images(const Dataset *d)
{
    for (int i = 0; i < d->count; i++) {
        const char *name = d->names[i];
        if (!name[0] || text_invalid_utf8(name, strlen(name)) >= 0)
            return status_fail("%s: the name of picture %d is not UTF-8 or empty", d->path, i + 1);
        if (d->length[i] == 0 || d->length[i] > d->data_size || d->offset[i] > d->data_size - d->length[i])
            return status_fail("%s: %s would lie at bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64
                               "; the file is damaged",
                               d->path, name, d->offset[i], d->offset[i] + d->length[i], d->data_size);
        if (d->width[i] - 1 >= PICTURE_MAX_SIDE || d->height[i] - 1 >= PICTURE_MAX_SIDE ||
            (uint64_t)d->width[i] * d->height[i] > PICTURE_MAX_PIXELS)
            return status_fail("%s: %s has an impossible size, %" PRIu32 " x %" PRIu32, d->path, name,
                               d->width[i], d->height[i]);
        if (d->repeats_of && d->repeats_of[i] - 1 >= MAX_REPEATS)
            return status_fail("%s: %s has impossible repeats, %" PRIu32, d->path, name, d->repeats_of[i]);
        if (d->orientation[i] < 1 || d->orientation[i] > 8)
            return status_fail("%s: %s has an impossible orientation, %d", d->path, name, d->orientation[i]);
    }
    return STATUS_OK;
}

static Status check_captions(const Dataset *d, const char *text, uint64_t size)
{
    const uint32_t *at = d->caption_offset; /* HDF5 makes the largest of what does not fit */
    if (at[0] != 0 || at[d->count] != size)
        return status_fail("%s: /captions/offset does not span /captions/text; the file is damaged", d->path);
    for (int i = 0; i < d->count; i++)
        if (at[i] > at[i + 1] || at[i + 1] > size)
            return status_fail("%s: /captions/offset runs backwards at %d; the file is damaged", d->path, i);
    for (int i = 0; i < d->count; i++) {
        const char *caption = text + at[i];
        const size_t length = at[i + 1] - at[i];
        if (text_invalid_utf8(caption, length) >= 0 || memchr(caption, 0, length))
            return status_fail("%s: the caption of %s is not UTF-8", d->path, d->names[i]);
    }
    return STATUS_OK;
}

static Status read_captions(Dataset *d)
{
    hsize_t dims[1] = {(hsize_t)d->count + 1}, size[1] = {0};
    TRY(h5_read_array(d->file, d->path, "/captions/offset", H5T_NATIVE_UINT32, 1, dims, LIMIT,
                      (void *)&d->caption_offset));
    TRY(h5_read_array(d->file, d->path, "/captions/text", H5T_NATIVE_UINT8, 1, size, LIMIT,
                      (void *)&d->captions));
    TRY(check_captions(d, d->captions, size[0]));
    char *larger = mem_realloc(d->captions, size[0] + (size_t)d->count);
    if (!larger)
        return STATUS_FAILED;
    d->captions = larger;
    for (int i = d->count - 1; i >= 0; i--) { /* each moves behind the zeros of those before it */
        const size_t at = d->caption_offset[i], length = d->caption_offset[i + 1] - at;
        memmove(larger + at + i, larger + at, length);
        larger[at + (size_t)i + length] = 0;
    }
    return STATUS_OK;
}

static Status read_all(Dataset *d)
{
    TRY(h5_open(d->path, H5F_ACC_RDONLY, &d->file));
    TRY(read_version(d));
    TRY(h5_open_bytes(d->file, d->path, "/images/data", &d->data, &d->data_size));
    TRY(read_images(d));
    TRY(check_images(d));
    TRY(masks_open(d->file, d->path, d->count, &d->masks));
    return read_captions(d);
}

Status dataset_open(const char *path, Dataset **out)
{
    *out = NULL;
    Dataset *d = mem_calloc(1, sizeof *d);
    if (!d)
        return STATUS_FAILED;
    d->file = d->data = d->hashes = d->masks.data = -1;
    d->path = mem_strdup(path);
    h5_begin();
    const Status s = h5_end(d->path ? read_all(d) : STATUS_FAILED);
    if (s != STATUS_OK)
        dataset_close(d);
    else
        *out = d;
    return s;
}

void dataset_close(Dataset *d)
{
    if (!d)
        return;
    h5_begin();
    if (d->data >= 0)
        H5Dclose(d->data);
    if (d->hashes >= 0)
        H5Dclose(d->hashes);
    masks_close(&d->masks);
    if (d->file >= 0)
        H5Fclose(d->file);
    h5_end(STATUS_OK);
    mem_free(d->path);
    mem_free(d->source);
    mem_free(d->left_out_names);
    mem_free(d->width);
    mem_free(d->height);
    mem_free(d->orientation);
    mem_free(d->odd);
    mem_free(d->repeats_of);
    mem_free(d->offset);
    mem_free(d->length);
    mem_free(d->sha256);
    mem_free(d->names);
    mem_free(d->paths);
    mem_free(d->mask_paths);
    mem_free(d->caption_offset);
    mem_free(d->captions);
    mem_free(d->missing);
    mem_free(d);
}

/* A folder's view -------------------------------------------------------------------------------------- */

static const char *name_in(const ViewRow *row)
{
    return row->name;
}

static const char *path_of(const ViewRow *row)
{
    return row->path;
}

static const char *mask_of(const ViewRow *row)
{
    return row->mask ? row->mask : "";
}

/* A text of each row in one block: the pointers, then what they point to. */
static char **texts_of(const View *v, const char *(*text)(const ViewRow *))
{
    size_t bytes = (size_t)v->count * sizeof(char *);
    for (int i = 0; i < v->count; i++)
        bytes += strlen(text(&v->rows[i])) + 1;
    char **all = mem_alloc(bytes), *at = (char *)(all + v->count);
    for (int i = 0; i < v->count && all; i++) {
        const size_t size = strlen(text(&v->rows[i])) + 1;
        all[i] = memcpy(at, text(&v->rows[i]), size);
        at += size;
    }
    return all;
}

static Status check_captions_fit(const char *path, uint64_t bytes)
{
    return bytes <= LIMIT
               ? STATUS_OK
               : status_refuse("%s: the captions have more than %zu MB together", path, LIMIT >> 20);
}

static Status allocate_rows(Dataset *d, const View *v)
{
    const size_t n = (size_t)v->count;
    uint64_t captions = 0;
    for (size_t i = 0; i < n; i++)
        captions += strlen(v->rows[i].caption) + 1;
    TRY(check_captions_fit(d->path, captions));
    d->count = v->count;
    d->width = mem_alloc(n * sizeof *d->width);
    d->height = mem_alloc(n * sizeof *d->height);
    d->repeats_of = mem_alloc(n * sizeof *d->repeats_of);
    d->orientation = mem_alloc(n);
    d->odd = mem_alloc(n);
    d->length = mem_alloc(n * sizeof *d->length);
    d->sha256 = mem_alloc(n * SHA256_SIZE);
    d->names = texts_of(v, name_in);
    d->paths = texts_of(v, path_of);
    d->mask_paths = texts_of(v, mask_of);
    d->masks.sha256 = mem_alloc(n * SHA256_SIZE);
    d->caption_offset = mem_alloc((n + 1) * sizeof *d->caption_offset);
    d->captions = mem_alloc(captions);
    return d->width && d->height && d->repeats_of && d->orientation && d->odd && d->length && d->sha256 &&
                   d->names && d->paths && d->mask_paths && d->masks.sha256 && d->caption_offset &&
                   d->captions
               ? STATUS_OK
               : STATUS_FAILED;
}

static void fill_rows(Dataset *d, const View *v)
{
    uint32_t at = 0;
    for (int i = 0; i < v->count; i++) {
        const ViewRow *row = &v->rows[i];
        d->width[i] = (uint32_t)row->size.width;
        d->height[i] = (uint32_t)row->size.height;
        d->repeats_of[i] = (uint32_t)row->repeats;
        d->orientation[i] = (uint8_t)row->orientation;
        d->odd[i] = (uint8_t)row->odd;
        d->length[i] = row->length;
        memcpy(d->sha256 + (size_t)SHA256_SIZE * (size_t)i, row->sha256, SHA256_SIZE);
        memcpy(d->masks.sha256 + (size_t)SHA256_SIZE * (size_t)i, row->mask_sha256, SHA256_SIZE);
        d->caption_offset[i] = at; /* captions are followed by a 0, which offsets do not count */
        strcpy(d->captions + at + i, row->caption);
        at += (uint32_t)strlen(row->caption);
    }
    d->caption_offset[v->count] = at;
}

Status dataset_of_view(const View *v, const char *folder, int left_out, Dataset **out)
{
    *out = NULL;
    Dataset *d = mem_calloc(1, sizeof *d);
    if (!d)
        return STATUS_FAILED;
    d->file = d->data = d->hashes = d->masks.data = -1;
    d->repeats = 1;
    d->left_out = left_out;
    d->path = mem_strdup(folder);
    const Status s = d->path ? allocate_rows(d, v) : STATUS_FAILED;
    if (s == STATUS_OK)
        fill_rows(d, v);
    if (s != STATUS_OK)
        dataset_close(d);
    else
        *out = d;
    return s;
}

/* Answers ---------------------------------------------------------------------------------------------- */

int dataset_count(const Dataset *d)
{
    return d->count;
}

const char *dataset_path(const Dataset *d)
{
    return d->path;
}

const char *dataset_source(const Dataset *d)
{
    return d->source ? d->source : "";
}

int dataset_left_out(const Dataset *d, const char **names)
{
    *names = d->left_out_names ? d->left_out_names : "";
    return d->left_out;
}

const char *dataset_name(const Dataset *d, int i)
{
    return d->names[i];
}

const char *dataset_caption(const Dataset *d, int i)
{
    const char *caption = d->captions + d->caption_offset[i] + i;
    return *caption || !d->missing ? caption : d->missing;
}

Status dataset_set_missing_caption(Dataset *d, const char *caption)
{
    mem_free(d->missing);
    d->missing = mem_strdup(caption);
    return d->missing ? STATUS_OK : STATUS_FAILED;
}

/* The captions of all pictures, styled, in one block. */
typedef struct Restyled {
    uint32_t *offset;
    char *text;
    uint64_t size, capacity;
} Restyled;

/* Caption i, with a 0 behind it, which offsets do not count. */
static Status restyle(const Dataset *d, int i, const CaptionStyle *style, Restyled *r)
{
    char *styled;
    TRY(caption_style(dataset_caption(d, i), style, &styled));
    const uint64_t size = strlen(styled) + 1;
    const Status s = check_captions_fit(d->path, r->size + size);
    if (s == STATUS_OK && r->size + size > r->capacity) {
        const uint64_t capacity = 2 * r->capacity + size;
        char *more = mem_realloc(r->text, capacity);
        r->text = more ? more : r->text;
        r->capacity = more ? capacity : r->capacity;
    }
    const bool fits = s == STATUS_OK && r->size + size <= r->capacity;
    if (fits) {
        memcpy(r->text + r->size, styled, size);
        r->offset[i] = (uint32_t)(r->size - (uint64_t)i);
        r->size += size;
        r->offset[i + 1] = (uint32_t)(r->size - (uint64_t)(i + 1));
    }
    mem_free(styled);
    return s != STATUS_OK || fits ? s : STATUS_FAILED;
}

Status dataset_style_captions(Dataset *d, const CaptionStyle *style)
{
    if (caption_style_is_plain(style))
        return STATUS_OK;
    Restyled r = {.offset = mem_alloc(((size_t)d->count + 1) * sizeof *r.offset)};
    Status s = r.offset ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < d->count && s == STATUS_OK; i++)
        s = restyle(d, i, style, &r);
    if (s == STATUS_OK) {
        char *const text = d->captions;
        uint32_t *const offset = d->caption_offset;
        d->captions = r.text, d->caption_offset = r.offset;
        r = (Restyled){.text = text, .offset = offset};
    }
    mem_free(r.text);
    mem_free(r.offset);
    return s;
}

bool dataset_has_several_captions(const Dataset *d)
{
    for (int i = 0; i < d->count; i++)
        if (strstr(dataset_caption(d, i), CAPTION_SEPARATOR))
            return true;
    return false;
}

/* Of pictures i to i + count − 1. */
static void read_hashes(const Dataset *d, int i, int count, uint8_t *out)
{
    const size_t size = (size_t)SHA256_SIZE * (size_t)count;
    if (d->sha256) {
        memcpy(out, d->sha256 + (size_t)SHA256_SIZE * (size_t)i, size);
        return;
    }
    h5_begin();
    const Status s = h5_end(h5_read_rows(d->hashes, d->path, (hsize_t)i, (hsize_t)count, SHA256_SIZE, out));
    if (s != STATUS_OK)
        memset(out, 0, size);
}

void dataset_sha256(const Dataset *d, int i, uint8_t out[SHA256_SIZE])
{
    read_hashes(d, i, 1, out);
}

Size dataset_size(const Dataset *d, int i)
{
    return (Size){(int)d->width[i], (int)d->height[i]};
}

int dataset_repeats(const Dataset *d, int i)
{
    return d->repeats_of ? (int)d->repeats_of[i] : d->repeats;
}

static void see_picture(const void *set, int i, const char **name, const char **caption, int *repeats)
{
    *name = dataset_name(set, i);
    *caption = dataset_caption(set, i);
    *repeats = dataset_repeats(set, i);
}

Status dataset_folders(const Dataset *d, FoldersTaken *out)
{
    return folders_taken(see_picture, d, d->count, out);
}

Status dataset_remarks(const Dataset *d, const Framer *framer, Remarks *out)
{
    *out = (Remarks){0};
    Status s = STATUS_OK;
    for (int i = 0; i < d->count && s == STATUS_OK; i++) {
        BucketFit fit;
        const bool fits = framer && framer_fit(framer, dataset_size(d, i), &fit) == STATUS_OK;
        s = remarks_add(out, d->names[i], d->odd ? d->odd[i] : 0, dataset_size(d, i), fits ? &fit : NULL);
    }
    if (s != STATUS_OK)
        remarks_free(out);
    return s;
}

uint64_t dataset_encoded_size(const Dataset *d, int i)
{
    return d->length[i];
}

void dataset_caption_sha256(const Dataset *d, int i, uint8_t out[SHA256_SIZE])
{
    const char *caption = dataset_caption(d, i);
    sha256(caption, strlen(caption), out);
}

void dataset_source_sha256(const Dataset *d, uint8_t out[SHA256_SIZE])
{
    Sha256 s;
    sha256_init(&s);
    for (int i = 0; i < d->count; i += HASHES_AT_ONCE) {
        uint8_t hashes[HASHES_AT_ONCE * SHA256_SIZE];
        const int n = d->count - i < HASHES_AT_ONCE ? d->count - i : HASHES_AT_ONCE;
        read_hashes(d, i, n, hashes);
        sha256_update(&s, hashes, (size_t)SHA256_SIZE * (size_t)n);
    }
    for (int i = 0; i < d->count; i++) {
        uint8_t hash[SHA256_SIZE];
        dataset_caption_sha256(d, i, hash);
        sha256_update(&s, hash, sizeof hash);
    }
    if (d->repeats_of)
        sha256_update(&s, d->repeats_of, (size_t)d->count * sizeof *d->repeats_of);
    sha256_final(&s, out);
}

static Status check_sum(const uint8_t *wanted, const uint8_t *bytes, size_t size)
{
    uint8_t hash[SHA256_SIZE];
    sha256(bytes, size, hash);
    return memcmp(hash, wanted, SHA256_SIZE) == 0
               ? STATUS_OK
               : status_fail("is damaged: its SHA-256 is not the one written down; build the dataset again");
}

static Status read_from_file(const Dataset *d, int i, uint8_t **bytes, size_t *size)
{
    *size = d->length[i];
    if (!(*bytes = mem_alloc(*size)))
        return STATUS_FAILED;
    const hsize_t start = d->offset[i], count = d->length[i];
    h5_begin();
    const hid_t from = H5Dget_space(d->data), to = H5Screate_simple(1, &count, NULL);
    H5Sselect_hyperslab(from, H5S_SELECT_SET, &start, NULL, &count, NULL);
    const bool ok = H5Dread(d->data, H5T_NATIVE_UINT8, to, from, H5P_DEFAULT, *bytes) >= 0;
    const Status s = ok ? STATUS_OK : h5_fail(d->path, "cannot be read");
    H5Sclose(from);
    H5Sclose(to);
    return h5_end(s);
}

Status dataset_bytes(const Dataset *d, int i, uint8_t **bytes, size_t *size)
{
    uint8_t hash[SHA256_SIZE];
    *bytes = NULL;
    Status s = d->paths ? file_read(d->paths[i], SIZE_MAX / 2, (char **)bytes, size)
                        : read_from_file(d, i, bytes, size);
    if (s == STATUS_OK) {
        dataset_sha256(d, i, hash);
        s = check_sum(hash, *bytes, *size);
    }
    if (s != STATUS_OK) {
        mem_free(*bytes);
        *bytes = NULL;
    }
    return s;
}

/* Masks ------------------------------------------------------------------------------------------------ */

bool dataset_has_mask(const Dataset *d, int i)
{
    return d->mask_paths ? d->mask_paths[i][0] : d->masks.length && d->masks.length[i];
}

int dataset_masks(const Dataset *d)
{
    int count = 0;
    for (int i = 0; i < d->count; i++)
        count += dataset_has_mask(d, i);
    return count;
}

const uint8_t *dataset_mask_sha256(const Dataset *d, int i)
{
    return d->masks.sha256 + (size_t)SHA256_SIZE * (size_t)i;
}

Status dataset_mask_bytes(const Dataset *d, int i, uint8_t **bytes, size_t *size)
{
    *bytes = NULL;
    Status s = d->mask_paths ? file_read(d->mask_paths[i], SIZE_MAX / 2, (char **)bytes, size)
                             : masks_bytes(&d->masks, d->path, i, bytes, size);
    if (s == STATUS_OK)
        s = status_in(check_sum(dataset_mask_sha256(d, i), *bytes, *size), "its mask");
    if (s != STATUS_OK) {
        mem_free(*bytes);
        *bytes = NULL;
    }
    return s;
}
