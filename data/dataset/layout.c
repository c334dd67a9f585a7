/* Writing a dataset file (layout.h). /images/data is chunked, because its length is not known before the last
 * picture has been looked at. */
#include "layout.h"

#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "h5.h"
#include "masks.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The last chunk is written whole: large files get large chunks (fewer index entries), small ones little
 * padding. */
#define MIN_CHUNK ((hsize_t)4 << 10)
#define MAX_CHUNK ((hsize_t)1 << 20)
#define CHUNKS 64
#define LEFT_OUT_BYTES 16384 /* of an attribute, which HDF5 limits to 64 KiB */

typedef struct Column {
    uint64_t offset, length;
    uint32_t width, height, repeats;
    uint8_t orientation, odd, sha256[SHA256_SIZE];
    char *name, *caption;
} Column;

struct DatasetWriter {
    char *path, *part;
    int hold; /* on part; −1: none */
    hid_t file, data;
    hsize_t size; /* bytes of pictures so far */
    MaskWriter masks;
    Column *columns;
    size_t count;
    int capacity;
    char *left_out; /* names, one a line, as many as LEFT_OUT_BYTES hold; NULL: none */
    int left_out_count;
};

static Status create_data(DatasetWriter *w, uint64_t expected_bytes)
{
    hsize_t chunk = MIN_CHUNK;
    while (chunk < MAX_CHUNK && chunk * CHUNKS < expected_bytes)
        chunk *= 2;
    TRY(h5_create(w->part, false, &w->file));
    TRY(h5_make_group(w->file, w->part, "/images"));
    TRY(h5_make_group(w->file, w->part, "/captions"));
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    const hid_t space = H5Screate_simple(1, &none, &unlimited), list = h5_create_list();
    H5Pset_chunk(list, 1, &chunk);
    w->data = H5Dcreate2(w->file, "/images/data", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    const Status s = w->data >= 0 ? STATUS_OK : h5_fail(w->part, "cannot be written");
    H5Pclose(list);
    H5Sclose(space);
    return s;
}

#define TOOL "atelier "

/* A dataset, and not a cache of a run's; one that cannot be read is nobody's to replace. */
static bool is_ours(const char *path)
{
    hid_t file = -1;
    char *tool = NULL;
    h5_begin();
    Status s = h5_open(path, H5F_ACC_RDONLY, &file);
    if (s == STATUS_OK)
        s = h5_read_attribute_text(file, path, "tool", &tool);
    const bool dataset = s == STATUS_OK && h5_exists(file, "/images") && h5_exists(file, "/captions");
    if (file >= 0)
        H5Fclose(file);
    h5_end(s);
    const bool ours = dataset && tool && strncmp(tool, TOOL, strlen(TOOL)) == 0;
    mem_free(tool);
    return ours;
}

Status dataset_check_target(const char *path)
{
    TRY(file_check_target(path));
    if (file_size(path) <= 0 || (h5_is_file(path) && is_ours(path)))
        return STATUS_OK;
    return status_refuse("%s: is there already and no dataset that was built here; it is not replaced, "
                         "choose another name",
                         path);
}

Status dataset_writer_open(const char *path, uint64_t expected_bytes, DatasetWriter **out)
{
    *out = NULL;
    TRY(file_try(path)); /* makes its folder too */
    DatasetWriter *w = mem_calloc(1, sizeof *w);
    if (!w)
        return STATUS_FAILED;
    w->file = w->data = w->masks.data = -1;
    w->hold = -1;
    w->path = mem_strdup(path);
    w->part = path_aside(path, "part");
    Status s = w->path && w->part ? aside_file(w->part, path, &w->hold) : STATUS_FAILED;
    if (s == STATUS_OK) {
        h5_begin();
        s = h5_end(create_data(w, expected_bytes));
    }
    if (s != STATUS_OK)
        dataset_writer_abort(w);
    else
        *out = w;
    return s;
}

static void writer_free(DatasetWriter *w)
{
    for (size_t i = 0; i < w->count; i++) {
        mem_free(w->columns[i].name);
        mem_free(w->columns[i].caption);
    }
    masks_writer_free(&w->masks);
    mem_free(w->columns);
    mem_free(w->left_out);
    mem_free(w->path);
    mem_free(w->part);
    if (w->hold >= 0)
        close(w->hold);
    mem_free(w);
}

/* Closes the HDF5 file; an error is of interest only where it is to be kept. */
static Status close_file(DatasetWriter *w)
{
    if (w->file < 0)
        return STATUS_OK;
    h5_begin();
    Status s = w->data < 0 || H5Dclose(w->data) >= 0 ? STATUS_OK : h5_fail(w->part, "cannot be written");
    if (w->masks.data >= 0)
        H5Dclose(w->masks.data);
    if (s == STATUS_OK)
        s = h5_close(w->part, w->file);
    w->file = w->data = w->masks.data = -1;
    return h5_end(s);
}

void dataset_writer_abort(DatasetWriter *w)
{
    if (!w)
        return;
    close_file(w);
    if (w->part)
        unlink(w->part); /* even where HDF5 says that it could not be made */
    writer_free(w);
}

static Status append(DatasetWriter *w, const uint8_t *bytes, hsize_t size)
{
    const hsize_t start = w->size, end = start + size;
    if (H5Dset_extent(w->data, &end) < 0)
        return h5_fail(w->part, "cannot be written");
    const hid_t to = H5Dget_space(w->data), from = H5Screate_simple(1, &size, NULL);
    H5Sselect_hyperslab(to, H5S_SELECT_SET, &start, NULL, &size, NULL);
    const bool ok = H5Dwrite(w->data, H5T_NATIVE_UINT8, from, to, H5P_DEFAULT, bytes) >= 0;
    const Status s = ok ? STATUS_OK : h5_fail(w->part, "cannot be written");
    H5Sclose(to);
    H5Sclose(from);
    w->size = end;
    return s;
}

Status dataset_writer_add(DatasetWriter *w, const DatasetEntry *e)
{
    if (!mem_grow(&w->columns, (int)w->count, &w->capacity, sizeof *w->columns))
        return STATUS_FAILED;
    Column *c = &w->columns[w->count++];
    *c = (Column){.offset = w->size,
                  .length = e->size,
                  .width = (uint32_t)e->picture.width,
                  .height = (uint32_t)e->picture.height,
                  .orientation = (uint8_t)e->orientation,
                  .odd = (uint8_t)e->odd,
                  .repeats = (uint32_t)e->repeats,
                  .name = mem_strdup(e->name),
                  .caption = mem_strdup(e->caption)};
    if (!c->name || !c->caption)
        return STATUS_FAILED;
    sha256(e->bytes, e->size, c->sha256);
    h5_begin();
    Status s = append(w, e->bytes, e->size);
    if (s == STATUS_OK)
        s = masks_add(&w->masks, w->file, w->part, e->mask, e->mask_size);
    return h5_end(s);
}

Status dataset_writer_leave_out(DatasetWriter *w, const char *name)
{
    const char *before = w->left_out ? w->left_out : "";
    w->left_out_count++;
    if (strlen(before) + strlen(name) >= LEFT_OUT_BYTES)
        return STATUS_OK;
    char *names = mem_printf("%s%s%s", before, *before ? "\n" : "", name);
    if (!names)
        return STATUS_FAILED;
    mem_free(w->left_out);
    w->left_out = names;
    return STATUS_OK;
}

/* One array of numbers out of the columns: a field's values stand `step` bytes apart. */
static Status write_column(DatasetWriter *w, const char *name, hid_t file_type, hid_t mem, const void *first,
                           size_t width)
{
    const size_t bytes = H5Tget_size(mem) * width;
    uint8_t *values = mem_alloc(w->count * bytes);
    if (!values)
        return STATUS_FAILED;
    for (size_t i = 0; i < w->count; i++)
        memcpy(values + i * bytes, (const uint8_t *)first + i * sizeof(Column), bytes);
    const hsize_t dims[2] = {w->count, width};
    const Status s = h5_write_array(w->file, w->part, name, file_type, mem, width > 1 ? 2 : 1, dims, values);
    mem_free(values);
    return s;
}

static Status write_names(DatasetWriter *w)
{
    const char **names = mem_alloc(w->count * sizeof *names);
    if (!names)
        return STATUS_FAILED;
    for (size_t i = 0; i < w->count; i++)
        names[i] = w->columns[i].name;
    const Status s = h5_write_strings(w->file, w->part, "/images/name", w->count, names);
    mem_free(names);
    return s;
}

/* All captions in one row of bytes, and where each begins; the last offset is the end. */
static Status write_captions(DatasetWriter *w)
{
    uint64_t *offset = mem_alloc((w->count + 1) * sizeof *offset);
    if (!offset)
        return STATUS_FAILED;
    offset[0] = 0;
    for (size_t i = 0; i < w->count; i++)
        offset[i + 1] = offset[i] + strlen(w->columns[i].caption);
    const hsize_t size = offset[w->count], count = w->count + 1;
    char *text = mem_alloc(size);
    Status s = text ? STATUS_OK : STATUS_FAILED;
    for (size_t i = 0; i < w->count && s == STATUS_OK; i++)
        memcpy(text + offset[i], w->columns[i].caption, offset[i + 1] - offset[i]);
    if (s == STATUS_OK)
        s = h5_write_array(w->file, w->part, "/captions/text", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &size,
                           text);
    if (s == STATUS_OK)
        s = h5_write_array(w->file, w->part, "/captions/offset", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &count,
                           offset);
    mem_free(text);
    mem_free(offset);
    return s;
}

/* One number for all, or where they differ one a picture. */
static Status write_repeats(DatasetWriter *w)
{
    const Column *c = w->columns;
    for (size_t i = 1; i < w->count; i++)
        if (c[i].repeats != c[0].repeats)
            return write_column(w, "/images/repeats", H5T_STD_U32LE, H5T_NATIVE_UINT32, &c->repeats, 1);
    return h5_write_attribute_int(w->file, w->part, "repeats", (int)c[0].repeats);
}

/* Of most datasets nothing is odd. */
static Status write_odd(DatasetWriter *w)
{
    const Column *c = w->columns;
    for (size_t i = 0; i < w->count; i++)
        if (c[i].odd)
            return write_column(w, "/images/odd", H5T_STD_U8LE, H5T_NATIVE_UINT8, &c->odd, 1);
    return STATUS_OK;
}

static Status write_rest(DatasetWriter *w, const char *source)
{
    const Column *c = w->columns;
    TRY(write_column(w, "/images/offset", H5T_STD_U64LE, H5T_NATIVE_UINT64, &c->offset, 1));
    TRY(write_column(w, "/images/length", H5T_STD_U64LE, H5T_NATIVE_UINT64, &c->length, 1));
    TRY(write_column(w, "/images/width", H5T_STD_U32LE, H5T_NATIVE_UINT32, &c->width, 1));
    TRY(write_column(w, "/images/height", H5T_STD_U32LE, H5T_NATIVE_UINT32, &c->height, 1));
    TRY(write_column(w, "/images/orientation", H5T_STD_U8LE, H5T_NATIVE_UINT8, &c->orientation, 1));
    TRY(write_column(w, "/images/sha256", H5T_STD_U8LE, H5T_NATIVE_UINT8, c->sha256, SHA256_SIZE));
    TRY(write_odd(w));
    TRY(masks_write(&w->masks, w->file, w->part));
    TRY(write_names(w));
    TRY(write_captions(w));
    TRY(h5_write_attribute_int(w->file, w->part, "format_version", DATASET_FORMAT_VERSION));
    TRY(h5_write_attribute_text(w->file, w->part, "tool", TOOL ATELIER_VERSION));
    TRY(h5_write_attribute_text(w->file, w->part, "source", source));
    if (w->left_out_count) {
        TRY(h5_write_attribute_int(w->file, w->part, "left_out", w->left_out_count));
        TRY(h5_write_attribute_text(w->file, w->part, "left_out_names", w->left_out ? w->left_out : ""));
    }
    return write_repeats(w);
}

/* Syncs part, renames it to path, syncs the folder. */
static Status put_in_place(const char *part, const char *path)
{
    const int fd = open(part, O_RDONLY | O_CLOEXEC);
    const bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    if (!synced || rename(part, path) != 0)
        return status_fail("%s: cannot be put in its place: %m", path);
    char *parent = path_parent(path);
    const Status s = parent ? dir_sync(parent) : STATUS_FAILED;
    mem_free(parent);
    return s;
}

Status dataset_writer_commit(DatasetWriter *w, const char *source)
{
    h5_begin();
    Status s = h5_end(write_rest(w, source));
    const Status closed = close_file(w);
    s = s == STATUS_OK ? closed : s;
    if (s == STATUS_OK)
        s = put_in_place(w->part, w->path);
    if (s != STATUS_OK)
        unlink(w->part);
    writer_free(w);
    return s;
}
