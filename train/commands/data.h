/* What the `data` commands share. */
#ifndef ATL_COMMANDS_DATA_H
#define ATL_COMMANDS_DATA_H

#include "data/dataset/dataset.h"
#include "train/sizes/sizes.h"
#include "dispatch.h"

#define FOLDER_NAMES_HELP                                                                                    \
    "What names of folders inside of FOLDER say. kohya: \"10_sks dog\" is 10 repeats and the caption \"sks " \
    "dog\". "                                                                                                \
    "plain: nothing. auto: as kohya, but a number that is hardly meant so (a year, a camera's folder) is "   \
    "an "                                                                                                    \
    "error that names the folder."

int command_data_build(int argc, char **argv);
int command_data_lint(int argc, char **argv);

typedef struct DataInfo {
    const char *path;
    bool json;
    const DatasetSummary *built; /* what building it came to, or NULL */
    int resolution;              /* that buckets are told for; 0: 512 */
    SizeModel model;             /* that they are told for; multiple 0: a usual one */
    bool square;
} DataInfo;
/* Prints what a dataset file holds. */
Status data_print_info(const DataInfo *info);

/* What pictures are trained as by a configuration that says no more than this; resolution 0: 512; multiple 0:
 * of a model that is usual for the resolution. */
Status data_framer(int resolution, bool square, SizeModel model, Framer **out);

#endif
