/* What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput: bytes from anywhere go
 * through one of the program's readers, which may refuse them, with a message, and may do nothing else to
 * them.
 *
 * With clang's libFuzzer (cmake -DATELIER_FUZZ=ON) a target is a fuzzer; everywhere else driver.c runs it
 * over its folder of tests/fuzz/corpus/ and over mutations of what lies there. docs/fuzzing.md. */
#ifndef ATL_FUZZ_H
#define ATL_FUZZ_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Pictures that say they are larger are looked at, not decoded: the program's own limit is 268 million
 * pixels, and one picture of that size takes a second. */
#define FUZZ_MAX_PIXELS (1 << 18)

/* A folder in memory that is the process's own; fuzz_put writes one file of it (size 0: removes it),
 * fuzz_file the file "input", whose path it returns. */
const char *fuzz_file(const uint8_t *data, size_t size);
const char *fuzz_folder(void);
void fuzz_put(const char *name, const char *data, size_t size);

/* The next of several texts in one input, which a line "----" parts; false: there is none. *text is a copy
 * with a 0 behind it that the caller frees. */
bool fuzz_part(const uint8_t **data, size_t *size, char **text, size_t *length);

/* From the first on it is watched how much memory is in use; the second gives the most and ends it. */
void fuzz_count_memory(void);
size_t fuzz_counted_memory(void);

/* Ends the process with this text where a reader's answer contradicts itself. */
void fuzz_fail(const char *what) __attribute__((noreturn));
/* What failed has said why. */
void fuzz_check(Status s);

#endif
