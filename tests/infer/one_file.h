/* A folder of a test's own, and a file in it to work on. */
#ifndef ATL_TEST_ONE_FILE_H
#define ATL_TEST_ONE_FILE_H

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdlib.h>

static char root[] = "/tmp/atelier-test-XXXXXX";
static char *path; /* of the file, which nobody has written yet */

static inline int one_file_open(const char *name)
{
    if (!mkdtemp(root))
        return -1;
    path = path_join(root, name);
    return path ? 0 : -1;
}

static inline int one_file_close(void **state)
{
    (void)state;
    mem_free(path);
    return dir_remove(root) == STATUS_OK ? 0 : -1;
}

#endif
