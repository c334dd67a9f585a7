/* The command that draws with what a run made. */
#ifndef ATL_DRAW_COMMAND_H
#define ATL_DRAW_COMMAND_H

#include "train/config/config.h"

/* "atelier sample …", to be pasted into a shell: as the previews are drawn, the first picture is the first
 * preview. lora: its path, or NULL. Caller: mem_free. NULL: out of memory. */
char *draw_command(const Config *config, const char *model, const char *lora);

#endif
