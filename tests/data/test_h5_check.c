/* Datasets in forms of HDF5 that somebody may write: those that are read, and those that are refused before
 * HDF5's library sees them, with a message that names the array and says what to do. Breaks if an ordinary
 * file is refused, or if a form that the library has crashed on gets through. */
#include "pictures.h"

#include "data/dataset/dataset.h"
#include "data/dataset/h5_check.h"
#include "kernels/base/log.h"
#include "kernels/base/sha256.h"

#include <hdf5.h>

#define N 2

static char folder[64], *path;

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    path = path_join(folder, "set.h5");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(path);
    return dir_remove(folder) != STATUS_OK;
}

/* Writing ---------------------------------------------------------------------------------------------- */

/* How a file differs from what h5py writes without being asked for anything. */
typedef struct Form {
    bool new_format;            /* of HDF5 1.10, with check sums */
    hid_t name;                 /* type of /images/name; 0: strings of 8 bytes */
    hid_t length;               /* of /images/length; 0: 64 bits */
    hid_t data_list;            /* how /images/data is stored; 0: in one piece */
    void (*change)(hid_t file); /* afterwards */
} Form;

static void put(hid_t file, const char *name, hid_t type, hid_t memory, int rank, const hsize_t *dims,
                hid_t list, const void *values)
{
    const hid_t space = H5Screate_simple(rank, dims, NULL);
    const hid_t set =
        H5Dcreate2(file, name, type, space, H5P_DEFAULT, list ? list : H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0);
    if (values)
        assert_true(H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static void put_names(hid_t file, hid_t type)
{
    const hsize_t n = N;
    const char *const variable[N] = {"a.png", "a longer name.png"};
    const char fixed[N][8] = {"a.png", "b.png"};
    const hid_t eight = H5Tcopy(H5T_C_S1);
    H5Tset_size(eight, 8);
    put(file, "images/name", type ? type : eight, type ? type : eight, 1, &n, 0,
        type ? (const void *)variable : (const void *)fixed);
    H5Tclose(eight);
}

static void write_form(const Form *form)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (form->new_format)
        H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    const hid_t images = H5Gcreate2(file, "images", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t captions = H5Gcreate2(file, "captions", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const uint8_t bytes[40] = {1, 2, 3};
    uint8_t hashes[N][SHA256_SIZE];
    const uint64_t offset[N] = {0, 20}, length[N] = {20, 20}, ends[N + 1] = {0, 3, 6};
    const uint32_t sides[N] = {16, 24}, upright[N] = {1, 6};
    const hsize_t n = N, all = sizeof bytes, ends_count = N + 1, text = 6, hash_dims[2] = {N, 32};
    const hid_t number = form->length ? form->length : H5T_STD_U64LE;
    for (int i = 0; i < N; i++)
        sha256(bytes + offset[i], length[i], hashes[i]);
    put(file, "images/data", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &all, form->data_list, bytes);
    put(file, "images/offset", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &n, 0, offset);
    put(file, "images/length", number, H5T_NATIVE_UINT64, 1, &n, 0, length);
    put(file, "images/width", H5T_STD_I64BE, H5T_NATIVE_UINT32, 1, &n, 0, sides);
    put(file, "images/height", H5T_STD_U16LE, H5T_NATIVE_UINT32, 1, &n, 0, sides);
    put(file, "images/orientation", H5T_STD_U8LE, H5T_NATIVE_UINT32, 1, &n, 0, upright);
    put(file, "images/sha256", H5T_STD_U8LE, H5T_NATIVE_UINT8, 2, hash_dims, 0, hashes);
    put_names(file, form->name);
    put(file, "captions/text", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &text, 0, "redrot");
    put(file, "captions/offset", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &ends_count, 0, ends);
    const hid_t scalar = H5Screate(H5S_SCALAR);
    const hid_t version = H5Acreate2(file, "format_version", H5T_STD_I64LE, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(version, H5T_NATIVE_INT, &(int){1});
    H5Aclose(version);
    H5Sclose(scalar);
    if (form->change)
        form->change(file);
    H5Gclose(images);
    H5Gclose(captions);
    H5Pclose(access);
    assert_true(H5Fclose(file) >= 0);
}

/* Checking --------------------------------------------------------------------------------------------- */

static void reads(const Form *form)
{
    for (int new_format = 0; new_format < 2; new_format++) {
        Form f = *form;
        Dataset *d;
        uint8_t *bytes;
        size_t size;
        f.new_format = new_format;
        write_form(&f);
        assert_ok(dataset_open(path, &d));
        assert_int_equal(dataset_count(d), N);
        assert_true(size_equal(dataset_size(d, 1), size_square(24)));
        assert_string_equal(dataset_caption(d, 1), "rot");
        assert_string_equal(dataset_name(d, 0), "a.png");
        assert_ok(dataset_bytes(d, 0, &bytes, &size));
        assert_int_equal(bytes[2], 3);
        mem_free(bytes);
        dataset_close(d);
    }
}

static void refuses(const Form *form, const char *object, const char *what)
{
    write_form(form);
    assert_int_equal(h5_check(path), STATUS_FAILED);
    assert_message("set.h5: ");
    assert_message(object);
    assert_message(what);
    Dataset *d;
    assert_int_equal(dataset_open(path, &d), STATUS_FAILED);
}

/* What is read ----------------------------------------------------------------------------------------- */

static hid_t chunks_of(hsize_t size)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 1, &size);
    return list;
}

static hid_t text_type(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static void add_what_is_not_looked_at(hid_t file)
{
    const hid_t scalar = H5Screate(H5S_SCALAR), list = chunks_of(2), type = H5Tcreate(H5T_COMPOUND, 8);
    const hsize_t four = 4;
    const float values[4] = {1, 2, 3, 4};
    H5Tinsert(type, "x", 0, H5T_STD_I32LE);
    H5Tinsert(type, "y", 4, H5T_STD_I32LE);
    H5Pset_deflate(list, 9);
    put(file, "quality", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &four, list, values);
    put(file, "points", type, type, 1, &four, 0, NULL);
    H5Lcreate_soft("/images/data", file, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
    const hid_t yes = H5Tenum_create(H5T_STD_I8LE);
    H5Tenum_insert(yes, "FALSE", &(int8_t){0});
    H5Tenum_insert(yes, "TRUE", &(int8_t){1});
    const hid_t a = H5Acreate2(file, "square", yes, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(a, yes, &(int8_t){1});
    H5Aclose(a);
    H5Sclose(scalar);
    H5Tclose(yes);
    H5Tclose(type);
    H5Pclose(list);
}

static void ordinary_forms_are_read(void **state)
{
    (void)state;
    const hid_t three = chunks_of(3), large = chunks_of(40), text = text_type(),
                compact = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(compact, H5D_COMPACT);
    reads(&(Form){0});
    reads(&(Form){.name = text});
    reads(&(Form){.length = H5T_STD_I32BE});
    reads(&(Form){.data_list = three}); /* many chunks */
    reads(&(Form){.data_list = large});
    reads(&(Form){.data_list = compact});
    reads(&(Form){.change = add_what_is_not_looked_at, .name = text});
    H5Pclose(three);
    H5Pclose(large);
    H5Pclose(compact);
    H5Tclose(text);
}

/* What is refused -------------------------------------------------------------------------------------- */

static void make_link(hid_t file)
{
    H5Ldelete(file, "images/width", H5P_DEFAULT);
    H5Lcreate_soft("/images/height", file, "images/width", H5P_DEFAULT, H5P_DEFAULT);
}

static void add_members(hid_t file)
{
    const hsize_t one = 1;
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "images/more-%d", i);
        put(file, name, H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &one, 0, "x");
    }
}

static void name_a_type(hid_t file)
{
    const hsize_t n = N;
    const hid_t type = H5Tcopy(H5T_STD_U8LE);
    const uint8_t values[N] = {1, 1};
    H5Tcommit2(file, "byte", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Ldelete(file, "images/orientation", H5P_DEFAULT);
    put(file, "images/orientation", type, H5T_NATIVE_UINT8, 1, &n, 0, values);
    H5Tclose(type);
}

static void add_complex_number(hid_t file)
{
    const hid_t scalar = H5Screate(H5S_SCALAR), type = H5Tcreate(H5T_COMPOUND, 16);
    const double value[2] = {1, 2};
    H5Tinsert(type, "r", 0, H5T_IEEE_F64LE);
    H5Tinsert(type, "i", 8, H5T_IEEE_F64LE);
    const hid_t a = H5Acreate2(file, "factor", type, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(a, type, value);
    H5Aclose(a);
    H5Tclose(type);
    H5Sclose(scalar);
}

static void leave_unwritten(hid_t file)
{
    const hsize_t n = N;
    H5Ldelete(file, "images/width", H5P_DEFAULT);
    put(file, "images/width", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &n, 0, NULL);
}

static void claim_too_much(hid_t file)
{
    const hsize_t n = (hsize_t)1 << 40;
    const hid_t list = chunks_of(1 << 20);
    H5Ldelete(file, "images/data", H5P_DEFAULT);
    put(file, "images/data", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &n, list, NULL);
    H5Pclose(list);
}

static void rare_forms_are_refused_by_name(void **state)
{
    (void)state;
    const hid_t filtered = chunks_of(8), external = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_deflate(filtered, 6);
    H5Pset_external(external, "/dev/null", 0, 40);
    for (int i = 0; i < 2; i++) {
        const bool new_format = i;
        refuses(&(Form){.data_list = filtered, .new_format = new_format}, "/images/data",
                "compressed or filtered values: HDF5 files are read without that; store the array without "
                "compression");
        refuses(&(Form){.data_list = external, .new_format = new_format}, "/images/data",
                "values in another file");
        refuses(&(Form){.change = make_link, .new_format = new_format}, "/images/width",
                "soft or external link");
        refuses(&(Form){.change = name_a_type, .new_format = new_format}, "/images/orientation",
                "rarely used");
        refuses(&(Form){.change = add_complex_number, .new_format = new_format}, "attribute factor",
                "a type other than numbers and strings");
        refuses(&(Form){.change = leave_unwritten, .new_format = new_format}, "/images/width",
                "never written");
        refuses(&(Form){.change = claim_too_much, .new_format = new_format}, "/images/data",
                "more values than the file has bytes");
    }
    refuses(&(Form){.change = add_members, .new_format = true}, "/images", "dense form");
    reads(&(Form){0});
    H5Pclose(filtered);
    H5Pclose(external);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ordinary_forms_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rare_forms_are_refused_by_name, set_up, tear_down),
    };
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
