/* Masks in a dataset file (masks.h): rows as /images has them. */
#include "masks.h"

#include "data/pictures/picture.h"
#include "kernels/base/mem.h"

#include <inttypes.h>
#include <string.h>

#define CHUNK ((hsize_t)16 << 10)
#define LIMIT ((size_t)1 << 30) /* bytes of one array in memory */
#define LOOK_SIDE 256           /* a mask is looked at in this size at most */

/* Looking ------------------------------------------------------------------------------------------------ */

/* Sides that were rounded when the mask was scaled are of one shape still. */
static bool same_shape(Size mask, Size picture)
{
    const int64_t across = (int64_t)mask.width * picture.height, down = (int64_t)mask.height * picture.width;
    const int64_t apart = across > down ? across - down : down - across;
    return apart <= picture.width + picture.height;
}

Status mask_check(const uint8_t *bytes, size_t size, Size picture, bool *black)
{
    Size mask;
    int orientation;
    Picture p;
    TRY(picture_info(bytes, size, &mask, &orientation));
    if (!same_shape(mask, picture))
        return status_fail("is %d x %d, and its picture %d x %d; a mask has its picture's shape", mask.width,
                           mask.height, picture.width, picture.height);
    const Size small = {mask.width < LOOK_SIDE ? mask.width : LOOK_SIDE,
                        mask.height < LOOK_SIDE ? mask.height : LOOK_SIDE};
    TRY(picture_decode_window(bytes, size, small, &(PictureWindow){.whole = small, .size = small}, &p));
    *black = true;
    for (int64_t i = 0; i < size_area(p.size) && *black; i++)
        *black = p.rgb[3 * i] == 0;
    picture_free(&p);
    return STATUS_OK;
}

/* Writing ------------------------------------------------------------------------------------------------ */

static Status create_data(MaskWriter *w, hid_t file, const char *path)
{
    const hsize_t none = 0, unlimited = H5S_UNLIMITED, chunk = CHUNK;
    TRY(h5_make_group(file, path, "/masks"));
    const hid_t space = H5Screate_simple(1, &none, &unlimited), list = h5_create_list();
    H5Pset_chunk(list, 1, &chunk);
    w->data = H5Dcreate2(file, "/masks/data", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    const Status s = w->data >= 0 ? STATUS_OK : h5_fail(path, "cannot be written");
    H5Pclose(list);
    H5Sclose(space);
    return s;
}

static Status append(MaskWriter *w, const char *path, const uint8_t *bytes, hsize_t size)
{
    const hsize_t start = w->size, end = start + size;
    if (H5Dset_extent(w->data, &end) < 0)
        return h5_fail(path, "cannot be written");
    const hid_t to = H5Dget_space(w->data), from = H5Screate_simple(1, &size, NULL);
    H5Sselect_hyperslab(to, H5S_SELECT_SET, &start, NULL, &size, NULL);
    const bool ok = H5Dwrite(w->data, H5T_NATIVE_UINT8, from, to, H5P_DEFAULT, bytes) >= 0;
    const Status s = ok ? STATUS_OK : h5_fail(path, "cannot be written");
    H5Sclose(to);
    H5Sclose(from);
    w->size = end;
    return s;
}

/* Room for one more in all columns. */
static bool grow(MaskWriter *w)
{
    int offsets = w->capacity, lengths = w->capacity; /* all have the same */
    return mem_grow(&w->offset, w->count, &offsets, sizeof *w->offset) &&
           mem_grow(&w->length, w->count, &lengths, sizeof *w->length) &&
           mem_grow(&w->sha256, w->count, &w->capacity, SHA256_SIZE);
}

Status masks_add(MaskWriter *w, hid_t file, const char *path, const uint8_t *bytes, uint64_t size)
{
    if (!grow(w))
        return STATUS_FAILED;
    uint8_t *hash = w->sha256 + (size_t)SHA256_SIZE * (size_t)w->count;
    w->offset[w->count] = w->size;
    w->length[w->count++] = size;
    memset(hash, 0, SHA256_SIZE);
    if (!size)
        return STATUS_OK;
    sha256(bytes, size, hash);
    if (w->data < 0)
        TRY(create_data(w, file, path));
    return append(w, path, bytes, size);
}

Status masks_write(MaskWriter *w, hid_t file, const char *path)
{
    const hsize_t dims[2] = {(hsize_t)w->count, SHA256_SIZE};
    if (w->data < 0)
        return STATUS_OK;
    const bool closed = H5Dclose(w->data) >= 0;
    w->data = -1;
    if (!closed)
        return h5_fail(path, "cannot be written");
    TRY(h5_write_array(file, path, "/masks/offset", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, dims, w->offset));
    TRY(h5_write_array(file, path, "/masks/length", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, dims, w->length));
    return h5_write_array(file, path, "/masks/sha256", H5T_STD_U8LE, H5T_NATIVE_UINT8, 2, dims, w->sha256);
}

void masks_writer_free(MaskWriter *w)
{
    mem_free(w->offset);
    mem_free(w->length);
    mem_free(w->sha256);
}

/* Reading ------------------------------------------------------------------------------------------------ */

static Status check_places(const MaskColumns *m, const char *path, int count, uint64_t bytes)
{
    for (int i = 0; i < count; i++)
        if (m->length[i] > bytes || m->offset[i] > bytes - m->length[i])
            return status_fail("%s: the mask of picture %d would lie at bytes %" PRIu64 " to %" PRIu64
                               " of %" PRIu64 "; the file is damaged",
                               path, i + 1, m->offset[i], m->offset[i] + m->length[i], bytes);
    return STATUS_OK;
}

Status masks_open(hid_t file, const char *path, int count, MaskColumns *out)
{
    hsize_t dims[2] = {(hsize_t)count, SHA256_SIZE};
    uint64_t bytes = 0;
    *out = (MaskColumns){.data = -1};
    if (!h5_exists(file, "/masks"))
        return STATUS_OK;
    TRY(h5_open_bytes(file, path, "/masks/data", &out->data, &bytes));
    TRY(h5_read_array(file, path, "/masks/offset", H5T_NATIVE_UINT64, 1, dims, LIMIT, (void *)&out->offset));
    TRY(h5_read_array(file, path, "/masks/length", H5T_NATIVE_UINT64, 1, dims, LIMIT, (void *)&out->length));
    TRY(h5_read_array(file, path, "/masks/sha256", H5T_NATIVE_UINT8, 2, dims, LIMIT, (void *)&out->sha256));
    return check_places(out, path, count, bytes);
}

void masks_close(MaskColumns *m)
{
    if (m->data >= 0)
        H5Dclose(m->data);
    mem_free(m->offset);
    mem_free(m->length);
    mem_free(m->sha256);
}

Status masks_bytes(const MaskColumns *m, const char *path, int i, uint8_t **bytes, size_t *size)
{
    const hsize_t start = m->offset[i], count = m->length[i];
    *size = m->length[i];
    if (!(*bytes = mem_alloc(*size)))
        return STATUS_FAILED;
    h5_begin();
    const hid_t from = H5Dget_space(m->data), to = H5Screate_simple(1, &count, NULL);
    H5Sselect_hyperslab(from, H5S_SELECT_SET, &start, NULL, &count, NULL);
    const bool ok = H5Dread(m->data, H5T_NATIVE_UINT8, to, from, H5P_DEFAULT, *bytes) >= 0;
    const Status s = ok ? STATUS_OK : h5_fail(path, "cannot be read");
    H5Sclose(from);
    H5Sclose(to);
    return h5_end(s);
}
