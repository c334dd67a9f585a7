/* A sum of 64 bits over a file's bytes, which tells whether it is still what was written. It is no secret and
 * no signature: four sums of words side by side, so that it costs less than reading the file. A change within
 * one word of eight bytes always changes it. */
#ifndef ATL_FILE_SUM_H
#define ATL_FILE_SUM_H

#include "kernels/base/status.h"

#include <stddef.h>

#define SUM_HEX_SIZE 17 /* 16 hex digits and the end */

/* Reads all of the file. */
Status file_sum(const char *path, char hex[SUM_HEX_SIZE]);
void text_sum(const char *text, size_t size, char hex[SUM_HEX_SIZE]);

#endif
