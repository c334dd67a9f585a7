/* Zip archives as torch.save writes them, byte by byte: the pickle by hand, each tensor a storage of its own.
 */
#include "zip_write.h"

#include "formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void number(FILE *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc(i < 8 ? (int)(value >> (8 * i) & 0xff) : 0, out);
}

/* The pickle ----------------------------------------------------------------------------------------------
 */

static void text(FILE *out, const char *value)
{
    fputc('X', out);
    number(out, strlen(value), 4);
    fputs(value, out);
}

static void integer(FILE *out, int64_t value)
{
    fputc(0x8a, out); /* LONG1 of 8 bytes */
    fputc(8, out);
    number(out, (uint64_t)value, 8);
}

static const char *storage_of(const TensorEntry *e)
{
    static const char *const names[ELEMENT_TYPES] = {
        [ELEMENT_F32] = "FloatStorage",  [ELEMENT_BF16] = "BFloat16Storage", [ELEMENT_F16] = "HalfStorage",
        [ELEMENT_F64] = "DoubleStorage", [ELEMENT_I8] = "CharStorage",       [ELEMENT_U8] = "ByteStorage",
        [ELEMENT_I16] = "ShortStorage",  [ELEMENT_I32] = "IntStorage",       [ELEMENT_I64] = "LongStorage",
        [ELEMENT_BOOL] = "BoolStorage",  [ELEMENT_OTHER] = "X9Storage"};
    return names[e->type];
}

/* Types that have no storage of their own stand in the tensor. */
static const char *dtype_of(const TensorEntry *e)
{
    static const char *const names[ELEMENT_TYPES] = {[ELEMENT_F8_E4M3] = "float8_e4m3fn",
                                                     [ELEMENT_F8_E5M2] = "float8_e5m2",
                                                     [ELEMENT_U16] = "uint16",
                                                     [ELEMENT_U32] = "uint32",
                                                     [ELEMENT_U64] = "uint64"};
    return names[e->type];
}

static void put_tensor(FILE *out, const TensorEntry *e, int key)
{
    char digits[16];
    int64_t stride = 1, strides[64];
    for (int i = e->ndim - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= e->shape[i];
    }
    snprintf(digits, sizeof digits, "%d", key);
    fprintf(out, "ctorch._utils\n_rebuild_tensor_v%d\n((", dtype_of(e) ? 3 : 2);
    text(out, "storage");
    fprintf(out, dtype_of(e) ? "ctorch.storage\nUntypedStorage\n" : "ctorch\n%s\n", storage_of(e));
    text(out, digits);
    text(out, "cpu");
    integer(out, (int64_t)e->bytes);
    fputs("tQ", out);
    integer(out, 0);
    for (int k = 0; k < 2; k++) {
        fputc('(', out);
        for (int i = 0; i < e->ndim; i++)
            integer(out, k ? strides[i] : e->shape[i]);
        fputc('t', out);
    }
    fputs("\x89"
          "ccollections\nOrderedDict\n)R",
          out);
    if (dtype_of(e))
        fprintf(out, "ctorch\n%s\n", dtype_of(e));
    fputs("tR", out);
}

static void write_file(const char *path, const TensorEntry *tensors, int count, const TensorMeta *meta,
                       int meta_count)
{
    char *pickle;
    size_t size;
    FILE *out = open_memstream(&pickle, &size);
    fputs("\x80\2}(", out);
    for (int i = 0; i < meta_count; i++) {
        text(out, meta[i].key);
        text(out, meta[i].value);
    }
    for (int i = 0; i < count; i++) {
        text(out, tensors[i].name);
        put_tensor(out, &tensors[i], i);
    }
    fputs("u.", out);
    fclose(out);
    ZipFile *files = calloc((size_t)count + 1, sizeof *files);
    files[0] = (ZipFile){.name = "archive/data.pkl", .data = pickle, .bytes = size};
    for (int i = 0; i < count; i++) {
        files[i + 1] = (ZipFile){.data = tensors[i].data, .bytes = tensors[i].bytes};
        snprintf(files[i + 1].name, sizeof files->name, "archive/data/%d", i);
    }
    zip_write(path, files, count + 1);
    free(files);
    free(pickle);
}

static bool holds(ElementType t)
{
    (void)t;
    return true;
}

const FormatTest format_test_ckpt = {.write = write_file, .holds = holds, .has_metadata = true};
