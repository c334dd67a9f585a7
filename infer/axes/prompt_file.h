/* Files of prompts, one a line, as an axis. A line may bring settings of its own, as the command line takes
 * them:
 *
 *     a red heart
 *     a blue heart --steps 30 --seed 7            sd-scripts' short names too: --n --w --h --d --l --s
 *     --prompt "a heart" --cfg 5                  A1111's way: everything as an option, values in quotes
 *     # not read
 */
#ifndef ATL_PROMPT_FILE_H
#define ATL_PROMPT_FILE_H

#include "axes.h"

/* path "-": standard input. The axis is axis_free's in any case. */
Status prompt_file_read(const char *path, Axis *out);

#endif
