/* A format of tensor files as its tests need it: how to make such a file. One for each of TENSOR_FORMATS, in
 * a file of its own here; a format without one does not link. */
#ifndef ATL_TEST_FORMATS_H
#define ATL_TEST_FORMATS_H

#include "infer/files/tensor_format.h"

typedef struct FormatTest {
    /* Writes these tensors, whose names, types, shapes and data are set, and metadata. */
    void (*write)(const char *path, const TensorEntry *tensors, int count, const TensorMeta *meta,
                  int meta_count);
    bool (*holds)(ElementType t); /* ELEMENT_OTHER: e->type_name is one that the reader does not know */
    bool has_metadata;
} FormatTest;

#define FORMAT_TEST(name) extern const FormatTest format_test_##name;
TENSOR_FORMATS(FORMAT_TEST)
#undef FORMAT_TEST

#endif
