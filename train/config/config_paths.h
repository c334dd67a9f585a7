/* A configuration's paths: what they are relative to, and what is said of one that is not there. */
#ifndef ATL_CONFIG_PATHS_H
#define ATL_CONFIG_PATHS_H

#include "config.h"

/* The absolute path of the folder that a configuration lies in. *out: mem_free. */
Status config_folder(const char *file, char **out);
/* Makes a path absolute: "~" is the home folder, anything else relative starts at the configuration's folder.
 * Other words that shells know are refused (path_check_words). */
Status config_make_absolute(Config *c, char **path);
/* True: path is folder, or lies in it. Both are absolute. */
bool path_lies_in(const char *path, const char *folder);
/* STATUS_REFUSED: path, one of the configuration's, is not there (file_missing); says what it was taken from
 * where it was written relative. */
Status config_path_missing(const Config *c, const char *path, const char *what);

#endif
