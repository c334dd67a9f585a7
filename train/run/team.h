/* What the processes of a run have to have in common. Each refusal names the process and what differs. */
#ifndef ATL_TEAM_H
#define ATL_TEAM_H

#include "train/plan/setup.h"
#include "origins.h"

/* As soon as the configuration is there: the same one, of a step that so many can share. */
Status team_check(const Config *config, Comm *comm, bool traced);
/* Once it is known what each computes on: program, processor or GPU, threads; and how blocks travel between
 * them. */
Status team_meet(const Setup *s);
/* The same model and pictures. */
Status team_same_origins(const Setup *s, const Origins *origins);

#endif
