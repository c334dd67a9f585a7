/* What the `data` commands share. */
#ifndef ATL_COMMANDS_DATA_H
#define ATL_COMMANDS_DATA_H

#include "data/dataset/dataset.h"
#include "dispatch.h"

int command_data_build(int argc, char **argv);

/* Prints what a dataset file holds; built: what building it came to, or NULL. */
Status data_print_info(const char *path, bool json, const DatasetSummary *built);

#endif
