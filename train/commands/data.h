/* What the `data` commands share. */
#ifndef ATL_COMMANDS_DATA_H
#define ATL_COMMANDS_DATA_H

#include "../../data/dataset.h"
#include "dispatch.h"

#include <signal.h>

int command_data_build(int argc, char **argv);

/* Set by SIGINT and SIGTERM once they are caught. */
extern volatile sig_atomic_t data_stop;
void data_catch_signals(void);

/* Prints what a dataset file holds; built: what building it came to, or NULL. */
Status data_print_info(const char *path, bool json, const DatasetSummary *built);

#endif
