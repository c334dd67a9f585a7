/* A run on a page: report.html in its folder, for a browser, also without a net. It is made of what lies in
 * the folder (config.yaml, log.jsonl, samples/, results) and of nothing else. */
#ifndef ATL_REPORT_H
#define ATL_REPORT_H

#include "kernels/base/status.h"

#define REPORT_FILE "report.html"

/* Writes it, whole or not at all, with its name on the run's list (train/pictures/owned.h). A config.yaml
 * that cannot be understood, a log with lines missing and pictures that are gone are told or left out on the
 * page; a failure is one of memory, of reading the log, or of writing. */
Status report_write(const char *run);

#endif
